//! Section `gpu` of the configuration.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Faster, the driver's own samples would repeat; slower, a throttle would be missed.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(10);

/// Section `gpu`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Read the GPUs, where there are any.
    pub enabled: bool,
    /// The driver's library; found by itself where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<PathBuf>,
    /// How often.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { enabled: true, library: None, interval: Duration::from_secs(1) }
    }
}

impl Settings {
    /// # Errors
    /// A value that helps nobody; the error names its key.
    pub fn check(&self) -> Result<()> {
        ensure!(
            INTERVAL.contains(&self.interval),
            "`gpu.interval` is {:?}, outside {:?} to {:?}",
            self.interval,
            INTERVAL.start(),
            INTERVAL.end()
        );
        if let Some(library) = &self.library {
            ensure!(library.is_absolute(), "`gpu.library` is {}, no full path", library.display());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_help_nobody_are_refused() {
        let with = |interval| Settings { interval: Duration::from_millis(interval), ..Settings::default() };
        for (interval, fits) in [(99, false), (100, true), (1000, true), (10_000, true), (10_001, false)] {
            assert_eq!(with(interval).check().is_ok(), fits, "{interval} ms");
        }
        let library = Some(PathBuf::from("libnvidia-ml.so.1"));
        let error = Settings { library, ..Settings::default() }.check().unwrap_err();
        assert!(error.to_string().contains("gpu.library"), "{error}");
    }
}
