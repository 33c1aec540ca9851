//! Sums in, lines of the page out.

use inferscope_common::stall::StallEvent;

use super::*;
use crate::blame::{Owner, Totals};
use crate::cgroup::Groups;
use crate::clock::BootTime;
use crate::engine::Engines;
use crate::gpu::Gpus;
use crate::signal::latency::tests::workload;

fn owner(role: Option<Role>) -> Owner {
    Owner { workload: "w".into(), role }
}

fn event(kind: Stall, ms: u64, counts: [u32; 4]) -> StallEvent {
    StallEvent { stalled_ns: ms * 1_000_000, kind: kind as u32, counts, ..StallEvent::default() }
}

fn page(registries: &Registries) -> String {
    String::from_utf8(registries.text().unwrap()).unwrap()
}

fn tick(signal: &mut StallSignal, stalls: &Totals) {
    tick_at(signal, stalls, 0);
}

fn tick_at(signal: &mut StallSignal, stalls: &Totals, second: u64) {
    let now = BootTime(1_000_000_000 * second + 1);
    signal
        .on_tick(&Tick {
            now,
            workloads: &[],
            open: &[],
            stalls,
            groups: &Groups::default(),
            engines: &Engines::default(),
            gpus: &Gpus::default(),
            quality: &crate::quality::Standings::default(),
        })
        .unwrap();
}

#[test]
fn seconds_rise_with_what_is_under_way_and_never_fall() {
    let mut registries = Registries::new(false);
    let (mut signal, mut totals) = (StallSignal::new(&mut registries), Totals::default());
    let line =
        |seconds| format!("stall_seconds_total{{workload=\"w\",role=\"api\",cause=\"stopped\"}} {seconds}\n");
    totals.add_pending(owner(Some(Role::Api)), Stall::Stopped, 1_500_000_000);
    tick(&mut signal, &totals);
    assert!(page(&registries).contains(&line("1.5")), "{}", page(&registries));
    totals.clear_pending();
    tick(&mut signal, &totals);
    assert!(page(&registries).contains(&line("1.5")));
    totals.on_event(owner(Some(Role::Api)), &event(Stall::Stopped, 2000, [0, 0, 0, 1]));
    tick(&mut signal, &totals);
    assert!(page(&registries).contains(&line("2.0")));
}

#[test]
fn lengths_of_waiting_and_of_reclaim_are_a_histogram() {
    let mut registries = Registries::new(false);
    let (mut signal, mut totals) = (StallSignal::new(&mut registries), Totals::default());
    totals.on_event(owner(None), &event(Stall::RunQueue, 2, [1, 2, 3, 0]));
    totals.on_event(owner(None), &event(Stall::RunQueue, 50, [0, 0, 0, 1]));
    totals.on_event(owner(None), &event(Stall::Stopped, 50, [0, 0, 0, 1]));
    tick(&mut signal, &totals);
    let page = page(&registries);
    let labels = r#"workload="w",role="other",cause="run_queue""#;
    for (bound, count) in [("1e-05", 1), ("0.0001", 3), ("0.001", 6), ("0.01", 6), ("0.1", 7), ("+Inf", 7)] {
        let line = format!("stall_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {count}\n");
        assert!(page.contains(&line), "{line} in\n{page}");
    }
    assert!(page.contains(&format!("stall_duration_seconds_sum{{{labels}}} 0.052\n")), "{page}");
    assert!(!page.contains(r#"stall_duration_seconds_count{workload="w",role="other",cause="stopped"}"#));
    signal.forget_workload(&workload("w"));
    assert!(!String::from_utf8(registries.text().unwrap()).unwrap().contains("stall_duration_seconds_sum{"));
}

/// Rates of the newest snapshot: role, cause, and thousandths of a second per second; those at 0 are left out.
fn rates(signal: &StallSignal) -> Vec<(&'static str, &'static str, u64)> {
    let snapshot = signal.view().latest();
    let of_role = |role: &view::RoleStalls| {
        let role_label = role.role;
        let rates: Vec<_> = role.seconds_per_second.iter().map(|(cause, rate)| (*cause, *rate)).collect();
        rates.into_iter().map(move |(cause, rate)| (role_label, cause, (rate * 1000.0).round() as u64))
    };
    snapshot.workloads.iter().flat_map(of_role).filter(|(.., rate)| *rate > 0).collect()
}

#[test]
fn rates_are_thread_seconds_per_second_of_the_last_ten() {
    let mut registries = Registries::new(false);
    let (mut signal, mut totals) = (StallSignal::new(&mut registries), Totals::default());
    let engine = owner(Some(Role::Engine));
    totals.on_event(engine.clone(), &event(Stall::BlockIo, 700, [0, 0, 0, 1]));
    tick_at(&mut signal, &totals, 0);
    assert_eq!(rates(&signal), [], "over which time that was is not known");
    // Half a second of each of the next four, and two threads that are stopped throughout.
    for second in 1..=4 {
        totals.on_event(engine.clone(), &event(Stall::RunQueue, 500, [0, 0, 0, 1]));
        totals.clear_pending();
        totals.add_pending(owner(Some(Role::Api)), Stall::Stopped, second * 2_000_000_000);
        tick_at(&mut signal, &totals, second);
    }
    assert_eq!(rates(&signal), [("api", "stopped", 2000), ("engine", "run_queue", 500)]);
    for second in 5..=12 {
        tick_at(&mut signal, &totals, second);
    }
    // Of the ten seconds from 2 to 12 the first two.
    assert_eq!(rates(&signal), [("api", "stopped", 400), ("engine", "run_queue", 100)]);
    tick_at(&mut signal, &totals, 13);
    tick_at(&mut signal, &totals, 14);
    assert_eq!(rates(&signal), []);
    assert_eq!(signal.view().latest().workloads.len(), 2, "what is quiet is shown as such");
    signal.forget_workload(&workload("w"));
    tick_at(&mut signal, &Totals::default(), 15);
    assert!(signal.view().latest().workloads.is_empty());
}
