//! The laboratory with a real vLLM: what is done to any server, and what its own queue, cache and batch do.
//!
//! In: the recipe of `tests/real-vllm` and what it installed. Out: a row for each fault. Faults that need the same options
//! share one server; the agent is a new one for each.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::blamed::{Blamed, fetch};
use super::fault::{Fault, Victim, inject};
use super::group::Group;
use super::matrix::{Matrix, Row};
use super::run::{keep, panicked};
use super::traffic::{Burst, Size, Traffic};
use crate::harness::{AgentProcess, Guard, free_address};
use crate::socket::Endpoint;
use crate::stage::until;

/// Load without the fault: enough requests of one size for their median.
const CLEAN: Duration = Duration::from_secs(12);
/// Load with a fault that does not pause.
const LASTS: Duration = Duration::from_secs(15);
/// The agent finds a server, and lists a request, within this time.
const PATIENCE: Duration = Duration::from_secs(30);
/// The fault ends so long before the load.
const SETTLES: Duration = Duration::from_secs(2);
/// What most requests are.
const SMALL: Size = Size { prompt_bytes: 300, max_tokens: 16 };
/// Loads on a server, their bursts among them, never have the same seed.
const SEEDS: u64 = 1000;
/// Prompts are all alike, and none should be done because an earlier one was.
const NO_PREFIXES: &str = "--no-enable-prefix-caching";
const TINY_CACHE: &[&str] =
    &[NO_PREFIXES, "--block-size", "32", "--max-model-len", "512", "--num-gpu-blocks-override", "17"];
/// A model that takes longer prompts than it was made for, and all of one at once.
const ONE_STEP: &[&str] = &[
    NO_PREFIXES,
    "--max-model-len",
    "16384",
    "--hf-overrides",
    "{\"max_position_embeddings\":16384}",
    "--max-num-batched-tokens",
    "16384",
];

/// What a laboratory with a real server needs.
#[derive(Clone, Debug)]
pub struct RealLab {
    /// The folder of the agent's binary.
    pub programs: PathBuf,
    /// For settings and logs.
    pub folder: PathBuf,
    /// The script that starts a server.
    pub serve: PathBuf,
    /// What it starts.
    pub installed: PathBuf,
    /// Where to leave what the agent says of each request.
    pub keep: Option<PathBuf>,
}

/// How a fault is done.
struct Way {
    /// Of the server.
    arguments: &'static [&'static str],
    /// Its load without the fault, and with it.
    clean: Traffic,
    faulted: Traffic,
    time: Duration,
    /// The agent reads the server's own metrics.
    engine_metrics: bool,
}

impl Way {
    fn of(fault: Fault) -> Self {
        let every = Duration::from_secs;
        let way = Self::steady(&[NO_PREFIXES], SMALL, 5.0, 5.0);
        match fault {
            // What lasts is usual once half of the last 64 requests had it: there are fewer than that.
            Fault::Hogs | Fault::HogsAndStop | Fault::Quota => {
                Self { time: LASTS, ..Self::steady(&[NO_PREFIXES], SMALL, 5.0, 2.0) }
            }
            Fault::Queue => Self::steady(&[NO_PREFIXES, "--max-num-seqs", "1"], SMALL, 2.0, 2.0)
                .with(Burst { requests: 8, size: SMALL, every: every(5), rate: None }),
            // Sixteen blocks of 32 tokens: sixteen requests fit in as they come, and four as they end.
            Fault::Preemption => {
                let size = Size { prompt_bytes: 20, max_tokens: 96 };
                let way = Self::steady(TINY_CACHE, size, 2.0, 1.0);
                // One after the other: many prompts in one step make each other late, and that is not the cache's doing.
                let burst = Burst { requests: 24, size, every: every(7), rate: Some(50.0) };
                Self { engine_metrics: true, ..way }.with(burst)
            }
            // The whole prompt is one step, which all that are under way take part in.
            Fault::LongPrompt => {
                let size = Size { prompt_bytes: 12_000, max_tokens: 4 };
                Self::steady(ONE_STEP, SMALL, 5.0, 5.0).with(Burst {
                    requests: 1,
                    size,
                    every: every(5),
                    rate: None,
                })
            }
            _ => way,
        }
    }

    fn steady(arguments: &'static [&'static str], size: Size, clean: f64, faulted: f64) -> Self {
        let at = |rate| Traffic { rate, size, burst: None };
        let time = Duration::from_secs(20);
        Self { arguments, clean: at(clean), faulted: at(faulted), time, engine_metrics: false }
    }

    fn with(mut self, burst: Burst) -> Self {
        self.faulted.burst = Some(burst);
        self
    }
}

impl RealLab {
    /// What is done to a real server; those that share one are neighbours.
    pub const FAULTS: [Fault; 11] = [
        Fault::Clean,
        Fault::StopApi,
        Fault::StopEngine,
        Fault::StopWorker,
        Fault::Bystander,
        Fault::Hogs,
        Fault::HogsAndStop,
        Fault::Quota,
        Fault::Queue,
        Fault::Preemption,
        Fault::LongPrompt,
    ];

    /// Does each fault.
    #[must_use]
    pub fn run(&self, faults: &[Fault]) -> Matrix {
        let began = Instant::now();
        let mut server: Option<Server> = None;
        let rows = faults.iter().map(|fault| {
            eprintln!("faults: {:>4} s, vLLM: {}", began.elapsed().as_secs(), fault.name());
            self.row(*fault, &mut server).unwrap_or_else(|error| Row::refused(*fault, format!("{error:#}")))
        });
        Matrix { rows: rows.collect() }
    }

    fn row(&self, fault: Fault, server: &mut Option<Server>) -> Result<Row> {
        let way = Way::of(fault);
        if server.as_ref().is_none_or(|server| server.arguments != way.arguments) {
            // Two of them do not fit beside each other.
            drop(server.take());
            *server = Some(Server::start(self, way.arguments)?);
        }
        let running = server.as_mut().context("there is no server")?;
        let name = format!("inferscope-lab-{}-{fault:?}", std::process::id());
        let group = fault.needs_group().then(|| Group::make(&name)).transpose()?;
        let row = self.measure(fault, &way, running, group.as_ref());
        if let Some(group) = group {
            // A group goes when nobody is in it.
            drop(server.take());
            group.remove();
        }
        row
    }

    fn measure(&self, fault: Fault, way: &Way, server: &mut Server, group: Option<&Group>) -> Result<Row> {
        let settings = if way.engine_metrics { "[engine]\nmetrics = true\n" } else { "" };
        let agent = AgentProcess::start_with(&self.programs.join("inferscope"), &self.folder, settings)?;
        let found = || agent.read_log().ok()?.contains(": following ").then_some(());
        until(PATIENCE, found).with_context(|| format!("not followed: {:?}", agent.read_log()))?;
        let victim = Victim::find(server.api, group, &self.folder)?;
        victim.enter_group()?;
        let clean = server.load(way.clean, CLEAN).join().map_err(panicked)??;
        let faulted = server.load(way.faulted, way.time);
        let stretches = inject(fault, &victim, way.time.saturating_sub(SETTLES));
        let faulted = faulted.join().map_err(panicked)??;
        let before = listed(&agent, &clean)?;
        let after = listed(&agent, &faulted)?;
        if let Some(folder) = &self.keep {
            keep(agent.listen, folder, fault)?;
        }
        agent.stop()?;
        if fault.is_work() {
            return Ok(Row::of_work(fault, &before, &after));
        }
        Ok(Row::of(fault, &before, &after, &stretches?))
    }
}

/// What the agent says of these requests.
fn listed(agent: &AgentProcess, ids: &HashSet<String>) -> Result<Vec<Blamed>> {
    let one_of = |request: &Blamed| request.request_id.as_ref().is_some_and(|id| ids.contains(id));
    let find = || -> Result<Vec<Blamed>> { Ok(fetch(agent.listen)?.into_iter().filter(one_of).collect()) };
    let Some(found) = until(PATIENCE, || find().ok().filter(|found| found.len() >= ids.len())) else {
        bail!("the agent lists {} of {} requests", find()?.len(), ids.len());
    };
    Ok(found)
}

/// A real server, as the recipe starts it.
struct Server {
    script: Guard,
    api: u32,
    endpoint: Endpoint,
    arguments: &'static [&'static str],
    seed: u64,
}

impl Server {
    /// Starts it and waits until it answers.
    fn start(lab: &RealLab, arguments: &'static [&'static str]) -> Result<Self> {
        let address = free_address()?;
        let log = lab.folder.join("vllm.log");
        eprintln!("faults: starting vLLM {} (half a minute or more)", arguments.join(" "));
        let mut command = Command::new(&lab.serve);
        command.arg(&lab.installed).args(arguments).env("FOREGROUND", "1");
        command.env("PORT", address.port().to_string()).env("LOG", &log);
        // Threads that compute keep their processors a while beyond: one is left to all else that serves.
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        command.env("OMP_NUM_THREADS", processors.saturating_sub(1).max(1).to_string());
        let script = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut script = Guard(script.with_context(|| format!("run {}", lab.serve.display()))?);
        let mut said = String::new();
        let output = script.0.stdout.take().context("the script has no output")?;
        BufReader::new(output).read_line(&mut said).context("read what the script says")?;
        let api = said.trim().parse();
        let api = api.with_context(|| format!("vLLM does not start: {}", last_lines(&log)))?;
        Ok(Self { script, api, endpoint: Endpoint::Tcp(address), arguments, seed: 0 })
    }

    fn load(&mut self, traffic: Traffic, time: Duration) -> JoinHandle<Result<HashSet<String>>> {
        self.seed += SEEDS;
        traffic.start(&self.endpoint, time, self.seed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The script ends the server before itself.
        if let Err(error) = self.script.end() {
            eprintln!("faults: {error:#}");
            if let Some(api) = Pid::from_raw(self.api.cast_signed()) {
                let _gone = kill_process(api, Signal::KILL);
            }
        }
    }
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(6)..].join(" | ")
}
