//! Objectives: what is good enough, said once. Each request is judged against them, and rules and alerts are rendered from them.
//!
//! In: section `slo` of the configuration. Out: [`Objective`]s, and of each whether a record is good. Pure.

mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use settings::{Levels, OBJECTIVES_MAX, ObjectiveSettings, Settings};

use crate::request::record::{Incomplete, Outcome, RequestRecord};

/// Share of requests that are within the thresholds named `p95_...`.
pub const P95: f64 = 0.95;

/// What is measured of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    Duration,
    Ttft,
    TimePerOutputToken,
}

/// What makes a request good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Good {
    Within(Measure, Duration),
    /// It did not fail by the server's fault.
    Answered,
}

/// A share of requests that has to be good.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// Label.
    pub name: Arc<str>,
    pub good: Good,
    /// Share of the requests that have to be good, above 0 and below 1.
    pub target: f64,
    /// Only requests of this model, server, route.
    pub model: Option<String>,
    pub workload: Option<String>,
    pub route: Option<String>,
}

impl Objective {
    /// Whether requests with these labels can count for it.
    #[must_use]
    pub fn is_of(&self, workload: &str, model: &str) -> bool {
        let is =
            |wanted: &Option<String>, label: &str| wanted.as_deref().is_none_or(|wanted| wanted == label);
        is(&self.workload, workload) && is(&self.model, model)
    }

    /// Whether a finished inference request is good; `None` where it does not count.
    ///
    /// A time is judged of requests that were answered, and of those whose client left after the threshold, for which the time
    /// has passed without what was waited for. What failed counts for the objective of errors alone.
    #[must_use]
    pub fn judge(&self, record: &RequestRecord) -> Option<bool> {
        let route = self.route.as_deref().is_none_or(|route| route == record.route.label());
        if !route || !self.is_of(&record.workload.label, &record.model) {
            return None;
        }
        match self.good {
            Good::Answered => Some(!record.outcome.is_error()),
            Good::Within(measure, threshold) => judge_time(record, measure, threshold),
        }
    }
}

fn judge_time(record: &RequestRecord, measure: Measure, threshold: Duration) -> Option<bool> {
    let trusted = match record.incomplete {
        None => true,
        // Both ends were seen.
        Some(Incomplete::BorderMissed) => measure == Measure::Duration,
        Some(Incomplete::EventsLost) => false,
    };
    if !trusted {
        return None;
    }
    let left = record.outcome == Outcome::ClientAbort;
    let time = match measure {
        Measure::Duration => (!left).then(|| record.duration()),
        Measure::Ttft => record.ttft(),
        Measure::TimePerOutputToken => record.time_per_output_token(),
    };
    match (record.outcome, time) {
        (Outcome::Ok | Outcome::ClientAbort, Some(time)) => Some(time <= threshold),
        // It waited for longer, in vain.
        (Outcome::ClientAbort, None) => {
            let waited = match measure {
                Measure::Duration => true,
                Measure::Ttft => record.streamed && record.first_token.is_none(),
                Measure::TimePerOutputToken => false,
            };
            (waited && record.duration() > threshold).then_some(false)
        }
        _ => None,
    }
}
