//! How far are two samples apart? Distances of distributions, a test of whether they are the same, and accuracy.
//!
//! In: two arrays of numbers. Out: scores that agree with SciPy's (`tests/drift-vectors` says to how many places, and
//! how every odd input is judged). Distances by bins see what lies in [0, 1], the others every finite number.

pub mod accuracy;
mod bins;
mod ks;
mod one_sample;

use serde::{Serialize, Serializer};

use super::npy::Array;
use bins::Bins;

pub use ks::Method;

/// What `recent` is to `baseline`. A score that cannot be had is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// Kullback-Leibler divergence of recent from baseline over 50 bins on [0, 1], in nats, without smoothing: infinite
    /// where recent has a number in a bin that baseline has not, NaN where either has none in any.
    #[serde(serialize_with = "number")]
    pub kl: f64,
    /// The same with empty bins counted as 1e-4 of all: finite.
    pub kl_smoothed: Option<f64>,
    /// Jensen-Shannon distance, 0 to 1: the root of the divergence to base 2.
    pub js_distance: Option<f64>,
    /// Population stability index, with empty bins as 1e-4. By custom, above 0.25 is a shift.
    pub population_stability: Option<f64>,
    /// Largest difference of the two distribution functions, 0 to 1.
    pub ks_statistic: Option<f64>,
    /// How probable that or a larger one is where both are of one distribution.
    pub ks_p_value: Option<f64>,
    pub ks_method: Option<Method>,
    /// Area between the two distribution functions, in the unit of the numbers.
    #[serde(serialize_with = "maybe_number")]
    pub wasserstein: Option<f64>,
    /// Numbers that are neither infinite nor NaN.
    pub baseline_count: u64,
    pub recent_count: u64,
    /// Of these, in [0, 1]: a divergence of a sixth of the numbers is not one of all.
    pub baseline_in_range: u64,
    pub recent_in_range: u64,
}

impl Scores {
    /// Takes both arrays, so that their memory can be used for sorting.
    #[must_use]
    pub fn of(recent: Array, baseline: Array) -> Self {
        let (p, q) = (Bins::of(&recent), Bins::of(&baseline));
        let (recent, baseline) = std::thread::scope(|scope| {
            let other = scope.spawn(|| sorted(baseline.values));
            (sorted(recent.values), other.join().expect("sorting does not panic"))
        });
        let ks = ks::test(&recent, &baseline);
        let both = !recent.is_empty() && !baseline.is_empty();
        let some = p.total() > 0 && q.total() > 0;
        Self {
            kl: bins::kl(&p, &q),
            kl_smoothed: some.then(|| bins::kl_smoothed(&p, &q)),
            js_distance: some.then(|| bins::js_distance(&p, &q)),
            population_stability: some.then(|| bins::population_stability(&p, &q)),
            ks_statistic: ks.map(|ks| ks.statistic),
            ks_p_value: ks.map(|ks| ks.p_value),
            ks_method: ks.map(|ks| ks.method),
            wasserstein: both.then(|| wasserstein(&recent, &baseline)),
            baseline_count: baseline.len() as u64,
            recent_count: recent.len() as u64,
            baseline_in_range: q.total(),
            recent_in_range: p.total(),
        }
    }
}

/// The finite numbers, in order.
fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.retain(|value| value.is_finite());
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The area between two distribution functions, whose numbers are sorted and not none.
fn wasserstein(a: &[f64], b: &[f64]) -> f64 {
    let (mut at_a, mut at_b) = (0, 0);
    let mut last = a[0].min(b[0]);
    let (mut area, mut lost) = (0.0_f64, 0.0_f64);
    while at_a < a.len() || at_b < b.len() {
        let next = match (a.get(at_a), b.get(at_b)) {
            (Some(a), Some(b)) => a.min(*b),
            (Some(only), None) | (None, Some(only)) => *only,
            (None, None) => break,
        };
        let height = (at_a as f64 / a.len() as f64 - at_b as f64 / b.len() as f64).abs();
        // Summed with what rounding loses (Kahan): there may be tens of millions of terms.
        let term = height * (next - last) - lost;
        let sum = area + term;
        lost = (sum - area) - term;
        area = sum;
        last = next;
        at_a += a[at_a..].iter().take_while(|value| **value == next).count();
        at_b += b[at_b..].iter().take_while(|value| **value == next).count();
    }
    area
}

/// JSON has no number for these: they are texts.
///
/// # Errors
/// Where the serializer has.
pub fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match *value {
        value if value.is_nan() => serializer.serialize_str("nan"),
        f64::INFINITY => serializer.serialize_str("inf"),
        f64::NEG_INFINITY => serializer.serialize_str("-inf"),
        value => serializer.serialize_f64(value),
    }
}

fn maybe_number<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => number(value, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests;
