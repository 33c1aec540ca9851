//! A server that a signal stops.

use std::time::Duration;

use inferscope_tests::lab::blamed::wall;
use inferscope_tests::machine::patient;
use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// A stop lasts so long.
const STOP: Duration = Duration::from_millis(500);
/// How far what the agent says may be from what this test did.
const OFF_MAX: f64 = 0.010;

#[test]
fn a_stop_is_in_the_requests_that_it_hit_and_nowhere_else() {
    let Some(scene) = Scene::start() else { return };
    let load = scene.load(20.0, 6.0);
    std::thread::sleep(Duration::from_secs(3));
    let server = Pid::from_raw(scene.server.tgid().cast_signed()).unwrap();
    // This thread may lose its processor, too: the stop is not longer than this, and not shorter than that.
    let from = wall();
    kill_process(server, Signal::STOP).unwrap();
    let surely_from = wall();
    std::thread::sleep(STOP);
    let surely_to = wall();
    kill_process(server, Signal::CONT).unwrap();
    let to = wall();
    let report = load.join().unwrap();
    let requests = scene.requests(report.exchanges.len());
    let off_max = patient(Duration::from_secs_f64(OFF_MAX)).as_secs_f64();
    for request in &requests {
        let stopped = request.seconds("stopped");
        let (least, most) = (request.overlap((surely_from, surely_to)), request.overlap((from, to)));
        let right = (least - off_max..=most + off_max).contains(&stopped);
        assert!(right, "stopped for {stopped}, of {least} to {most}: {request:?}");
    }
    let hit: Vec<_> = requests.iter().filter(|request| request.overlap((from, to)) > 0.1).collect();
    assert!(hit.len() >= 5, "{} requests were hit", hit.len());
    assert!(hit.iter().all(|request| request.causes().first() == Some(&"stopped")), "{hit:?}");
    // Seconds of threads, of which the server has several: each of them stood still.
    let threads = std::fs::read_dir(format!("/proc/{}/task", scene.server.tgid())).unwrap().count() as f64;
    let stopped = scene.stall_seconds("stopped") / threads;
    let right = (surely_to - surely_from - off_max..=to - from + off_max).contains(&stopped);
    assert!(right, "{threads} threads, {stopped} s each, of {} to {}", surely_to - surely_from, to - from);
    scene.stop();
}

#[test]
fn a_stop_that_goes_on_is_counted_while_it_does() {
    let Some(scene) = Scene::start() else { return };
    let server = Pid::from_raw(scene.server.tgid().cast_signed()).unwrap();
    kill_process(server, Signal::STOP).unwrap();
    let counted = until(patient(PATIENCE), || (scene.stall_seconds("stopped") >= 1.0).then_some(()));
    kill_process(server, Signal::CONT).unwrap();
    assert!(counted.is_some(), "{} s", scene.stall_seconds("stopped"));
    scene.stop();
}
