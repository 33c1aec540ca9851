//! Sums of evidence for a change, up and down.
//!
//! In: what each value says, as log likelihood ratios of a change to none. Out: the larger sum's share of the
//! threshold, and since when it rises. A sum never falls below 0, so what was long before says nothing. Where single
//! ratios have an expectation of at most 1 without a change, the mean number of values between false alarms is at least
//! the exponential of the threshold (Lorden, 1971), halved for two directions.

use serde::{Deserialize, Serialize};

/// A sum stops here, in thresholds, so that an alarm ends when all is as before.
pub const FULL: f64 = 1.5;
/// An alarm ends when its sum has fallen to this, in thresholds.
const OVER: f64 = 0.5;

/// Both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cusum {
    up: Sum,
    down: Sum,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sum {
    evidence: f64,
    /// The last time at which it was 0.
    since_ns: u64,
    /// Of what was added since then.
    scores: f64,
    count: u64,
    /// When it passed the threshold, until it is over.
    raised_ns: Option<u64>,
}

/// The threshold for this expected number of values between false alarms of either direction.
#[must_use]
pub fn threshold(values_between: f64) -> f64 {
    (2.0 * values_between).max(2.0).ln()
}

impl Cusum {
    /// Takes a value that has this score: what it says for a change upwards and downwards.
    pub fn add(&mut self, now_ns: u64, score: f64, (up, down): (f64, f64), threshold: f64) {
        self.up.add(now_ns, score, up, threshold);
        self.down.add(now_ns, score, down, threshold);
    }

    /// The one that says more.
    #[must_use]
    pub fn leading(&self) -> &Sum {
        if self.up.evidence >= self.down.evidence { &self.up } else { &self.down }
    }

    /// The sum that raised an alarm, the one that says more where both did.
    #[must_use]
    pub fn raised(&self) -> Option<&Sum> {
        let raised = [&self.up, &self.down].into_iter().filter(|sum| sum.raised_ns.is_some());
        raised.max_by(|a, b| a.evidence.total_cmp(&b.evidence))
    }
}

impl Sum {
    fn add(&mut self, now_ns: u64, score: f64, evidence: f64, threshold: f64) {
        if self.evidence == 0.0 {
            (self.since_ns, self.scores, self.count) = (now_ns, 0.0, 0);
        }
        self.scores += score;
        self.count += 1;
        self.evidence = (self.evidence + evidence).clamp(0.0, FULL * threshold);
        if self.evidence >= threshold {
            self.raised_ns = self.raised_ns.or(Some(now_ns));
        } else if self.evidence <= OVER * threshold {
            self.raised_ns = None;
        }
    }

    #[must_use]
    pub fn evidence(&self) -> f64 {
        self.evidence
    }

    /// The evidence in thresholds, 0 to [`FULL`]: what was kept may be of a higher threshold.
    #[must_use]
    pub fn share_of(&self, threshold: f64) -> f64 {
        (self.evidence / threshold).min(FULL)
    }

    #[must_use]
    pub fn since_ns(&self) -> u64 {
        self.since_ns
    }

    #[must_use]
    pub fn raised_ns(&self) -> Option<u64> {
        self.raised_ns
    }

    /// Of the scores since it was 0.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.scores / self.count as f64 }
    }

    /// What comes from a file is what it could be: `most` is the largest score.
    #[must_use]
    pub fn is_sound(&self, most: f64) -> bool {
        let scores = self.scores.abs() <= most * self.count as f64;
        self.evidence.is_finite() && self.evidence >= 0.0 && scores
    }
}

impl Cusum {
    #[must_use]
    pub fn is_sound(&self, most: f64) -> bool {
        self.up.is_sound(most) && self.down.is_sound(most)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn evidence_is_between_nothing_and_full_whatever_it_is_measured_by(
            added in proptest::collection::vec(-9.0_f64..9.0, 1..200),
            threshold in 0.5_f64..40.0,
            less in 0.1_f64..1.0,
        ) {
            let mut sums = Cusum::default();
            for (time, evidence) in added.into_iter().enumerate() {
                sums.add(time as u64, 0.0, (evidence, -evidence), threshold);
                for of in [threshold, threshold * less] {
                    let share = sums.leading().share_of(of);
                    prop_assert!((0.0..=FULL).contains(&share), "{}", share);
                }
            }
        }
    }
}
