//! Verdicts in, lines of the page and the list out.

use std::time::Duration;

use super::*;
use crate::blame::{Limit, Slow, Surroundings, Vector};
use crate::signal::latency::tests::{record, workload};

fn verdict(slow: Option<Reason>) -> Verdict {
    let vector = |causes: &[(Cause, u64)]| {
        Vector::of_times(causes.iter().map(|(cause, ms)| (*cause, Duration::from_millis(*ms))))
    };
    let slow = slow.map(|reason| {
        let limit = Limit::Usual(Duration::from_millis(30));
        Box::new(Slow { reason, limit, around: Surroundings::default(), stalls: Vec::new() })
    });
    let before = vector(&[(Cause::Stopped, 30), (Cause::Rest, 10)]);
    let phases = vec![(Phase::BeforeFirstToken, before), (Phase::After, vector(&[(Cause::Rest, 80)]))];
    Verdict { phases, causes: vec![(Cause::Stopped, Duration::from_millis(30))], slow, throttles: None }
}

fn lines(registries: &Registries, part: &str) -> Vec<String> {
    let page = String::from_utf8(registries.text().unwrap()).unwrap();
    page.lines().filter(|line| line.contains(part) && !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn time_is_counted_by_phase_and_cause_and_slow_requests_by_cause() {
    let mut registries = Registries::new(false);
    let mut signal = SlowSignal::new(&mut registries);
    signal.on_request(&record(), &verdict(None));
    signal.on_request(&record(), &verdict(Some(Reason::Cause(Cause::Stopped))));
    signal.on_request(&record(), &verdict(Some(Reason::Queued)));
    signal.on_request(&record(), &Verdict::default());
    let seconds: f64 = lines(&registries, "vllm_request_blame_seconds_total")
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert!((seconds - 3.0 * 0.12).abs() < 1e-9, "{seconds}");
    let labels = r#"model="m",workload="w""#;
    let stopped = format!(
        r#"vllm_request_blame_seconds_total{{{labels},phase="before_first_token",cause="stopped"}} 0.09"#
    );
    assert!(lines(&registries, "before_first_token").contains(&stopped), "{stopped}");
    assert_eq!(lines(&registries, "vllm_slow_requests_total").len(), Reason::ALL.len(), "all of them, at 0");
    for cause in ["stopped", "queued"] {
        let line = format!(r#"vllm_slow_requests_total{{{labels},cause="{cause}"}} 1"#);
        assert!(lines(&registries, "vllm_slow_requests_total").contains(&line), "{line}");
    }
}

#[test]
fn slow_requests_are_listed_with_the_newest_first_and_bounded() {
    let mut registries = Registries::new(false);
    let mut signal = SlowSignal::new(&mut registries);
    for _ in 0..SLOW_MAX + 5 {
        signal.on_request(&record(), &verdict(Some(Reason::Neighbour)));
    }
    let page = signal.view().page(SLOW_MAX * 2);
    assert_eq!((page.total, page.requests.len()), (SLOW_MAX as u64 + 5, SLOW_MAX));
    assert!(page.requests.is_sorted_by_key(|request| std::cmp::Reverse(request.seq)));
    let newest = serde_json::to_value(&page.requests[0]).unwrap();
    assert_eq!(newest["cause"], "neighbour");
    assert_eq!(newest["over"], "usual");
    assert_eq!(newest["blame"]["phases"]["before_first_token"]["stopped"], 0.03);
    assert_eq!(signal.view().page(2).requests.len(), 2);
}

#[test]
fn requests_under_throttle_count_once_for_each_cause_and_only_where_there_are_gpus() {
    use crate::gpu::ThrottleCause::{self, PowerCap, SwThermal};
    let mut registries = Registries::new(false);
    let mut signal = SlowSignal::new(&mut registries);
    signal.on_request(&record(), &verdict(None));
    let found = |registries: &Registries| lines(registries, "vllm_requests_under_throttle_total");
    assert!(found(&registries).is_empty());
    for causes in [vec![], vec![PowerCap, SwThermal], vec![PowerCap]] {
        signal.on_request(&record(), &Verdict { throttles: Some(causes), ..verdict(None) });
    }
    assert_eq!(found(&registries).len(), ThrottleCause::ALL.len());
    for (cause, count) in [("power_cap", 2), ("sw_thermal", 1), ("hw_thermal", 0)] {
        let labels = format!(r#"model="m",workload="w",cause="{cause}""#);
        let line = format!("vllm_requests_under_throttle_total{{{labels}}} {count}");
        assert!(found(&registries).contains(&line), "{line}");
    }
    signal.forget_workload(&workload("w"));
    assert!(found(&registries).is_empty());
}

#[test]
fn what_is_forgotten_leaves_no_series() {
    let mut registries = Registries::new(false);
    let mut signal = SlowSignal::new(&mut registries);
    signal.on_request(&record(), &verdict(None));
    signal.on_request(&RequestRecord { model: "n".into(), ..record() }, &verdict(None));
    signal.forget_model("w", "m");
    assert!(lines(&registries, r#"model="m""#).is_empty());
    assert!(!lines(&registries, r#"model="n""#).is_empty());
    signal.forget_workload(&workload("w"));
    assert!(lines(&registries, "workload=").is_empty());
}

#[test]
fn a_slow_stream_has_the_gaps_of_its_chunks_and_no_others() {
    let mut registries = Registries::new(false);
    let mut signal = SlowSignal::new(&mut registries);
    let progress = |socket, ms: &[u64]| Progress {
        workload: workload("w"),
        model: "m".into(),
        socket,
        chunks: ms.len() as u64,
        gaps: ms.iter().map(|ms| Duration::from_millis(*ms)).collect(),
    };
    let slow = verdict(Some(Reason::Queued));
    // Of the connection before, of a request that was not slow, of the slow one in two parts, and of one beside it.
    signal.on_progress(&progress(7, &[5]));
    signal.on_request(&record(), &verdict(None));
    signal.on_progress(&progress(7, &[10, 20]));
    signal.on_progress(&progress(8, &[30]));
    signal.on_progress(&progress(7, &[40]));
    signal.on_request(&record(), &slow);
    // From its first token to its end are 80 ms: these cannot be its own.
    signal.on_progress(&progress(7, &[40, 41]));
    signal.on_request(&record(), &slow);
    let page = signal.view().page(10);
    let gaps = |index: usize| page.requests[index].chunk_gaps.clone();
    assert_eq!(gaps(1), Some(ChunkGaps { gaps_per_value: 1, seconds: vec![0.01, 0.02, 0.04] }));
    assert_eq!(gaps(0), None);
}
