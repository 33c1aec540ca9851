//! Is it well? States of signals and probes, and the agent's own metrics.
//!
//! In: what the pipeline finds out, totals as the kernel counts them. Out: the `inferscope_*` and
//! `process_*` families, and the reports behind `/healthz` and `/readyz`. Judges nothing it is not told.

mod agent;
mod endpoint;
mod process;
mod report;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

pub use self::agent::AgentReport;
use self::endpoint::Endpoint;
pub use self::endpoint::{HandshakeFailure, Unauthorized};
use self::process::CpuTime;
pub use self::report::{HealthReport, ProbeReport, Readiness, SignalReport, Status, WorkloadReport};
use crate::clock::BootTime;
use crate::lifecycle::privileges::Confinement;
use crate::registry::totals::{SecondsTotals, Totals};
use crate::request::record::ParseFailure;
use crate::signal::WorkloadState;
use crate::workload::ServerKind;

/// How a signal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignalState {
    Ok,
    /// By configuration.
    Disabled,
    /// This machine cannot: why.
    Unsupported(String),
    /// It should work and does not: why.
    Failed(String),
}

impl SignalState {
    /// Every value of the label `state`.
    pub const LABELS: [&'static str; 4] = ["ok", "disabled", "unsupported", "failed"];

    /// Value of the label `state`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Disabled => "disabled",
            Self::Unsupported(_) => "unsupported",
            Self::Failed(_) => "failed",
        }
    }

    /// Why it is not `ok`, where there is more to say than the state.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Ok | Self::Disabled => None,
            Self::Unsupported(reason) | Self::Failed(reason) => Some(reason),
        }
    }
}

/// One kernel program, and the hook it is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeState {
    pub program: String,
    /// `None` where it is not attached.
    pub hook: Option<String>,
    /// Why it is not attached, or only to a fallback.
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignalLabels {
    signal: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    signal: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HookLabels {
    program: String,
    hook: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SandboxLabels {
    mode: &'static str,
    other_system_calls: &'static str,
    capabilities: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LostLabels {
    stage: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TableLabels {
    table: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProgramLabels {
    program: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkloadLabels {
    workload: Arc<str>,
    kind: &'static str,
    // Empty where the workload has none, which Prometheus reads as no label.
    namespace: Arc<str>,
    pod: Arc<str>,
    container: Arc<str>,
    unit: Arc<str>,
}

/// The library has no set of labels without labels.
type NoLabels = [(&'static str, &'static str); 0];
const NO_LABELS: NoLabels = [];

/// A handle on the agent's health; clones are the same.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    signals: Mutex<BTreeMap<&'static str, SignalState>>,
    probes: Mutex<Vec<ProbeState>>,
    workloads: Mutex<Vec<WorkloadState>>,
    sandbox: Mutex<Option<Confinement>>,
    attached: AtomicBool,
    scanned: AtomicBool,
    /// Boot time of the newest tick, 0 before the first.
    ticked: AtomicU64,
    started: BootTime,
    cpu: Mutex<CpuTime>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Metrics {
    signal_state: Family<SignalLabels, Gauge>,
    signal_failures: Family<FailureLabels, Counter>,
    hook_info: Family<HookLabels, Gauge>,
    sandbox_info: Family<SandboxLabels, Gauge>,
    workload_info: Family<WorkloadLabels, Gauge>,
    events: Totals<StageLabels>,
    lost: Totals<LostLabels>,
    parse_failures: Totals<ReasonLabels>,
    program_runs: Totals<ProgramLabels>,
    program_seconds: SecondsTotals<ProgramLabels>,
    entries: Family<TableLabels, Gauge>,
    model_overflow: Totals<NoLabels>,
    endpoint: Endpoint,
    scrapes: Counter,
    ticks: Counter,
    scrape_seconds: Gauge<f64, AtomicU64>,
}

impl Health {
    /// Registers the agent's own metrics; nothing is attached or scanned yet.
    pub fn new(registry: &mut Registry) -> Self {
        let inner = Inner { started: BootTime::now(), ..Inner::default() };
        for failure in ParseFailure::ALL {
            inner.metrics.parse_failures.set(&ReasonLabels { reason: failure.label() }, 0);
        }
        inner.metrics.model_overflow.set(&NO_LABELS, 0);
        inner.metrics.register(registry);
        process::register(registry);
        Self(Arc::new(inner))
    }

    /// How `signal` is from now on.
    pub fn set_signal(&self, signal: &'static str, state: SignalState) {
        for label in SignalState::LABELS {
            let labels = SignalLabels { signal, state: label };
            let gauge = self.0.metrics.signal_state.get_or_create(&labels);
            gauge.set((label == state.label()).into());
        }
        // From the start at 0, so that its rate is known at the first failure.
        drop(self.0.metrics.signal_failures.get_or_create(&FailureLabels { signal }));
        lock(&self.0.signals).insert(signal, state);
    }

    /// A tick of `signal` failed.
    pub fn count_signal_failure(&self, signal: &'static str) {
        self.0.metrics.signal_failures.get_or_create(&FailureLabels { signal }).inc();
    }

    /// The kernel programs, attached or not, once that is settled.
    pub fn set_probes(&self, probes: Vec<ProbeState>) {
        let hooks = &self.0.metrics.hook_info;
        hooks.clear();
        for probe in &probes {
            if let Some(hook) = &probe.hook {
                let labels = HookLabels { program: probe.program.clone(), hook: hook.clone() };
                hooks.get_or_create(&labels).set(1);
            }
        }
        self.0.attached.store(probes.iter().any(|probe| probe.hook.is_some()), Ordering::Relaxed);
        *lock(&self.0.probes) = probes;
    }

    /// What the agent may still do, once it has given up the rest.
    pub fn set_sandbox(&self, confinement: Confinement) {
        let labels = SandboxLabels {
            mode: confinement.mode.label(),
            other_system_calls: confinement.other_system_calls.label(),
            capabilities: confinement.capabilities.join(","),
        };
        self.0.metrics.sandbox_info.get_or_create(&labels).set(1);
        *lock(&self.0.sandbox) = Some(confinement);
    }

    /// The first look for workloads is done, whatever it found.
    pub fn set_scanned(&self) {
        self.0.scanned.store(true, Ordering::Relaxed);
    }

    /// The pipeline is alive at `now`.
    pub fn tick(&self, now: BootTime) {
        self.0.ticked.store(now.0, Ordering::Relaxed);
        self.0.metrics.ticks.inc();
        lock(&self.0.cpu).look(now);
    }

    /// The workloads as they are.
    pub fn set_workloads(&self, workloads: &[WorkloadState]) {
        let mut kept = lock(&self.0.workloads);
        let family = &self.0.metrics.workload_info;
        let new: Vec<_> = workloads.iter().map(WorkloadLabels::of).collect();
        for gone in kept.iter().map(WorkloadLabels::of).filter(|labels| !new.contains(labels)) {
            family.remove(&gone);
        }
        for labels in &new {
            family.get_or_create(labels).set(1);
        }
        *kept = workloads.to_vec();
    }

    /// Events that passed `stage`, in all.
    pub fn set_events(&self, stage: &'static str, total: u64) {
        self.0.metrics.events.set(&StageLabels { stage }, total);
    }

    /// Events that were lost at `stage` for `reason`, in all.
    pub fn set_lost(&self, stage: &'static str, reason: &'static str, total: u64) {
        self.0.metrics.lost.set(&LostLabels { stage, reason }, total);
    }

    /// What was not understood, in all.
    pub fn set_parse_failures(&self, failure: ParseFailure, total: u64) {
        self.0.metrics.parse_failures.set(&ReasonLabels { reason: failure.label() }, total);
    }

    /// Runs of a kernel program and the time they took, in all, as far as they were sampled.
    pub fn set_program_runs(&self, program: &str, runs: u64, time: Duration) {
        let labels = ProgramLabels { program: program.to_owned() };
        self.0.metrics.program_runs.set(&labels, runs);
        self.0.metrics.program_seconds.set(&labels, time);
    }

    /// Entries that a table has now.
    pub fn set_entries(&self, table: &'static str, entries: usize) {
        self.0.metrics.entries.get_or_create(&TableLabels { table }).set(entries as i64);
    }

    /// Requests whose model had no label of its own, in all.
    pub fn set_model_overflow(&self, total: u64) {
        self.0.metrics.model_overflow.set(&NO_LABELS, total);
    }

    /// A page was encoded in this time.
    pub fn scraped(&self, time: Duration) {
        self.0.metrics.scrapes.inc();
        self.0.metrics.scrape_seconds.set(time.as_secs_f64());
    }

    /// An HTTP connection was refused: one too many.
    pub fn refuse_connection(&self) {
        self.0.metrics.endpoint.refuse_connection();
    }

    /// A TLS handshake led to nothing.
    pub fn fail_handshake(&self, failure: HandshakeFailure) {
        self.0.metrics.endpoint.fail_handshake(failure);
    }

    /// An HTTP request was not answered for want of a token or password.
    pub fn refuse_request(&self, refusal: Unauthorized) {
        self.0.metrics.endpoint.refuse_request(refusal);
    }

    /// The workloads, for the API.
    #[must_use]
    pub fn workloads(&self) -> Vec<WorkloadReport> {
        lock(&self.0.workloads).iter().map(WorkloadReport::of).collect()
    }

    /// What `/healthz` says at `now`.
    #[must_use]
    pub fn report(&self, now: BootTime) -> HealthReport {
        let ticked = BootTime(self.0.ticked.load(Ordering::Relaxed));
        let sandbox = lock(&self.0.sandbox).clone();
        HealthReport::of(now, ticked, &lock(&self.0.signals), &lock(&self.0.probes), sandbox)
    }

    /// What `/readyz` says.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        Readiness::of(self.0.attached.load(Ordering::Relaxed), self.0.scanned.load(Ordering::Relaxed))
    }
}

impl Metrics {
    /// Names are without what the library adds: unit, `_total`, `_info` of an info, the final full stop.
    fn register(&self, registry: &mut Registry) {
        // First on the page: what stands behind it is at least as new.
        let help = "Ticks of the agent, one a second; its counters of itself are those of the newest";
        registry.register("inferscope_ticks", help, self.ticks.clone());
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("inferscope_build", "Version of the agent", build);
        let help = "Where a workload runs; join it by the label workload";
        registry.register("inferscope_workload_info", help, self.workload_info.clone());
        let help = "State of each signal: 1 for the state it is in";
        registry.register("inferscope_signal_state", help, self.signal_state.clone());
        let help = "Ticks that a signal missed by an error";
        registry.register("inferscope_signal_failures", help, self.signal_failures.clone());
        let help = "Hook that each kernel program is attached to";
        registry.register("inferscope_hook_info", help, self.hook_info.clone());
        let help = "What the agent is confined to";
        registry.register("inferscope_sandbox_info", help, self.sandbox_info.clone());
        let help = "Events that passed each stage from the kernel to the records";
        registry.register("inferscope_events", help, self.events.family());
        let help = "Events that were lost, by stage and reason";
        registry.register("inferscope_events_lost", help, self.lost.family());
        let help = "Bytes, events or connections that were not understood, by reason";
        registry.register("inferscope_parse_failures", help, self.parse_failures.family());
        let help = "Sampled runs of each kernel program";
        registry.register("inferscope_program_runs", help, self.program_runs.family());
        let help = "Time of the sampled runs of each kernel program";
        let seconds = self.program_seconds.family();
        registry.register_with_unit("inferscope_program_run", help, Unit::Seconds, seconds);
        let help = "Threads and processes of servers that are followed";
        registry.register("inferscope_table_entries", help, self.entries.clone());
        let help = "Requests whose model was counted as other, for want of a label of its own";
        registry.register("inferscope_model_label_overflow", help, self.model_overflow.family());
        self.endpoint.register(registry);
        registry.register("inferscope_scrapes", "Pages encoded", self.scrapes.clone());
        let help = "Time that encoding the previous page took";
        let scrape = self.scrape_seconds.clone();
        registry.register_with_unit("inferscope_scrape_duration", help, Unit::Seconds, scrape);
    }
}

impl WorkloadLabels {
    fn of(state: &WorkloadState) -> Self {
        let workload = &state.workload;
        let or_empty = |value: &Option<Arc<str>>| value.clone().unwrap_or_default();
        Self {
            workload: workload.label.clone(),
            kind: kind_label(workload.kind),
            namespace: or_empty(&workload.namespace),
            pod: or_empty(&workload.pod),
            container: or_empty(&workload.container),
            unit: or_empty(&workload.unit),
        }
    }
}

/// Value of the label `kind`.
fn kind_label(kind: ServerKind) -> &'static str {
    match kind {
        ServerKind::Vllm => "vllm",
        ServerKind::Sglang => "sglang",
        ServerKind::LlamaCpp => "llama_cpp",
        ServerKind::RhelAi => "rhel_ai",
        ServerKind::OpenAi => "openai",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text;

    use super::*;
    use crate::workload::Workload;

    fn page(registry: &Registry) -> String {
        let mut page = String::new();
        prometheus_text::encode(&mut page, registry).unwrap();
        page
    }

    fn check(page: &str, lines: &[&str]) {
        for line in lines {
            assert!(page.lines().any(|other| other == *line), "{line} on {page}");
        }
    }

    fn workload(label: &str, pod: Option<&str>) -> WorkloadState {
        let workload = Workload {
            label: label.into(),
            kind: ServerKind::Vllm,
            namespace: None,
            pod: pod.map(Arc::from),
            container: None,
            unit: Some("vllm.service".into()),
            started: BootTime(1),
        };
        WorkloadState {
            workload: Arc::new(workload),
            up: true,
            listens: true,
            engine_lost: false,
            listening: None,
            down: None,
        }
    }

    #[test]
    fn a_signal_is_in_one_state_at_a_time() {
        let mut registry = Registry::default();
        let health = Health::new(&mut registry);
        health.set_signal("gpu", SignalState::Failed("call of 4 s".to_owned()));
        health.set_signal("gpu", SignalState::Ok);
        health.count_signal_failure("gpu");
        check(
            &page(&registry),
            &[
                r#"inferscope_signal_state{signal="gpu",state="ok"} 1"#,
                r#"inferscope_signal_state{signal="gpu",state="failed"} 0"#,
                r#"inferscope_signal_state{signal="gpu",state="disabled"} 0"#,
                r#"inferscope_signal_failures_total{signal="gpu"} 1"#,
            ],
        );
    }

    #[test]
    fn a_failed_signal_degrades_and_a_pipeline_that_stops_is_stuck() {
        let health = Health::new(&mut Registry::default());
        let now = BootTime(100_000_000_000);
        let status = |now| health.report(now).status;
        assert_eq!(status(now), Status::Starting);
        health.tick(now);
        health.set_signal("gpu", SignalState::Unsupported("no library".to_owned()));
        assert_eq!(status(now), Status::Ok);
        health.set_signal("stall", SignalState::Failed("no table".to_owned()));
        assert_eq!(status(now), Status::Degraded);
        let report = health.report(now);
        assert_eq!(report.signals[1].reason.as_deref(), Some("no table"));
        assert!(report.is_alive());
        let late = BootTime(now.0 + report::STUCK.as_nanos() as u64 + 1);
        assert_eq!(status(late), Status::Stuck);
        assert!(!health.report(late).is_alive());
    }

    #[test]
    fn programs_without_a_hook_are_reported_and_have_no_series() {
        let mut registry = Registry::default();
        let health = Health::new(&mut registry);
        let probe = |program: &str, hook: Option<&str>, reason: Option<&str>| ProbeState {
            program: program.to_owned(),
            hook: hook.map(str::to_owned),
            reason: reason.map(str::to_owned),
        };
        health.set_probes(vec![probe("socket_read", None, Some("lockdown"))]);
        health.set_scanned();
        assert!(!health.readiness().ready);
        health.set_probes(vec![
            probe("socket_read", Some("tp_btf/sock_recv_length"), None),
            probe("socket_arrival", None, Some("no such function")),
        ]);
        assert!(health.readiness().ready);
        let page = page(&registry);
        check(&page, &[r#"inferscope_hook_info{program="socket_read",hook="tp_btf/sock_recv_length"} 1"#]);
        assert!(!page.contains("socket_arrival"));
        assert_eq!(health.report(BootTime(1)).probes[1].reason.as_deref(), Some("no such function"));
    }

    #[test]
    fn workloads_that_go_take_their_series_along() {
        let mut registry = Registry::default();
        let health = Health::new(&mut registry);
        health.set_workloads(&[workload("a", Some("pod-1")), workload("b", None)]);
        health.set_workloads(&[workload("a", Some("pod-2"))]);
        let page = page(&registry);
        let labels = r#"workload="a",kind="vllm",namespace="",pod="pod-2",container="",unit="vllm.service""#;
        check(&page, &[&format!("inferscope_workload_info{{{labels}}} 1")]);
        assert_eq!(page.matches("inferscope_workload_info{").count(), 1);
        assert_eq!(health.workloads().len(), 1);
    }

    #[test]
    fn totals_and_reasons_are_on_the_page() {
        let mut registry = Registry::default();
        let health = Health::new(&mut registry);
        health.set_events("kernel", 10);
        health.set_lost("ring", "full", 2);
        health.set_parse_failures(ParseFailure::Http2, 3);
        health.set_program_runs("socket_read", 1000, Duration::from_micros(250));
        health.set_model_overflow(4);
        health.tick(BootTime(1));
        health.scraped(Duration::from_millis(2));
        let page = page(&registry);
        check(
            &page,
            &[
                &format!("inferscope_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
                r#"inferscope_events_total{stage="kernel"} 10"#,
                r#"inferscope_events_lost_total{stage="ring",reason="full"} 2"#,
                r#"inferscope_parse_failures_total{reason="http2"} 3"#,
                r#"inferscope_parse_failures_total{reason="no_bytes"} 0"#,
                r#"inferscope_program_runs_total{program="socket_read"} 1000"#,
                r#"inferscope_program_run_seconds_total{program="socket_read"} 0.00025"#,
                "inferscope_model_label_overflow_total 4",
                "inferscope_ticks_total 1",
                "inferscope_scrape_duration_seconds 0.002",
            ],
        );
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_start_time_seconds",
            "process_open_fds",
        ] {
            let value = page.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            assert!(value.trim().parse::<f64>().unwrap() >= 0.0, "{name}{value}");
        }
    }

    #[test]
    fn the_agents_page_says_what_its_metrics_say() {
        let mut registry = Registry::default();
        let health = Health::new(&mut registry);
        for (stage, total) in [("socket_taken", 9), ("socket_seen", 10), ("socket_taken", 12)] {
            health.set_events(stage, total);
        }
        health.set_lost("socket_ring", "full", 2);
        health.set_lost("connection", "evicted", 0);
        let attached = |program: &str, hook: Option<&str>| ProbeState {
            program: program.to_owned(),
            hook: hook.map(str::to_owned),
            reason: Some("no such function".to_owned()),
        };
        health.set_probes(vec![
            attached("socket_read", Some("fexit/tcp_recvmsg")),
            attached("unix_close", None),
        ]);
        let now = BootTime::now();
        health.tick(now);
        let page = serde_json::to_value(health.agent(now)).unwrap();
        assert_eq!(
            page["events"],
            serde_json::json!([{"stage": "socket_seen", "total": 10}, {"stage": "socket_taken", "total": 12}])
        );
        assert_eq!(
            page["events_lost"],
            serde_json::json!([
                {"stage": "connection", "reason": "evicted", "total": 0},
                {"stage": "socket_ring", "reason": "full", "total": 2},
            ])
        );
        let missing = serde_json::json!([{"program": "unix_close", "reason": "no such function"}]);
        assert_eq!((&page["hooks_missing"], &page["sandbox"]), (&missing, &serde_json::Value::Null));
        assert_eq!(
            (page["version"].as_str(), page["status"].as_str()),
            (Some(env!("CARGO_PKG_VERSION")), Some("ok"))
        );
        assert!(
            page["uptime_seconds"].as_f64().unwrap() < 60.0 && page["unix_seconds"].as_f64().unwrap() > 1e9
        );
        assert!(page["cpu"]["seconds_total"].as_f64().unwrap() > 0.0);
        assert!(page["memory"]["anonymous_bytes"].as_u64().unwrap() > 0);
    }
}
