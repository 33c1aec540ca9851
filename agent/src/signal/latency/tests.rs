//! Tests of the signal as a whole: records and ticks in, lines of the page out.

mod starts;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::blame::Totals;
use crate::cgroup::Groups;
use crate::engine::Engines;
use crate::gpu::Gpus;
use crate::request::record::{FinishReasons, GAPS_MAX, Identity, OtherRoute, Outcome, Route, Stall, Usage};
use crate::signal::WorkloadState;
use crate::workload::ServerKind;

const START: BootTime = BootTime(1_000_000_000_000);

pub fn workload(label: &str) -> Arc<Workload> {
    Arc::new(Workload {
        label: label.into(),
        kind: ServerKind::Vllm,
        namespace: None,
        pod: None,
        container: None,
        unit: None,
        started: START,
    })
}

fn after(ms: u64) -> BootTime {
    BootTime(START.0 + ms * 1_000_000)
}

/// A streamed answer of 120 ms: first token after 40 ms, 9 tokens, read after 1 ms.
pub fn record() -> RequestRecord {
    RequestRecord {
        workload: workload("w"),
        model: "m".into(),
        route: Route::ChatCompletions,
        identity: Identity { request_id: Some("req-1".into()), ..Identity::default() },
        socket: 7,
        tgid: 1,
        tid: 1,
        writer_tid: 1,
        arrival: after(1000),
        first_read: after(1001),
        read_delay: Some(Duration::from_millis(1)),
        first_token: Some(after(1040)),
        end: after(1120),
        send_wait: Duration::ZERO,
        send_wait_before: Duration::ZERO,
        status: Some(200),
        outcome: Outcome::Ok,
        streamed: true,
        chunks: 9,
        usage: Some(Usage { prompt_tokens: 100, completion_tokens: 9 }),
        finish: FinishReasons { stop: 1, ..FinishReasons::default() },
        empty: false,
        confidence: Some(0.5),
        request_bytes: 1000,
        response_bytes: 2000,
        incomplete: None,
    }
}

struct Bench {
    registries: Registries,
    signal: LatencySignal,
}

impl Bench {
    fn new(options: Options) -> Self {
        let mut registries = Registries::new(options.native_histograms);
        let signal = LatencySignal::new(options, &mut registries, START);
        Self { registries, signal }
    }

    fn tick(&mut self, now: BootTime, workloads: &[WorkloadState], open: &[OpenRequest]) {
        self.signal
            .on_tick(&Tick {
                now,
                workloads,
                open,
                stalls: &Totals::default(),
                groups: &Groups::default(),
                engines: &Engines::default(),
                gpus: &Gpus::default(),
                quality: &crate::quality::Standings::default(),
            })
            .unwrap();
    }

    fn page(&self) -> String {
        String::from_utf8(self.registries.text().unwrap()).unwrap()
    }

    /// Each line is on the page.
    fn has(&self, lines: &[&str]) {
        let page = self.page();
        for line in lines {
            assert!(page.lines().any(|other| other == *line), "{line} on the page:\n{page}");
        }
    }

    /// No line of the page contains it.
    fn has_not(&self, part: &str) {
        let page = self.page();
        assert!(!page.contains(part), "{part} on the page:\n{page}");
    }
}

fn state(workload: &Arc<Workload>, listening: Option<BootTime>) -> WorkloadState {
    WorkloadState {
        workload: workload.clone(),
        up: true,
        listens: listening.is_some(),
        engine_lost: false,
        listening,
        down: None,
    }
}

#[test]
fn a_request_feeds_every_family() {
    let mut bench = Bench::new(Options::default());
    bench.signal.on_progress(&Progress {
        workload: workload("w"),
        model: "m".into(),
        socket: 7,
        chunks: 9,
        gaps: vec![Duration::from_millis(10); 8],
    });
    bench.signal.on_request(&record(), &Verdict::default());
    bench.tick(after(2000), &[state(&workload("w"), None)], &[]);
    bench.has(&[
        r#"vllm_requests_total{model="m",workload="w"} 1"#,
        r#"vllm_request_errors_total{model="m",workload="w"} 0"#,
        r#"vllm_request_outcomes_total{model="m",workload="w",outcome="ok"} 1"#,
        r#"vllm_request_outcomes_total{model="m",workload="w",outcome="server_reset"} 0"#,
        r#"vllm_responses_finished_total{model="m",workload="w",reason="stop"} 1"#,
        r#"vllm_responses_finished_total{model="m",workload="w",reason="empty"} 0"#,
        r#"vllm_prompt_tokens_total{model="m",workload="w"} 100"#,
        r#"vllm_generation_tokens_total{model="m",workload="w"} 9"#,
        r#"vllm_requests_with_usage_total{model="m",workload="w"} 1"#,
        r#"vllm_response_chunks_total{model="m",workload="w"} 9"#,
        r#"vllm_requests_in_flight{model="m",workload="w"} 0"#,
        r#"vllm_requests_stalled{model="m",workload="w",why="no_response"} 0"#,
        r#"vllm_workload_up{workload="w"} 1"#,
        r#"prediction_confidence{model="m",source="live"} 0.5"#,
        r#"vllm_request_duration_seconds_bucket{model="m",workload="w",le="0.1"} 0"#,
        r#"vllm_request_duration_seconds_bucket{model="m",workload="w",le="0.15"} 1"#,
        r#"vllm_request_duration_seconds_sum{model="m",workload="w"} 0.12"#,
        r#"vllm_time_to_first_token_seconds_sum{model="m",workload="w"} 0.04"#,
        r#"vllm_time_per_output_token_seconds_sum{model="m",workload="w"} 0.01"#,
        r#"vllm_inter_chunk_latency_seconds_count{model="m",workload="w"} 8"#,
        r#"vllm_inter_chunk_latency_seconds_bucket{model="m",workload="w",le="0.01"} 8"#,
        r#"vllm_request_read_delay_seconds_sum{model="m",workload="w"} 0.001"#,
        r#"vllm_response_send_wait_seconds_count{model="m",workload="w"} 1"#,
    ]);
    let page = bench.page();
    let p95 = page
        .lines()
        .find_map(|l| l.strip_prefix(r#"inference_latency_p95_seconds{model="m",workload="w"} "#));
    let p95: f64 = p95.unwrap().parse().unwrap();
    assert!((p95 - 0.12).abs() <= 0.0012, "{p95}");
    let listed = bench.signal.view().requests(None, 1);
    let gaps = listed.requests[0].gaps.unwrap();
    assert_eq!((gaps.count, gaps.max_seconds), (8, 0.01));
}

#[test]
fn an_incomplete_record_is_counted_and_kept_out_of_what_it_would_falsify() {
    // duration, read delay, send wait, first token, time per token
    fn check(incomplete: Option<Incomplete>, expected: [u64; 5]) {
        let mut bench = Bench::new(Options::default());
        bench.signal.on_request(&RequestRecord { incomplete, ..record() }, &Verdict::default());
        let names = [
            "vllm_request_duration",
            "vllm_request_read_delay",
            "vllm_response_send_wait",
            "vllm_time_to_first_token",
            "vllm_time_per_output_token",
        ];
        for (name, count) in names.iter().zip(expected) {
            bench.has(&[&format!("{name}_seconds_count{{model=\"m\",workload=\"w\"}} {count}")]);
        }
        bench.has(&[
            r#"vllm_requests_total{model="m",workload="w"} 1"#,
            r#"vllm_generation_tokens_total{model="m",workload="w"} 9"#,
        ]);
        for reason in INCOMPLETE {
            let count = u64::from(Some(reason) == incomplete);
            let name = "inferscope_records_incomplete_total";
            bench.has(&[&format!("{name}{{reason=\"{}\"}} {count}", reason.label())]);
        }
    }
    check(None, [1, 1, 1, 1, 1]);
    check(Some(Incomplete::BorderMissed), [1, 1, 1, 0, 0]);
    check(Some(Incomplete::EventsLost), [0; 5]);
}

#[test]
fn every_outcome_is_counted_and_errors_are_those_of_the_server() {
    let mut bench = Bench::new(Options::default());
    for outcome in Outcome::ALL {
        bench.signal.on_request(&RequestRecord { outcome, ..record() }, &Verdict::default());
    }
    bench.has(&[
        r#"vllm_requests_total{model="m",workload="w"} 6"#,
        r#"vllm_request_errors_total{model="m",workload="w"} 3"#,
        r#"vllm_request_duration_seconds_count{model="m",workload="w"} 6"#,
        r#"vllm_request_outcomes_total{model="m",workload="w",outcome="rejected"} 1"#,
        r#"vllm_request_outcomes_total{model="m",workload="w",outcome="client_abort"} 1"#,
    ]);
}

#[test]
fn the_p95_and_the_confidence_leave_with_their_last_request() {
    let mut bench = Bench::new(Options::default());
    bench.signal.on_request(&record(), &Verdict::default());
    bench.tick(after(2000), &[], &[]);
    assert!(bench.page().contains("inference_latency_p95_seconds{"));
    bench.tick(after(400_000), &[], &[]);
    bench.has_not("inference_latency_p95_seconds");
    bench.has_not("prediction_confidence");
    bench.has(&[r#"vllm_requests_total{model="m",workload="w"} 1"#]);
}

#[test]
fn a_model_that_two_workloads_serve_has_one_confidence() {
    let mut bench = Bench::new(Options::default());
    for (label, confidence) in [("w", 0.25), ("v", 0.5), ("v", 0.75)] {
        bench.signal.on_request(
            &RequestRecord { workload: workload(label), confidence: Some(confidence), ..record() },
            &Verdict::default(),
        );
    }
    bench.tick(after(2000), &[], &[]);
    bench.has(&[r#"prediction_confidence{model="m",source="live"} 0.5"#]);
}

#[test]
fn other_routes_are_counted_and_nothing_else() {
    let mut bench = Bench::new(Options::default());
    let health = RequestRecord { route: Route::Other(OtherRoute::Health), ..record() };
    bench.signal.on_request(&health, &Verdict::default());
    bench.signal.on_request(&RequestRecord { status: None, ..health }, &Verdict::default());
    bench.has(&[
        r#"inferscope_http_requests_total{workload="w",route="/health",code="200"} 1"#,
        r#"inferscope_http_requests_total{workload="w",route="/health",code="none"} 1"#,
    ]);
    bench.has_not("vllm_requests_total");
    assert!(bench.signal.view().requests(None, 9).requests.is_empty());
}

#[test]
fn a_pair_is_named_by_its_first_response_or_by_a_stall() {
    let open = |model: &str, stalled| OpenRequest {
        workload: workload("w"),
        model: model.into(),
        arrival: after(0),
        first_token: None,
        request_bytes: 1000,
        tid: 1,
        stalled,
    };
    let mut bench = Bench::new(Options::default());
    bench.tick(after(1000), &[], &[open("other", None)]);
    bench.has_not("model=");
    bench.signal.on_request(&record(), &Verdict::default());
    bench.tick(after(2000), &[], &[open("m", None), open("m", None), open("other", Some(Stall::NoResponse))]);
    bench.has(&[
        r#"vllm_requests_in_flight{model="m",workload="w"} 2"#,
        r#"vllm_requests_in_flight{model="other",workload="w"} 1"#,
        r#"vllm_requests_stalled{model="other",workload="w",why="no_response"} 1"#,
        r#"vllm_requests_total{model="other",workload="w"} 0"#,
    ]);
    bench.tick(after(3000), &[], &[]);
    bench.has(&[
        r#"vllm_requests_in_flight{model="m",workload="w"} 0"#,
        r#"vllm_requests_stalled{model="other",workload="w",why="no_response"} 0"#,
    ]);
}

#[test]
fn forgetting_removes_all_and_only_what_is_forgotten() {
    let mut bench = Bench::new(Options::default());
    for (label, model) in [("w", "m"), ("w", "n"), ("v", "m")] {
        bench.signal.on_request(
            &RequestRecord { workload: workload(label), model: model.into(), ..record() },
            &Verdict::default(),
        );
    }
    bench.tick(after(2000), &[state(&workload("w"), None)], &[]);
    bench.signal.forget_model("w", "m");
    bench.has_not(r#"model="m",workload="w""#);
    bench.has(&[
        r#"vllm_requests_total{model="n",workload="w"} 1"#,
        r#"vllm_requests_total{model="m",workload="v"} 1"#,
        r#"vllm_workload_up{workload="w"} 1"#,
    ]);
    bench.signal.forget_workload(&workload("w"));
    bench.has_not(r#"workload="w""#);
    bench.signal.forget_workload(&workload("v"));
    bench.tick(after(3000), &[], &[]);
    bench.has_not("workload=");
    assert!(bench.signal.view().latest().models.is_empty());
}

#[test]
fn thresholds_are_bounds_and_opentelemetry_is_an_option() {
    let mut bench = Bench::new(Options::default());
    bench.signal.on_request(&record(), &Verdict::default());
    bench.has_not("gen_ai_");
    bench.has_not("le=\"0.12\"");
    let mut bench = Bench::new(Options {
        duration_thresholds: vec![Duration::from_millis(120)],
        ttft_thresholds: vec![Duration::from_millis(39)],
        opentelemetry: true,
        ..Options::default()
    });
    bench.signal.on_request(&record(), &Verdict::default());
    bench.has(&[
        r#"vllm_request_duration_seconds_bucket{model="m",workload="w",le="0.12"} 1"#,
        r#"vllm_time_to_first_token_seconds_bucket{model="m",workload="w",le="0.039"} 0"#,
        r#"gen_ai_server_request_duration_bucket{model="m",workload="w",le="0.16"} 1"#,
        r#"gen_ai_server_time_to_first_token_bucket{model="m",workload="w",le="0.04"} 1"#,
        r#"gen_ai_server_time_per_output_token_bucket{model="m",workload="w",le="0.01"} 1"#,
    ]);
}

#[test]
fn the_newest_request_of_a_bucket_is_its_exemplar() {
    let mut bench = Bench::new(Options::default());
    bench.signal.on_request(&record(), &Verdict::default());
    let page = String::from_utf8(bench.registries.openmetrics().unwrap()).unwrap();
    let bucket = r#"vllm_request_duration_seconds_bucket{le="0.15",model="m",workload="w"} 1 # {request_id="req-1"} 0.12 "#;
    assert!(page.contains(bucket), "{page}");
    assert!(page.ends_with("# EOF\n"));
    bench.has_not("req-1");
}

#[test]
fn native_buckets_are_served_beside_the_classic_ones_where_asked_for() {
    let mut bench = Bench::new(Options { native_histograms: true, ..Options::default() });
    bench.signal.on_request(&record(), &Verdict::default());
    assert!(bench.page().contains("vllm_request_duration_seconds_bucket"));
    let native = bench.registries.native.as_ref().unwrap();
    let families = prometheus_client::encoding::prometheus_protobuf::encode(native).unwrap();
    let duration = families.iter().find(|family| family.name == "vllm_request_duration_seconds").unwrap();
    let histogram = duration.metric[0].histogram.as_ref().unwrap();
    assert_eq!(histogram.bucket.len(), bounds::DURATION.len() + 1);
    assert_eq!((histogram.positive_span.len(), histogram.positive_delta.as_slice()), (1, [1].as_slice()));
    assert!(bench.registries.protobuf().unwrap().is_some());
    assert!(Bench::new(Options::default()).registries.protobuf().unwrap().is_none());
}

#[test]
fn the_snapshot_shows_rates_and_quantiles() {
    let mut bench = Bench::new(Options::default());
    for second in 1..=20 {
        bench.tick(after(second * 1000), &[], &[]);
        for _ in 0..3 {
            bench.signal.on_request(
                &RequestRecord { outcome: Outcome::ServerError, ..record() },
                &Verdict::default(),
            );
        }
    }
    bench.tick(after(21_000), &[], &[]);
    let snapshot = bench.signal.view().latest();
    let model = &snapshot.models[0];
    assert!((model.requests_per_second.last_10s - 3.0).abs() < 1e-9);
    // Over the 21 seconds that were watched, in 20 of which requests came.
    assert!((model.errors_per_second.last_5m - 60.0 / 21.0).abs() < 1e-9);
    // Each of three a second has 100 tokens of prompt and 9 of completion.
    assert!((model.prompt_tokens_per_second.last_10s - 300.0).abs() < 1e-9);
    assert!((model.completion_tokens_per_second.last_10s - 27.0).abs() < 1e-9);
    assert_eq!(model.duration_seconds.count, 60);
    assert!((model.ttft_seconds.p99.unwrap() - 0.04).abs() <= 0.0004);
    assert_eq!(model.inter_chunk_seconds.p50, None);
}

/// Series of the agent's own metrics, with every program, stage and signal that may come: an allowance.
const OWN_SERIES: usize = 300;

#[test]
fn a_full_node_stays_within_its_series() {
    let mut bench = Bench::new(Options::default());
    let workloads: Vec<_> = (0..8).map(|n| workload(&format!("w{n}"))).collect();
    let pairs =
        workloads.iter().flat_map(|w| ["unknown", "other"].map(|model| (w.clone(), model.to_owned())));
    let models = (0..8).map(|n| (workloads[0].clone(), format!("m{n}")));
    for (workload, model) in pairs.chain(models) {
        bench
            .signal
            .on_request(&RequestRecord { workload, model: model.into(), ..record() }, &Verdict::default());
    }
    let routes = [
        OtherRoute::Health,
        OtherRoute::Metrics,
        OtherRoute::Models,
        OtherRoute::Tokenize,
        OtherRoute::Docs,
        OtherRoute::Rest,
    ];
    for workload in &workloads {
        for status in 100..600 {
            let route = Route::Other(routes[usize::from(status) % routes.len()]);
            let workload = workload.clone();
            bench.signal.on_request(
                &RequestRecord { workload, route, status: Some(status), ..record() },
                &Verdict::default(),
            );
        }
    }
    let states: Vec<_> = workloads.iter().map(|workload| state(workload, Some(after(1)))).collect();
    bench.tick(after(2000), &states, &[]);
    let series = bench.page().lines().filter(|line| !line.starts_with('#')).count();
    assert!(series > 2000, "{series}: the count counts");
    assert!(series + OWN_SERIES <= 4000, "{series} series");
}

#[test]
fn long_streams_add_up_over_their_progress() {
    let mut bench = Bench::new(Options::default());
    for _ in 0..3 {
        bench.signal.on_progress(&Progress {
            workload: workload("w"),
            model: "m".into(),
            socket: 7,
            chunks: GAPS_MAX as u64,
            gaps: vec![Duration::from_millis(20); GAPS_MAX],
        });
    }
    bench.signal.on_request(&record(), &Verdict::default());
    let gaps = bench.signal.view().requests(None, 1).requests[0].gaps.unwrap();
    assert_eq!(gaps.count, 3 * GAPS_MAX as u64);
    bench.has(&[r#"vllm_response_chunks_total{model="m",workload="w"} 192"#]);
}
