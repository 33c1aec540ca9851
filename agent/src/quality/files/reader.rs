//! One entry's files: which have changed since they were read, and what comes of reading them.
//!
//! A look that finds nothing new only asks for the files' times. What it reads it reads whole, and throws away where a
//! file changed meanwhile: a pair of which one is newer says nothing.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use super::{Scored, Standing};
use crate::clock::BootTime;
use crate::digest::Digest;
use crate::quality::npy::{self, Array, NpyError};
use crate::quality::score::Scores;
use crate::quality::score::accuracy::{self, Accuracy};
use crate::quality::settings::FileSettings;

/// What tells one version of a file from another: where it lies, its size, and when it was written.
type Version = (u64, u64, i64, i64);

/// Why a look brought nothing: the kind is a label, the text is for people.
#[derive(Debug)]
struct Failure {
    kind: &'static str,
    text: String,
}

pub(super) struct Reader {
    settings: FileSettings,
    /// Of what was scored last: what failed is read again.
    read: Vec<Option<Version>>,
    read_validation: Vec<Option<Version>>,
    /// The recent predictions that were counted last.
    counted: Option<u64>,
}

impl Reader {
    pub fn new(settings: FileSettings) -> Self {
        Self { settings, read: Vec::new(), read_validation: Vec::new(), counted: None }
    }

    /// What is known before the first look.
    pub fn standing(&self) -> Standing {
        Standing {
            model: self.settings.model.as_str().into(),
            source: self.settings.source.as_str().into(),
            scored: None,
            validation: None,
            counted: super::Counted::default(),
            failures: std::collections::BTreeMap::new(),
            failure: None,
        }
    }

    /// Looks at the files, and scores what is new.
    pub fn look(&mut self, standing: &mut Standing) {
        let results = [self.look_at_predictions(standing), self.look_at_validation(standing)];
        standing.failure = None;
        for failure in results.into_iter().filter_map(Result::err) {
            *standing.failures.entry(failure.kind).or_default() += 1;
            standing.failure = Some(failure.text);
        }
    }

    fn look_at_predictions(&mut self, standing: &mut Standing) -> Result<(), Failure> {
        let FileSettings { baseline, recent, truth, .. } = &self.settings;
        let paths: Vec<&Path> =
            [Some(baseline), Some(recent), truth.as_ref()].into_iter().flatten().map(AsRef::as_ref).collect();
        let found = versions(&paths);
        if found == self.read {
            if let Some(scored) = &mut standing.scored {
                scored.confirmed = BootTime::now();
            }
            return Ok(());
        }
        let written = std::fs::metadata(recent).and_then(|file| file.modified());
        let predictions = read(recent)?;
        let digest = digest(&predictions);
        let accuracy = truth.as_deref().map(|truth| compare(&predictions, recent, truth)).transpose()?;
        let confidence = confidence(&predictions);
        let scores = Scores::of(predictions, read(baseline)?);
        unchanged(&paths, &found)?;
        self.read = found;
        if let Some(accuracy) = accuracy.as_ref().filter(|_| self.counted != Some(digest)) {
            standing.counted.add(accuracy);
            self.counted = Some(digest);
        }
        let written = written.unwrap_or(SystemTime::UNIX_EPOCH);
        standing.scored = Some(Scored { scores, accuracy, confidence, written, confirmed: BootTime::now() });
        Ok(())
    }

    fn look_at_validation(&mut self, standing: &mut Standing) -> Result<(), Failure> {
        let FileSettings { validation: Some(set), validation_truth: Some(truth), .. } = &self.settings else {
            return Ok(());
        };
        let paths = [set.as_path(), truth.as_path()];
        let found = versions(&paths);
        if found == self.read_validation {
            return Ok(());
        }
        let accuracy = compare(&read(set)?, set, truth)?;
        unchanged(&paths, &found)?;
        self.read_validation = found;
        standing.validation = Some(accuracy);
        Ok(())
    }
}

fn versions(paths: &[&Path]) -> Vec<Option<Version>> {
    let version = |path: &&Path| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
    };
    paths.iter().map(version).collect()
}

fn unchanged(paths: &[&Path], before: &[Option<Version>]) -> Result<(), Failure> {
    if versions(paths) == before {
        return Ok(());
    }
    Err(Failure { kind: "unfinished", text: format!("{} changed while it was read", paths[0].display()) })
}

fn read(path: &Path) -> Result<Array, Failure> {
    npy::read_file(path).map_err(|error| {
        let kind = match &error {
            NpyError::Unfinished(_) => "unfinished",
            NpyError::Refused(_) => "refused",
            NpyError::Read(error) if error.kind() == std::io::ErrorKind::NotFound => "missing",
            NpyError::Read(_) => "unreadable",
        };
        Failure { kind, text: format!("read {}: {error}", path.display()) }
    })
}

fn compare(predictions: &Array, path: &Path, truth: &Path) -> Result<Accuracy, Failure> {
    let array = read(truth)?;
    accuracy::compare(predictions, &array).map_err(|why| Failure {
        kind: "mismatch",
        text: format!("compare {} with {}: {why}", path.display(), truth.display()),
    })
}

/// Numbers that were written again are the same predictions.
fn digest(array: &Array) -> u64 {
    let mut digest = Digest::default();
    array.values.iter().for_each(|value| digest.add(&value.to_bits().to_le_bytes()));
    digest.get()
}

/// The mean, where all numbers are probabilities; labels have none.
fn confidence(array: &Array) -> Option<f64> {
    let between = |value: &f64| (0.0..=1.0).contains(value);
    let probabilities = array.kind.is_float()
        && array.values.iter().all(between)
        && array.values.iter().any(|value| value.fract() != 0.0);
    probabilities.then(|| array.values.iter().sum::<f64>() / array.values.len() as f64)
}

#[cfg(test)]
mod tests;
