//! What the API and the terminal view may see of this signal. The fields are told at the head of `export/api.rs`.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use crate::quality::mmlu::history::Against;
use crate::quality::mmlu::watched::{Newest, Standing};
use crate::registry::latest::Latest;

/// One for each entry of `mmlu.results`, as of the newest tick.
pub type EvaluationsView = Latest<Vec<EvaluationsReport>>;

/// The results of one model.
#[derive(Debug, Serialize)]
pub struct EvaluationsReport {
    pub model: Arc<str>,
    pub scores: Vec<ScoreReport>,
    pub failure: Option<String>,
}

/// The newest whole score of one task.
#[derive(Debug, Serialize)]
pub struct ScoreReport {
    pub source: &'static str,
    pub task: Arc<str>,
    pub score: f64,
    pub standard_error: Option<f64>,
    pub questions: Option<u64>,
    pub age_seconds: f64,
    /// `null` for a first one.
    pub fall: Option<f64>,
    pub fall_p_value: Option<f64>,
    pub fallen: Option<bool>,
    /// What it is compared with: `best` or `baseline`.
    pub against: Option<&'static str>,
}

impl EvaluationsReport {
    pub(super) fn of(standing: &Standing, now: SystemTime) -> Self {
        Self {
            model: standing.model.clone(),
            scores: standing.scores.iter().map(|newest| ScoreReport::of(newest, now)).collect(),
            failure: standing.failure.clone(),
        }
    }
}

impl ScoreReport {
    fn of(newest: &Newest, now: SystemTime) -> Self {
        let (measured, found) = (newest.run.measured, newest.comparison);
        Self {
            source: newest.source.name(),
            task: newest.task.clone(),
            score: measured.accuracy,
            standard_error: measured.standard_error,
            questions: measured.samples,
            age_seconds: newest.age_seconds(now),
            fall: found.map(|found| found.fall),
            fall_p_value: found.and_then(|found| found.p_value),
            fallen: found.map(|found| found.significant),
            against: found.map(|found| match found.against {
                Against::Best { .. } => "best",
                Against::Pinned => "baseline",
            }),
        }
    }
}
