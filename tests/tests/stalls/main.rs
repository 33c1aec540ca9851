//! Is each request told what held its server up? Known stalls, and what the agent says of them.
//!
//! Needs root and the agent's binary.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

mod churn;
mod crowd;
mod files;
mod numbers;
mod processor;
mod scale;
mod stopped;
mod up;

use std::time::Duration;

use inferscope_tests::books::Books;
use inferscope_tests::client::{self, Options, Report};
use inferscope_tests::harness::{AgentProcess, ServerProcess};
use inferscope_tests::lab::blamed::{Blamed, fetch};
use inferscope_tests::machine::patient;
use inferscope_tests::page::Sample;
use inferscope_tests::stage::{Stage, until};

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");
/// What a test waits for comes within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a family of the page has in all series with these labels.
fn seconds_of(agent: &AgentProcess, family: &str, labels: &[(&str, &str)]) -> f64 {
    let page = Books::read(agent).unwrap();
    let Some(family) = page.0.get(family) else { return 0.0 };
    let has = |sample: &&Sample| {
        labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|own| own == value))
    };
    family.samples.iter().filter(has).map(|sample| sample.value).sum()
}

/// Workloads on the page that are none of the test's: servers that the node has anyway.
fn others(page: &Books, own: &[&str]) -> usize {
    let infos =
        page.0.get("inferscope_workload_info").map(|family| family.samples.as_slice()).unwrap_or_default();
    infos.iter().filter(|info| !own.contains(&info.labels["workload"].as_str())).count()
}

/// Agent and server, followed.
struct Scene {
    stage: Stage,
    agent: AgentProcess,
    server: ServerProcess,
}

impl Scene {
    fn start() -> Option<Self> {
        let stage = Stage::set(SERVER).unwrap()?;
        let agent = stage.start_agent(&stage.rule()).unwrap();
        let server = stage.start_server(&[]).unwrap();
        let says_so = || agent.read_log().unwrap().contains(": following ").then_some(());
        assert!(until(patient(PATIENCE), says_so).is_some(), "{}", agent.read_log().unwrap());
        Some(Self { stage, agent, server })
    }

    /// A steady load of streams, `rate` a second for so many seconds.
    fn load(&self, rate: f64, seconds: f64) -> std::thread::JoinHandle<Report> {
        let options = Options {
            rate: Some(rate),
            requests: (rate * seconds) as usize,
            concurrency: 64,
            mix: "chat-stream-usage".parse().unwrap(),
            scenarios: vec!["python".to_owned()],
            ..Options::new(self.server.endpoint.clone())
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(client::run(&options, |_| ())).unwrap()
        })
    }

    /// All of the load's requests, each with its vector.
    fn requests(&self, count: usize) -> Vec<Blamed> {
        let enough = || fetch(self.agent.listen).ok().filter(|requests| requests.len() >= count);
        let requests = until(patient(PATIENCE), enough).unwrap_or_else(|| fetch(self.agent.listen).unwrap());
        assert_eq!(requests.len(), count, "requests that the agent lists");
        for request in &requests {
            let sum = request.sum();
            assert!((sum - request.duration_seconds).abs() < 1e-6, "causes sum to {sum}: {request:?}");
        }
        requests
    }

    /// A series of the server's on the page, in seconds.
    fn stall_seconds(&self, cause: &str) -> f64 {
        let page = inferscope_tests::stage::metrics_text(&self.agent).unwrap();
        let cause = format!("cause=\"{cause}\"");
        let of = |line: &&str| line.starts_with("stall_seconds_total{") && line.contains(&cause);
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        page.lines().filter(of).map(value).sum()
    }

    fn stop(self) {
        self.agent.stop().unwrap();
        self.server.stop().unwrap();
        drop(self.stage);
    }
}
