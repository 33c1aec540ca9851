//! How many predictions are right?
//!
//! In: predictions and the truth, number by number in C order; their shapes may differ, their sizes may not. Out: counts.
//! Labels are compared for equality. Probabilities against labels of 0 and 1 are cut at 0.5 first: compared for
//! equality they would hardly ever be right.

use serde::Serialize;

use super::number;
use crate::quality::npy::Array;

/// From here on a prediction is positive.
const CUT: f64 = 0.5;
/// Beyond it a 64-bit number is no longer every integer, so two labels could look equal.
const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// How predictions were compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    Equality,
    ThresholdHalf,
}

impl Comparison {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equality => "equality",
            Self::ThresholdHalf => "threshold_half",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// Share of right ones, 0 to 1; NaN of none.
    #[serde(serialize_with = "number")]
    pub accuracy: f64,
    pub correct: u64,
    pub total: u64,
    /// Predicted positive where the truth is negative; `None` where labels are not 0 and 1.
    pub false_positives: Option<u64>,
    #[serde(rename = "accuracy_method")]
    pub comparison: Comparison,
}

/// # Errors
/// Why the two cannot be compared.
pub fn compare(predictions: &Array, truth: &Array) -> Result<Accuracy, String> {
    let (predicted, true_) = (&predictions.values, &truth.values);
    if predicted.len() != true_.len() {
        return Err(format!(
            "{} predictions and {} truths: one of the files may be newer",
            predicted.len(),
            true_.len()
        ));
    }
    if [predictions, truth].iter().any(|side| !side.kind.is_float() && side.values.iter().any(is_inexact)) {
        return Err("labels beyond 2^53 cannot be compared".to_owned());
    }
    let comparison = comparison(predictions, truth)?;
    let positive = |value: f64| value >= CUT;
    let right = |predicted: f64, truth: f64| match comparison {
        Comparison::Equality => predicted == truth,
        Comparison::ThresholdHalf => !predicted.is_nan() && positive(predicted) == positive(truth),
    };
    let pairs = || predicted.iter().copied().zip(true_.iter().copied());
    let correct = pairs().filter(|(predicted, truth)| right(*predicted, *truth)).count();
    let binary = comparison == Comparison::ThresholdHalf || (are_binary(predicted) && are_binary(true_));
    let false_positives =
        || pairs().filter(|(predicted, truth)| positive(*predicted) && !positive(*truth)).count() as u64;
    Ok(Accuracy {
        accuracy: correct as f64 / predicted.len() as f64,
        correct: correct as u64,
        total: predicted.len() as u64,
        false_positives: binary.then(false_positives),
        comparison,
    })
}

/// Numbers with a fraction in [0, 1] are probabilities where the truth is whole.
fn comparison(predictions: &Array, truth: &Array) -> Result<Comparison, String> {
    let between = |value: &f64| value.is_nan() || (0.0..=1.0).contains(value);
    let probabilities = predictions.kind.is_float()
        && predictions.values.iter().any(|value| value.is_finite() && value.fract() != 0.0)
        && predictions.values.iter().all(between)
        && truth.values.iter().all(|value| value.fract() == 0.0);
    if !probabilities {
        return Ok(Comparison::Equality);
    }
    if are_binary(&truth.values) {
        Ok(Comparison::ThresholdHalf)
    } else {
        Err("the predictions are probabilities, so the truth has to be 0 or 1 each".to_owned())
    }
}

fn are_binary(values: &[f64]) -> bool {
    values.iter().all(|value| *value == 0.0 || *value == 1.0)
}

fn is_inexact(value: &f64) -> bool {
    value.abs() > EXACT_INTEGER_MAX
}
