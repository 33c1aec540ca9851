//! Ratios of pairs -> their median, and where it lies with a confidence of 95 %.
//!
//! By order statistics: between which two of the sorted ratios the true median lies follows from the binomial
//! distribution alone. Nothing is assumed of how the ratios are distributed, and nothing is drawn at random.

use serde::Serialize;

const CONFIDENCE: f64 = 0.95;

/// A median of pairs' ratios, 1 where nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    pub median: f64,
    /// With fewer than six pairs there is no such interval.
    pub low: Option<f64>,
    pub high: Option<f64>,
    pub pairs: usize,
}

impl Interval {
    /// `None` of no ratio at all.
    #[must_use]
    pub fn of(ratios: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = ratios.iter().copied().filter(|ratio| ratio.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let median = median(&sorted)?;
        let inner = outliers(sorted.len()).map(|out| (sorted[out], sorted[sorted.len() - 1 - out]));
        Some(Self {
            median,
            low: inner.map(|(low, _)| low),
            high: inner.map(|(_, high)| high),
            pairs: sorted.len(),
        })
    }
}

/// Of sorted values.
pub(super) fn median(sorted: &[f64]) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(f64::midpoint(sorted[last / 2], sorted[last.div_ceil(2)]))
}

/// How many values may be left out at either end: the true median lies beyond them with less than the rest of the
/// confidence. `None` where there are too few values to leave out none.
fn outliers(count: usize) -> Option<usize> {
    let mut left_out = None;
    // That exactly `k` of `count` values lie below the true median.
    let mut chance = 0.5_f64.powi(i32::try_from(count).ok()?);
    let mut beyond = 0.0;
    for k in 0..count {
        beyond += chance;
        if 2.0 * beyond > 1.0 - CONFIDENCE {
            break;
        }
        left_out = Some(k);
        chance *= (count - k) as f64 / (k + 1) as f64;
    }
    left_out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_left_out_as_tables_of_the_sign_test_say() {
        for (count, expected) in
            [(5, None), (6, Some(0)), (8, Some(0)), (9, Some(1)), (10, Some(1)), (12, Some(2)), (20, Some(5))]
        {
            assert_eq!(outliers(count), expected, "{count}");
        }
    }

    #[test]
    fn the_interval_holds_the_median_and_leaves_the_ends_out() {
        let ratios = [1.5, 0.9, 1.0, 1.1, 0.2, 1.02, 0.98, 1.01, 0.99, 1.03];
        let interval = Interval::of(&ratios).unwrap();
        assert_eq!((interval.low, interval.high, interval.pairs), (Some(0.9), Some(1.1), 10));
        assert!((interval.median - 1.005).abs() < 1e-9, "{interval:?}");
        assert_eq!(Interval::of(&[1.0, f64::NAN, 3.0]).unwrap().pairs, 2);
        assert_eq!(Interval::of(&[]), None);
    }
}
