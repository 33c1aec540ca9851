//! Section `slow` of the configuration: which requests are slow.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// At 1 half of all requests would be slow.
const MULTIPLE: RangeInclusive<f64> = 1.1..=1000.0;

/// What the operator may set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Slow is what takes more than so many times the median of the model's last requests of its size.
    pub multiple: f64,
    /// Slow, too, is what takes longer.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// The same to the first token.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub ttft: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { multiple: 3.0, duration: None, ttft: None }
    }
}

impl Settings {
    /// # Errors
    /// A value with which every request or none would be slow; the error names its key.
    pub fn check(&self) -> Result<()> {
        ensure!(
            MULTIPLE.contains(&self.multiple),
            "`slow.multiple` is {}, outside {} to {}",
            self.multiple,
            MULTIPLE.start(),
            MULTIPLE.end()
        );
        for (key, limit) in [("duration", self.duration), ("ttft", self.ttft)] {
            ensure!(limit != Some(Duration::ZERO), "`slow.{key}` is 0, so that every request would be slow");
        }
        Ok(())
    }
}
