//! The whole path: a scripted server, load, and the agent, which must have measured what passed.
//!
//! Needs root, tcpdump, and the agent's binary in `INFERSCOPE_AGENT`.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use inferscope_tests::client::Options;
use inferscope_tests::fake_server::SCENARIOS;
use inferscope_tests::harness::{AgentOptions, AgentProcess, ServerProcess, load_and_compare};
use inferscope_tests::skip;
use inferscope_tests::wire::Capture;

/// A node has one agent.
static ONE_AGENT: Mutex<()> = Mutex::new(());

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");

fn agent_binary(folder: &Path) -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("kernel programs need root".to_owned());
    }
    let Some(binary) = std::env::var_os("INFERSCOPE_AGENT") else {
        return Err("INFERSCOPE_AGENT does not name the agent's binary".to_owned());
    };
    Capture::start(9, folder).map_err(|error| format!("{error:#}"))?;
    Ok(binary.into())
}

fn agent_options(binary: PathBuf, folder: &Path) -> AgentOptions {
    AgentOptions {
        binary,
        workload: ("demo".to_owned(), "inferscope-demo-server".to_owned()),
        folder: folder.to_owned(),
    }
}

fn every_scenario() -> Vec<String> {
    SCENARIOS.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// Everything at once on one kind of socket.
async fn check(listen: &str) {
    let folder = tempfile::tempdir().unwrap();
    let binary = match agent_binary(folder.path()) {
        Ok(binary) => binary,
        Err(reason) => {
            skip(&reason);
            return;
        }
    };
    let listen = listen.replace("FOLDER", &folder.path().display().to_string());
    let server = ServerProcess::start(Path::new(SERVER), &listen.parse().unwrap(), &[]).unwrap();
    let agent = AgentProcess::start(&agent_options(binary, folder.path())).unwrap();
    let options = Options {
        requests: 400,
        concurrency: 8,
        mix: "all".parse().unwrap(),
        scenarios: every_scenario(),
        models: vec!["small".to_owned(), "large/model-7b".to_owned()],
        ..Options::new(server.endpoint.clone())
    };
    let comparison = load_and_compare(agent.listen, &options, folder.path()).await.unwrap();
    println!("{comparison}");
    assert_eq!(agent.leaks().unwrap(), Vec::<String>::new());
    let took = agent.stop().unwrap();
    server.stop().unwrap();
    assert!(comparison.passed, "{comparison}");
    assert!(took < Duration::from_secs(2), "the agent took {took:?} to end");
}

fn run(listen: &str) {
    let _one = ONE_AGENT.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(check(listen));
}

#[test]
fn requests_over_ipv4_are_measured_as_they_passed() {
    run("127.0.0.1:0");
}

#[test]
fn requests_over_ipv6_are_measured_as_they_passed() {
    run("[::1]:0");
}

#[test]
fn requests_over_a_unix_socket_are_measured_as_they_passed() {
    run("unix:FOLDER/demo.sock");
}

#[test]
fn a_server_that_starts_after_the_agent_is_measured() {
    let _one = ONE_AGENT.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let binary = match agent_binary(folder.path()) {
        Ok(binary) => binary,
        Err(reason) => {
            skip(&reason);
            return;
        }
    };
    let agent = AgentProcess::start(&agent_options(binary, folder.path())).unwrap();
    let server = ServerProcess::start(Path::new(SERVER), &"127.0.0.1:0".parse().unwrap(), &[]).unwrap();
    let options = Options { requests: 50, ..Options::new(server.endpoint.clone()) };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let comparison = runtime.block_on(load_and_compare(agent.listen, &options, folder.path())).unwrap();
    agent.stop().unwrap();
    server.stop().unwrap();
    assert!(comparison.passed, "{comparison}");
}
