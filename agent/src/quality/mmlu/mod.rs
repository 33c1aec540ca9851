//! Results of evaluations on MMLU, as the tools write them: read strictly, kept in series that may be
//! compared, and judged: is the newest score worse than chance explains?
//!
//! In: `results_*.json` of lm-evaluation-harness (`harness`), saved reports of `ilab model evaluate` (`ilab`),
//! found and watched by `folder`. Out: an [`Evaluation`] each; `history` keeps them and compares.
//! Nothing here runs an evaluation, and nothing waits: the caller looks again when it likes.

mod family;
pub mod folder;
pub mod harness;
pub mod history;
pub mod ilab;
pub mod settings;
pub mod significance;
pub mod watched;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

pub use family::Family;

/// The longest file that is read. A whole run of 57 subtasks is 138 KB; `configs` grow with long prompts.
pub const FILE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Tasks of the family in one evaluation; the whole benchmark has 57 and five groups.
pub const TASKS_MAX: usize = 512;

/// The longest name of a model or a task that is taken; longer ones are no names.
pub const NAME_BYTES_MAX: usize = 512;

/// Subtasks of the whole benchmark.
pub const SUBTASKS: usize = 57;

/// One run of an evaluation of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// As the tool names it; older files do not.
    pub model: Option<String>,
    pub source: Source,
    /// Start of the run, Unix seconds; `None` where the file does not say, and its own time must serve.
    pub began_unix_seconds: Option<f64>,
    pub completeness: Completeness,
    pub scores: Vec<Score>,
}

impl Evaluation {
    /// Of the task with this name.
    #[must_use]
    pub fn score(&self, task: &str) -> Option<&Score> {
        self.scores.iter().find(|score| score.task == task)
    }

    /// Whether somebody may be woken by it: a limited run, or a part of the benchmark, is no score.
    #[must_use]
    pub fn may_alert(&self) -> bool {
        self.completeness == Completeness::Whole
    }
}

/// Which tool computed the scores; those of two tools are never one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    Harness,
    Ilab,
    IlabBranch,
}

impl Source {
    /// As labels have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Source::Harness => "lm_eval",
            Source::Ilab => "ilab",
            Source::IlabBranch => "ilab_branch",
        }
    }
}

/// How much of what was to be asked was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    Whole,
    /// Fewer questions than the tasks have (`--limit`, `--samples`).
    Limited,
    /// Fewer subtasks than the benchmark has, where the report claims the benchmark.
    Incomplete {
        subtasks: usize,
    },
}

/// The accuracy of one task or group.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    pub task: String,
    /// 0 to 1.
    pub accuracy: f64,
    pub standard_error: Option<f64>,
    pub samples: Option<Samples>,
    pub terms: Terms,
}

/// Questions asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Samples {
    /// Told by the file.
    Counted(u64),
    /// Computed from accuracy and standard error, where the file does not tell.
    Derived(u64),
}

impl Samples {
    #[must_use]
    pub fn count(self) -> u64 {
        match self {
            Samples::Counted(count) | Samples::Derived(count) => count,
        }
    }
}

/// What must be equal for two scores of one task to be compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Terms {
    pub source: Source,
    pub mean: Mean,
    /// Of the run, as it was given: `None` for all questions.
    pub limit: Option<String>,
    /// How questions were wrapped, where that was told: it moves scores by several points.
    pub prompting: Option<String>,
    /// The task itself, or the group and its subtasks, sorted by name.
    pub parts: Vec<Part>,
}

/// How a group's score was made of its subtasks'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mean {
    /// No group.
    Single,
    /// Each subtask counts as one.
    Plain,
    /// Each question counts as one.
    Weighted,
}

/// A task that took part.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    pub task: String,
    /// Examples shown before each question.
    pub shots: Option<String>,
    pub version: Option<String>,
}

/// Why a file gave no evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// Empty or cut: the tools do not write at once. Keep the last score and look again.
    Unfinished,
    /// Something else, for good.
    NotResults(String),
    /// Longer than [`FILE_BYTES_MAX`].
    TooLarge,
    /// Listed, but gone when it was opened; results are moved and deleted.
    Vanished,
    /// The system refused.
    Unreadable(io::ErrorKind),
}

impl ReadError {
    fn not_results(reason: impl Into<String>) -> Self {
        ReadError::NotResults(reason.into())
    }

    /// A bounded word for labels.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            ReadError::Unfinished => "unfinished",
            ReadError::NotResults(_) => "not_results",
            ReadError::TooLarge => "too_large",
            ReadError::Vanished => "vanished",
            ReadError::Unreadable(_) => "unreadable",
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Unfinished => f.write_str("empty or cut, not finished yet"),
            ReadError::NotResults(reason) => write!(f, "no MMLU results: {reason}"),
            ReadError::TooLarge => write!(f, "longer than {FILE_BYTES_MAX} bytes"),
            ReadError::Vanished => f.write_str("gone before it was read"),
            ReadError::Unreadable(kind) => write!(f, "cannot be read: {kind}"),
        }
    }
}

impl std::error::Error for ReadError {}

/// A share of right answers, checked; `what` names it in the refusal.
fn checked_ratio(value: f64, what: &str, task: &str) -> Result<f64, ReadError> {
    if (0.0..=1.0).contains(&value) {
        return Ok(value);
    }
    Err(ReadError::not_results(format!("{what} of {task} is {value}, not between 0 and 1")))
}

/// A name that may become a label.
fn checked_name<'a>(name: &'a str, what: &str) -> Result<&'a str, ReadError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(ReadError::not_results(format!("{what} is empty or longer than {NAME_BYTES_MAX} bytes")));
    }
    Ok(name)
}
