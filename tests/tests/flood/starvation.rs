//! An agent that gets no processor for seconds, at the load that the budget names: nothing is lost and no time moves.

use std::process::{Child, Command};
use std::time::Duration;

use inferscope_tests::books::Books;
use inferscope_tests::flood::{Ask, Counted, Load};
use inferscope_tests::harness::AgentProcess;
use inferscope_tests::machine;
use inferscope_tests::oracle::{Source, compare};
use inferscope_tests::stage::{Stage, records_when};
use inferscope_tests::wire::{self, Capture};
use rustix::process::{Pid, Signal, setpriority_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::{SERVER, WAIT_MAX, check_total, rules, start_flood_server, wait_until_followed};

/// What the budget names: 500 requests a second of 40 streamed events each, a 10 ms pause before each event. A
/// machine that cannot make it makes what it can, and the test says how much that was. The agent lists as many.
const LOAD: Load = Load {
    name: "steady",
    ask: Ask::Stream { events: 40, gap: Duration::from_millis(10) },
    connections: 208,
    requests: 17,
    pause: Duration::ZERO,
    keeps: false,
};
/// The load runs before it, and goes on after it.
const STARVED_AFTER: Duration = Duration::from_secs(2);
const STARVED_FOR: Duration = Duration::from_secs(3);

/// A process that keeps one processor busy, before whoever has an ordinary priority there.
struct Hog(Child);

impl Hog {
    fn start(processor: usize) -> Self {
        let child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let tgid = Pid::from_child(&child);
        pin(tgid, processor);
        setpriority_process(Some(tgid), -20).unwrap();
        Self(child)
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn pin(tid: Pid, processor: usize) {
    let mut only = CpuSet::new();
    only.set(processor);
    sched_setaffinity(Some(tid), &only).unwrap();
}

/// Every thread of the agent, on one processor.
fn pin_agent(agent: &AgentProcess, processor: usize) {
    for task in std::fs::read_dir(format!("/proc/{}/task", agent.tgid())).unwrap() {
        let tid = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
        pin(Pid::from_raw(tid).unwrap(), processor);
    }
}

/// One of the processors that this process may use.
fn some_processor() -> usize {
    let allowed = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).rfind(|processor| allowed.is_set(*processor)).unwrap()
}

/// Makes the load, starves the agent in its midst, and compares with the wire as without starvation.
fn check(starve: impl FnOnce(&AgentProcess)) {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let (server, address) = start_flood_server(&stage);
    let agent = stage.start_agent(&rules(&stage)).unwrap();
    wait_until_followed(&agent, "flood");
    let capture = Capture::start(address.port(), stage.path()).unwrap();
    let load = std::thread::spawn(move || Load::make_all(&[LOAD], address));
    std::thread::sleep(STARVED_AFTER);
    starve(&agent);
    let made = load.join().unwrap().unwrap().remove(0);
    let exchanges = wire::read(&capture.stop().unwrap().path, address.port()).unwrap();
    let records = records_when(&agent, WAIT_MAX, |records| records.len() >= exchanges.len()).unwrap();
    let comparison = compare(&exchanges, &records, machine::bounds(Source::Wire));
    let per_second = |count: usize| count as f64 / made.took.as_secs_f64();
    println!(
        "{:.0} requests/s and {:.0} streamed events/s\n{comparison}",
        per_second(made.ids.len()),
        per_second(exchanges.iter().map(|one| one.deltas_ns.len()).sum()),
    );
    assert!(comparison.passed, "{comparison}");
    assert_eq!(exchanges.len(), made.ids.len(), "the wire has all requests that were made");
    let counted: Counted = serde_json::from_str(&server.stop().unwrap()).unwrap();
    let books = Books::settled(&agent).unwrap();
    assert_eq!(books.faults(), Vec::<String>::new(), "{books}");
    check_total(&books, &counted);
    let losses = books.sum("inferscope_events_lost_total", &[]) - books.lost("program", "recursion");
    assert_eq!(losses, 0, "{books}");
    agent.stop().unwrap();
}

#[test]
fn an_agent_stopped_for_three_seconds_loses_nothing_and_moves_no_time() {
    check(|agent| {
        agent.signal(Signal::STOP).unwrap();
        std::thread::sleep(STARVED_FOR);
        agent.signal(Signal::CONT).unwrap();
    });
}

#[test]
fn an_agent_on_a_processor_that_something_else_keeps_busy_loses_nothing_and_moves_no_time() {
    check(|agent| {
        let processor = some_processor();
        pin_agent(agent, processor);
        let hog = Hog::start(processor);
        std::thread::sleep(STARVED_FOR);
        drop(hog);
    });
}
