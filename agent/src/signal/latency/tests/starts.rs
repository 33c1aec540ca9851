//! Starts of servers: cold ones, again and again, and records that come late.

use super::*;

#[test]
fn a_cold_start_is_measured_only_where_it_was_seen_whole() {
    fn check(started_ms: i64, listening_at_first_tick: bool, expected: bool) {
        let mut bench = Bench::new(Options::default());
        let started = BootTime(START.0.wrapping_add_signed(started_ms * 1_000_000));
        let workload = Arc::new(Workload { started, ..(*workload("w")).clone() });
        let listening = after(40_000);
        let first = state(&workload, listening_at_first_tick.then_some(listening));
        bench.tick(after(1000), &[first], &[]);
        bench.tick(after(41_000), &[state(&workload, Some(listening))], &[]);
        let answer = |route, end| RequestRecord { workload: workload.clone(), route, end, ..record() };
        let health = Route::Other(OtherRoute::Health);
        let refused = RequestRecord { status: Some(503), ..answer(health, after(41_000)) };
        for record in [
            refused,
            answer(health, after(45_000)),
            answer(health, after(46_000)),
            answer(Route::ChatCompletions, after(60_000)),
            answer(Route::ChatCompletions, after(70_000)),
        ] {
            bench.signal.on_request(&record, &Verdict::default());
        }
        bench.tick(after(71_000), &[state(&workload, Some(listening))], &[]);
        if !expected {
            return bench.has_not("vllm_cold_start");
        }
        for (phase, end) in [("listening", 40_000), ("healthy", 45_000), ("first_response", 60_000)] {
            let seconds = (end - started_ms) as f64 / 1e3;
            let labels = format!("model=\"m\",workload=\"w\",phase=\"{phase}\"");
            bench.has(&[&format!("vllm_cold_start_seconds{{{labels}}} {seconds:?}")]);
        }
    }
    check(500, false, true);
    check(500, true, true);
    check(-20_000, false, true);
    // It listened before it was first looked at: how long before is not known.
    check(-20_000, true, false);
}

#[test]
fn a_restart_is_a_new_start() {
    let mut bench = Bench::new(Options::default());
    for (start, answer) in [(1_000, 11_000), (100_000, 120_000)] {
        let workload = Arc::new(Workload { started: after(start), ..(*workload("w")).clone() });
        bench.tick(after(start + 1), &[state(&workload, None)], &[]);
        bench.signal.on_request(
            &RequestRecord { workload: workload.clone(), end: after(answer), ..record() },
            &Verdict::default(),
        );
        bench.tick(after(answer + 1), &[state(&workload, None)], &[]);
        let seconds = (answer - start) as f64 / 1e3;
        let labels = r#"{model="m",workload="w",phase="first_response"}"#;
        bench.has(&[&format!("vllm_cold_start_seconds{labels} {seconds:?}")]);
    }
}

#[test]
fn a_record_from_before_a_restart_does_not_undo_it() {
    let mut bench = Bench::new(Options::default());
    let server = |started| Arc::new(Workload { started: after(started), ..(*workload("w")).clone() });
    let (old, new) = (server(1_000), server(50_000));
    bench.tick(after(51_000), &[state(&new, None)], &[]);
    let answer = |workload: &Arc<Workload>, end| RequestRecord {
        workload: workload.clone(),
        end: after(end),
        ..record()
    };
    bench.signal.on_request(&answer(&old, 52_000), &Verdict::default());
    bench.tick(after(52_000), &[state(&new, None)], &[]);
    bench.has_not("vllm_cold_start");
    bench.signal.on_request(&answer(&new, 60_000), &Verdict::default());
    bench.tick(after(61_000), &[state(&new, None)], &[]);
    bench.has(&[r#"vllm_cold_start_seconds{model="m",workload="w",phase="first_response"} 10.0"#]);
}
