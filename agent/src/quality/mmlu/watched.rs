//! Results of one model, looked at again and again.
//!
//! In: an entry of `mmlu.results`. Out: its [`Standing`]: the newest score of each task with what it is compared with, and
//! what became of the files. A file that is not finished is read again at the next look; one that is none never again
//! until it changes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::folder::{self, Candidate, Seen};
use super::history::{Comparison, History, Run, Subject};
use super::settings::{ResultSettings, Settings};
use super::{Completeness, Evaluation, Mean, ReadError, Source, Terms};
use crate::quality::watch;

/// What is to be looked at.
#[must_use]
pub fn entries(settings: &Settings) -> Vec<watch::Entry<Standing>> {
    let entry = |entry: &ResultSettings| {
        let mut results = Results::new(entry.clone(), settings);
        let look = move |standing: &mut Standing| results.look(standing);
        watch::Entry {
            standing: Standing::new(&entry.model),
            interval: settings.interval,
            look: Box::new(look),
        }
    };
    settings.results.iter().map(entry).collect()
}

/// What is known of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    pub model: Arc<str>,
    pub scores: Vec<Newest>,
    /// Files that were read, by what became of them.
    pub files: BTreeMap<&'static str, u64>,
    /// Why not all could be read; `None` where all is well.
    pub failure: Option<String>,
}

/// The newest whole score of one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Newest {
    pub source: Source,
    pub task: Arc<str>,
    pub run: Run,
    /// `None` for a first one.
    pub comparison: Option<Comparison>,
}

impl Newest {
    /// Since the run began, in seconds; 0 where that lies ahead, by clocks that differ.
    #[must_use]
    pub fn age_seconds(&self, now: SystemTime) -> f64 {
        let now = now.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        (now - self.run.began_unix_seconds).max(0.0)
    }
}

impl Standing {
    fn new(model: &str) -> Self {
        Self { model: model.into(), scores: Vec::new(), files: BTreeMap::new(), failure: None }
    }

    fn count(&mut self, outcome: &'static str) {
        *self.files.entry(outcome).or_default() += 1;
    }
}

impl watch::Standing for Standing {
    fn whose(&self) -> String {
        format!("mmlu.results of {}", self.model)
    }

    fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

struct Results {
    settings: ResultSettings,
    subtasks: bool,
    seen: Seen,
    history: History,
    pinned: bool,
}

impl Results {
    fn new(settings: ResultSettings, all: &Settings) -> Self {
        let history = History::new(all.significance);
        Self { settings, subtasks: all.subtasks, seen: Seen::default(), history, pinned: false }
    }

    fn look(&mut self, standing: &mut Standing) {
        standing.failure = None;
        self.pin(standing);
        let listing = folder::list(&self.settings.path);
        if listing.missing {
            standing.failure = Some(format!("{} is not there (yet)", self.settings.path.display()));
        } else if listing.unreadable > 0 || listing.stopped {
            standing.failure = Some(format!("not all below {} can be read", self.settings.path.display()));
        }
        let changed = self.seen.changed(&listing);
        for candidate in changed.iter().rev() {
            self.take(candidate, standing);
        }
        standing.scores = self.newest();
    }

    /// Once: later changes of that file are no reason to compare otherwise.
    fn pin(&mut self, standing: &mut Standing) {
        let Some(path) = self.settings.baseline.as_deref().filter(|_| !self.pinned) else { return };
        let read = first(path).ok_or(ReadError::Vanished).and_then(|candidate| {
            let evaluations = folder::read(&candidate)?;
            Ok((candidate.stamp.modified_unix_seconds(), evaluations))
        });
        match read {
            Ok((time, evaluations)) => {
                self.pinned = true;
                for evaluation in of_the_model(&evaluations) {
                    self.history.pin(&self.settings.model, evaluation, time);
                }
            }
            Err(error) => standing.failure = Some(format!("read the baseline {}: {error}", path.display())),
        }
    }

    fn take(&mut self, candidate: &Candidate, standing: &mut Standing) {
        match folder::read(candidate) {
            Ok(evaluations) => {
                let time = candidate.stamp.modified_unix_seconds();
                for evaluation in of_the_model(&evaluations) {
                    standing.count(outcome(evaluation.completeness));
                    self.history.take(&self.settings.model, evaluation, time);
                }
            }
            Err(error) => {
                standing.count(error.reason());
                if matches!(error, ReadError::Unfinished | ReadError::Vanished | ReadError::Unreadable(_)) {
                    self.seen.retry(&candidate.path);
                }
                // Any text may lie in a folder; what is no result there is counted, and no trouble.
                if !matches!(error, ReadError::NotResults(_)) {
                    standing.failure = Some(format!("read {}: {error}", candidate.path.display()));
                }
            }
        }
    }

    /// Limited and incomplete runs are no score of the benchmark.
    fn newest(&self) -> Vec<Newest> {
        let grouped =
            |source| self.history.current().any(|(of, terms, _)| of.source == source && is_group(terms));
        let shown =
            |subject: &Subject, terms: &Terms| self.subtasks || is_group(terms) || !grouped(subject.source);
        let newest = |(subject, terms, series): (&Subject, &Terms, &super::history::Series)| {
            let run = *series.newest()?;
            (run.may_alert && shown(subject, terms)).then(|| Newest {
                source: subject.source,
                task: subject.task.as_str().into(),
                run,
                comparison: self.history.compare(series),
            })
        };
        self.history.current().filter_map(newest).collect()
    }
}

fn is_group(terms: &Terms) -> bool {
    terms.mean != Mean::Single
}

fn first(path: &Path) -> Option<Candidate> {
    folder::list(path).candidates.into_iter().next()
}

/// A branch report has the base model's scores first, which are another model's.
fn of_the_model(evaluations: &[Evaluation]) -> &[Evaluation] {
    &evaluations[evaluations.len().saturating_sub(1)..]
}

fn outcome(completeness: Completeness) -> &'static str {
    match completeness {
        Completeness::Whole => "whole",
        Completeness::Limited => "limited",
        Completeness::Incomplete { .. } => "incomplete",
    }
}

#[cfg(test)]
mod tests;
