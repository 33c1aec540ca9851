//! Section `drift` of the configuration: files of predictions, and what requests show.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Entries of `drift.files`: each has some 20 series.
pub const FILES_MAX: usize = 64;
/// Letters of a label.
const LABEL_MAX: usize = 200;
/// Of the service manager: a folder that is the service's own.
const STATE_VARIABLE: &str = "STATE_DIRECTORY";
/// As texts of durations have it, 365.25 days.
const YEAR: Duration = Duration::from_secs(31_557_600);
/// Shorter, nothing would be learnt; longer, nothing would be usual any more.
const REFERENCE: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);
const BETWEEN: RangeInclusive<Duration> = Duration::from_secs(3600)..=Duration::from_secs(100 * 365 * 86_400);
/// Faster, a file would be looked at for nothing; slower, nobody would hear of it.
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);

/// Section `drift`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Watch what requests show.
    pub live: bool,
    /// Span over which is learnt what is usual.
    #[serde(with = "humantime_serde")]
    pub reference: Duration,
    /// Expected time between false alarms of one series.
    #[serde(with = "humantime_serde")]
    pub between_false_alarms: Duration,
    /// Any text: what was learnt under another one is learnt anew.
    pub epoch: String,
    /// File that keeps what was learnt over a restart. `None`: that in the folder of the service manager, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// Predictions to score, model by model.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileSettings>,
}

/// One model's files, all `.npy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSettings {
    /// Label of its series.
    pub model: String,
    /// The other label, where a model has several entries.
    #[serde(default = "source_default")]
    pub source: String,
    /// Predictions of when the model was good.
    pub baseline: PathBuf,
    /// Predictions of now.
    pub recent: PathBuf,
    /// What the recent ones should have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<PathBuf>,
    /// Predictions of a fixed set, made anew from time to time, and what they should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_truth: Option<PathBuf>,
    /// How often it is seen whether a file has changed.
    #[serde(default = "interval_default", with = "humantime_serde")]
    pub interval: Duration,
}

fn source_default() -> String {
    "files".to_owned()
}

fn interval_default() -> Duration {
    Duration::from_secs(10)
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            live: true,
            reference: Duration::from_secs(86_400),
            between_false_alarms: YEAR,
            epoch: String::new(),
            state: None,
            files: Vec::new(),
        }
    }
}

impl Settings {
    /// Where what was learnt is kept.
    #[must_use]
    pub fn state_path(&self) -> Option<PathBuf> {
        let given = || std::env::var_os(STATE_VARIABLE).filter(|folder| !folder.is_empty());
        self.state.clone().or_else(|| Some(Path::new(&given()?).join("state")))
    }

    /// # Errors
    /// A value that helps nobody; the error names its key.
    pub fn check(&self) -> Result<()> {
        let spans = [
            ("reference", self.reference, REFERENCE),
            ("between_false_alarms", self.between_false_alarms, BETWEEN),
        ];
        for (key, span, range) in spans {
            let (least, most) = (range.start(), range.end());
            ensure!(range.contains(&span), "`drift.{key}` is {span:?}, outside {least:?} to {most:?}");
        }
        ensure!(
            self.epoch.len() <= LABEL_MAX,
            "`drift.epoch` has {} letters, {LABEL_MAX} are the most",
            self.epoch.len()
        );
        if let Some(state) = &self.state {
            ensure!(state.is_absolute(), "`drift.state` is {}, no full path", state.display());
        }
        ensure!(
            self.files.len() <= FILES_MAX,
            "`drift.files` has {} entries, {FILES_MAX} are the most",
            self.files.len()
        );
        let mut seen = HashSet::new();
        for (index, entry) in self.files.iter().enumerate() {
            let place = format!("entry {} of `drift.files`", index + 1);
            entry.check(&place)?;
            ensure!(
                seen.insert((&entry.model, &entry.source)),
                "{place}: model {:?} has another entry of source {:?}; name them apart by `source`",
                entry.model,
                entry.source
            );
        }
        Ok(())
    }
}

impl FileSettings {
    fn check(&self, place: &str) -> Result<()> {
        for (key, label) in [("model", &self.model), ("source", &self.source)] {
            let fits = !label.is_empty() && label.len() <= LABEL_MAX && !label.contains(char::is_control);
            ensure!(fits, "{place}: `{key}` is {label:?}, which makes no label (1 to {LABEL_MAX} letters)");
        }
        let reserved = ["live", "canary"].contains(&&*self.source);
        ensure!(!reserved, "{place}: `source` {:?} is the agent's own", self.source);
        let paths = [
            ("baseline", Some(&self.baseline)),
            ("recent", Some(&self.recent)),
            ("truth", self.truth.as_ref()),
            ("validation", self.validation.as_ref()),
            ("validation_truth", self.validation_truth.as_ref()),
        ];
        for (key, path) in paths {
            let whole = path.is_none_or(|path| Path::is_absolute(path));
            ensure!(whole, "{place}: `{key}` is {:?}, no full path", path.unwrap_or(&self.recent));
        }
        ensure!(
            self.validation.is_some() == self.validation_truth.is_some(),
            "{place}: `validation` and `validation_truth` come together"
        );
        ensure!(
            INTERVAL.contains(&self.interval),
            "{place}: `interval` is {:?}, outside {:?} to {:?}",
            self.interval,
            INTERVAL.start(),
            INTERVAL.end()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(entries: &str) -> Result<(), String> {
        let settings: Settings = toml::from_str(entries).map_err(|error| error.to_string())?;
        settings.check().map_err(|error| error.to_string())
    }

    #[test]
    fn entries_that_help_nobody_are_refused_with_their_key() {
        let entry = |more: &str| {
            format!("[[files]]\nmodel = \"m\"\nbaseline = \"/b.npy\"\nrecent = \"/r.npy\"\n{more}\n")
        };
        assert_eq!(check(&entry("")), Ok(()));
        assert_eq!(check(&(entry("") + &entry("source = \"other\""))), Ok(()));
        let rows = [
            (entry("") + &entry(""), "name them apart by `source`"),
            (entry("truth = \"t.npy\""), "`truth` is \"t.npy\", no full path"),
            (entry("validation = \"/v.npy\""), "come together"),
            (entry("interval = \"10ms\""), "`interval` is 10ms, outside 1s"),
            (entry("source = \"\""), "makes no label"),
            (entry("").repeat(FILES_MAX + 1), "64 are the most"),
            (entry("label = \"\""), "unknown field"),
        ];
        for (entries, expected) in rows {
            let error = check(&entries).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
