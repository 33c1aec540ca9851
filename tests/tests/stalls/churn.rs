//! Servers, children and control groups that come and go by the hundred: does the agent keep anything of them?

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::process::Command;
use std::time::Instant;

use inferscope_tests::bench::{kernel_bytes, memory_bytes};
use inferscope_tests::books::{Books, tick_over};
use inferscope_tests::lab::group::Group;
use rustix::process::Signal;

use super::crowd::{self, Crowd};
use super::*;

/// Servers that come and go, 17 a second: with as many children, 2,000 processes a minute.
const BRIEF: usize = 450;
const EVERY: Duration = Duration::from_millis(58);
/// Of these some are in a group that comes and goes with them, and some are stopped as they are killed.
const GROUPED: usize = 10;
const STOPPED: usize = 7;
/// That many run at once.
const AT_ONCE: usize = 8;
/// Children of a server.
const CHILDREN: u32 = 600;
/// What a process that sleeps may wait for a processor.
const NOTHING: f64 = 0.05;
/// What the allocator may keep.
const GROWTH_BYTES: u64 = 4 << 20;

/// The workloads of this test.
const OWN: [&str; 3] = ["still", "parent", "brief"];

/// What an agent has.
struct Has {
    /// Of all servers; `None` where the node has others, which may start something any time.
    threads: Option<u64>,
    processes: Option<u64>,
    /// Of this test's workloads, and of none.
    series: BTreeSet<String>,
    map_bytes: u64,
    files: u64,
}

impl Has {
    fn of(agent: &AgentProcess) -> Self {
        tick_over(agent.listen).unwrap();
        let page = Books::read(agent).unwrap();
        let alone = others(&page, &OWN) == 0;
        let entries = |table| alone.then(|| page.sum("inferscope_table_entries", &[("table", table)]));
        let own = |sample: &&Sample| {
            sample.labels.get("workload").is_none_or(|workload| OWN.contains(&workload.as_str()))
        };
        let name = |sample: &Sample| format!("{} {:?}", sample.name, sample.labels);
        Self {
            threads: entries("threads"),
            processes: entries("processes"),
            series: page.0.values().flat_map(|family| &family.samples).filter(own).map(name).collect(),
            map_bytes: kernel_bytes(agent.tgid()).unwrap().0,
            files: fs::read_dir(format!("/proc/{}/fd", agent.tgid())).unwrap().count() as u64,
        }
    }
}

impl Has {
    /// What it has that it did not have before.
    fn beyond(&self, before: &Self) -> Vec<String> {
        let mut more: Vec<String> = self.series.difference(&before.series).cloned().collect();
        let mut count = |what: &str, now: Option<u64>, before: Option<u64>| {
            if let (Some(now), Some(before)) = (now, before)
                && now > before
            {
                more.push(format!("{now} {what}, {before} before"));
            }
        };
        count("threads", self.threads, before.threads);
        count("processes", self.processes, before.processes);
        count("bytes of maps", Some(self.map_bytes), Some(before.map_bytes));
        count("files", Some(self.files), Some(before.files));
        more
    }
}

/// Starts and ends so many servers, one after the other.
fn churn(stage: &Stage, count: usize) {
    let mut run = VecDeque::new();
    let began = Instant::now();
    for number in 0..count {
        let crowd = Crowd::begin(stage, "brief", &["--listen", "127.0.0.1:0", "--end-ms", "200"]);
        let group = number.is_multiple_of(GROUPED).then(|| {
            let name = format!("inferscope-test-{}-{number}", std::process::id());
            Group::make(&name).inspect(|group| group.take(crowd.tgid()).unwrap()).ok()
        });
        if number.is_multiple_of(STOPPED) {
            crowd.signal(Signal::STOP);
        }
        run.push_back((crowd, group.flatten()));
        if run.len() > AT_ONCE
            && let Some(oldest) = run.pop_front()
        {
            end(oldest);
        }
        std::thread::sleep((EVERY * number as u32).saturating_sub(began.elapsed()));
    }
    run.into_iter().for_each(end);
}

fn end((crowd, group): (Crowd, Option<Group>)) {
    drop(crowd);
    if let Some(group) = group {
        group.remove();
    }
}

fn last_number() -> u32 {
    fs::read_to_string("/proc/sys/kernel/ns_last_pid").unwrap().trim().parse().unwrap()
}

#[test]
fn what_comes_and_goes_leaves_nothing_behind() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let agent = stage.start_agent(&crowd::settings(&stage, &OWN)).unwrap();
    let still = Crowd::start(&stage, "still", &[]);
    // The series of those that come are there from the first on that the agent has looked at, also at its group.
    let brief = Crowd::start(&stage, "brief", &["--listen", "127.0.0.1:0"]);
    let group = Group::make(&format!("inferscope-test-{}", brief.tgid())).ok();
    if let Some(group) = &group {
        group.take(brief.tgid()).unwrap();
    }
    std::thread::sleep(Duration::from_secs(3));
    end((brief, group));
    let mut parent = Crowd::start(&stage, "parent", &["--children", "200"]);
    churn(&stage, BRIEF / 4);
    drop(parent);
    std::thread::sleep(Duration::from_secs(2));
    let before = Has::of(&agent);
    let anonymous = memory_bytes(agent.tgid(), "RssAnon").unwrap();
    let stalled = seconds_of(&agent, "stall_seconds_total", &[("workload", "still")]);

    parent = Crowd::start(&stage, "parent", &["--children", &CHILDREN.to_string()]);
    churn(&stage, BRIEF);
    drop(parent);
    std::thread::sleep(Duration::from_secs(2));
    let settled = || Some(Has::of(&agent)).filter(|after| after.beyond(&before).is_empty());
    let after = until(patient(PATIENCE), settled).unwrap_or_else(|| Has::of(&agent));
    let grown = memory_bytes(agent.tgid(), "RssAnon").unwrap().saturating_sub(anonymous);
    let still_stalled = seconds_of(&agent, "stall_seconds_total", &[("workload", "still")]) - stalled;
    let Has { threads, processes, map_bytes, files, .. } = &after;
    println!(
        "{} series, {threads:?} threads, {processes:?} processes, {map_bytes} bytes of maps, {files} files",
        after.series.len()
    );
    println!("anonymous memory grew by {} KiB; still: {still_stalled:.3} s", grown >> 10);
    assert_eq!(after.beyond(&before), Vec::<String>::new());
    assert!(grown <= GROWTH_BYTES, "{grown} bytes");
    assert!(still_stalled <= NOTHING, "{still_stalled} s of a server that sleeps");
    // To wait until a child runs its program is no stop.
    let stopped = seconds_of(&agent, "stall_seconds_total", &[("workload", "parent"), ("cause", "stopped")]);
    assert!(stopped == 0.0, "{stopped} s of a server that nobody stopped");
    assert_eq!(Books::read(&agent).unwrap().faults(), Vec::<String>::new());
    drop(still);
    agent.stop().unwrap();
}

#[test]
fn the_number_of_a_child_that_nobody_saw_is_watched_no_longer() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let agent = stage.start_agent(&crowd::settings(&stage, &["parent"])).unwrap();
    let began = Instant::now();
    let parent = Crowd::start(&stage, "parent", &["--children", "800", "--children-from-ms", "3000"]);
    let followed = || agent.read_log().unwrap().contains(": following ").then_some(());
    assert!(until(patient(PATIENCE), followed).is_some(), "{}", agent.read_log().unwrap());
    // It hears of all of them when they are gone.
    agent.signal(Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_millis(2900).saturating_sub(began.elapsed()));
    let number = last_number();
    std::thread::sleep(Duration::from_secs(5));
    agent.signal(Signal::CONT).unwrap();
    tick_over(agent.listen).unwrap();
    let sent = |agent: &AgentProcess| Books::read(agent).unwrap().event("process_sent");
    let before = sent(&agent);
    // Others that get the same numbers, of a process that is not watched. None of them runs a program.
    fs::write("/proc/sys/kernel/ns_last_pid", number.to_string()).unwrap();
    let forks = "i=0; while [ $i -lt 800 ]; do (:); i=$((i+1)); done";
    assert!(Command::new("sh").args(["-c", forks]).status().unwrap().success());
    tick_over(agent.listen).unwrap();
    let told = sent(&agent) - before;
    println!("800 processes of nobody, {told} events");
    // Other programs of the machine that begin meanwhile are told.
    assert!(told < 400, "{told} events of 800 processes of nobody");
    drop(parent);
    agent.stop().unwrap();
}
