//! What the API and the terminal view may see of this signal. The fields are told at the head of `export/api.rs`.

use std::sync::Arc;

use serde::Serialize;

use super::unix_seconds;
use crate::clock::BootTime;
use crate::quality::files::Standing;
use crate::quality::score::Scores;
use crate::quality::score::accuracy::Accuracy;
use crate::registry::latest::Latest;

/// One for each entry of `drift.files`, as of the newest tick.
pub type PredictionsView = Latest<Vec<PredictionsReport>>;

/// The files of one entry.
#[derive(Debug, Serialize)]
pub struct PredictionsReport {
    pub model: Arc<str>,
    pub source: Arc<str>,
    pub scores: Option<Scores>,
    pub accuracy: Option<Accuracy>,
    pub validation: Option<Accuracy>,
    pub confidence: Option<f64>,
    pub score_age_seconds: Option<f64>,
    pub written_unix_seconds: Option<f64>,
    pub failure: Option<String>,
}

impl PredictionsReport {
    pub(super) fn of(standing: &Standing, now: BootTime) -> Self {
        let scored = standing.scored.as_ref();
        Self {
            model: standing.model.clone(),
            source: standing.source.clone(),
            scores: scored.map(|scored| scored.scores.clone()),
            accuracy: scored.and_then(|scored| scored.accuracy.clone()),
            validation: standing.validation.clone(),
            confidence: scored.and_then(|scored| scored.confidence),
            score_age_seconds: scored.map(|scored| now.since(scored.confirmed).as_secs_f64()),
            written_unix_seconds: scored.map(|scored| unix_seconds(scored.written)),
            failure: standing.failure.clone(),
        }
    }
}
