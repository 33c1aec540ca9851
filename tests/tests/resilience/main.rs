//! What happens to server and numbers when something ends, starts, changes or crashes; and what never leaves.
//!
//! Needs root and the agent's binary.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::Command;
use std::time::Duration;

use inferscope::probe::plan;
use inferscope::probe::statistics::loaded;
use inferscope_tests::books::tick_over;
use inferscope_tests::client::{self, Options, Report};
use inferscope_tests::fake_server::every_kind;
use inferscope_tests::harness::{AgentProcess, ServerProcess, agent_command};
use inferscope_tests::oracle::{AgentRecord, http_get};
use inferscope_tests::page::{self, Format, Sample};
use inferscope_tests::socket::Endpoint;
use inferscope_tests::stage::{Stage, metrics_text, records_when, until};
use inferscope_tests::transcript::{BodyReader, Outcome, response_head};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

mod leaks;

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");

/// Whatever is waited for comes in this time, or not at all.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A raw connection waits so long for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// The kernel frees programs a little after their last descriptor.
const FREED_MAX: Duration = Duration::from_secs(5);
/// Names in the kernel have so many characters.
const PROGRAM_NAME_MAX: usize = 15;

fn ordinary_load(server: &ServerProcess, requests: usize, rate: f64) -> Options {
    Options {
        requests,
        rate: Some(rate),
        concurrency: 16,
        mix: "chat-stream-usage=2,chat-whole,completions-stream".parse().unwrap(),
        scenarios: ["python", "rust"].map(str::to_owned).to_vec(),
        ..Options::new(server.endpoint.clone())
    }
}

fn spawn_load(runtime: &Runtime, options: Options) -> JoinHandle<Report> {
    runtime.spawn(async move { client::run(&options, |_| ()).await.unwrap() })
}

fn make_load(options: &Options) -> Report {
    Runtime::new().unwrap().block_on(client::run(options, |_| ())).unwrap()
}

/// Every request was answered as scripted.
fn check_all_answered(report: &Report, requests: usize) {
    assert_eq!(report.failures, Vec::<String>::new());
    assert_eq!((report.exchanges.len(), report.unsent), (requests, 0));
    for exchange in &report.exchanges {
        assert_eq!((exchange.outcome, exchange.status), (Outcome::Ok, Some(200)), "{exchange:?}");
    }
}

fn ids(records: &[AgentRecord]) -> BTreeSet<&str> {
    records.iter().filter_map(|record| record.request_id.as_deref()).collect()
}

fn ids_of(report: &Report) -> BTreeSet<&str> {
    report.exchanges.iter().filter_map(|exchange| exchange.request_id.as_deref()).collect()
}

/// The agent's records, once there are this many.
fn records_of(agent: &AgentProcess, count: usize) -> Vec<AgentRecord> {
    records_when(agent, WAIT_MAX, |records| records.len() >= count).unwrap()
}

/// A connection that stays open.
struct Kept(TcpStream);

impl Kept {
    fn open(server: &ServerProcess) -> Self {
        let Endpoint::Tcp(address) = server.endpoint else { panic!("the server listens on TCP") };
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(ANSWER_MAX)).unwrap();
        Self(stream)
    }

    /// One request and its whole answer.
    fn ask(&mut self, id: &str) {
        let body = r#"{"model":"demo","stream":true,"messages":[{"role":"user","content":"hello"}]}"#;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nx-request-id: {id}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.0.write_all((head + body).as_bytes()).unwrap();
        let (mut bytes, mut buffer) = (Vec::new(), [0; 16 << 10]);
        loop {
            let length = self.0.read(&mut buffer).unwrap();
            assert!(length > 0, "closed instead of answering {id}");
            bytes.extend_from_slice(&buffer[..length]);
            let Some(head) = response_head(&bytes).unwrap() else { continue };
            assert_eq!(head.status, 200);
            if BodyReader::new(head.framing, head.length).advance(&bytes).unwrap() {
                return;
            }
        }
    }
}

/// Numbers of all programs of the node that are called like the agent's.
fn programs_like_ours() -> BTreeMap<u32, String> {
    let cut = |name: &'static str| name.get(..PROGRAM_NAME_MAX).unwrap_or(name);
    let names: BTreeSet<&str> = plan::programs().iter().map(|program| cut(program.name)).collect();
    let ours = loaded().into_iter().filter(|program| names.contains(program.program.as_str()));
    ours.map(|program| (program.id, program.program)).collect()
}

#[test]
fn a_killed_agent_disturbs_no_server_and_the_next_one_picks_its_connections_up() {
    const REQUESTS: usize = 160;
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let server = stage.start_server(&[]).unwrap();
    let mut kept = [0, 1, 2].map(|_| Kept::open(&server));
    for (number, connection) in kept.iter_mut().enumerate() {
        connection.ask(&format!("before-{number}"));
    }
    let before = programs_like_ours();
    let agent = stage.start_agent(&stage.rule()).unwrap();
    let mut programs = programs_like_ours();
    programs.retain(|id, _| !before.contains_key(id));
    let families = page::read(&metrics_text(&agent).unwrap(), Format::Text).unwrap();
    assert_eq!(programs.len(), families["inferscope_hook_info"].samples.len(), "{programs:?}");

    let runtime = Runtime::new().unwrap();
    let load = spawn_load(&runtime, ordinary_load(&server, REQUESTS, 40.0));
    assert!(records_of(&agent, 30).len() >= 30);
    assert_eq!(agent.crash(Signal::KILL).unwrap().signal(), Some(Signal::KILL.as_raw()));
    let left = || programs_like_ours().into_keys().filter(|id| programs.contains_key(id)).count();
    assert!(until(FREED_MAX, || (left() == 0).then_some(())).is_some(), "{} programs are left", left());
    for (number, connection) in kept.iter_mut().enumerate() {
        connection.ask(&format!("without-{number}"));
    }

    let agent = stage.start_agent(&stage.rule()).unwrap();
    let again: Vec<String> = (0..kept.len()).map(|number| format!("again-{number}")).collect();
    for (id, connection) in again.iter().zip(&mut kept) {
        connection.ask(id);
    }
    let report = runtime.block_on(load).unwrap();
    check_all_answered(&report, REQUESTS);
    let newest = report.exchanges.last().unwrap().request_id.as_deref().unwrap();
    let all = |records: &[AgentRecord]| {
        let ids = ids(records);
        again.iter().map(String::as_str).chain([newest]).all(|id| ids.contains(id))
    };
    let records = records_when(&agent, WAIT_MAX, all).unwrap();
    assert!(all(&records), "{:?}", ids(&records));
    for record in
        records.iter().filter(|record| again.iter().any(|id| record.request_id.as_ref() == Some(id)))
    {
        assert_eq!((record.outcome.as_deref(), &record.incomplete), (Some("ok"), &None), "{record:?}");
        assert!(record.ttft_seconds.is_some() && record.chunks > 0, "{record:?}");
    }
    agent.stop().unwrap();
    server.stop().unwrap();
}

#[test]
fn a_crashed_agent_leaves_no_core_file() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    // What this process allows itself, it allows its children: the agent has to refuse by itself.
    let own = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: own.maximum, maximum: own.maximum }).unwrap();
    let agent = stage.start_agent(&stage.rule()).unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", agent.tgid())).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    let status = agent.crash(Signal::ABORT).unwrap();
    setrlimit(Resource::Core, own).unwrap();
    assert_eq!(core.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"]);
    assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::ABORT.as_raw()), false));
}

#[test]
fn a_second_agent_is_refused_and_the_first_goes_on() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let agent = stage.start_agent(&stage.rule()).unwrap();
    let mut second = agent_command(&stage.agent);
    let output = second.args(["run", "--listen", "127.0.0.1:0"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected = format!("another inferscope (tgid {}) runs on this node; ", agent.tgid());
    assert!(said.contains(&expected), "{said}");
    http_get(&Endpoint::Tcp(agent.listen), "/readyz").unwrap();
    agent.stop().unwrap();
}

#[test]
fn an_agent_told_to_stop_under_load_ends_within_2_s() {
    const REQUESTS: usize = 200;
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let server = stage.start_server(&[]).unwrap();
    let agent = stage.start_agent(&stage.rule()).unwrap();
    let runtime = Runtime::new().unwrap();
    let load = spawn_load(&runtime, ordinary_load(&server, REQUESTS, 100.0));
    assert!(records_of(&agent, 20).len() >= 20);
    // Scrapers that keep their connections open do not hold it.
    let idle: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(agent.listen).unwrap()).collect();
    let took = agent.stop().unwrap();
    drop(idle);
    check_all_answered(&runtime.block_on(load).unwrap(), REQUESTS);
    assert!(took < Duration::from_secs(2), "took {took:?}");
    server.stop().unwrap();
}

/// Follows the stage's servers with these seeds, each as a workload of its own.
fn follow_seeds(stage: &Stage, seeds: &[u32]) -> String {
    let servers = stage.servers_regex();
    let rule = |seed| {
        format!("[[workload]]\nname = \"seed-{seed}\"\ncommand_regex = \"{servers}.*--seed {seed}$\"\n")
    };
    seeds.iter().map(rule).collect()
}

/// Waits until the log says it.
fn wait_for_log(agent: &AgentProcess, part: &str) {
    let said = until(WAIT_MAX, || agent.read_log().unwrap().contains(part).then_some(()));
    assert!(said.is_some(), "{part} is not in {}", agent.read_log().unwrap());
}

/// Waits until the agent has begun to follow so many servers since it runs: it looks 20 times a second, and
/// the demonstration server answers sooner.
fn wait_until_followed(agent: &AgentProcess, servers: usize) {
    let count = || agent.read_log().unwrap().matches(": following ").count();
    let found = until(WAIT_MAX, || (count() >= servers).then_some(()));
    assert!(found.is_some(), "{servers} servers are not followed: {}", agent.read_log().unwrap());
}

/// Makes a few requests and demands that they are records of this workload.
fn check_followed(agent: &AgentProcess, server: &ServerProcess, workload: &str, seed: u64) {
    let report = make_load(&Options { seed, ..ordinary_load(server, 5, 100.0) });
    check_all_answered(&report, 5);
    let expected = ids_of(&report);
    let found = records_when(agent, WAIT_MAX, |records| expected.is_subset(&ids(records))).unwrap();
    assert!(expected.is_subset(&ids(&found)), "{expected:?} are not all in {:?}", ids(&found));
    for record in found.iter().filter(|one| one.request_id.as_deref().is_some_and(|id| expected.contains(id)))
    {
        assert_eq!(record.workload.as_deref(), Some(workload), "{record:?}");
    }
}

#[test]
fn a_reload_takes_what_is_right_and_keeps_the_old_where_it_is_not() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let first = stage.start_server(&["--seed", "71"]).unwrap();
    let second = stage.start_server(&["--seed", "72"]).unwrap();
    let agent = stage.start_agent(&follow_seeds(&stage, &[71])).unwrap();
    check_followed(&agent, &first, "seed-71", 1);
    make_load(&Options { seed: 2, ..ordinary_load(&second, 5, 100.0) });

    agent.reload("workloads = []\n").unwrap();
    wait_for_log(&agent, "the configuration stays as it was");
    assert!(agent.read_log().unwrap().contains("unknown key `workloads`"), "{}", agent.read_log().unwrap());
    check_followed(&agent, &first, "seed-71", 3);
    assert_eq!(records_of(&agent, 10).len(), 10, "the second server is followed without a rule");

    agent.reload(&follow_seeds(&stage, &[71, 72])).unwrap();
    wait_for_log(&agent, "configuration read again");
    check_followed(&agent, &second, "seed-72", 4);
    check_followed(&agent, &first, "seed-71", 5);
    agent.stop().unwrap();
    first.stop().unwrap();
    second.stop().unwrap();
}

fn samples(agent: &AgentProcess, family: &str) -> Vec<Sample> {
    let mut families = page::read(&metrics_text(agent).unwrap(), Format::Text).unwrap();
    families.remove(family).map(|family| family.samples).unwrap_or_default()
}

/// Sum of `vllm_requests_total` by workload.
fn requests_by_workload(agent: &AgentProcess) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for sample in samples(agent, "vllm_requests_total") {
        *sums.entry(sample.labels["workload"].clone()).or_default() += sample.value;
    }
    sums
}

#[test]
fn a_restarted_server_keeps_its_label_and_its_counters() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let agent = stage.start_agent(&stage.rule()).unwrap();
    let server = stage.start_server(&[]).unwrap();
    let listen = server.endpoint.clone();
    wait_until_followed(&agent, 1);
    make_load(&ordinary_load(&server, 10, 100.0));
    assert_eq!(records_of(&agent, 10).len(), 10);
    let before = requests_by_workload(&agent);
    server.stop().unwrap();

    let server = stage.start_server_at(&listen, &[]).unwrap();
    wait_until_followed(&agent, 2);
    make_load(&Options { seed: 2, ..ordinary_load(&server, 7, 100.0) });
    assert_eq!(records_of(&agent, 17).len(), 17);
    let after = requests_by_workload(&agent);
    assert_eq!(before.values().sum::<f64>(), 10.0, "{before:?}");
    assert_eq!(
        after.into_iter().collect::<Vec<_>>(),
        before.into_keys().map(|label| (label, 17.0)).collect::<Vec<_>>()
    );
    agent.stop().unwrap();
    server.stop().unwrap();
}

#[test]
fn two_servers_at_once_have_labels_of_kind_and_port() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let servers = [0, 1].map(|_| stage.start_server(&[]).unwrap());
    let ports = servers.each_ref().map(|server| server.endpoint.port().unwrap());
    let rules: String = ports.map(|port| format!("[[workload]]\nport = {port}\n")).concat();
    let agent = stage.start_agent(&rules).unwrap();
    for (seed, server) in servers.iter().enumerate() {
        make_load(&Options { seed: seed as u64, ..ordinary_load(server, 5, 100.0) });
    }
    assert_eq!(records_of(&agent, 10).len(), 10);
    let expected = ports.map(|port| (format!("openai-{port}"), 5.0));
    assert_eq!(requests_by_workload(&agent), BTreeMap::from(expected));
    agent.stop().unwrap();
    for server in servers {
        server.stop().unwrap();
    }
}

#[test]
fn a_child_of_a_server_is_measured_from_its_first_request() {
    const REQUESTS: usize = 20;
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    // The rule matches what starts the server, and not the server.
    let rule = "workload = [{ name = \"demo\", command_regex = \"^inference-launcher \" }]\n";
    let agent = stage.start_agent(rule).unwrap();
    let script = "trap 'kill $child; wait $child; exit $?' TERM; sleep 0.5; \
                  \"$0\" --listen 127.0.0.1:0 & child=$!; wait $child";
    let mut launcher = Command::new("/bin/sh");
    // Under its own name it would be taken for a shell, which is no server.
    let launcher = launcher.arg0("inference-launcher").args(["-c", script]).arg(&stage.server);
    let server = ServerProcess::start_command(launcher).unwrap();
    let report = make_load(&ordinary_load(&server, REQUESTS, 40.0));
    check_all_answered(&report, REQUESTS);
    let records = records_of(&agent, REQUESTS);
    assert_eq!(ids(&records), ids_of(&report));
    assert!(records.iter().all(|record| record.incomplete.is_none()), "{records:?}");
    agent.stop().unwrap();
    server.stop().unwrap();
}

#[test]
fn events_that_happened_are_events_taken_and_events_lost() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let server = stage.start_server(&[]).unwrap();
    let agent = stage.start_agent(&stage.rule()).unwrap();
    let load =
        Options { mix: "all".parse().unwrap(), scenarios: every_kind(), ..ordinary_load(&server, 150, 80.0) };
    let report = make_load(&load);
    let inference = report.exchanges.iter().filter(|exchange| exchange.is_inference()).count();
    records_of(&agent, inference);
    tick_over(agent.listen).unwrap();
    let events = samples(&agent, "inferscope_events_total");
    let lost = samples(&agent, "inferscope_events_lost_total");
    let stage_of = |samples: &[Sample], stage: &str| -> f64 {
        samples.iter().filter(|one| one.labels["stage"] == stage).map(|one| one.value).sum()
    };
    let [seen, sent, taken] =
        ["socket_seen", "socket_sent", "socket_taken"].map(|stage| stage_of(&events, stage));
    assert!(taken > 1_000.0, "{events:?}");
    assert_eq!(seen, sent + stage_of(&lost, "socket_ring"), "{events:?} {lost:?}");
    assert_eq!(sent, taken, "{events:?} {lost:?}");
    assert_eq!(lost.iter().map(|one| one.value).sum::<f64>(), 0.0, "{lost:?}");
    agent.stop().unwrap();
    server.stop().unwrap();
}
