//! What the API and the terminal view may see of this signal. The fields are told at the head of `export/api.rs`.

use std::sync::Arc;

use serde::Serialize;

use super::families::Key;
use crate::quality::change::State;
use crate::quality::change::cause::Coincidence;
use crate::quality::change::pair::Of;
use crate::registry::latest::Latest;

/// One for each stream, as of the newest tick.
pub type ChangesView = Latest<Vec<ChangeReport>>;

/// One stream.
#[derive(Debug, Serialize)]
pub struct ChangeReport {
    pub model: Arc<str>,
    pub workload: Arc<str>,
    pub of: &'static str,
    /// `null` once the reference is whole.
    pub reference: Option<f64>,
    /// `null` before.
    pub statistic: Option<f64>,
    pub alarm: Option<AlarmReport>,
}

/// An alarm.
#[derive(Debug, Serialize)]
pub struct AlarmReport {
    pub since_unix_seconds: f64,
    pub raised_unix_seconds: f64,
    /// Values since then to those of the reference; of shares `null`.
    pub ratio: Option<f64>,
    /// Of shares.
    pub difference: Option<f64>,
    pub coincides: Vec<Coincidence>,
}

impl ChangeReport {
    pub(super) fn of(key: &Key, of: Of, state: &State, coincides: &[Coincidence]) -> Self {
        let (reference, statistic) = match state {
            State::Learning(part) => (Some(*part), None),
            State::Watching(statistic) => (None, Some(*statistic)),
        };
        let alarm = statistic.and_then(|statistic| statistic.alarm).map(|alarm| AlarmReport {
            since_unix_seconds: alarm.since_ns as f64 / 1e9,
            raised_unix_seconds: alarm.raised_ns as f64 / 1e9,
            ratio: (!of.is_share()).then_some(alarm.effect),
            difference: of.is_share().then_some(alarm.effect),
            coincides: coincides.to_vec(),
        });
        Self {
            model: key.model.clone(),
            workload: key.workload.clone(),
            of: of.label(),
            reference,
            statistic: statistic.map(|statistic| statistic.value),
            alarm,
        }
    }
}
