//! Section `request` of the configuration: how requests are put together.
//!
//! In: what serde reads. Out: settings that can work, or the key that cannot.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Result, ensure};
use inferscope_common::socket::SOCKETS_MAX;
use serde::{Deserialize, Serialize};

/// Connections followed at once, at most and unless the settings say less: as many as the kernel follows.
/// Each costs the agent a few KiB at most while a request is open.
pub const CONNECTIONS_MAX: usize = SOCKETS_MAX as usize;
/// Below a second every slow prefill would count as stalled; above a day nothing would.
const STALLED_AFTER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// What the operator may set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A request is stalled when no byte of it has passed for so long.
    #[serde(with = "humantime_serde")]
    pub stalled_after: Duration,
    /// Connections followed at once; the oldest idle ones make room.
    pub connections_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { stalled_after: Duration::from_secs(10), connections_max: CONNECTIONS_MAX }
    }
}

impl Settings {
    /// # Errors
    /// A value with which nothing could be measured; the error names its key.
    pub fn check(&self) -> Result<()> {
        ensure!(
            STALLED_AFTER.contains(&self.stalled_after),
            "`request.stalled_after` is {:?}, outside {:?} to {:?}",
            self.stalled_after,
            STALLED_AFTER.start(),
            STALLED_AFTER.end()
        );
        ensure!(
            (1..=CONNECTIONS_MAX).contains(&self.connections_max),
            "`request.connections_max` is {}, outside 1 to {CONNECTIONS_MAX}",
            self.connections_max
        );
        Ok(())
    }
}
