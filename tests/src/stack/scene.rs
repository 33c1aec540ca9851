//! Everything that the agent measures, at once: two servers, GPUs, files of predictions and of evaluations, a canary.
//!
//! In: the folder of the programs, and one of its own. Out: a running agent beside what it measures, and hands to change that:
//! what a server answers, what files say. Times of GPUs are those of the scenario `stack`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{self, Report};
use crate::harness::{AgentProcess, ServerProcess};
use crate::lab::group::Group;
use crate::lab::{RATE, Victim};
use crate::rights::Rights;
use crate::socket::Endpoint;
use crate::stage::until;

/// Servers are followed within this time.
const FOLLOWED_MAX: Duration = Duration::from_secs(30);
/// Price of an hour of a GPU.
const GPU_HOUR: f64 = 2.5;
const QUESTIONS: usize = 5;
/// So short that an answer is within the founding objective.
const TOKENS: u32 = 2;
/// Connections that the agent follows at once.
pub const CONNECTIONS_MAX: usize = 128;
/// Processors that the laboratory's server may have: more than it needs.
const PROCESSORS: f64 = 1.5;
/// Memory that its control group may have.
pub const MEMORY_MAX: u64 = 1 << 30;
/// The demonstration server answers a whole request so, and takes this long for it.
const HEALTHY: &str =
    r#"{"head_after_us": 20000, "first_after_us": 1000, "gaps_us": [3000], "content": 8, "says": " B"}"#;

/// Where the programs are, and what comes with the repository.
#[derive(Clone, Debug)]
pub struct Place {
    /// The agent's binary.
    pub agent: PathBuf,
    /// The folder of the demonstration server and its like.
    pub programs: PathBuf,
    /// `tests` of the repository.
    pub tests: PathBuf,
    /// For all that is written; on a disk.
    pub folder: PathBuf,
}

/// What is measured, and the agent.
pub struct Scene {
    pub place: Place,
    pub agent: AgentProcess,
    pub demo: ServerProcess,
    pub lab: ServerProcess,
    /// The processes of `lab`, and its control group.
    pub victim: Victim,
    pub group: Group,
    settings: String,
}

impl Scene {
    /// Starts it; the GPUs are as after `age` of their scenario, and `rules` are of further servers.
    ///
    /// # Errors
    ///
    /// Where something does not start.
    pub fn start(place: Place, age: Duration, rules: &str) -> Result<Self> {
        let folder = &place.folder;
        let name = format!("inferscope-stack-{}", std::process::id());
        let scenario = nvml_sim::preset::text("stack").context("the scenario is there")?;
        let library = nvml_sim::install_aged(folder, scenario, age)?.library;
        write(folder, "questions.csv", &"What is 1 + 1?,1,2,3,4,B\n".repeat(QUESTIONS))?;
        write(folder, "script.json", HEALTHY)?;
        let settings = settings(&place, &name, &library, rules);
        let scene_files = Files { place: &place };
        scene_files.predictions("10_bool.baseline", "a8_perfect")?;
        scene_files.evaluation(0)?;
        let demo = start_demo(&place, &"127.0.0.1:0".parse()?)?;
        let mut command = Command::new(place.programs.join("inferscope-lab-server"));
        let lab =
            ServerProcess::start_command(command.args(["serve", "--name", &name, "--work", "memory:12"]))?;
        let group = Group::make(&name)?;
        let victim = Victim::find(lab.tgid(), Some(&group), &folder.join("large"))?;
        victim.enter_group()?;
        // It stays as long as the group.
        let _limit = group.limit_processor(PROCESSORS)?;
        group.limit_memory_to(MEMORY_MAX)?;
        write(folder, "demo-server.pid", &demo.tgid().to_string())?;
        write(folder, "lab-server.pid", &victim.engine.to_string())?;
        let agent = AgentProcess::start_with(&place.agent, folder, &settings)?;
        let scene = Self { agent, demo, lab, victim, group, settings, place };
        scene.wait_until_followed()?;
        Ok(scene)
    }

    fn wait_until_followed(&self) -> Result<()> {
        let followed =
            || Some(self.agent.read_log().ok()?.matches(": following ").count() >= 2).filter(|all| *all);
        until(FOLLOWED_MAX, followed)
            .with_context(|| format!("not followed: {:?}", self.agent.read_log()))?;
        Ok(())
    }

    /// The demonstration server answers by this script from now on.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    pub fn answer_by(&self, script: &str) -> Result<()> {
        write(&self.place.folder, "script.json", script)
    }

    /// It answers as at first.
    ///
    /// # Errors
    ///
    /// Where that cannot be written.
    pub fn answer_well(&self) -> Result<()> {
        self.answer_by(HEALTHY)
    }

    /// Sends a signal to the API process of the laboratory's server.
    ///
    /// # Errors
    ///
    /// Where it is gone.
    pub fn lab_api(&self, signal: Signal) -> Result<()> {
        let api = Pid::from_raw(self.victim.api.cast_signed()).context("a process number")?;
        kill_process(api, signal).context("signal the server")
    }

    #[must_use]
    pub fn files(&self) -> Files<'_> {
        Files { place: &self.place }
    }

    /// Ends the agent and starts it again, at the same address.
    ///
    /// # Errors
    ///
    /// Where it does not end or start.
    pub fn restart_agent(self) -> Result<Self> {
        let Self { place, agent, demo, lab, victim, group, settings } = self;
        let listen = agent.listen;
        agent.stop()?;
        let rights = Rights::of_environment()?;
        let agent = AgentProcess::start_at(rights, &place.agent, &place.folder, &settings, listen)?;
        Ok(Self { place, agent, demo, lab, victim, group, settings })
    }

    /// Ends all of it.
    ///
    /// # Errors
    ///
    /// Where something does not end.
    pub fn stop(self) -> Result<()> {
        self.agent.stop()?;
        self.demo.stop()?;
        self.lab.stop()?;
        self.group.remove();
        Ok(())
    }
}

/// Starts a demonstration server that answers by the scene's script.
///
/// # Errors
///
/// As [`ServerProcess::start`].
pub fn start_demo(place: &Place, listen: &Endpoint) -> Result<ServerProcess> {
    let path = |name: &str| place.folder.join(name).display().to_string();
    let more = ["--log", &path("served.jsonl"), "--script-file", &path("script.json")];
    ServerProcess::start(&place.programs.join("inferscope-demo-server"), listen, &more)
}

/// Load on a server of the scene: so many requests a second, for so long, in a thread of its own.
pub fn load(
    endpoint: &Endpoint,
    model: &str,
    mix: &str,
    scenarios: &[&str],
    rate: f64,
    time: Duration,
) -> std::thread::JoinHandle<Result<Report>> {
    let options = mix.parse().map(|mix| client::Options {
        rate: Some(rate),
        requests: (rate * time.as_secs_f64()) as usize,
        // Servers that stand still do not fill the agent's table.
        concurrency: CONNECTIONS_MAX / 4,
        mix,
        scenarios: scenarios.iter().map(|name| (*name).to_owned()).collect(),
        models: vec![model.to_owned()],
        max_tokens: TOKENS,
        time_max: time * 4,
        ..client::Options::new(endpoint.clone())
    });
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(client::run(&options?, |_| ()))
    })
}

/// Load as the laboratory's server takes it.
pub fn load_lab(endpoint: &Endpoint, times: f64, time: Duration) -> std::thread::JoinHandle<Result<Report>> {
    load(endpoint, "lab", "chat-stream-usage", &[], times * RATE, time)
}

/// What is written for the agent to read.
pub struct Files<'a> {
    place: &'a Place,
}

impl Files<'_> {
    /// New predictions, compared with `baseline` of `drift-vectors/good`, and right as `pair` of `drift-vectors/accuracy` is.
    ///
    /// # Errors
    ///
    /// Where one cannot be written.
    pub fn predictions(&self, baseline: &str, pair: &str) -> Result<()> {
        let vector = |name: String| self.place.tests.join("drift-vectors").join(name + ".npy");
        // The truth first: the recent file is what is looked at.
        for (from, to) in [
            (format!("good/{baseline}"), "baseline.npy"),
            (format!("accuracy/{pair}.truth"), "truth.npy"),
            (format!("accuracy/{pair}.pred"), "recent.npy"),
        ] {
            self.replace(&vector(from), to)?;
        }
        Ok(())
    }

    /// One of two evaluations under the same terms, of which the second is worse.
    ///
    /// # Errors
    ///
    /// Where it cannot be written.
    pub fn evaluation(&self, number: usize) -> Result<()> {
        let folder = self.place.tests.join("mmlu-examples/two-runs/local__granite-3.1-8b-lab-v2");
        let files = std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))?;
        let mut files: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
        files.sort();
        let file = files.get(number).context("there are two evaluations")?;
        let results = self.place.folder.join("results");
        std::fs::create_dir_all(&results)?;
        self.replace(file, &format!("results/{}", file.file_name().unwrap_or_default().display()))
    }

    /// At once, as whoever writes such files should.
    fn replace(&self, from: &Path, name: &str) -> Result<()> {
        let (new, to) = (self.place.folder.join("new"), self.place.folder.join(name));
        std::fs::copy(from, &new).with_context(|| format!("copy {}", from.display()))?;
        std::fs::rename(new, &to).with_context(|| format!("write {}", to.display()))
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    // Whole, whenever somebody reads it.
    let (new, path) = (folder.join(format!("{name}.new")), folder.join(name));
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, &path))
        .with_context(|| format!("write {}", path.display()))
}

fn settings(place: &Place, name: &str, library: &Path, rules: &str) -> String {
    let path = |name: &str| place.folder.join(name);
    let vector = |name: &str| place.tests.join("drift-vectors/accuracy").join(format!("{name}.npy"));
    format!(
        r#"
workload = [
    {{ name = "demo", command_regex = 'demo-server .*{folder}/served' }},
    {{ name = "lab", command_regex = 'lab-server serve .*--name {name}' }},
{rules}]
[request]
stalled_after = "2s"
connections_max = {CONNECTIONS_MAX}
[slo]
p95_ttft_target = "500ms"
p95_ttft_warning = "1s"
p95_ttft_critical = "2s"
p95_time_per_output_token_target = "50ms"
p95_time_per_output_token_warning = "75ms"
p95_time_per_output_token_critical = "150ms"
[slow]
duration = "2s"
[export]
opentelemetry = true
[engine]
metrics = true
[gpu]
library = {library:?}
interval = "500ms"
[drift]
reference = "1m"
between_false_alarms = "1h"
[[drift.files]]
model = "granite"
baseline = {baseline:?}
recent = {recent:?}
truth = {truth:?}
validation = {validation:?}
validation_truth = {validation_truth:?}
interval = "1s"
[mmlu]
results = [{{ model = "granite", path = {results:?} }}]
interval = "1s"
significance = 0.05
[canary]
enabled = true
questions = {questions:?}
model = "granite"
workload = "demo"
every = "1m"
tokens_per_hour = 1000000
busy_requests = 1000
[cost]
gpu_hour = {GPU_HOUR:?}
[sandbox]
program_statistics = true
"#,
        folder = place.folder.display(),
        baseline = path("baseline.npy"),
        recent = path("recent.npy"),
        truth = path("truth.npy"),
        validation = vector("a1_i4_i8.pred"),
        validation_truth = vector("a1_i4_i8.truth"),
        results = path("results"),
        questions = path("questions.csv"),
    )
}
