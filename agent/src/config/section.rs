//! The section that belongs to no single room: limits of several.
//!
//! In: what serde reads. Out: settings that can work, or the key that cannot. The other sections are with
//! the rooms that they are for.

use std::ops::RangeInclusive;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

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
