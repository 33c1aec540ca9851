//! What `/api/v1/agent` says: what the agent itself costs, what it saw, and what it could not see.
//!
//! In: the agent's own counters, states and process. Out: one JSON object.

use std::fs;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::process::{CpuReport, MemoryReport};
use super::{Health, Status, lock};
use crate::clock::BootTime;

/// The node's name as the kernel has it, where the agent has no name space of its own for it.
const NODE_NAME_FILE: &str = "/proc/sys/kernel/hostname";
/// Longest name that the kernel takes, in bytes.
const NODE_NAME_MAX: usize = 64;

/// `/api/v1/agent`.
#[derive(Debug, Serialize)]
pub struct AgentReport {
    /// `null` where it cannot be read.
    pub node: Option<String>,
    pub version: &'static str,
    /// As `/healthz` says it, which has the reasons.
    pub status: Status,
    /// Wall time of this page, in seconds since 1970: ages are from here, not from the reader's clock.
    pub unix_seconds: f64,
    pub uptime_seconds: f64,
    pub cpu: CpuReport,
    pub memory: MemoryReport,
    pub events: Vec<Events>,
    pub events_lost: Vec<EventsLost>,
    /// Kernel programs that are not attached.
    pub hooks_missing: Vec<HookMissing>,
    /// `enforce`, `log` or `off`; `null` until it is settled.
    pub sandbox: Option<&'static str>,
}

/// One series of `inferscope_events_total`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Events {
    pub stage: &'static str,
    pub total: u64,
}

/// One series of `inferscope_events_lost_total`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct EventsLost {
    pub stage: &'static str,
    pub reason: &'static str,
    pub total: u64,
}

/// A kernel program that is not attached, and why.
#[derive(Debug, Serialize)]
pub struct HookMissing {
    pub program: String,
    pub reason: Option<String>,
}

impl Health {
    /// What `/api/v1/agent` says at `now`.
    #[must_use]
    pub fn agent(&self, now: BootTime) -> AgentReport {
        let Self(inner) = self;
        let events = inner.metrics.events.all().into_iter();
        let lost = inner.metrics.lost.all().into_iter();
        let report = self.report(now);
        let missing = report.probes.into_iter().filter(|probe| probe.hook.is_none());
        AgentReport {
            node: node_name(),
            version: report.version,
            status: report.status,
            unix_seconds: now.to_wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            uptime_seconds: now.since(inner.started).as_secs_f64(),
            cpu: lock(&inner.cpu).report(),
            memory: MemoryReport::read(),
            events: sorted(events.map(|(labels, total)| Events { stage: labels.stage, total })),
            events_lost: sorted(lost.map(|(labels, total)| EventsLost {
                stage: labels.stage,
                reason: labels.reason,
                total,
            })),
            hooks_missing: missing
                .map(|probe| HookMissing { program: probe.program, reason: probe.reason })
                .collect(),
            sandbox: report.sandbox.map(|sandbox| sandbox.mode.label()),
        }
    }
}

fn sorted<T: Ord>(rows: impl Iterator<Item = T>) -> Vec<T> {
    let mut rows: Vec<T> = rows.collect();
    rows.sort_unstable();
    rows
}

fn node_name() -> Option<String> {
    let name = fs::read_to_string(NODE_NAME_FILE).ok()?;
    let name = name.trim();
    (!name.is_empty() && name.len() <= NODE_NAME_MAX).then(|| name.to_owned())
}
