//! What it costs to read a large node: eight simulated GPUs, through the real wrapper. The time of the threads that read
//! and of the simulated library in them; a program of its own, so that no other test's threads are among them.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inferscope::gpu::Gpus;
use inferscope::gpu::nvml::{Nvml, Places};
use inferscope::gpu::watch::{Times, Watch};

const GPUS: usize = 8;
/// Long enough for what is asked every five seconds.
const MEASURED: Duration = Duration::from_secs(6);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Time on processors of the threads of this process that have to do with GPUs.
fn busy() -> Duration {
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
    let of_gpus = threads
        .filter(|thread| fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.starts_with("gpu")));
    let ran = of_gpus.filter_map(|thread| fs::read_to_string(thread.join("schedstat")).ok());
    ran.map(|text| Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())).sum()
}

/// Part of a core at this interval.
fn cost(interval: Duration) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let installed = nvml_sim::install(folder.path(), nvml_sim::preset::text("eight").unwrap()).unwrap();
    let places = Places { configured: Some(installed.library), loader: false, roots: Vec::new() };
    let (watch, news) = Watch::start(Arc::new(Nvml::new(places)), Times::of(interval)).unwrap();
    let mut gpus = Gpus::default();
    gpus.hear(news);
    let begun = Instant::now();
    while gpus.cards().filter(|card| card.reading.is_some()).count() < GPUS {
        assert!(begun.elapsed() < WAIT_MAX);
        std::thread::sleep(Duration::from_millis(20));
        gpus.take();
    }
    let (begun, before) = (Instant::now(), busy());
    std::thread::sleep(MEASURED);
    let part = (busy() - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    gpus.take();
    assert_eq!((gpus.cards().count(), watch.lost()), (GPUS, 0));
    println!("{GPUS} GPUs every {interval:?}: {:.3} % of a core", part * 100.0);
    part
}

#[test]
fn eight_gpus_cost_next_to_nothing() {
    // What the agent promises is of a release; a test's own build is slower, and its machine busy.
    let slower = if cfg!(debug_assertions) { 4.0 } else { 1.0 };
    assert!(cost(Duration::from_secs(1)) < slower * 0.002);
    assert!(cost(Duration::from_millis(100)) < slower * 0.015);
}
