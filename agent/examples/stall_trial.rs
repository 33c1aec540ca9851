//! Trial: sums of stalls of one process beside what schedstat says.
use inferscope::probe::Probe;
use inferscope::probe::plan::Family;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
fn schedstat(tgid: u32) -> u64 {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{tgid}/task")).unwrap().flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        sum += text.split(' ').nth(1).and_then(|word| word.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    sum
}
fn main() {
    let tgids: Vec<u32> = std::env::args().nth(1).unwrap().split(',').map(|t| t.parse().unwrap()).collect();
    let seconds: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let mut probe = Probe::start(&Family::ALL).unwrap();
    for tgid in &tgids {
        probe.tables.set_watched(*tgid, true).unwrap();
    }
    std::thread::sleep(Duration::from_millis(200));
    probe.stalls.drain(usize::MAX, |_| {});
    let all = || tgids.iter().map(|t| schedstat(*t)).sum::<u64>();
    let before = all();
    let began = Instant::now();
    let mut sums: BTreeMap<u32, (u64, u64, [u32; 4])> = BTreeMap::new();
    while began.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_millis(50));
        probe.stalls.drain(usize::MAX, |event| {
            let sum = sums.entry(event.kind).or_default();
            sum.0 += 1;
            sum.1 += event.stalled_ns;
            sum.2.iter_mut().zip(event.counts).for_each(|(sum, count)| *sum += count);
        });
    }
    let after = all();
    println!("schedstat: {:.6} s", (after - before) as f64 / 1e9);
    for (kind, (events, ns, counts)) in sums {
        println!("kind {kind}: {events} events, {:.6} s, {counts:?}", ns as f64 / 1e9);
    }
    let took = Instant::now();
    let threads = probe.stalls.threads().unwrap();
    println!("{} threads in {:?}", threads.len(), took.elapsed());
    for (tid, t) in threads {
        let name = std::fs::read_to_string(format!("/proc/{tid}/comm")).unwrap_or_default();
        println!(
            "{tid:7} of {:7} {:16} ran {:9.3} s {:?}",
            t.tgid,
            name.trim(),
            t.ran_ns as f64 / 1e9,
            t.wakers.map(|w| (w.tid, w.count))
        );
    }
    for one in probe.statistics() {
        if one.program.starts_with("sched_") {
            println!(
                "{} runs {} ns {}",
                one.program,
                one.runs,
                one.run_time.as_nanos() / u128::from(one.runs.max(1))
            );
        }
    }
}
