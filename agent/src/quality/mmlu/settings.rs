//! Section `mmlu` of the configuration: results of evaluations.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Entries of `mmlu.results`.
pub const RESULTS_MAX: usize = 16;
/// Letters of a label.
const LABEL_MAX: usize = 200;
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Section `mmlu`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where results are written, model by model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub results: Vec<ResultSettings>,
    /// How often it is seen whether there are new ones.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// The share of evaluations without a change that may be called worse by chance.
    pub significance: f64,
    /// Series of every subtask besides those of the benchmark and its groups.
    pub subtasks: bool,
}

/// One model's results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResultSettings {
    /// Label of its series, whatever name the tool gave it.
    pub model: String,
    /// A file, or a folder in which some are, also in folders below it; it may come later.
    pub path: PathBuf,
    /// The file of the evaluation with which later ones are compared; without one, the best before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        let significance = super::history::SIGNIFICANCE_LEVEL;
        Self { results: Vec::new(), interval: Duration::from_secs(60), significance, subtasks: false }
    }
}

impl Settings {
    /// # Errors
    /// A value that helps nobody; the error names its key.
    pub fn check(&self) -> Result<()> {
        let count = self.results.len();
        ensure!(count <= RESULTS_MAX, "`mmlu.results` has {count} entries, {RESULTS_MAX} are the most");
        ensure!(
            INTERVAL.contains(&self.interval),
            "`mmlu.interval` is {:?}, outside {:?} to {:?}",
            self.interval,
            INTERVAL.start(),
            INTERVAL.end()
        );
        let share = self.significance;
        ensure!((1e-6..=0.5).contains(&share), "`mmlu.significance` is {share}, outside 0.000001 to 0.5");
        let mut seen = HashSet::new();
        for (index, entry) in self.results.iter().enumerate() {
            let place = format!("entry {} of `mmlu.results`", index + 1);
            let label = &entry.model;
            let fits = !label.is_empty() && label.len() <= LABEL_MAX && !label.contains(char::is_control);
            ensure!(fits, "{place}: `model` is {label:?}, which makes no label (1 to {LABEL_MAX} letters)");
            ensure!(seen.insert(label), "{place}: model {label:?} has another entry");
            let paths = [("path", Some(&entry.path)), ("baseline", entry.baseline.as_ref())];
            for (key, path) in paths {
                let Some(path) = path else { continue };
                ensure!(path.is_absolute(), "{place}: `{key}` is {path:?}, no full path");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        let settings: Settings = toml::from_str(text).map_err(|error| error.to_string())?;
        settings.check().map_err(|error| error.to_string())
    }

    #[test]
    fn values_that_help_nobody_are_refused_with_their_key() {
        let entry = "[[results]]\nmodel = \"m\"\npath = \"/r\"\n";
        assert_eq!(check(entry), Ok(()));
        let rows = [
            (entry.repeat(2), "has another entry"),
            (entry.replace("/r", "r"), "`path` is \"r\", no full path"),
            (format!("{entry}baseline = \"b\""), "`baseline` is \"b\", no full path"),
            (entry.replace("\"m\"", "\"\""), "makes no label"),
            (format!("interval = \"10ms\"\n{entry}"), "`mmlu.interval` is 10ms, outside 1s"),
            ("significance = 0.0".to_owned(), "`mmlu.significance` is 0, outside"),
            (format!("{entry}limit = 3"), "unknown field"),
        ];
        for (text, expected) in rows {
            let error = check(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
