//! What it costs to read a large node.

use std::fs;
use std::time::{Duration, Instant};

use inferscope::gpu::watch::Times;

use super::{Library, Scene};

/// Of a core, for eight GPUs at ten readings a second: several times what a release build takes, for a test's own build
/// on a busy machine.
const CORE_PART_MAX: f64 = 0.10;

/// Time on processors of the threads of this process that are called so.
fn busy(name: &str) -> Duration {
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
    let of = threads.filter(|thread| {
        fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.starts_with(name))
    });
    let ran = of.filter_map(|thread| fs::read_to_string(thread.join("schedstat")).ok());
    ran.map(|text| Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())).sum()
}

#[test]
fn eight_gpus_at_ten_readings_a_second_are_cheap() {
    let scenario = nvml_sim::preset::text("eight").unwrap();
    let library = Library::new(scenario, 0.0);
    let source = std::sync::Arc::new(library.source());
    let times = Times::of(Duration::from_millis(100));
    let (watch, news) = inferscope::gpu::watch::Watch::start(source, times).unwrap();
    let mut gpus = inferscope::gpu::Gpus::default();
    gpus.hear(news);
    let mut scene = Scene { _library: library, watch, gpus };
    scene.until_states(&["answers"; 8]);
    std::thread::sleep(Duration::from_secs(1));
    let (begun, before) = (Instant::now(), busy("gpu"));
    std::thread::sleep(Duration::from_secs(4));
    let part = (busy("gpu") - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    println!("{:.2} % of a core", part * 100.0);
    // Other tests of this process have threads of such names, too.
    assert!(part < CORE_PART_MAX, "{part}");
}
