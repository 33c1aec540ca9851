//! What the API and the terminal view may see of this signal. The fields are told at the head of `export/api.rs`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::quality::canary::Standing;
use crate::registry::latest::Latest;

/// As of the newest tick; `None` where there is no canary.
pub type CanaryView = Latest<Option<CanaryReport>>;

/// What the runs say.
#[derive(Debug, Serialize)]
pub struct CanaryReport {
    pub model: Arc<str>,
    /// Of the newest run that came to its end.
    pub run: Option<RunReport>,
    pub runs: u64,
    pub tokens: u64,
    /// Of a run under way.
    pub progress: Option<ProgressReport>,
    pub failure: Option<String>,
}

/// One run.
#[derive(Debug, Serialize)]
pub struct RunReport {
    pub ended_unix_seconds: f64,
    pub accuracy: f64,
    pub lower: f64,
    pub upper: f64,
    pub right: u64,
    pub wrong: u64,
    pub unanswered: u64,
    pub confidence: Option<f64>,
    pub flips: Option<u64>,
}

/// How far a run is.
#[derive(Debug, Serialize)]
pub struct ProgressReport {
    pub asked: usize,
    pub questions: usize,
    pub waits: Option<&'static str>,
}

impl CanaryReport {
    pub(super) fn of(standing: &Standing) -> Self {
        let unix_seconds =
            |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let run = standing.outcome.as_ref().map(|outcome| RunReport {
            ended_unix_seconds: standing.ended.map_or(0.0, unix_seconds),
            accuracy: outcome.accuracy,
            lower: outcome.interval.0,
            upper: outcome.interval.1,
            right: outcome.right,
            wrong: outcome.wrong,
            unanswered: outcome.unanswered,
            confidence: outcome.confidence,
            flips: outcome.flips,
        });
        let progress = standing.progress.map(|(asked, questions)| {
            let waits = standing.waits.map(crate::quality::canary::run::Waits::label);
            ProgressReport { asked, questions, waits }
        });
        Self {
            model: standing.model.clone(),
            run,
            runs: standing.runs,
            tokens: standing.tokens,
            progress,
            failure: standing.failure.clone(),
        }
    }
}
