//! The kernel's own books: what the agent counts of a thread against `cpu.stat` and the pressure files, over ten seconds.
//!
//! They count different things, so the loads here are those of which all should say the same: one thread, on one
//! processor.
//!
//! - The agent: of each thread, from when it leaves its processor because the group's quota is used up (`cpu_throttle`), or
//!   because another takes it (`run_queue`), until it has one again.
//! - `cpu.stat`: of each processor, for how long the group's queue there was stopped, whoever was in it (`throttled_time`,
//!   nanoseconds, in version 1; `throttled_usec` in version 2). What then waits until it runs is in no quota's books.
//! - `cpu.pressure`, `some`: of a group, for how long at least one of its threads was ready and had no processor.
//!
//! Not `schedstat` here (it is in `processor`): where a thread is given another group or other processors just after it went
//! to sleep, the kernel (from 6.12 on) may count that sleep as waiting.

use std::fs;
use std::path::PathBuf;

use inferscope_tests::books::tick_over;
use inferscope_tests::lab::group::Group;
use inferscope_tests::skip;

use super::crowd::{self, Crowd};
use super::processor::{Burner, pin};
use super::*;

/// The thread computes for so long.
const BURNS_MS: &str = "10000";
/// From when it begins until it has slept for longer than the kernel brings pressure up to date.
const OVER: Duration = Duration::from_secs(13);
/// The longest that the kernel takes.
const QUOTA_PERIOD_US: u64 = 1_000_000;
/// How far two books may be from each other.
const OFF_MAX: f64 = 0.05;
/// Other programs that want its processor.
const BURNERS: usize = 2;

/// One thread that computes, alone in its group and on the first processor.
struct One {
    stage: Stage,
    agent: AgentProcess,
    thread: Crowd,
}

impl One {
    fn start() -> Option<Self> {
        let stage = Stage::set(SERVER).unwrap()?;
        let agent = stage.start_agent(&crowd::settings(&stage, &["one"])).unwrap();
        let arguments = ["--burn-when-told", "--burn-ms", BURNS_MS];
        let thread = Crowd::start(&stage, "one", &arguments);
        pin(thread.tgid());
        let followed = || agent.read_log().unwrap().contains(": following ").then_some(());
        assert!(until(patient(PATIENCE), followed).is_some(), "{}", agent.read_log().unwrap());
        Some(Self { stage, agent, thread })
    }

    /// Stall seconds of a cause, and what the kernel's other book says, each after the load less before it.
    fn difference(&self, cause: &str, book: &dyn Fn() -> f64) -> (f64, f64) {
        let (before, agent_before) = (book(), self.seconds(cause));
        self.thread.tell();
        std::thread::sleep(OVER);
        tick_over(self.agent.listen).unwrap();
        (self.seconds(cause) - agent_before, book() - before)
    }

    /// Every cause, and what was lost: what else a difference may be.
    fn stalls(&self) -> String {
        let page = Books::read(&self.agent).unwrap();
        let samples = page.0.get("stall_seconds_total").into_iter().flat_map(|family| &family.samples);
        let causes = samples.filter(|sample| sample.value > 0.0);
        let causes: Vec<_> = causes.map(|sample| format!("{:?} {}", sample.labels, sample.value)).collect();
        format!("{}; {page}", causes.join(", "))
    }

    fn seconds(&self, cause: &str) -> f64 {
        seconds_of(&self.agent, "stall_seconds_total", &[("workload", "one"), ("cause", cause)])
    }
}

fn agree(what: &str, agent: f64, book: f64) {
    println!("{what}: {book:.3} s, {agent:.3} s by the agent");
    assert!(book > 1.0, "{what}: {book} s are too few to compare");
    assert!((agent - book).abs() <= book * OFF_MAX, "{what}: {book} s, {agent} s by the agent");
}

#[test]
fn throttling_is_what_the_groups_file_says() {
    let Some(one) = One::start() else { return };
    let group = match Group::make(&format!("inferscope-test-{}", one.thread.tgid())) {
        Ok(group) => group,
        Err(error) => return skip(&format!("no control group can be made: {error:#}")),
    };
    group.take(one.thread.tgid()).unwrap();
    // Where others run, it waits for them whenever it may run again: seldom, and not for long.
    group.favour().unwrap();
    let limit = group.limit_processor_each(0.4, QUOTA_PERIOD_US).unwrap();
    let throttled = || group.throttled().unwrap().as_secs_f64();
    let (agent, book) = one.difference("cpu_throttle", &throttled);
    let exported = seconds_of(&one.agent, "cgroup_cpu_throttled_seconds_total", &[("workload", "one")]);
    let all = throttled();
    println!("{}", one.stalls());
    limit.lift().unwrap();
    drop(one.thread);
    group.remove();
    one.agent.stop().unwrap();
    agree("throttled, cpu.stat", agent, book);
    agree("throttled, cpu.stat as it is exported", exported, all);
    drop(one.stage);
}

/// A group of version 2 whose pressure the kernel counts: of that version no controller is needed, so most hosts of version
/// 1 have one, too.
struct Pressured(PathBuf);

impl Pressured {
    fn make(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let place = words.next()?;
            (words.next()? == "cgroup2").then_some(place)
        });
        let Some(mount) = mount else {
            skip("there is no control group of version 2, so none that counts pressure");
            return None;
        };
        let group = Self(PathBuf::from(mount).join(name));
        fs::create_dir(&group.0).unwrap();
        if fs::read_to_string(group.0.join("cpu.pressure")).is_err() {
            skip("the kernel counts no pressure");
            return None;
        }
        Some(group)
    }

    /// For how long some thread of it waited for a processor, in seconds.
    fn some(&self) -> f64 {
        let text = fs::read_to_string(self.0.join("cpu.pressure")).unwrap();
        let some = text.lines().find(|line| line.starts_with("some ")).unwrap();
        some.rsplit_once("total=").unwrap().1.trim().parse::<f64>().unwrap() / 1e6
    }
}

impl Drop for Pressured {
    fn drop(&mut self) {
        // Whoever was in it has ended.
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn waiting_is_what_the_pressure_file_says() {
    let Some(one) = One::start() else { return };
    let Some(group) = Pressured::make(&format!("inferscope-test-{}", one.thread.tgid())) else { return };
    fs::write(group.0.join("cgroup.procs"), one.thread.tgid().to_string()).unwrap();
    let burners: Vec<Burner> = (0..BURNERS).map(|_| Burner::start()).collect();
    let (agent, book) = one.difference("run_queue", &|| group.some());
    drop(burners);
    agree("waited, cpu.pressure", agent, book);
    drop(one.thread);
    one.agent.stop().unwrap();
}
