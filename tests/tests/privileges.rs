//! What the running agent may still do: capabilities, privileges and system calls of every thread, and that it
//! measures with them.
//!
//! Needs root and the agent's binary; the records are compared with packets where there is tcpdump.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use inferscope::lifecycle::privileges::CAPABILITIES;
use inferscope_tests::client::{self, Options};
use inferscope_tests::harness::{AgentProcess, ServerProcess, load_and_compare};
use inferscope_tests::machine::{concurrency, patient, requests};
use inferscope_tests::oracle::http_get;
use inferscope_tests::page::{self, Format};
use inferscope_tests::rights::{NOBODY, Rights, unit_capabilities, unit_values};
use inferscope_tests::skip;
use inferscope_tests::socket::Endpoint;
use inferscope_tests::stage::{Stage, metrics_text, records_when, until};
use inferscope_tests::wire::Capture;
use rustix::thread::CapabilitySet;
use serde_json::Value;

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");
/// Whatever is waited for comes in this time, or not at all.
const WAIT_MAX: Duration = Duration::from_secs(10);
const LOAD_TIME_MAX: Duration = Duration::from_secs(60);
/// The agent promises to end within this time.
const END_MAX: Duration = Duration::from_secs(2);
/// The pipeline's thread and those of the server.
const THREADS_MIN: usize = 3;
/// `Seccomp:` of a thread with a filter.
const FILTERED: &str = "2";

/// What the agent keeps of what it was started with.
fn kept(rights: Rights) -> CapabilitySet {
    let kept = CAPABILITIES.iter().filter(|one| one.kept).map(|one| one.set).collect::<CapabilitySet>();
    kept & rights.capabilities().unwrap()
}

/// The lines of `/proc/TGID/task/TID/status` that tell rights, of every thread.
fn rights_of_threads(agent: &AgentProcess) -> BTreeMap<String, BTreeMap<String, String>> {
    let folder = format!("/proc/{}/task", agent.tgid());
    let threads = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let rights = threads.map(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap();
        let lines = status.lines().filter_map(|line| line.split_once(':'));
        let lines =
            lines.filter(|(key, _)| key.starts_with("Cap") || ["NoNewPrivs", "Seccomp"].contains(key));
        let lines = lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect();
        (thread.file_name().into_string().unwrap(), lines)
    });
    rights.collect()
}

fn check_threads(agent: &AgentProcess, rights: Rights) {
    let kept = kept(rights);
    // Root alone may set its own bounds; what another manager left there stays.
    let bounds = if rights == Rights::All { kept } else { rights.capabilities().unwrap() };
    let set = |set: CapabilitySet| format!("{:016x}", set.bits());
    let none = set(CapabilitySet::empty());
    let expected: BTreeMap<String, String> = [
        ("CapInh", none.clone()),
        ("CapPrm", set(kept)),
        ("CapEff", set(kept)),
        ("CapBnd", set(bounds)),
        ("CapAmb", none),
        ("NoNewPrivs", "1".to_owned()),
        ("Seccomp", FILTERED.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let threads = rights_of_threads(agent);
    assert!(threads.len() >= THREADS_MIN, "{threads:?}");
    for (thread, found) in &threads {
        assert_eq!(found, &expected, "thread {thread} of an agent with {rights:?}");
    }
}

/// `/healthz` says what is in force.
fn sandbox(agent: &AgentProcess) -> Value {
    let page = http_get(&Endpoint::Tcp(agent.listen), "/healthz").unwrap();
    serde_json::from_slice::<Value>(&page).unwrap()["sandbox"].clone()
}

fn names(list: &Value, key: Option<&str>) -> BTreeSet<String> {
    let name = |one: &Value| key.map_or(one, |key| &one[key]).as_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(name).collect()
}

fn check_told(agent: &AgentProcess, rights: Rights) {
    let told = sandbox(agent);
    let of = |holds: bool| -> BTreeSet<String> {
        let kept = kept(rights);
        let all = CAPABILITIES.iter().filter(|one| one.kept && kept.contains(one.set) == holds);
        all.map(|one| one.name.to_owned()).collect()
    };
    assert_eq!(told["mode"], "enforce", "{told}");
    assert_eq!(told["other_system_calls"], "refused", "{told}");
    assert_eq!(told["reason"], Value::Null, "{told}");
    assert_eq!(names(&told["capabilities"], None), of(true), "{told}");
    assert_eq!(names(&told["lacking"], Some("capability")), of(false), "{told}");
}

/// A server of the user whose agent it is.
fn start_server(stage: &Stage, rights: Rights, more: &[&str]) -> ServerProcess {
    let mut command = Command::new(rights.reach(stage.path(), &stage.server).unwrap());
    if rights == Rights::Two {
        command.uid(NOBODY).gid(NOBODY);
    }
    let log = stage.path().join("served.jsonl");
    command.args(more).arg("--log").arg(log);
    ServerProcess::start_command(&mut command).unwrap()
}

/// No kernel table refused a change, and no pass over the open sockets failed.
fn check_no_refusal(agent: &AgentProcess) {
    let families = page::read(&metrics_text(agent).unwrap(), Format::Text).unwrap();
    let lost = &families["inferscope_events_lost_total"].samples;
    let refused: Vec<_> = lost.iter().filter(|one| one.labels["reason"] == "refused").collect();
    assert!(refused.iter().any(|one| one.labels["stage"] == "socket_table"), "{lost:?}");
    assert_eq!(refused.iter().map(|one| one.value).sum::<f64>(), 0.0, "{lost:?}");
    let info = &families["inferscope_sandbox_info"].samples;
    assert_eq!(info.len(), 1, "{info:?}");
}

fn start_agent(stage: &Stage, rights: Rights) -> AgentProcess {
    let agent = AgentProcess::start_as(rights, &stage.agent, stage.path(), &stage.rule()).unwrap();
    wait_for_log(&agent, ": following ");
    agent
}

fn wait_for_log(agent: &AgentProcess, part: &str) {
    let said = until(patient(WAIT_MAX), || agent.read_log().unwrap().contains(part).then_some(()));
    assert!(said.is_some(), "{part} is not in {}", agent.read_log().unwrap());
}

/// Measures, reloads and stops with these rights.
fn check_works(rights: Rights) {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    if let Err(reason) = Capture::start(9, stage.path()) {
        return skip(&format!("{reason:#}"));
    }
    let server = start_server(&stage, rights, &["--listen", "127.0.0.1:0"]);
    let agent = start_agent(&stage, rights);
    check_threads(&agent, rights);

    let options = Options {
        requests: requests(40),
        concurrency: concurrency(8),
        time_max: patient(LOAD_TIME_MAX),
        ..Options::new(server.endpoint.clone())
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let comparison = runtime.block_on(load_and_compare(agent.listen, &options, stage.path())).unwrap();
    assert!(comparison.passed, "{comparison}\n{}", agent.read_log().unwrap());
    check_no_refusal(&agent);

    agent.reload(&stage.rule()).unwrap();
    wait_for_log(&agent, "configuration read again");
    check_told(&agent, rights);
    // The threads that encode pages have begun meanwhile.
    check_threads(&agent, rights);
    let took = agent.stop().unwrap();
    assert!(took < patient(END_MAX), "the agent took {took:?} to end");
    server.stop().unwrap();
}

#[test]
fn an_agent_with_the_units_capabilities_measures_and_keeps_three() {
    check_works(Rights::Unit);
}

#[test]
fn an_agent_with_two_capabilities_measures_the_servers_of_its_own_user() {
    check_works(Rights::Two);
}

#[test]
fn an_agent_of_root_keeps_three() {
    check_works(Rights::All);
}

#[test]
fn open_sockets_are_listed_without_the_capability_to_load_programs() {
    const REQUESTS: usize = 8;
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let listen = format!("unix:{}/demo.sock", stage.path().display());
    // Quiet for longer than a second: the agent asks the kernel whether the socket is still open.
    let script = r#"{"first_after_us": 2500000}"#;
    let server = start_server(&stage, Rights::Two, &["--listen", &listen, "--script", script]);
    let agent = start_agent(&stage, Rights::Two);
    let mix = "chat-stream-usage".parse().unwrap();
    let options =
        Options { requests: REQUESTS, concurrency: REQUESTS, mix, ..Options::new(server.endpoint.clone()) };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(client::run(&options, |_| ())).unwrap();
    let records = records_when(&agent, WAIT_MAX, |records| records.len() >= REQUESTS).unwrap();
    let ok = records.iter().filter(|one| one.outcome.as_deref() == Some("ok") && one.incomplete.is_none());
    assert_eq!((ok.count(), records.len()), (REQUESTS, REQUESTS), "{records:?}");
    check_no_refusal(&agent);
    agent.stop().unwrap();
    server.stop().unwrap();
}

#[test]
fn a_sandbox_that_is_off_is_said_everywhere_and_gives_nothing_up() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let settings = format!("{}[sandbox]\nmode = \"off\"\n", stage.rule());
    let agent = AgentProcess::start_as(Rights::All, &stage.agent, stage.path(), &settings).unwrap();
    let told = sandbox(&agent);
    assert_eq!((&told["mode"], &told["other_system_calls"]), (&"off".into(), &"allowed".into()));
    assert!(agent.read_log().unwrap().contains("sandbox.mode is off"), "{}", agent.read_log().unwrap());
    assert!(metrics_text(&agent).unwrap().contains("inferscope_sandbox_info{mode=\"off\","));
    let all = format!("{:016x}", Rights::All.capabilities().unwrap().bits());
    for (thread, found) in rights_of_threads(&agent) {
        let found = ["CapEff", "Seccomp"].map(|key| found[key].as_str());
        assert_eq!(found, [all.as_str(), "0"], "thread {thread}");
    }
    agent.stop().unwrap();
}

#[test]
fn statistics_keep_the_capability_that_they_need() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let settings = format!("{}[sandbox]\nprogram_statistics = true\n", stage.rule());
    let agent = AgentProcess::start_as(Rights::All, &stage.agent, stage.path(), &settings).unwrap();
    let kept = format!("{:016x}", (kept(Rights::All) | CapabilitySet::SYS_ADMIN).bits());
    for (thread, found) in rights_of_threads(&agent) {
        let found = ["CapEff", "CapBnd", "Seccomp"].map(|key| found[key].as_str());
        assert_eq!(found, [kept.as_str(), kept.as_str(), FILTERED], "thread {thread}");
    }
    agent.stop().unwrap();
}

#[test]
fn the_unit_gives_what_the_agent_asks_for() {
    let asked = CAPABILITIES.iter().map(|one| one.set).collect::<CapabilitySet>();
    for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        assert_eq!(unit_capabilities(key).unwrap(), asked, "{key}");
    }
    let named =
        CAPABILITIES.iter().map(|one| CapabilitySet::from_name(one.name.strip_prefix("CAP_").unwrap()));
    assert_eq!(named.collect::<Option<CapabilitySet>>(), Some(asked));
}

#[test]
fn the_unit_lets_the_agent_confine_itself() {
    let filter = unit_values("SystemCallFilter");
    let allowed: BTreeSet<&str> = filter[0].split_whitespace().collect();
    // What the agent calls at its start and no group of systemd 252 has that a service is given.
    for call in ["bpf", "perf_event_open", "seccomp"] {
        assert!(allowed.contains(call), "{call} is not in {filter:?}");
    }
    assert_eq!(unit_values("NoNewPrivileges"), ["yes"]);
    assert_eq!(unit_values("ProtectSystem"), ["strict"]);
}
