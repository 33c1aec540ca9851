//! The sections that belong to no single room: limits of several, and the objectives.
//!
//! In: what serde reads. Out: settings that can work, or the key that cannot. The other sections are with
//! the rooms that they are for.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::signal::latency::bounds;
use crate::workload::rules::WORKLOADS_MAX_DEFAULT;

/// Models or workloads with series of their own. Above it one node would fill a Prometheus by itself.
const LABELS: RangeInclusive<usize> = 1..=256;

/// `[limits]`: how many get series of their own; the rest share the label `other` and are counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    pub models: usize,
    pub workloads: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { models: 8, workloads: WORKLOADS_MAX_DEFAULT }
    }
}

impl LimitSettings {
    pub(super) fn check(&self) -> Result<()> {
        for (key, value) in [("models", self.models), ("workloads", self.workloads)] {
            let (least, most) = (LABELS.start(), LABELS.end());
            ensure!(LABELS.contains(&value), "`limits.{key}` is {value}, outside {least} to {most}");
        }
        Ok(())
    }
}

/// `[slo]`: the objectives. Each threshold is a bucket bound, so that it reads exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SloSettings {
    #[serde(with = "humantime_serde")]
    pub p95_latency_target: Duration,
    #[serde(with = "humantime_serde")]
    pub p95_latency_warning: Duration,
    #[serde(with = "humantime_serde")]
    pub p95_latency_critical: Duration,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub p95_ttft_target: Option<Duration>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub p95_ttft_warning: Option<Duration>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub p95_ttft_critical: Option<Duration>,
}

impl Default for SloSettings {
    fn default() -> Self {
        Self {
            p95_latency_target: Duration::from_millis(80),
            p95_latency_warning: Duration::from_millis(100),
            p95_latency_critical: Duration::from_millis(150),
            // How soon a first token must come depends on model and prompt: there is no good default.
            p95_ttft_target: None,
            p95_ttft_warning: None,
            p95_ttft_critical: None,
        }
    }
}

/// A threshold and its key.
type Threshold = (&'static str, Duration);

impl SloSettings {
    /// Target, warning and critical threshold of the request duration.
    #[must_use]
    pub fn latency_thresholds(&self) -> Vec<Duration> {
        durations(&self.latency())
    }

    /// Those of the time to first token that were given.
    #[must_use]
    pub fn ttft_thresholds(&self) -> Vec<Duration> {
        durations(&self.ttft())
    }

    pub(super) fn check(&self) -> Result<()> {
        for thresholds in [self.latency(), self.ttft()] {
            bounds::check(&thresholds)?;
            rising(&thresholds)?;
        }
        Ok(())
    }

    fn latency(&self) -> Vec<Threshold> {
        vec![
            ("slo.p95_latency_target", self.p95_latency_target),
            ("slo.p95_latency_warning", self.p95_latency_warning),
            ("slo.p95_latency_critical", self.p95_latency_critical),
        ]
    }

    fn ttft(&self) -> Vec<Threshold> {
        let all = [
            ("slo.p95_ttft_target", self.p95_ttft_target),
            ("slo.p95_ttft_warning", self.p95_ttft_warning),
            ("slo.p95_ttft_critical", self.p95_ttft_critical),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

fn durations(thresholds: &[Threshold]) -> Vec<Duration> {
    thresholds.iter().map(|(_, value)| *value).collect()
}

/// Thresholds that get worse must not fall.
fn rising(thresholds: &[Threshold]) -> Result<()> {
    for pair in thresholds.windows(2) {
        let [(earlier, least), (key, value)] = pair else { continue };
        ensure!(value >= least, "`{key}` ({value:?}) is below `{earlier}` ({least:?})");
    }
    Ok(())
}
