//! What does an hour of a GPU cost? Section `cost` of the configuration.

use std::ops::RangeInclusive;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// The dearest GPU is a fraction of this in any currency.
const GPU_HOUR: RangeInclusive<f64> = 0.0..=1e9;
/// As ISO 4217 has them.
const CURRENCY_LETTERS: usize = 3;

/// Section `cost`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Price of one GPU for one hour, whatever it does; at 0 costs are not counted.
    pub gpu_hour: f64,
    /// Its currency.
    pub currency: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { gpu_hour: 0.0, currency: "USD".to_owned() }
    }
}

impl Settings {
    /// # Errors
    /// A value that helps nobody; the error names its key.
    pub fn check(&self) -> Result<()> {
        let (price, least, most) = (self.gpu_hour, GPU_HOUR.start(), GPU_HOUR.end());
        ensure!(GPU_HOUR.contains(&price), "`cost.gpu_hour` is {price}, outside {least} to {most}");
        let currency = &self.currency;
        let letters =
            currency.len() == CURRENCY_LETTERS && currency.chars().all(|letter| letter.is_ascii_uppercase());
        ensure!(letters, "`cost.currency` is {currency:?}; wanted are three capital letters, as USD");
        Ok(())
    }

    /// Of one GPU for one second; `None` where costs are not counted.
    #[must_use]
    pub fn gpu_second(&self) -> Option<f64> {
        (self.gpu_hour > 0.0).then(|| self.gpu_hour / 3600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_that_help_nobody_are_refused_with_their_key() {
        let check = |text: &str| {
            let settings: Settings = toml::from_str(text).map_err(|error| error.to_string())?;
            settings.check().map_err(|error| error.to_string()).map(|()| settings.gpu_second())
        };
        assert_eq!(check(""), Ok(None));
        assert_eq!(check("gpu_hour = 3.6\ncurrency = \"EUR\""), Ok(Some(0.001)));
        assert!(check("gpu_hour = -1.0").unwrap_err().starts_with("`cost.gpu_hour` is -1"));
        assert!(check("currency = \"Euro\"").unwrap_err().contains("three capital letters"));
    }
}
