//! Does a real Prometheus read the agent, and do the founding expressions have data in it?
//!
//! Needs root, the agent's binary, and Prometheus of two generations with their promtool, which
//! `cargo xtask setup` unpacks: Debian 12's reads OpenMetrics, a 3.x protobuf with native histograms.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use inferscope_tests::client::{self, Options};
use inferscope_tests::harness::{AgentProcess, ServerProcess};
use inferscope_tests::oracle::AgentRecord;
use inferscope_tests::prometheus::{Element, Prometheus, version};
use inferscope_tests::socket::Endpoint;
use inferscope_tests::stage::{Stage, metrics_text, records_when, until};

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");

/// All requests of model `steady` take about this long, which classic buckets do not show: the bounds beside
/// it are 0.15 and 0.25.
const STEADY_SCRIPT: &str = r#"{"head_after_us": 160000, "first_after_us": 5000}"#;
const STEADY_REQUESTS: usize = 90;
const MIXED_REQUESTS: usize = 60;

/// Whatever is waited for comes in this time, or not at all.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// The founding document's expressions on latency, GPUs, drift, accuracy and MMLU, verbatim; alerts without their comparison, but for those whose
/// threshold the simulated GPUs are beyond.
const FOUNDING: [&str; 27] = [
    "histogram_quantile(0.50, rate(vllm_request_duration_seconds_bucket[5m]))",
    "histogram_quantile(0.95, rate(vllm_request_duration_seconds_bucket[5m]))",
    "histogram_quantile(0.99, rate(vllm_request_duration_seconds_bucket[5m]))",
    "histogram_quantile(0.95, rate(vllm_request_duration_seconds_bucket[5m])) * 1000",
    "rate(vllm_requests_total[5m])",
    "sum(rate(vllm_request_duration_seconds_sum[5m])) by (model) / sum(rate(vllm_requests_total[5m])) by (model)",
    "rate(vllm_request_errors_total[5m]) / rate(vllm_requests_total[5m])",
    "prediction_confidence",
    "avg(prediction_confidence)",
    "avg(prediction_confidence) by (model)",
    "inference_latency_p95_seconds",
    "rate(inference_latency_p95_seconds[1h])",
    "rate(inference_latency_p95_seconds[5m])",
    "deriv(inference_latency_p95_seconds[1h])",
    "rate(model_correct_predictions_total[1h]) / rate(model_total_predictions_total[1h])",
    "rate(false_positives_total[1h]) / rate(total_predictions[1h])",
    "model_validation_accuracy",
    "kolmogorov_smirnov_test_p_value",
    "model_drift_score",
    "mmlu_benchmark_score",
    "model_accuracy",
    "gpu_memory_used_bytes / gpu_memory_total_bytes",
    "gpu_temperature_celsius",
    "gpu_utilization_percent",
    "gpu_temperature_celsius > 80",
    "(gpu_memory_used_bytes / gpu_memory_total_bytes) > 0.9",
    "(gpu_memory_used_bytes / gpu_memory_total_bytes) > 0.95",
];

/// Of objectives and costs.
const OURS: [&str; 4] = [
    "sum by (objective) (rate(slo_good_requests_total[5m])) / sum by (objective) (rate(slo_requests_total[5m]))",
    "slo_objective_ratio",
    "sum(rate(cost_idle_total[1m])) * 3600",
    "cost_currency_info",
];

/// One GPU that is hot and full, and one that is neither.
const GPUS: &str = r#"
[[gpu]]
model = "h100"
temperature_celsius = 84
memory_used_gib = 77.5
[[gpu]]
model = "h100"
temperature_celsius = 45
memory_used_gib = 1
"#;

/// Agent and server, watched.
struct Scene {
    stage: Stage,
    server: ServerProcess,
    agent: AgentProcess,
}

impl Scene {
    fn start(stage: Stage, native_histograms: bool) -> Self {
        let server = stage.start_server(&["--script", STEADY_SCRIPT]).unwrap();
        let library = nvml_sim::install(stage.path(), GPUS).unwrap().library;
        let settings = format!(
            "{}[export]\nnative_histograms = {native_histograms}\n[cost]\ngpu_hour = 2.5\n[gpu]\nlibrary = \"{}\"\n{}",
            stage.rule(),
            library.display(),
            predictions(stage.path())
        );
        let agent = stage.start_agent(&settings).unwrap();
        Self { stage, server, agent }
    }

    /// Requests of two models for some seconds, so that several scrapes see them; the records of them all.
    fn load(&self) -> Vec<AgentRecord> {
        let options = |model: &str, requests, rate, mix: &str, scenarios: &[&str]| Options {
            requests,
            rate: Some(rate),
            concurrency: 32,
            mix: mix.parse().unwrap(),
            models: vec![model.to_owned()],
            scenarios: scenarios.iter().map(|name| (*name).to_owned()).collect(),
            ..Options::new(self.server.endpoint.clone())
        };
        let steady = options("steady", STEADY_REQUESTS, 18.0, "chat-whole", &[]);
        let mixed = options(
            "mixed",
            MIXED_REQUESTS,
            12.0,
            "logprobs-stream,logprobs-whole,chat-stream-usage",
            &["python", "rust", "server-error"],
        );
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (steady, mixed) = runtime
            .block_on(async { tokio::join!(client::run(&steady, |_| ()), client::run(&mixed, |_| ())) });
        assert_eq!([steady.unwrap().failures, mixed.unwrap().failures].concat(), Vec::<String>::new());
        let count = STEADY_REQUESTS + MIXED_REQUESTS;
        let records = records_when(&self.agent, WAIT_MAX, |records| records.len() >= count).unwrap();
        assert_eq!(records.len(), count);
        // A second version, which is what the rates of counters show.
        replace_predictions(self.stage.path(), "a2_bool_i4");
        records
    }

    fn stop(self) {
        self.agent.stop().unwrap();
        self.server.stop().unwrap();
    }
}

/// A model's files, and the entry that names them.
fn predictions(folder: &Path) -> String {
    replace_predictions(folder, "a3_prob_vs_label");
    let vector = |name: &str| format!("{}/drift-vectors/{name}.npy", env!("CARGO_MANIFEST_DIR"));
    format!(
        "[[drift.files]]\nmodel = \"granite\"\nbaseline = \"{}\"\nrecent = \"{}\"\ntruth = \"{}\"\n\
         validation = \"{}\"\nvalidation_truth = \"{}\"\ninterval = \"1s\"\n\
         [mmlu]\nresults = [{{ model = \"granite\", path = \"{}/mmlu-examples/full-57\" }}]\n",
        vector("good/10_bool.baseline"),
        folder.join("recent.npy").display(),
        folder.join("truth.npy").display(),
        vector("accuracy/a1_i4_i8.pred"),
        vector("accuracy/a1_i4_i8.truth"),
        env!("CARGO_MANIFEST_DIR"),
    )
}

/// As somebody who replaces files at once, the truth first.
fn replace_predictions(folder: &Path, pair: &str) {
    for (side, name) in [("truth", "truth.npy"), ("pred", "recent.npy")] {
        let vector = format!("{}/drift-vectors/accuracy/{pair}.{side}.npy", env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(vector, folder.join("new.npy")).unwrap();
        std::fs::rename(folder.join("new.npy"), folder.join(name)).unwrap();
    }
}

/// One scrape job, with further lines of its own.
fn scrape_config(agent: &AgentProcess, more: &str) -> String {
    format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n- job_name: inferscope\n{more}  \
         static_configs:\n  - targets: [\"{}\"]\n",
        agent.listen
    )
}

/// Waits until an expression has an element that is right.
fn wait_for(prometheus: &Prometheus, expression: &str, right: impl Fn(&Element) -> bool) -> Element {
    let found = until(WAIT_MAX, || prometheus.query(expression).unwrap().into_iter().find(&right));
    found.unwrap_or_else(|| panic!("{expression}: {:?}", prometheus.query(expression)))
}

fn wait_until_up(prometheus: &Prometheus) {
    wait_for(prometheus, "up", |element| element.value == Some(1.0));
}

/// Every founding expression has a number.
fn check_founding(prometheus: &Prometheus) {
    for expression in FOUNDING.into_iter().chain(OURS) {
        wait_for(prometheus, expression, |element| element.value.is_some_and(f64::is_finite));
    }
    let value = |expression: &str| {
        wait_for(prometheus, expression, |element| element.value.is_some_and(f64::is_finite)).value.unwrap()
    };
    // A third of them, as scripted.
    let errors = "rate(vllm_request_errors_total[5m]) / rate(vllm_requests_total[5m])";
    let share = wait_for(prometheus, errors, |element| element.labels["model"] == "mixed").value.unwrap();
    assert!((0.2..0.5).contains(&share), "error rate {share}");
    let rate = value("sum(increase(vllm_requests_total{model=\"steady\"}[5m]))");
    assert!(rate > 10.0, "{rate} requests in five minutes");
    let mean = value(
        "sum(rate(vllm_request_duration_seconds_sum{model=\"steady\"}[5m])) \
         / sum(rate(vllm_requests_total{model=\"steady\"}[5m]))",
    );
    assert!((0.16..0.3).contains(&mean), "mean of the steady ones {mean}");
    // The other one is not beyond any threshold.
    let full = prometheus.query("(gpu_memory_used_bytes / gpu_memory_total_bytes) > 0.9").unwrap();
    assert_eq!(full.len(), 1, "{full:?}");
    let accuracy = "rate(model_correct_predictions_total[1h]) / rate(model_total_predictions_total[1h])";
    assert!((value(accuracy) - 0.9475).abs() < 1e-9, "of the second version alone");
    // Whatever was scraped was read whole, every time.
    assert_eq!(value("min_over_time(up[5m])"), 1.0);
}

#[test]
fn promtool_has_no_complaint_about_the_live_page() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let tools = ["prometheus-2/promtool", "prometheus-3/promtool"].map(|tool| stage.tool(tool));
    let [Some(old), Some(new)] = tools else { return };
    let scene = Scene::start(stage, false);
    scene.load();
    let page = metrics_text(&scene.agent).unwrap();
    assert!(page.contains("vllm_requests_total{"), "{page}");
    for promtool in [old, new] {
        check_metrics(&promtool, &page);
    }
    scene.stop();
}

fn check_metrics(promtool: &Path, page: &str) {
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{}: {said}", promtool.display());
}

/// What `docs/vllm-names.md` says to do with vLLM's own names does it.
#[test]
fn names_of_the_servers_own_page_are_made_others_as_documented() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let Some(binary) = stage.tool("prometheus-2/prometheus") else { return };
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/vllm-names.md")).unwrap();
    let block = |begin: &str| {
        let lines = text.lines().skip_while(|line| line.trim_end() != format!("    {begin}"));
        let lines = lines.take_while(|line| line.starts_with("    ")).map(|line| &line[4..]);
        lines.collect::<Vec<_>>().join("\n") + "\n"
    };
    let server = stage.start_server(&[]).unwrap();
    let Endpoint::Tcp(address) = server.endpoint else { panic!("{:?}", server.endpoint) };
    let beside = block("scrape_configs:").replace("127.0.0.1:8000", &address.to_string());
    let relabel = block("metric_relabel_configs:").replace('\n', "\n    ");
    let targets = format!("    static_configs:\n      - targets: [\"{address}\"]");
    let alone = format!("  - job_name: alone\n{targets}\n    {relabel}");
    let config =
        format!("global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n{beside}{}\n", alone.trim_end());
    let prometheus = Prometheus::start(&binary, stage.path(), &config, &[]).unwrap();
    wait_for(&prometheus, "vllm_engine_time_to_first_token_seconds_count{job=\"vllm\"}", |_| true);
    wait_for(&prometheus, "vllm_time_to_first_token_seconds_count{job=\"alone\", source=\"engine\"}", |_| {
        true
    });
    assert_eq!(prometheus.query("{__name__=~\"vllm:.*\"}").unwrap(), []);
    prometheus.stop().unwrap();
    server.stop().unwrap();
}

#[test]
fn founding_expressions_have_data_in_the_prometheus_of_debian_12() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let Some(binary) = stage.tool("prometheus-2/prometheus") else { return };
    let scene = Scene::start(stage, false);
    let config = scrape_config(&scene.agent, "");
    let prometheus = Prometheus::start(&binary, scene.stage.path(), &config, &[]).unwrap();
    wait_until_up(&prometheus);
    scene.load();
    check_founding(&prometheus);
    // This one keeps bounds as it reads them: `1` would be text 0.0.4.
    wait_for(&prometheus, "vllm_request_duration_seconds_bucket{le=\"1.0\"}", |_| true);
    assert_eq!(prometheus.query("vllm_request_duration_seconds_bucket{le=\"1\"}").unwrap(), []);
    prometheus.stop().unwrap();
    scene.stop();
}

#[test]
fn prometheus_3_reads_native_and_classic_histograms_side_by_side() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let Some(binary) = stage.tool("prometheus-3/prometheus") else { return };
    let scene = Scene::start(stage, true);
    let (flags, more): (&[&str], &str) = if version(&binary).unwrap() < (3, 9) {
        (&["--enable-feature=native-histograms"], "")
    } else {
        (&[], "  scrape_native_histograms: true\n")
    };
    let more = format!("  always_scrape_classic_histograms: true\n{more}");
    let config = scrape_config(&scene.agent, &more);
    let prometheus = Prometheus::start(&binary, scene.stage.path(), &config, flags).unwrap();
    wait_until_up(&prometheus);
    let records = scene.load();
    check_founding(&prometheus);

    // Only protobuf carries these.
    wait_for(&prometheus, "vllm_request_duration_seconds{model=\"steady\"}", |one| one.value.is_none());
    let truth = quantile_95(&records);
    let quantile = |series: &str| {
        let expression = format!("histogram_quantile(0.95, rate({series}[1m]))");
        let steady = |element: &Element| element.labels["model"] == "steady";
        wait_for(&prometheus, &expression, steady).value.unwrap()
    };
    let native = quantile("vllm_request_duration_seconds");
    let classic = quantile("vllm_request_duration_seconds_bucket");
    println!("p95 of the steady ones: true {truth:.4} s, native {native:.4} s, classic {classic:.4} s");
    assert!((native - truth).abs() < 0.1 * truth, "native {native}, true {truth}");
    assert!((native - truth).abs() < (classic - truth).abs(), "classic {classic}, true {truth}");
    prometheus.stop().unwrap();
    scene.stop();
}

/// Of the durations of model `steady`, as the agent measured each.
fn quantile_95(records: &[AgentRecord]) -> f64 {
    let steady = records.iter().filter(|record| record.model.as_deref() == Some("steady"));
    let mut durations: Vec<f64> = steady.map(|record| record.duration_seconds).collect();
    durations.sort_by(f64::total_cmp);
    durations[durations.len() * 95 / 100]
}
