//! The runs of each model's evaluations in order, and whether the newest is worse than it may be by chance.
//!
//! In: [`Evaluation`]s in any order, some seen before. Out: per model, source and task the newest run, the
//! best of those before it (or a pinned one), and a [`Comparison`] of the two. Runs under different terms are
//! different series and never meet. Each series is one test at the level: whoever watches all 62 of them
//! must expect 62 times the false alarms of the total alone.

use std::collections::BTreeMap;

use super::significance::{self, Measured};
use super::{Evaluation, Score, Source, Terms};

/// Runs kept in a series, the newest; "best" is the best of these. Two months of nightly runs.
pub const RUNS_MAX: usize = 64;

/// Ways of asking kept apart per model, source and task; the one not used for longest goes.
pub const TERMS_MAX: usize = 8;

/// Models times tasks.
pub const SUBJECTS_MAX: usize = 4096;

/// False alarms per evaluation that are put up with: one in a hundred.
pub const SIGNIFICANCE_LEVEL: f64 = 0.01;

/// What a series is of; its labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    pub model: String,
    pub source: Source,
    pub task: String,
}

/// One score at its time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Unix seconds; also what the run is known again by.
    pub began_unix_seconds: f64,
    pub measured: Measured,
    /// False for limited and incomplete runs: shown, but neither compared nor compared with.
    pub may_alert: bool,
}

/// Runs that may be compared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// By time.
    runs: Vec<Run>,
    pinned: Option<Run>,
}

/// The newest run against an earlier one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    pub against: Against,
    pub reference: Run,
    /// By how much the newest is lower, -1 to 1; negative where it is higher.
    pub fall: f64,
    /// One-sided, corrected for the choice of the best; `None` where the noise is not known.
    pub p_value: Option<f64>,
    pub significant: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    Best { of: usize },
    Pinned,
}

/// What became of the scores of one evaluation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    pub added: usize,
    pub seen_before: usize,
    /// No room: too many subjects, or older than all that is kept.
    pub left_out: usize,
}

/// All series.
#[derive(Debug, Clone)]
pub struct History {
    level: f64,
    subjects: BTreeMap<Subject, BTreeMap<Terms, Series>>,
}

impl Default for History {
    fn default() -> Self {
        Self::new(SIGNIFICANCE_LEVEL)
    }
}

impl History {
    /// `level`: the share of evaluations without a change that may be called worse.
    #[must_use]
    pub fn new(level: f64) -> Self {
        Self { level, subjects: BTreeMap::new() }
    }

    /// Takes an evaluation of `model`, the name that labels have. `file_unix_seconds`, the time of the file,
    /// stands in for a start that the file does not tell.
    pub fn take(&mut self, model: &str, evaluation: &Evaluation, file_unix_seconds: f64) -> Taken {
        let mut taken = Taken::default();
        for score in &evaluation.scores {
            let run = run(evaluation, score, file_unix_seconds);
            let outcome = match self.series(model, score, run.began_unix_seconds) {
                Some(series) => series.insert(run),
                None => Insert::LeftOut,
            };
            match outcome {
                Insert::Added => taken.added += 1,
                Insert::SeenBefore => taken.seen_before += 1,
                Insert::LeftOut => taken.left_out += 1,
            }
        }
        taken
    }

    /// Makes this evaluation the one that later ones are compared with, under its terms.
    pub fn pin(&mut self, model: &str, evaluation: &Evaluation, file_unix_seconds: f64) {
        for score in &evaluation.scores {
            let run = run(evaluation, score, file_unix_seconds);
            if let Some(series) = self.series(model, score, run.began_unix_seconds) {
                series.pinned = Some(run);
            }
        }
    }

    /// Per subject the series to show: of whole runs before others, then the one with the newest run.
    pub fn current(&self) -> impl Iterator<Item = (&Subject, &Terms, &Series)> {
        self.subjects.iter().filter_map(|(subject, ways)| {
            let with_runs = ways.iter().filter_map(|(terms, series)| Some((terms, series, series.newest()?)));
            let (terms, series, _) = with_runs.max_by(|(_, _, one), (_, _, other)| {
                let by_time = one.began_unix_seconds.total_cmp(&other.began_unix_seconds);
                one.may_alert.cmp(&other.may_alert).then(by_time)
            })?;
            Some((subject, terms, series))
        })
    }

    /// At this history's level.
    #[must_use]
    pub fn compare(&self, series: &Series) -> Option<Comparison> {
        series.compare(self.level)
    }

    /// Forgets a model that is gone.
    pub fn forget(&mut self, model: &str) {
        self.subjects.retain(|subject, _| subject.model != model);
    }

    /// The series of this score, made where there is room for it.
    fn series(&mut self, model: &str, score: &Score, began: f64) -> Option<&mut Series> {
        let subject =
            Subject { model: model.to_owned(), source: score.terms.source, task: score.task.clone() };
        if !self.subjects.contains_key(&subject) && self.subjects.len() >= SUBJECTS_MAX {
            return None;
        }
        let ways = self.subjects.entry(subject).or_default();
        if !ways.contains_key(&score.terms) && ways.len() >= TERMS_MAX && !make_room(ways, began) {
            return None;
        }
        Some(ways.entry(score.terms.clone()).or_default())
    }
}

fn run(evaluation: &Evaluation, score: &Score, file_unix_seconds: f64) -> Run {
    Run {
        began_unix_seconds: evaluation.began_unix_seconds.unwrap_or(file_unix_seconds),
        measured: Measured {
            accuracy: score.accuracy,
            standard_error: score.standard_error,
            samples: score.samples.map(super::Samples::count),
        },
        may_alert: evaluation.may_alert(),
    }
}

/// Removes the series whose newest run is the oldest, unless the new run is older still. Pinned ones stay.
fn make_room(ways: &mut BTreeMap<Terms, Series>, began: f64) -> bool {
    let newest_of = |series: &Series| series.newest().map_or(f64::NEG_INFINITY, |run| run.began_unix_seconds);
    let loose = ways.iter().filter(|(_, series)| series.pinned.is_none());
    let oldest = loose.map(|(terms, series)| (terms, newest_of(series))).min_by(|a, b| a.1.total_cmp(&b.1));
    let Some(terms) = oldest.filter(|(_, time)| *time < began).map(|(terms, _)| terms.clone()) else {
        return false;
    };
    ways.remove(&terms);
    true
}

enum Insert {
    Added,
    SeenBefore,
    LeftOut,
}

impl Series {
    /// The last by time.
    #[must_use]
    pub fn newest(&self) -> Option<&Run> {
        self.runs.last()
    }

    /// The highest of all kept runs that may be compared, the newer of equal ones.
    #[must_use]
    pub fn best(&self) -> Option<&Run> {
        best(&self.runs)
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether only a pinned run is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    fn insert(&mut self, run: Run) -> Insert {
        let time = run.began_unix_seconds;
        let place = self.runs.binary_search_by(|kept| kept.began_unix_seconds.total_cmp(&time));
        let Err(at) = place else { return Insert::SeenBefore };
        if self.runs.len() < RUNS_MAX {
            self.runs.insert(at, run);
            return Insert::Added;
        }
        if at == 0 {
            return Insert::LeftOut;
        }
        self.runs.remove(0);
        self.runs.insert(at - 1, run);
        Insert::Added
    }

    /// The newest run against the pinned one, else against the best before it. `None` where it is the first,
    /// or one of them is no whole run.
    #[must_use]
    pub fn compare(&self, level: f64) -> Option<Comparison> {
        let (newest, earlier) = self.runs.split_last()?;
        if !newest.may_alert {
            return None;
        }
        let (against, reference) = self.reference(newest, earlier)?;
        let choices = match against {
            Against::Best { of } => of,
            Against::Pinned => 1,
        };
        let p_value = significance::p_value_of_fall(reference.measured, newest.measured)
            .map(|p_value| significance::corrected(p_value, choices));
        Some(Comparison {
            against,
            reference,
            fall: reference.measured.accuracy - newest.measured.accuracy,
            p_value,
            significant: p_value.is_some_and(|p_value| p_value <= level),
        })
    }

    fn reference(&self, newest: &Run, earlier: &[Run]) -> Option<(Against, Run)> {
        if let Some(pinned) = self.pinned {
            let usable = pinned.may_alert && pinned.began_unix_seconds != newest.began_unix_seconds;
            return usable.then_some((Against::Pinned, pinned));
        }
        let of = earlier.iter().filter(|run| run.may_alert).count();
        Some((Against::Best { of }, *best(earlier)?))
    }
}

fn best(runs: &[Run]) -> Option<&Run> {
    let comparable = runs.iter().filter(|run| run.may_alert);
    comparable.max_by(|one, other| one.measured.accuracy.total_cmp(&other.measured.accuracy))
}

#[cfg(test)]
mod tests;
