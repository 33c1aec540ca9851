//! Servers that are stopped, killed, restarted, and an agent that is reloaded: is `vllm_workload_up` down for the true time?

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use inferscope_tests::harness::free_address;
use inferscope_tests::oracle::http_get;
use inferscope_tests::stage::metrics_text;
use rustix::process::{Pid, Signal, kill_process};

use super::crowd::{self, Crowd};
use super::*;

/// Pace at which the page is read.
const SCRAPE_EVERY: Duration = Duration::from_millis(250);
/// A server is away for so long.
const AWAY: Duration = Duration::from_secs(6);
/// How far the seconds at 0 may be from the true ones.
const OFF_MAX: f64 = 2.0;
/// Of a start: the server says that it listens a moment after it does.
const START_OFF_MAX: f64 = 0.3;

/// What the page says; `None` where the workload is not on it.
fn up(agent: &AgentProcess, workload: &str) -> Option<bool> {
    let page = metrics_text(agent).unwrap();
    let series = format!("vllm_workload_up{{workload=\"{workload}\"}} ");
    page.lines().find_map(|line| line.strip_prefix(&series)).map(|value| value.trim() == "1")
}

/// Seconds that the page says a workload was down, from `act`'s begin until it is up again. Not on the page counts as down.
fn down_while(agent: &AgentProcess, workload: &str, act: impl FnOnce()) -> f64 {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut down, mut before) = (Duration::ZERO, Instant::now());
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(SCRAPE_EVERY);
                let is_up = up(agent, workload) == Some(true);
                let now = Instant::now();
                down += if is_up { Duration::ZERO } else { now - before };
                before = now;
            }
            down.as_secs_f64()
        });
        act();
        // The page is a tick behind.
        std::thread::sleep(Duration::from_secs(2));
        let again = until(patient(PATIENCE), || (up(agent, workload) == Some(true)).then_some(()));
        over.store(true, Ordering::Relaxed);
        let down = watch.join().unwrap();
        assert!(again.is_some(), "{workload} is not up again: {}", agent.read_log().unwrap());
        down
    })
}

fn check(what: &str, down: f64, truth: f64) {
    println!("{what}: down for {truth:.2} s, {down:.2} s on the page");
    assert!((down - truth).abs() <= OFF_MAX, "{what}: down for {truth} s, {down} s on the page");
}

fn one_request(scene: &Scene) {
    let report = scene.load(1.0, 1.0).join().unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
}

#[test]
fn a_server_is_down_for_its_true_seconds() {
    let Some(mut scene) = Scene::start() else { return };
    one_request(&scene);
    assert_eq!(up(&scene.agent, "demo"), Some(true));
    let server = Pid::from_raw(scene.server.tgid().cast_signed()).unwrap();

    let began = Instant::now();
    let mut truth = 0.0;
    let down = down_while(&scene.agent, "demo", || {
        kill_process(server, Signal::STOP).unwrap();
        std::thread::sleep(AWAY);
        kill_process(server, Signal::CONT).unwrap();
        truth = began.elapsed().as_secs_f64();
    });
    check("stopped", down, truth);

    // What is read anew concerns nobody who serves.
    let settings = format!("{}[request]\nstalled_after = \"11s\"\n", scene.stage.rule());
    let down = down_while(&scene.agent, "demo", || {
        scene.agent.reload(&settings).unwrap();
        let said = || scene.agent.read_log().unwrap().contains("configuration read again").then_some(());
        assert!(until(patient(PATIENCE), said).is_some(), "{}", scene.agent.read_log().unwrap());
    });
    println!("agent reloaded: {down:.2} s on the page");
    assert!(down == 0.0, "{down} s");

    let killed = Instant::now();
    let mut started = None;
    let down = down_while(&scene.agent, "demo", || {
        kill_process(server, Signal::KILL).unwrap();
        std::thread::sleep(AWAY - Duration::from_secs(2));
        let begun = Instant::now();
        // As long as a model takes to load it does not listen, and is down.
        let again =
            scene.stage.start_server_at(&scene.server.endpoint, &["--listen-after-ms", "2000"]).unwrap();
        truth = killed.elapsed().as_secs_f64();
        started = Some((begun, begun.elapsed()));
        scene.server = again;
    });
    check("killed and started again", down, truth);
    check_cold_start(&scene, started.unwrap());
    scene.stop();
}

/// The phases are those of the second start, of which this test knows when it began and how long it took to listen.
fn check_cold_start(scene: &Scene, (begun, listening): (Instant, Duration)) {
    http_get(&scene.server.endpoint, "/health").unwrap();
    let healthy = begun.elapsed();
    std::thread::sleep(Duration::from_secs(1));
    one_request(scene);
    let first_response = begun.elapsed();
    let phase = |phase: &str| {
        let page = metrics_text(&scene.agent).unwrap();
        let (family, phase) = ("vllm_cold_start_seconds{", format!("phase=\"{phase}\""));
        let line = page.lines().find(|line| line.starts_with(family) && line.contains(&phase))?;
        line.rsplit(' ').next().unwrap().parse::<f64>().ok()
    };
    let truths = [("listening", listening), ("healthy", healthy), ("first_response", first_response)];
    let off = || {
        truths.iter().find_map(|(name, truth)| {
            let (said, truth) = (phase(name), truth.as_secs_f64());
            let right = said.is_some_and(|said| (said - truth).abs() <= START_OFF_MAX);
            (!right).then(|| format!("{name}: {truth} s, {said:?} on the page"))
        })
    };
    until(patient(PATIENCE), || off().is_none().then_some(()));
    assert_eq!(off(), None);
    println!("started again: {truths:?}");
}

#[test]
fn a_server_that_lets_its_requests_end_is_down_as_soon_as_it_takes_no_more() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let agent = stage.start_agent(&crowd::settings(&stage, &["drains"])).unwrap();
    let listen = free_address().unwrap().to_string();
    let arguments = ["--listen", &listen, "--drain-ms", "4000"];
    let mut server = Crowd::start(&stage, "drains", &arguments);
    assert!(until(patient(PATIENCE), || (up(&agent, "drains") == Some(true)).then_some(())).is_some());
    let began = Instant::now();
    let mut truth = 0.0;
    let down = down_while(&agent, "drains", || {
        server.signal(Signal::TERM);
        server.0.wait().unwrap();
        std::thread::sleep(Duration::from_secs(1));
        server = Crowd::start(&stage, "drains", &arguments);
        truth = began.elapsed().as_secs_f64();
    });
    check("let its requests end and started again", down, truth);
    agent.stop().unwrap();
}
