//! The page of quality, as far as the view reads it.

use serde::Deserialize;

use crate::command::top::text::Text;

/// `/api/v1/quality`.
#[derive(Clone, Debug, Deserialize)]
pub struct Quality {
    pub predictions: Vec<Predictions>,
    pub evaluations: Vec<Evaluations>,
    #[serde(default)]
    pub changes: Vec<Change>,
    pub canary: Option<Canary>,
}

/// One stream of what requests show.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Change {
    pub model: Text,
    pub workload: Text,
    pub of: Text,
    /// The part that has been learnt, until it is whole.
    pub reference: Option<f64>,
    pub statistic: Option<f64>,
    pub alarm: Option<Alarm>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Alarm {
    pub since_unix_seconds: f64,
    pub ratio: Option<f64>,
    pub difference: Option<f64>,
    pub coincides: Vec<Text>,
}

/// Scored files of predictions.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Predictions {
    pub model: Text,
    pub source: Text,
    pub scores: Option<Scores>,
    pub accuracy: Option<Accuracy>,
    pub validation: Option<Accuracy>,
    pub confidence: Option<f64>,
    pub score_age_seconds: Option<f64>,
    pub failure: Option<Text>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Scores {
    pub kl: Option<Number>,
    pub ks_p_value: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Accuracy {
    pub accuracy: Option<Number>,
}

/// JSON has texts for what is no number.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Number {
    Plain(f64),
    Told(Text),
}

/// Results of evaluations of one model.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Evaluations {
    pub model: Text,
    pub scores: Vec<Score>,
    pub failure: Option<Text>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Score {
    pub source: Text,
    pub task: Text,
    pub score: f64,
    pub standard_error: Option<f64>,
    pub age_seconds: f64,
    pub fall: Option<f64>,
    pub fall_p_value: Option<f64>,
    pub fallen: Option<bool>,
}

/// What the canary's runs say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Canary {
    pub model: Text,
    pub run: Option<CanaryRun>,
    pub progress: Option<CanaryProgress>,
    pub failure: Option<Text>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CanaryRun {
    pub ended_unix_seconds: f64,
    pub accuracy: f64,
    pub lower: f64,
    pub upper: f64,
    pub confidence: Option<f64>,
    pub flips: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CanaryProgress {
    pub asked: usize,
    pub questions: usize,
    pub waits: Option<Text>,
}
