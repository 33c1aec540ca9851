//! What the health pages say.
//!
//! In: states. Out: JSON objects. Alive is what a restart could not better: a signal that cannot work here
//! is reported, and the agent still counts as alive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::{ProbeState, SignalState, kind_label};
use crate::clock::BootTime;
use crate::lifecycle::privileges::Confinement;
use crate::signal::WorkloadState;
use crate::workload::Down;

/// A pipeline that has not ticked for this long is stuck; it ticks once a second.
pub const STUCK: Duration = Duration::from_secs(30);

/// The agent as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Before the first tick.
    Starting,
    Ok,
    /// A signal failed; the others run.
    Degraded,
    /// The pipeline does not go on: a restart may help.
    Stuck,
}

/// `/healthz`.
#[derive(Debug, Serialize)]
pub struct HealthReport {
    pub status: Status,
    pub version: &'static str,
    pub signals: Vec<SignalReport>,
    pub probes: Vec<ProbeReport>,
    /// `null` until it is settled.
    pub sandbox: Option<Confinement>,
}

/// A signal in [`HealthReport`].
#[derive(Debug, Serialize)]
pub struct SignalReport {
    pub signal: &'static str,
    pub state: &'static str,
    pub reason: Option<String>,
}

/// A kernel program in [`HealthReport`].
#[derive(Debug, Serialize)]
pub struct ProbeReport {
    pub program: String,
    pub hook: Option<String>,
    pub reason: Option<String>,
}

impl HealthReport {
    pub(super) fn of(
        now: BootTime,
        ticked: BootTime,
        signals: &BTreeMap<&'static str, SignalState>,
        probes: &[ProbeState],
        sandbox: Option<Confinement>,
    ) -> Self {
        let failed = signals.values().any(|state| matches!(state, SignalState::Failed(_)));
        let status = match ticked {
            BootTime(0) => Status::Starting,
            ticked if now.since(ticked) > STUCK => Status::Stuck,
            _ if failed => Status::Degraded,
            _ => Status::Ok,
        };
        let signals = signals
            .iter()
            .map(|(signal, state)| SignalReport {
                signal,
                state: state.label(),
                reason: state.reason().map(str::to_owned),
            })
            .collect();
        let probes = probes
            .iter()
            .cloned()
            .map(|probe| ProbeReport { program: probe.program, hook: probe.hook, reason: probe.reason })
            .collect();
        Self { status, version: env!("CARGO_PKG_VERSION"), signals, probes, sandbox }
    }

    /// Whether the answer is 200.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.status != Status::Stuck
    }
}

/// `/readyz`.
#[derive(Debug, Serialize)]
pub struct Readiness {
    pub ready: bool,
    /// What is still to come.
    pub waiting_for: Vec<&'static str>,
}

impl Readiness {
    pub(super) fn of(attached: bool, scanned: bool) -> Self {
        let waiting_for: Vec<_> = [(attached, "probes"), (scanned, "first scan for workloads")]
            .into_iter()
            .filter_map(|(done, what)| (!done).then_some(what))
            .collect();
        Self { ready: waiting_for.is_empty(), waiting_for }
    }
}

/// A workload in `/api/v1/workloads`.
#[derive(Debug, Serialize)]
pub struct WorkloadReport {
    pub workload: Arc<str>,
    pub kind: &'static str,
    pub namespace: Option<Arc<str>>,
    pub pod: Option<Arc<str>>,
    pub container: Option<Arc<str>>,
    pub unit: Option<Arc<str>>,
    pub up: bool,
    /// Why it is not.
    pub down: Option<&'static str>,
    /// Wall time of its first process's start, in seconds since 1970.
    pub started_unix_seconds: f64,
}

impl WorkloadReport {
    pub(super) fn of(state: &WorkloadState) -> Self {
        let workload = &state.workload;
        let started = workload.started.to_wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            workload: workload.label.clone(),
            kind: kind_label(workload.kind),
            namespace: workload.namespace.clone(),
            pod: workload.pod.clone(),
            container: workload.container.clone(),
            unit: workload.unit.clone(),
            up: state.down.is_none(),
            down: state.down.map(Down::label),
            started_unix_seconds: started.as_secs_f64(),
        }
    }
}
