//! A server that others leave no processor.

use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::*;

/// Programs that only burn one processor, beside the server.
const BURNERS: usize = 3;

/// Ends with its test.
pub struct Burner(Child);

impl Burner {
    pub fn start() -> Self {
        let burner = Self(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap());
        pin(burner.0.id());
        burner
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Onto the first processor.
pub fn pin(tid: u32) {
    let mut first = CpuSet::new();
    first.set(0);
    sched_setaffinity(Pid::from_raw(tid.cast_signed()), &first).unwrap();
}

fn tasks(tgid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{tgid}/task")).unwrap();
    tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// What the kernel says that the threads of a process have waited for a processor, in seconds.
pub fn schedstat(tgid: u32) -> f64 {
    let waited = |tid: u32| {
        let text = std::fs::read_to_string(format!("/proc/{tgid}/task/{tid}/schedstat")).unwrap();
        text.split(' ').nth(1).unwrap().parse::<f64>().unwrap() / 1e9
    };
    tasks(tgid).into_iter().map(waited).sum()
}

#[test]
fn waiting_for_a_processor_is_what_the_kernel_says_and_the_cause() {
    let Some(scene) = Scene::start() else { return };
    // What is usual: the agent compares with it.
    let report = scene.load(20.0, 4.0).join().unwrap();
    let usual = report.exchanges.len();
    tasks(scene.server.tgid()).into_iter().for_each(pin);
    let burners: Vec<Burner> = (0..BURNERS).map(|_| Burner::start()).collect();
    let before = (schedstat(scene.server.tgid()), scene.stall_seconds("run_queue"));
    let report = scene.load(20.0, 10.0).join().unwrap();
    // The newest tick has all of it.
    std::thread::sleep(Duration::from_secs(2));
    let after = (schedstat(scene.server.tgid()), scene.stall_seconds("run_queue"));
    drop(burners);
    let (kernel, agent) = (after.0 - before.0, after.1 - before.1);
    println!("waited for a processor: {kernel:.3} s by schedstat, {agent:.3} s by the agent");
    assert!((agent - kernel).abs() <= kernel * 0.05, "{kernel} s by schedstat, {agent} s by the agent");
    let requests = scene.requests(usual + report.exchanges.len());
    let starved = &requests[usual..];
    // What took a good part longer than it may without.
    let mut clean: Vec<f64> = requests[..usual].iter().map(|request| request.duration_seconds).collect();
    clean.sort_by(f64::total_cmp);
    let worst = clean[clean.len() - 1] * 1.2;
    let affected: Vec<_> = starved.iter().filter(|request| request.duration_seconds > worst).collect();
    let named = affected.iter().filter(|request| request.causes().first() == Some(&"run_queue")).count();
    println!("{} requests took longer, {named} of them are put down to the run queue", affected.len());
    assert!(named * 100 >= affected.len() * 95, "{affected:?}");
    scene.stop();
}
