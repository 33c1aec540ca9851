//! Numbers of processes that are given again: is anything of the one before, or after, put down to the wrong workload?
//!
//! The kernel gives the next number after the last one; root may say which that was. So here a number is given again within
//! milliseconds, which takes 30,000 processes otherwise, and in the worst case: while the agent gets no processor, and learns
//! of both only afterwards.

use std::fs;
use std::time::Instant;

use inferscope_tests::books::tick_over;
use inferscope_tests::skip;
use rustix::process::Signal;

use super::crowd::{self, Crowd};
use super::processor::{Burner, pin, schedstat};
use super::*;

const LAST_NUMBER: &str = "/proc/sys/kernel/ns_last_pid";
/// Others on this machine may take a number first.
const TRIES: usize = 20;
/// How long who has the number computes, beside another, and so waits half of the time.
const BURNS_MS: &str = "1500";
const BURNS: Duration = Duration::from_secs(2);
/// What a process that only sleeps may wait for a processor, at its start and at its end.
const NOTHING: f64 = 0.1;
/// Stall seconds of a stop, which this test begins and ends by a system call.
const STOP_OFF_MAX: f64 = 0.1;

/// An agent that follows `first`, which is killed as it is stopped, and `second`.
struct Again {
    stage: Stage,
    agent: AgentProcess,
    /// For how long `first` was stopped, all of its processes together.
    stopped: f64,
}

/// What is said of a workload.
fn seconds(agent: &AgentProcess, workload: &str, cause: &str) -> f64 {
    seconds_of(agent, "stall_seconds_total", &[("workload", workload), ("cause", cause)])
}

impl Again {
    fn start() -> Option<Self> {
        let stage = Stage::set(SERVER).unwrap()?;
        if fs::metadata(LAST_NUMBER).is_err() {
            skip("the kernel does not let numbers of processes be chosen");
            return None;
        }
        let agent = stage.start_agent(&crowd::settings(&stage, &["first", "second"])).unwrap();
        Some(Self { stage, agent, stopped: 0.0 })
    }

    /// Starts one, until it is followed.
    fn follow(&self, name: &str, more: &[&str]) -> Crowd {
        let (follows, named) = (": following ", format!("{name} "));
        let count = || {
            let log = self.agent.read_log().unwrap();
            log.lines().filter(|line| line.contains(follows) && format!("{line} ").contains(&named)).count()
        };
        let before = count();
        let crowd = Crowd::start(&self.stage, name, more);
        let found = until(patient(PATIENCE), || (count() > before).then_some(()));
        assert!(found.is_some(), "{}", self.agent.read_log().unwrap());
        crowd
    }

    /// Ends a process of `first` and has `begin` give its number to another, which waits for a processor for a good part of
    /// a second. All of it while the agent is stopped, where `unseen`. Checks what is said of `first`.
    fn exchange<T>(&mut self, unseen: bool, begin: impl Fn(u32) -> (u32, T)) -> T {
        for _ in 0..TRIES {
            let first = self.follow("first", &[]);
            let tgid = first.tgid();
            first.signal(Signal::STOP);
            let stopped = Instant::now();
            // It is known to be stopped.
            tick_over(self.agent.listen).unwrap();
            let before = seconds(&self.agent, "first", "run_queue");
            if unseen {
                self.agent.signal(Signal::STOP).unwrap();
            }
            drop(first);
            self.stopped += stopped.elapsed().as_secs_f64();
            fs::write(LAST_NUMBER, (tgid - 1).to_string()).unwrap();
            let (number, again) = begin(tgid);
            if number == tgid {
                pin(tgid);
                let burner = Burner::start();
                std::thread::sleep(BURNS);
                drop(burner);
            }
            self.agent.signal(Signal::CONT).unwrap();
            if number == tgid {
                tick_over(self.agent.listen).unwrap();
                self.check_first(before);
                return again;
            }
        }
        panic!("no number was given again in {TRIES} tries");
    }

    fn check_first(&self, before: f64) {
        let waited = seconds(&self.agent, "first", "run_queue") - before;
        let (stopped, truth) = (seconds(&self.agent, "first", "stopped"), self.stopped);
        println!("first: {waited:.3} s after its end, stopped for {stopped:.3} of {truth:.3} s");
        assert!(waited <= NOTHING, "{waited} s of who has its number now");
        assert!((stopped - truth).abs() <= STOP_OFF_MAX, "stopped for {stopped} s, of {truth}");
    }
}

#[test]
fn what_a_stranger_waits_is_not_the_servers_that_had_its_number() {
    let Some(mut again) = Again::start() else { return };
    for unseen in [false, true] {
        let stage = again.stage.folder.path().to_owned();
        drop(again.exchange(unseen, |_| {
            let stranger =
                Crowd::begin_at(&stage, "stranger", &["--burn-from-ms", "0", "--burn-ms", BURNS_MS]);
            (stranger.tgid(), stranger)
        }));
    }
    again.agent.stop().unwrap();
}

#[test]
fn what_a_server_waits_is_not_anothers_that_had_its_number() {
    let Some(mut again) = Again::start() else { return };
    for unseen in [false, true] {
        let stage = again.stage.folder.path().to_owned();
        let second = again.exchange(unseen, |_| {
            let second = Crowd::begin_at(&stage, "second", &["--burn-from-ms", "0", "--burn-ms", BURNS_MS]);
            (second.tgid(), second)
        });
        let waited = seconds(&again.agent, "second", "run_queue");
        println!("second: waited for {waited:.3} s");
        assert!(unseen || waited >= 0.3, "second waited, and {waited} s are counted");
        let stopped = seconds(&again.agent, "second", "stopped");
        assert!(stopped == 0.0, "second was never stopped: {stopped} s");
        drop(second);
    }
    again.agent.stop().unwrap();
}

#[test]
fn what_a_servers_child_waits_is_not_anothers_that_had_its_number() {
    let Some(mut again) = Again::start() else { return };
    for unseen in [false, true] {
        let asks = again.stage.path().join(format!("number-{unseen}"));
        let second = again.follow("second", &["--heir", asks.to_str().unwrap(), "--burn-ms", BURNS_MS]);
        let told = asks.with_extension("told");
        again.exchange(unseen, |tgid| {
            fs::write(asks.with_extension("new"), tgid.to_string()).unwrap();
            fs::rename(asks.with_extension("new"), &asks).unwrap();
            let number = || fs::read_to_string(&told).ok()?.parse::<u32>().ok();
            let number = until(patient(PATIENCE), number).unwrap();
            fs::remove_file(&told).unwrap();
            (number, ())
        });
        let stopped = seconds(&again.agent, "second", "stopped");
        assert!(stopped == 0.0, "second was never stopped: {stopped} s");
        drop(second);
    }
    again.agent.stop().unwrap();
}

#[test]
fn a_server_that_has_numbers_of_its_own_is_known_by_those_of_the_node() {
    let Some(again) = Again::start() else { return };
    let arguments = ["--burn-from-ms", "2000", "--burn-ms", BURNS_MS];
    let apart = Crowd::begin_apart(again.stage.path(), "second", &arguments);
    let followed = || again.agent.read_log().unwrap().contains(": following ").then_some(());
    assert!(until(patient(PATIENCE), followed).is_some(), "{}", again.agent.read_log().unwrap());
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", apart.tgid())).unwrap();
    let tgid: u32 = children.trim().parse().unwrap();
    pin(tgid);
    let burner = Burner::start();
    let before = schedstat(tgid);
    std::thread::sleep(BURNS * 2);
    drop(burner);
    tick_over(again.agent.listen).unwrap();
    let (kernel, waited) = (schedstat(tgid) - before, seconds(&again.agent, "second", "run_queue"));
    println!("second, apart: waited for {kernel:.3} s, {waited:.3} s by the agent");
    assert!((waited - kernel).abs() <= 0.05 + kernel * 0.05, "{kernel} s, {waited} s by the agent");
    drop(apart);
    again.agent.stop().unwrap();
}
