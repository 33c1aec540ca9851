//! More events than the ring holds, and an agent that gets no processor: every event is accounted for, at every
//! stage, and afterwards everything is exact again.
//!
//! Needs root and the agent's binary. Nothing is judged by how long it took.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use inferscope::probe::statistics::{Sampling, loaded};
use inferscope_tests::books::Books;
use inferscope_tests::client::Options;
use inferscope_tests::flood::{Ask, Client, Counted, Load, Made};
use inferscope_tests::harness::{AgentProcess, ServerProcess, load_and_compare};
use inferscope_tests::oracle::AgentRecord;
use inferscope_tests::socket::Endpoint;
use inferscope_tests::stage::{Stage, records_when, until};
use rustix::process::Signal;
use tokio::runtime::Runtime;

mod starvation;

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");
const FLOOD_SERVER: &str = env!("CARGO_BIN_EXE_inferscope-flood-server");

/// Whatever is waited for comes in this time, or not at all.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// A request is asked for again after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Events of one stream of the flood.
const EVENTS: u32 = 500;
/// Likewise, of a stream after it.
const EVENTS_AFTER: u32 = 20;

/// Twice what the ring holds, in events of which most are streamed. The inference requests are fewer than the
/// agent lists.
const FLOOD: [Load; 4] = [
    Load { name: "kept", ask: stream(EVENTS), connections: 8, requests: 40, keeps: true, ..CALM },
    Load { name: "gone", ask: stream(EVENTS), connections: 8, requests: 20, ..CALM },
    Load { name: "whole", ask: Ask::Whole, connections: 4, requests: 400, ..CALM },
    Load { name: "health", ask: Ask::Health, connections: 4, requests: 4_000, ..CALM },
];
const fn stream(events: u32) -> Ask {
    Ask::Stream { events, gap: Duration::ZERO }
}

const CALM: Load =
    Load { name: "", ask: Ask::Health, connections: 1, requests: 1, pause: Duration::ZERO, keeps: false };

fn start_flood_server(stage: &Stage) -> (ServerProcess, SocketAddr) {
    let mut command = Command::new(FLOOD_SERVER);
    let server = ServerProcess::start_command(command.arg("--name").arg(stage.path())).unwrap();
    let Endpoint::Tcp(address) = server.endpoint else { panic!("the server listens on TCP") };
    (server, address)
}

/// Follows the server of the flood and the demonstration server.
fn rules(stage: &Stage) -> String {
    let flood = format!("inferscope-flood-server --name {}", stage.path().display());
    format!(
        "[[workload]]\nname = \"flood\"\ncommand_regex = \"{flood}\"\n[[workload]]\nname = \"demo\"\n\
         command_regex = \"{}\"\n",
        stage.servers_regex()
    )
}

fn wait_until_followed(agent: &AgentProcess, label: &str) {
    let said = format!(": following workload={label} ");
    let found = until(WAIT_MAX, || agent.read_log().unwrap().contains(&said).then_some(()));
    assert!(found.is_some(), "{label} is not followed: {}", agent.read_log().unwrap());
}

/// A record that says it is complete is: it has all that its request brought about.
fn check_record(record: &AgentRecord, events: Option<u32>) {
    assert_eq!((record.outcome.as_deref(), record.status), (Some("ok"), Some(200)), "{record:?}");
    let streamed = (Some(events.is_some()), u64::from(events.unwrap_or(0)));
    assert_eq!((record.streamed, record.chunks), streamed, "{record:?}");
    assert_eq!(record.ttft_seconds.is_some(), events.is_some(), "{record:?}");
    let gaps = record.gaps.unwrap_or_default();
    assert_eq!(gaps.count, u64::from(events.unwrap_or(1)) - 1, "{record:?}");
}

/// What became of a flood's requests.
#[derive(Debug, Default)]
struct Fate {
    made: u64,
    complete: u64,
    incomplete: u64,
    /// Nothing is known of these: their first bytes were among what was lost.
    unseen: u64,
}

/// Every record is of one request that was made, and says the truth of it or that it cannot.
fn check_records(made: &[Made], records: &[AgentRecord], books: &Books) -> Fate {
    let mut fate = Fate::default();
    let mut by_id: BTreeMap<&str, &AgentRecord> = BTreeMap::new();
    for record in records {
        let doubled = by_id.insert(record.request_id.as_deref().unwrap(), record);
        assert_eq!(doubled, None, "two records of one request");
    }
    for (load, made) in FLOOD.iter().zip(made).filter(|(load, _)| load.ask != Ask::Health) {
        for id in &made.ids {
            fate.made += 1;
            match by_id.remove(id.as_str()) {
                None => fate.unseen += 1,
                Some(record) if record.incomplete.is_some() => fate.incomplete += 1,
                Some(record) => {
                    fate.complete += 1;
                    let Ask::Stream { events, .. } = load.ask else {
                        check_record(record, None);
                        continue;
                    };
                    check_record(record, Some(events));
                }
            }
        }
    }
    let ours = |id: &&str| id.starts_with("before-") || id.starts_with("last-");
    assert!(by_id.keys().all(ours), "records of no request: {by_id:?}");
    let beside = by_id.values().filter(|record| record.incomplete.is_some()).count() as u64;
    assert_eq!(fate.incomplete + beside, books.sum("inferscope_records_incomplete_total", &[]), "{fate:?}");
    fate
}

/// Floods, and demands that the books are right, then and afterwards.
fn flood(stopped: bool) {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let (server, address) = start_flood_server(&stage);
    let agent = stage.start_agent(&rules(&stage)).unwrap();
    wait_until_followed(&agent, "flood");
    let mut lived: Vec<Client> = (0..4).map(|_| Client::connect(address).unwrap()).collect();
    for (number, client) in lived.iter_mut().enumerate() {
        client.ask(stream(EVENTS_AFTER), &format!("before-{number}")).unwrap();
    }
    if stopped {
        agent.signal(Signal::STOP).unwrap();
    }
    let sampling = Sampling::start();
    let began = Instant::now();
    let mut made = Load::make_all(&FLOOD, address).unwrap();
    let took = began.elapsed();
    drop(sampling);
    tell_costs();
    if stopped {
        agent.signal(Signal::CONT).unwrap();
    }
    wait_until_taken(&agent, lived.last_mut().unwrap());
    let books = Books::settled(&agent).unwrap();
    let records = records_when(&agent, Duration::ZERO, |_| true).unwrap();
    let fate = check_records(&made, &records, &books);
    let full = books.lost("socket_ring", "full");
    println!(
        "{} events in {took:?}, {full} of them lost, {} skipped; {fate:?}",
        books.event("socket_seen"),
        books.lost("program", "recursion"),
    );
    assert!(!stopped || full > 0, "the ring was to overflow: {books}");
    assert!(full > 0 || (fate.incomplete, fate.unseen) == (0, 0), "{fate:?}");
    assert!(fate.unseen <= full, "{fate:?}, {full} events lost");

    lived.extend(made.iter_mut().flat_map(|made| std::mem::take(&mut made.kept)));
    check_lived(&agent, lived);
    let counted: Counted = serde_json::from_str(&server.stop().unwrap()).unwrap();
    let books = Books::settled(&agent).unwrap();
    assert_eq!(books.faults(), Vec::<String>::new(), "{books}");
    check_total(&books, &counted);

    let demo = stage.start_server(&[]).unwrap();
    wait_until_followed(&agent, "demo");
    let options = Options { requests: 150, ..Options::new(demo.endpoint.clone()) };
    let compared = load_and_compare(agent.listen, &options, stage.path());
    let comparison = Runtime::new().unwrap().block_on(compared).unwrap();
    assert!(comparison.passed, "{comparison}");
    agent.stop().unwrap();
    demo.stop().unwrap();
}

/// What comes out of the ring last is asked for last; it may find no room there, and is asked for again.
fn wait_until_taken(agent: &AgentProcess, client: &mut Client) {
    let mut number = 0;
    let taken = until(WAIT_MAX, || {
        number += 1;
        client.ask(Ask::Whole, &format!("last-{number}")).unwrap();
        let came =
            |record: &AgentRecord| record.request_id.as_ref().is_some_and(|id| id.starts_with("last-"));
        let records = records_when(agent, AGAIN_AFTER, |records| records.iter().any(came)).unwrap();
        records.iter().any(came).then_some(())
    });
    assert!(taken.is_some(), "the agent does not go on after the flood");
}

/// What the programs took in the flood; the statistics themselves take some 60 ns of each run.
fn tell_costs() {
    for one in loaded().iter().filter(|one| one.program.starts_with("socket_") && one.runs > 0) {
        let ns = one.run_time.as_secs_f64() * 1e9 / one.runs as f64;
        println!("{}: {} runs, {ns:.0} ns each", one.program, one.runs);
    }
}

/// Connections on which part of the flood passed are measured again from their next request on, and nothing
/// stays open on those that ended in it.
fn check_lived(agent: &AgentProcess, mut lived: Vec<Client>) {
    let ids: BTreeSet<String> = (0..lived.len()).map(|number| format!("after-{number}")).collect();
    for (id, client) in ids.iter().zip(&mut lived) {
        client.ask(stream(EVENTS_AFTER), id).unwrap();
    }
    let of_ours = |record: &&AgentRecord| record.request_id.as_ref().is_some_and(|id| ids.contains(id));
    let all = |records: &[AgentRecord]| records.iter().filter(of_ours).count() >= ids.len();
    let records = records_when(agent, WAIT_MAX, all).unwrap();
    let ours: Vec<_> = records.iter().filter(of_ours).collect();
    assert_eq!(ours.len(), ids.len(), "{ours:?}");
    for record in ours {
        assert_eq!(record.incomplete, None, "{record:?}");
        check_record(record, Some(EVENTS_AFTER));
    }
    drop(lived);
    let none_open = || (Books::read(agent).unwrap().sum("vllm_requests_in_flight", &[]) == 0).then_some(());
    assert!(until(WAIT_MAX, none_open).is_some(), "requests stay open: {}", Books::read(agent).unwrap());
}

/// Every call of the server is an event that was seen, but for those that the kernel itself skipped and counts,
/// together with runs for unwatched processes that it skipped.
fn check_total(books: &Books, counted: &Counted) {
    let (seen, happened) = (books.event("socket_seen"), counted.socket_events());
    let skipped = books.lost("program", "recursion");
    assert!(seen <= happened && happened <= seen + skipped, "{seen} seen, {skipped} skipped, {counted:?}");
    assert_eq!(books.event("socket_ignored"), 0, "{books}");
}

#[test]
fn a_flood_that_nobody_reads_is_accounted_for_to_the_last_event() {
    flood(true);
}

#[test]
fn a_flood_that_the_agent_reads_as_it_can_is_accounted_for_to_the_last_event() {
    flood(false);
}
