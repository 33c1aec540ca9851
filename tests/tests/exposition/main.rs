//! Is the page what it says to be? A fixed list of records, and the pages they give.
//!
//! The pages are compared with `golden/`; `UPDATE_GOLDEN=1` writes them anew, to be reviewed like code.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod gpus;
mod predictions;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use inferscope::blame::{Totals, Verdict};
use inferscope::cgroup::Groups;
use inferscope::clock::BootTime;
use inferscope::engine::Engines;
use inferscope::gpu::Gpus;
use inferscope::health::{Health, ProbeState, SignalState};
use inferscope::lifecycle::privileges::{Confinement, Mode, OtherCalls};
use inferscope::registry::Registries;
use inferscope::request::record::{
    FinishReasons, Identity, Incomplete, OpenRequest, OtherRoute, Outcome, Progress, RequestRecord, Route,
    Stall, Usage,
};
use inferscope::signal::latency::{LatencySignal, Options};
use inferscope::signal::{Signal as _, Tick, WorkloadState};
use inferscope::workload::{ServerKind, Workload};
use inferscope_tests::page::{self, Family, Format, Labels};

/// The agent began to run; everything is after this.
const START: BootTime = BootTime(500_000_000_000);

/// Names of the founding document that requests feed, as its expressions read them.
const FOUNDING: [&str; 6] = [
    "vllm_request_duration_seconds_bucket",
    "vllm_request_duration_seconds_sum",
    "vllm_requests_total",
    "vllm_request_errors_total",
    "inference_latency_p95_seconds",
    "prediction_confidence",
];

/// The rest of the metric contract that requests feed, without the suffixes of histograms.
const REQUEST_FAMILIES: [&str; 21] = [
    "vllm_request_duration_seconds",
    "vllm_requests_total",
    "vllm_request_errors_total",
    "inference_latency_p95_seconds",
    "vllm_time_to_first_token_seconds",
    "vllm_inter_chunk_latency_seconds",
    "vllm_time_per_output_token_seconds",
    "vllm_request_read_delay_seconds",
    "vllm_response_send_wait_seconds",
    "vllm_request_outcomes_total",
    "vllm_prompt_tokens_total",
    "vllm_generation_tokens_total",
    "vllm_requests_with_usage_total",
    "vllm_response_chunks_total",
    "vllm_responses_finished_total",
    "vllm_requests_in_flight",
    "vllm_requests_stalled",
    "vllm_cold_start_seconds",
    "gen_ai_server_request_duration",
    "gen_ai_server_time_to_first_token",
    "gen_ai_server_time_per_output_token",
];

fn after(ms: u64) -> BootTime {
    BootTime(START.0 + ms * 1_000_000)
}

fn workload(label: &str) -> Arc<Workload> {
    Arc::new(Workload {
        label: label.into(),
        kind: ServerKind::Vllm,
        namespace: Some("llm".into()),
        pod: Some("chat-0".into()),
        container: None,
        unit: None,
        started: after(1_000),
    })
}

/// A streamed answer: times in milliseconds after the start.
fn stream(arrival: u64, first_token: u64, end: u64) -> RequestRecord {
    RequestRecord {
        workload: workload("llm/chat"),
        model: "meta/llama \"3\"".into(),
        route: Route::ChatCompletions,
        identity: Identity {
            response_id: Some(format!("chatcmpl-{arrival}").into()),
            request_id: Some(format!("req-{arrival}").into()),
            trace_id: None,
        },
        socket: arrival,
        tgid: 10,
        tid: 11,
        writer_tid: 11,
        arrival: after(arrival),
        first_read: after(arrival + 2),
        read_delay: Some(Duration::from_millis(2)),
        first_token: Some(after(first_token)),
        end: after(end),
        send_wait: Duration::ZERO,
        send_wait_before: Duration::ZERO,
        status: Some(200),
        outcome: Outcome::Ok,
        streamed: true,
        chunks: 5,
        usage: Some(Usage { prompt_tokens: 30, completion_tokens: 5 }),
        finish: FinishReasons { stop: 1, ..FinishReasons::default() },
        empty: false,
        confidence: Some(0.875),
        request_bytes: 900,
        response_bytes: 1800,
        incomplete: None,
    }
}

/// An answer in one piece, without usage.
fn plain(arrival: u64, end: u64) -> RequestRecord {
    RequestRecord {
        first_token: None,
        streamed: false,
        chunks: 0,
        usage: None,
        confidence: None,
        ..stream(arrival, arrival, end)
    }
}

fn records() -> Vec<RequestRecord> {
    let none = FinishReasons::default();
    let health = Route::Other(OtherRoute::Health);
    vec![
        RequestRecord { route: health, ..plain(40_000, 40_001) },
        stream(50_000, 50_040, 50_080),
        stream(51_000, 51_030, 51_100),
        stream(52_000, 52_400, 53_150),
        RequestRecord { send_wait: Duration::from_millis(120), ..stream(54_000, 54_090, 54_500) },
        RequestRecord { finish: FinishReasons { length: 1, ..none }, ..plain(55_000, 55_150) },
        RequestRecord { finish: none, empty: true, ..plain(56_000, 56_020) },
        RequestRecord {
            status: Some(500),
            outcome: Outcome::ServerError,
            finish: none,
            ..plain(57_000, 57_004)
        },
        RequestRecord {
            status: Some(429),
            outcome: Outcome::Rejected,
            finish: none,
            ..plain(58_000, 58_001)
        },
        RequestRecord {
            outcome: Outcome::ClientAbort,
            finish: none,
            usage: None,
            ..stream(59_000, 59_050, 62_000)
        },
        RequestRecord { incomplete: Some(Incomplete::EventsLost), ..stream(60_000, 60_050, 60_900) },
        RequestRecord {
            model: "unknown".into(),
            status: Some(400),
            outcome: Outcome::ClientError,
            finish: none,
            ..plain(61_000, 61_003)
        },
    ]
}

/// GPU series of the founding document, as its expressions read them.
const FOUNDING_GPU: [&str; 4] =
    ["gpu_memory_used_bytes", "gpu_memory_total_bytes", "gpu_temperature_celsius", "gpu_utilization_percent"];

/// The agent's registries after the fixed list of records.
fn node(options: Options) -> Registries {
    let mut registries = Registries::new(options.native_histograms);
    let mut signal = LatencySignal::new(options, &mut registries, START);
    gpus::signal(&mut registries);
    predictions::signal(&mut registries);
    let state = |listening| WorkloadState {
        workload: workload("llm/chat"),
        up: true,
        listens: true,
        engine_lost: false,
        listening,
        down: None,
    };
    signal
        .on_tick(&Tick {
            now: after(2_000),
            workloads: &[state(None)],
            open: &[],
            stalls: &Totals::default(),
            groups: &Groups::default(),
            engines: &Engines::default(),
            gpus: &Gpus::default(),
            quality: &inferscope::quality::Standings::default(),
        })
        .unwrap();
    for record in records() {
        if record.streamed {
            signal.on_progress(&Progress {
                workload: record.workload.clone(),
                model: record.model.clone(),
                socket: record.socket,
                chunks: record.chunks,
                gaps: vec![Duration::from_millis(15); 4],
            });
        }
        signal.on_request(&record, &Verdict::default());
    }
    let open = |stalled| OpenRequest {
        workload: workload("llm/chat"),
        model: "meta/llama \"3\"".into(),
        arrival: after(62_000),
        first_token: None,
        request_bytes: 1000,
        tid: 1,
        stalled,
    };
    let open = [open(None), open(Some(Stall::NoResponse))];
    signal
        .on_tick(&Tick {
            now: after(63_000),
            workloads: &[state(Some(after(39_000)))],
            open: &open,
            stalls: &Totals::default(),
            groups: &Groups::default(),
            engines: &Engines::default(),
            gpus: &Gpus::default(),
            quality: &inferscope::quality::Standings::default(),
        })
        .unwrap();
    registries
}

fn text(registries: &Registries) -> String {
    String::from_utf8(registries.text().unwrap()).unwrap()
}

/// The page with its exemplars' times, which are wall time, as one number.
fn openmetrics(registries: &Registries) -> String {
    let page = String::from_utf8(registries.openmetrics().unwrap()).unwrap();
    let line = |line: &str| match line.split_once(" # {") {
        Some((_, exemplar)) => {
            let (kept, time) = line.rsplit_once(' ').unwrap();
            assert!(time.parse::<f64>().unwrap() > 1e9, "{exemplar}");
            format!("{kept} 1.0\n")
        }
        None => format!("{line}\n"),
    };
    page.lines().map(line).collect()
}

/// The page with the series of each gauge and counter in order: the library writes those of a family as they lie in a
/// table. Those of a histogram stay, for the order of their buckets counts.
fn in_order(page: &str) -> String {
    let (mut lines, mut histogram): (Vec<&str>, bool) = (Vec::new(), false);
    let mut from = 0;
    for line in page.lines() {
        if line.starts_with('#') {
            lines[from..].sort_unstable();
            histogram = line.ends_with(" histogram");
        }
        lines.push(line);
        if line.starts_with('#') || histogram {
            from = lines.len();
        }
    }
    lines[from..].sort_unstable();
    lines.join("\n") + "\n"
}

fn check_golden(name: &str, page: &str) {
    let page = in_order(page);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (number, (line, expected)) in page.lines().zip(golden.lines()).enumerate() {
        assert_eq!(line, expected, "line {} of {name}; UPDATE_GOLDEN=1 writes it anew", number + 1);
    }
    assert_eq!(page.lines().count(), golden.lines().count(), "lines of {name}");
}

#[test]
fn records_give_the_golden_text_page() {
    check_golden("metrics.txt", &text(&node(Options::default())));
}

#[test]
fn records_give_the_golden_openmetrics_page() {
    check_golden("metrics.openmetrics.txt", &openmetrics(&node(Options::default())));
}

fn all_options() -> Options {
    Options {
        duration_thresholds: vec![Duration::from_millis(120)],
        ttft_thresholds: vec![Duration::from_millis(200)],
        time_per_output_token_thresholds: Vec::new(),
        native_histograms: true,
        opentelemetry: true,
    }
}

/// Both pages of everything the agent exports, the agent's own metrics included.
fn whole_pages() -> [BTreeMap<String, Family>; 2] {
    let mut registries = node(all_options());
    let health = Health::new(&mut registries.common);
    let probe = |hook: Option<&str>| ProbeState {
        program: "socket_read".to_owned(),
        hook: hook.map(str::to_owned),
        reason: Some("because".to_owned()),
    };
    health.set_probes(vec![probe(Some("fexit/sock_recvmsg")), probe(None)]);
    health.set_signal("latency", SignalState::Ok);
    health.set_signal("gpu", SignalState::Unsupported("no \"library\"\n".to_owned()));
    let state = WorkloadState {
        workload: workload("llm/chat"),
        up: true,
        listens: true,
        engine_lost: false,
        listening: None,
        down: None,
    };
    health.set_workloads(&[state]);
    health.set_sandbox(Confinement {
        mode: Mode::Enforce,
        capabilities: vec!["CAP_BPF".to_owned()],
        lacking: Vec::new(),
        other_system_calls: OtherCalls::Refused,
        reason: None,
    });
    health.set_events("kernel", 100);
    health.set_lost("ring", "full", 1);
    health.set_program_runs("socket_read", 100, Duration::from_micros(30));
    [
        page::read(&text(&registries), Format::Text).unwrap(),
        page::read(&openmetrics(&registries), Format::OpenMetrics).unwrap(),
    ]
}

#[test]
fn an_independent_reader_accepts_both_pages_and_reads_the_same() {
    let [text, openmetrics] = whole_pages();
    let series = |page: &BTreeMap<String, Family>| -> BTreeSet<(String, String)> {
        let samples = page.values().flat_map(|family| &family.samples);
        samples
            .map(|sample| {
                let mut labels = sample.labels.clone();
                if let Some(bound) = labels.get_mut("le") {
                    // 1 in one format, 1.0 in the other.
                    *bound = bound.parse::<f64>().unwrap().to_string();
                }
                (sample.name.clone(), format!("{labels:?}"))
            })
            .collect()
    };
    assert_eq!(series(&text), series(&openmetrics));
    let exemplars = openmetrics.values().flat_map(|f| &f.samples).filter(|s| s.exemplar.is_some()).count();
    assert!(exemplars > 10, "{exemplars} exemplars");
}

#[test]
fn every_name_of_the_contract_that_requests_feed_is_on_the_page() {
    let [text, _] = whole_pages();
    let samples: BTreeSet<&str> =
        text.values().flat_map(|family| &family.samples).map(|sample| sample.name.as_str()).collect();
    for name in FOUNDING.into_iter().chain([
        "vllm_workload_up",
        "inferscope_http_requests_total",
        "inferscope_build_info",
        "inferscope_workload_info",
        "inferscope_signal_state",
        "inferscope_hook_info",
        "inferscope_sandbox_info",
        "inferscope_events_total",
        "inferscope_events_lost_total",
        "inferscope_parse_failures_total",
        "inferscope_program_run_seconds_total",
        "inferscope_program_runs_total",
        "inferscope_records_incomplete_total",
        "process_cpu_seconds_total",
    ]) {
        assert!(samples.contains(name), "{name} has a sample");
    }
    for name in REQUEST_FAMILIES {
        assert!(text.get(name).is_some_and(|family| !family.samples.is_empty()), "{name} is on the page");
    }
}

#[test]
fn the_founding_names_of_gpus_have_a_value_for_each_that_answers() {
    let [text, _] = whole_pages();
    let uuids = |name: &str| -> Vec<String> {
        text[name].samples.iter().map(|sample| sample.labels["uuid"].clone()).collect()
    };
    for name in FOUNDING_GPU {
        let expected: &[&str] =
            if name.contains("_memory_") { &["GPU-0", "MIG-1", "MIG-2"] } else { &["GPU-0"] };
        assert_eq!(uuids(name), expected, "{name}");
    }
    assert_eq!(uuids("gpu_info"), ["GPU-0", "GPU-1", "GPU-2"]);
}

#[test]
fn no_model_has_half_its_families() {
    let [text, _] = whole_pages();
    let pair = |labels: &Labels| (labels["model"].clone(), labels["workload"].clone());
    let pairs_of = |name: &str| -> BTreeSet<(String, String)> {
        text[name].samples.iter().map(|sample| pair(&sample.labels)).collect()
    };
    let expected = pairs_of("vllm_requests_total");
    assert_eq!(expected.len(), 2);
    // A cold start is of the model that answered first, and only where it was seen.
    for name in REQUEST_FAMILIES.into_iter().filter(|name| *name != "vllm_cold_start_seconds") {
        assert_eq!(pairs_of(name), expected, "pairs of {name}");
    }
}

#[test]
fn the_founding_ratios_have_the_same_labels_on_both_sides() {
    let [text, _] = whole_pages();
    let labels = |name: &str| -> Vec<Labels> {
        let mut labels: Vec<_> = text[name].samples.iter().map(|sample| sample.labels.clone()).collect();
        labels.sort();
        labels
    };
    assert_eq!(labels("vllm_request_errors_total"), labels("vllm_requests_total"));
    let value = |name: &str, model: &str| {
        let mut samples = text[name].samples.iter();
        samples.find(|sample| sample.labels["model"] == model).unwrap().value
    };
    let model = "meta/llama \"3\"";
    assert_eq!(value("vllm_requests_total", model), 10.0);
    assert_eq!(value("vllm_request_errors_total", model), 2.0);
    assert_eq!(value("vllm_requests_total", "unknown"), 1.0);
}

#[test]
fn only_openmetrics_names_single_requests() {
    let registries = node(all_options());
    assert!(openmetrics(&registries).contains("request_id=\"req-50000\""));
    assert!(!text(&registries).contains("req-50000"));
}
