//! The judge is judged: what differs must be found, what agrees must pass.

use super::*;

const MS: u64 = 1_000_000;

fn exchange(id: &str) -> Exchange {
    Exchange {
        request_id: Some(id.to_owned()),
        response_id: Some("c".to_owned()),
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        model: Some("m".to_owned()),
        status: Some(200),
        outcome: Outcome::Ok,
        streamed: true,
        started_ns: 1_000 * MS,
        first_read_ns: None,
        noticed_ns: None,
        ended_ns: 1_500 * MS,
        deltas_ns: vec![1_100 * MS, 1_100 * MS, 1_150 * MS, 1_400 * MS],
        prompt_tokens: Some(3),
        completion_tokens: Some(4),
        finish: vec!["stop".to_owned()],
        confidence: None,
        empty: false,
        undecided: false,
        request_bytes: 10,
        response_bytes: 10,
    }
}

fn record(id: &str) -> AgentRecord {
    AgentRecord {
        seq: 1,
        model: Some("m".to_owned()),
        route: Some("/v1/chat/completions".to_owned()),
        status: Some(200),
        outcome: Some("ok".to_owned()),
        streamed: Some(true),
        duration_seconds: 0.5,
        ttft_seconds: Some(0.1),
        read_delay_seconds: Some(0.0),
        chunks: 4,
        prompt_tokens: Some(3),
        completion_tokens: Some(4),
        gaps: Some(Gaps { count: 2, sum_seconds: 0.3, max_seconds: 0.25 }),
        request_id: Some(id.to_owned()),
        response_id: Some("c".to_owned()),
        ..AgentRecord::default()
    }
}

fn judged(truth: &[Exchange], records: &[AgentRecord]) -> Comparison {
    compare(truth, records, Bounds::of(Source::Wire))
}

#[test]
fn what_agrees_passes() {
    let result = judged(&[exchange("a"), exchange("b")], &[record("b"), record("a")]);
    assert!(result.passed, "{result:?}");
    assert_eq!(result.quantities.len(), 4);
    assert_eq!(result.counts[0].expected, 2);
}

#[test]
fn every_difference_fails() {
    type Change = fn(&mut AgentRecord);
    let changes: &[(&str, Change)] = &[
        ("model", |r| r.model = Some("other".to_owned())),
        ("outcome", |r| r.outcome = Some("client_abort".to_owned())),
        ("status", |r| r.status = Some(201)),
        ("chunks", |r| r.chunks = 3),
        ("tokens", |r| r.completion_tokens = None),
        ("duration", |r| r.duration_seconds = 0.506),
        ("ttft", |r| r.ttft_seconds = Some(0.0985)),
        ("no ttft", |r| r.ttft_seconds = None),
        ("gaps", |r| r.gaps.as_mut().unwrap().count = 3),
        ("gap_max", |r| r.gaps.as_mut().unwrap().max_seconds = 0.253),
        ("no gaps", |r| r.gaps = None),
        ("incomplete", |r| r.incomplete = Some("events_lost".to_owned())),
        ("id", |r| r.request_id = None),
    ];
    for (what, change) in changes {
        let mut record = record("a");
        change(&mut record);
        assert!(!judged(&[exchange("a")], &[record]).passed, "{what}");
    }
}

#[test]
fn within_the_bounds_passes() {
    let record = AgentRecord { duration_seconds: 0.504, ttft_seconds: Some(0.1009), ..record("a") };
    let result = judged(&[exchange("a")], &[record]);
    assert!(result.passed, "{result:?}");
}

#[test]
fn an_undecided_end_may_be_either() {
    let truth = [exchange("a"), Exchange { undecided: true, ..exchange("b") }];
    for outcome in ["ok", "client_abort"] {
        let record = AgentRecord { outcome: Some(outcome.to_owned()), ..record("b") };
        let result = judged(&truth, &[self::record("a"), record]);
        assert!(result.passed && result.undecided == 1, "{result:?}");
    }
    assert!(!judged(&truth, &[record("a")]).passed, "it must be there");
}

#[test]
fn without_arrival_times_begin_with_the_read() {
    let truth = [Exchange { first_read_ns: Some(1_050 * MS), ..exchange("a") }];
    let late = AgentRecord { duration_seconds: 0.45, ttft_seconds: Some(0.05), ..record("a") };
    assert!(!judged(&truth, std::slice::from_ref(&late)).passed, "it knows the arrival");
    assert!(judged(&truth, &[AgentRecord { read_delay_seconds: None, ..late }]).passed);
}

#[test]
fn missing_doubled_and_unexpected_records_fail() {
    let truth = [exchange("a")];
    assert_eq!(judged(&truth, &[]).missing, ["a"]);
    assert_eq!(judged(&truth, &[record("a"), record("a")]).doubled, ["a"]);
    assert_eq!(judged(&truth, &[record("a"), record("b")]).unexpected.len(), 1);
    for records in [vec![], vec![record("a"), record("a")], vec![record("a"), record("b")]] {
        assert!(!judged(&truth, &records).passed);
    }
    assert!(!judged(&[], &[]).passed, "nothing compared is nothing proven");
}

#[test]
fn one_in_a_hundred_may_be_late() {
    let truth: Vec<_> = (0..100).map(|index| exchange(&index.to_string())).collect();
    let mut records: Vec<_> = (0..100).map(|index| record(&index.to_string())).collect();
    records[0].duration_seconds = 0.9;
    assert!(judged(&truth, &records).passed);
    records[1].duration_seconds = 0.9;
    assert!(!judged(&truth, &records).passed);
}

#[test]
fn strays_are_as_many_as_the_bounds_allow() {
    let bounds = Bounds { strays: 0.1, ..Bounds::of(Source::Wire) };
    let names: Vec<_> = (0..20).map(|number| format!("r{number}")).collect();
    let truth: Vec<_> = names.iter().map(|name| exchange(name)).collect();
    for (off, passes) in [(0, true), (2, true), (3, false)] {
        let mut records: Vec<_> = names.iter().map(|name| record(name)).collect();
        records[..off].iter_mut().for_each(|record| record.duration_seconds = 0.9);
        let result = compare(&truth, &records, bounds);
        assert_eq!((result.passed, result.is_exact()), (passes, true), "{off}: {result:?}");
    }
    let alone = compare(&truth[..1], &[AgentRecord { duration_seconds: 0.9, ..record("r0") }], bounds);
    assert!(!alone.passed, "a single request is no stray");
}

#[test]
fn a_model_without_a_good_answer_is_other() {
    let refused = Exchange {
        status: Some(404),
        outcome: Outcome::ClientError,
        model: Some("none".to_owned()),
        streamed: false,
        deltas_ns: Vec::new(),
        ..exchange("a")
    };
    let measured = AgentRecord {
        model: Some("other".to_owned()),
        status: Some(404),
        outcome: Some("client_error".to_owned()),
        streamed: Some(false),
        chunks: 0,
        ttft_seconds: None,
        gaps: None,
        ..record("a")
    };
    let result = judged(&[refused], &[measured]);
    assert!(result.passed, "{result:?}");
}

#[test]
fn a_model_may_be_other_until_its_first_good_answer() {
    let aborted = |id: &str, ended_ns: u64| Exchange {
        status: None,
        response_id: None,
        outcome: Outcome::ClientAbort,
        deltas_ns: Vec::new(),
        ended_ns,
        ..exchange(id)
    };
    let check = |ended_ns: u64, label: &str, expected: bool| {
        let truth = [exchange("a"), aborted("b", ended_ns)];
        let measured = AgentRecord {
            model: Some(label.to_owned()),
            outcome: Some("client_abort".to_owned()),
            duration_seconds: seconds(ended_ns - 1_000 * MS),
            ttft_seconds: None,
            ..record("b")
        };
        let result = judged(&truth, &[record("a"), measured]);
        assert_eq!(result.passed, expected, "{ended_ns} {label} {result:?}");
    };
    check(1_400 * MS, "other", true);
    check(1_400 * MS, "m", true);
    check(1_600 * MS, "other", false);
    check(1_600 * MS, "m", true);
}
