//! GPUs joined to requests: an agent with a simulated library beside scripted servers, against what the scenario says was so.
//!
//! Needs root, since requests are measured by kernel programs; no GPU.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use inferscope_tests::books::{Books, tick_over};
use inferscope_tests::client::{self, Options, Report};
use inferscope_tests::harness::{AgentProcess, ServerProcess};
use inferscope_tests::lab::blamed::{Blamed, fetch, wall};
use inferscope_tests::page::Sample;
use inferscope_tests::stage::{Stage, metrics_text, until};
use nvml_sim::{Installed, boot_ns, install};

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");

/// Whatever is waited for comes in this time, or not at all.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// How often the agent reads the GPUs.
const INTERVAL: f64 = 0.2;
/// How far a counter may be from what the scenario says, in seconds: a reading takes time.
const OFF_MAX: f64 = 0.05;

/// The throttle of the server's own GPU, seconds of the scenario: half the speed. The other GPU is of nobody.
const THROTTLED: (f64, f64) = (8.0, 13.0);
const THROTTLE: &str = r#"
[[gpu]]
model = "h100"
sm_clock_mhz = 1980
sm_clock_max_mhz = 1980
throttle = [{ cause = "sw_thermal", from = 8, to = 13, sm_clock_mhz = 990 }]
process = [{ pid_file = "PID_FILE", memory_gib = 40 }]
[[gpu]]
model = "h100"
throttle = [{ cause = "hw_thermal", from = 0, to = 600, sm_clock_mhz = 345 }]
"#;
/// Requests a second, each of some tenths of a second.
const RATE: f64 = 20.0;
const LOAD_SECONDS: f64 = 18.0;
/// Of the requests that a throttle hits for longer than an interval, so many are known.
const KNOWN_MIN: f64 = 0.95;

/// An agent that reads a simulated library.
struct Scene {
    agent: AgentProcess,
    installed: Installed,
    _stage: Stage,
}

impl Scene {
    /// `scenario`: with `PID_FILE` where the path of the file with the server's number belongs.
    fn start(stage: Stage, scenario: &str, rules: &str) -> Self {
        let scenario = scenario.replace("PID_FILE", &stage.path().join("pid").display().to_string());
        let installed = install(stage.path(), &scenario).unwrap();
        let library = installed.library.display();
        let settings = format!("{rules}[gpu]\nlibrary = \"{library}\"\ninterval = \"{INTERVAL}s\"\n")
            .replace("0.2s", "200ms");
        let agent = stage.start_agent(&settings).unwrap();
        Self { agent, installed, _stage: stage }
    }

    fn write_number(folder: &Path, name: &str, server: &ServerProcess) {
        std::fs::write(folder.join(name), server.tgid().to_string()).unwrap();
    }

    /// Wall time of a second of the scenario.
    fn wall_of(&self, second: f64) -> f64 {
        let since = (boot_ns() - self.installed.start_boot_ns) as f64 / 1e9;
        wall() - since + second
    }

    fn wait_until(&self, second: f64) {
        std::thread::sleep(Duration::from_secs_f64((self.wall_of(second) - wall()).max(0.0)));
    }

    fn value(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        let page = Books::read(&self.agent).unwrap();
        let samples = page.0.get(family).into_iter().flat_map(|family| &family.samples);
        let has = |sample: &&Sample| {
            labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|own| own == value))
        };
        samples.filter(has).map(|sample| sample.value).sum()
    }

    /// Until the agent knows that the server has memory on its GPU.
    fn wait_for_user(&self, workload: &str) {
        let used =
            || (self.value("gpu_workload_memory_bytes", &[("workload", workload)]) > 0.0).then_some(());
        assert!(until(WAIT_MAX, used).is_some(), "{}", metrics_text(&self.agent).unwrap());
    }
}

/// Streams with `usage`, `rate` a second.
fn load(server: &ServerProcess, model: &str, rate: f64, seconds: f64) -> JoinHandle<Report> {
    let options = Options {
        rate: Some(rate),
        requests: (rate * seconds) as usize,
        concurrency: 64,
        mix: "chat-stream-usage".parse().unwrap(),
        scenarios: vec!["python".to_owned()],
        models: vec![model.to_owned()],
        ..Options::new(server.endpoint.clone())
    };
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(client::run(&options, |_| ())).unwrap()
    })
}

fn requests_of(agent: &AgentProcess, count: usize) -> Vec<Blamed> {
    let enough = || fetch(agent.listen).ok().filter(|requests| requests.len() >= count);
    let requests = until(WAIT_MAX, enough).unwrap_or_else(|| fetch(agent.listen).unwrap());
    assert_eq!(requests.len(), count, "requests that the agent lists");
    requests
}

#[test]
fn a_throttle_is_in_the_requests_of_its_gpu_and_in_no_others() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let server = stage.start_server(&[]).unwrap();
    Scene::write_number(stage.path(), "pid", &server);
    let rules = stage.rule();
    let scene = Scene::start(stage, THROTTLE, &rules);
    scene.wait_for_user("demo");
    let report = load(&server, "m", RATE, LOAD_SECONDS).join().unwrap();
    scene.wait_until(THROTTLED.1 + 1.0);
    tick_over(scene.agent.listen).unwrap();
    let requests = requests_of(&scene.agent, report.exchanges.len());
    let throttled = (scene.wall_of(THROTTLED.0), scene.wall_of(THROTTLED.1));
    let (mut hit, mut known, mut near) = (0, 0, 0);
    for request in &requests {
        let lost = request.seconds("gpu_throttle");
        let overlap = request.overlap(throttled);
        let sum = request.sum();
        assert!((sum - request.duration_seconds).abs() < 1e-6, "causes sum to {sum}: {request:?}");
        // At half the speed half of the time is lost; an edge is wrong by an interval at most.
        let most = (overlap + 2.0 * INTERVAL) / 2.0 + OFF_MAX;
        assert!(lost <= most, "{lost} s of {overlap} s at half the speed: {request:?}");
        if overlap > INTERVAL {
            hit += 1;
            known += usize::from(lost > 0.0);
        }
        let wider = (throttled.0 - INTERVAL - OFF_MAX, throttled.1 + INTERVAL + OFF_MAX);
        near += usize::from(request.overlap(wider) > 0.0);
        assert!(lost == 0.0 || request.overlap(wider) > 0.0, "{lost} s far from any throttle: {request:?}");
    }
    println!(
        "{hit} requests hit for longer than an interval, {known} known; {near} within an interval of it"
    );
    assert!(hit >= 30 && known as f64 >= KNOWN_MIN * f64::from(hit), "{known} of {hit}");
    let told = |cause: &str| {
        scene.value("vllm_requests_under_throttle_total", &[("workload", "demo"), ("cause", cause)]) as usize
    };
    assert!((known..=near).contains(&told("sw_thermal")), "{} of {known} to {near}", told("sw_thermal"));
    assert_eq!(told("hw_thermal"), 0, "of another's GPU");
    let seconds = scene.value("gpu_throttle_seconds_total", &[("gpu", "0"), ("cause", "sw_thermal")]);
    let length = THROTTLED.1 - THROTTLED.0;
    assert!((seconds - length).abs() < OFF_MAX, "{seconds} s of {length}");
    scene.agent.stop().unwrap();
    server.stop().unwrap();
}

/// Two models on GPUs of their own, busy at different times, with idle gaps.
const TWO_MODELS: &str = r#"
[[gpu]]
model = "h100"
energy = true
power_watts = { points = [[0, 110], [6, 520], [11, 110], [16, 480], [20, 110]], steps = true }
process = [{ pid_file = "PID_FILE-one", memory_gib = 40 }]
[[gpu]]
model = "h100"
energy = true
power_watts = { points = [[0, 90], [9, 640], [17, 90]], steps = true }
process = [{ pid_file = "PID_FILE-two", memory_gib = 40 }]
"#;
/// When requests are under way, seconds of the scenario, by GPU: from a little before it draws more until a little after.
const BUSY: [&[(f64, f64)]; 2] = [&[(5.6, 11.2), (15.6, 20.2)], &[(8.6, 17.2)]];
/// So many requests a second that one is always under way.
const BUSY_RATE: f64 = 40.0;
/// How far energy per token may be from the truth.
const ENERGY_OFF_MAX: f64 = 0.03;

#[test]
fn energy_by_token_is_what_the_requests_took() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let names = ["one", "two"];
    let servers = names.map(|name| {
        let log = stage.path().join(format!("served-{name}.jsonl")).display().to_string();
        let server =
            ServerProcess::start(Path::new(SERVER), &"127.0.0.1:0".parse().unwrap(), &["--log", &log]);
        let server = server.unwrap();
        Scene::write_number(stage.path(), &format!("pid-{name}"), &server);
        server
    });
    let rule = |name: &str| {
        let regex = format!("demo-server .*{}/served-{name}.jsonl", stage.path().display());
        format!("{{ name = \"{name}\", command_regex = \"{regex}\" }}")
    };
    let rules = format!("workload = [{}]\n", names.map(rule).join(", "));
    let scene = Scene::start(stage, TWO_MODELS, &rules);
    names.iter().for_each(|name| scene.wait_for_user(name));
    let mut phases: Vec<(usize, f64, f64)> = Vec::new();
    for (gpu, busy) in BUSY.iter().enumerate() {
        phases.extend(busy.iter().map(|(from, to)| (gpu, *from, *to)));
    }
    phases.sort_by(|one, other| one.1.total_cmp(&other.1));
    let mut loads = Vec::new();
    for (gpu, from, to) in phases {
        scene.wait_until(from);
        loads.push((gpu, load(&servers[gpu], names[gpu], BUSY_RATE, to - from)));
    }
    let reports: Vec<(usize, Report)> =
        loads.into_iter().map(|(gpu, load)| (gpu, load.join().unwrap())).collect();
    // What is under way at a tick is booked two later.
    (0..3).for_each(|_| tick_over(scene.agent.listen).unwrap());
    for (gpu, name) in names.into_iter().enumerate() {
        let own: Vec<&Report> =
            reports.iter().filter(|(of, _)| *of == gpu).map(|(_, report)| report).collect();
        check_energy(&scene, gpu, name, &own);
    }
    scene.agent.stop().unwrap();
    servers.into_iter().for_each(|server| drop(server.stop().unwrap()));
}

/// Joules per token of a model against what its GPU took while requests of it were under way.
fn check_energy(scene: &Scene, gpu: usize, model: &str, reports: &[&Report]) {
    let exchanges = || reports.iter().flat_map(|report| &report.exchanges);
    let tokens: u64 = exchanges().filter_map(|exchange| exchange.completion_tokens).sum();
    let mut spans: Vec<(u64, u64)> =
        exchanges().map(|exchange| (exchange.started_ns, exchange.ended_ns)).collect();
    spans.sort_unstable();
    let joules_at = |at: u64| {
        scene.installed.scenario.at(at).gpu(gpu).unwrap().energy_millijoules().unwrap() as f64 / 1e3
    };
    let (mut truth, mut until) = (0.0, 0);
    for (from, to) in spans {
        let from = from.max(until);
        if to > from {
            truth += joules_at(to) - joules_at(from);
            until = to;
        }
    }
    let labels = [("model", model), ("workload", model)];
    let joules = scene.value("vllm_energy_joules_total", &labels);
    let counted = scene.value("vllm_generation_tokens_total", &labels);
    let (measured, truth_each) = (joules / counted, truth / tokens as f64);
    let off = measured / truth_each - 1.0;
    let idle = scene.value("vllm_idle_energy_joules_total", &[("workload", model)]);
    println!(
        "{model}: {measured:.4} J a token, truly {truth_each:.4} ({:+.2} %), {tokens} tokens; idle {idle:.0} J",
        off * 100.0
    );
    assert!(counted as u64 == tokens && off.abs() < ENERGY_OFF_MAX, "{joules} J, truly {truth}");
    let by_phase: f64 = ["prefill", "decode"]
        .map(|phase| scene.value("vllm_phase_energy_joules_total", &[("model", model), ("phase", phase)]))
        .iter()
        .sum();
    assert!((by_phase - joules).abs() < 1e-3 * joules, "{by_phase} J by phase, {joules} J");
    assert!(idle > 0.0);
}

/// One that is well, one that answers no call from the third second on, and one that leaves the bus then.
const FAILING: &str = r#"
[[gpu]]
model = "h100"
process = [{ pid_file = "PID_FILE", memory_gib = 40 }]
[[gpu]]
model = "h100"
hang = [{ from = 3, to = 600 }]
[[gpu]]
model = "h100"
fail = [{ code = "GPU_IS_LOST", from = 3, to = 600 }]
"#;

#[test]
fn gpus_that_fail_are_told_once_and_hold_nothing_up() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let server = stage.start_server(&[]).unwrap();
    Scene::write_number(stage.path(), "pid", &server);
    let rules = stage.rule();
    let scene = Scene::start(stage, FAILING, &rules);
    scene.wait_for_user("demo");
    let is = |gpu: &str, state: &str| scene.value("gpu_state", &[("gpu", gpu), ("state", state)]) == 1.0;
    let told = || (is("0", "answers") && is("1", "unresponsive") && is("2", "lost")).then_some(());
    assert!(until(WAIT_MAX, told).is_some(), "{}", metrics_text(&scene.agent).unwrap());
    let temperature = |gpu: &str| scene.value("gpu_temperature_celsius", &[("gpu", gpu)]);
    assert!(temperature("0") > 0.0);
    // What is not known is not on the page.
    assert_eq!((temperature("1"), temperature("2")), (0.0, 0.0));
    let report = load(&server, "m", RATE, 2.0).join().unwrap();
    requests_of(&scene.agent, report.exchanges.len());
    tick_over(scene.agent.listen).unwrap();
    let log = scene.agent.read_log().unwrap();
    for said in ["does not answer", "is lost"] {
        assert_eq!(log.matches(said).count(), 1, "{said}: {log}");
    }
    // A thread of it hangs: it ends all the same.
    scene.agent.stop().unwrap();
    server.stop().unwrap();
}
