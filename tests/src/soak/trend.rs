//! Does a number stay where it is?
//!
//! In: readings over time. Out: its growth over the second half of the run, by the median of the slopes between
//! every two readings (Theil and Sen), which a few outliers do not move; flat is what grows by less than a bound.

use serde::Serialize;

/// Readings whose slopes are compared; of more, every so many is taken.
const READINGS_MAX: usize = 300;

/// What may be said of a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    pub(super) what: &'static str,
    pub(super) unit: &'static str,
    /// Over the second half of the run; `None` where growth is right.
    pub(super) growth_max: Option<f64>,
    pub(super) budget: Option<f64>,
}

/// How a number went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trend {
    pub what: &'static str,
    pub unit: &'static str,
    pub first: f64,
    pub median: f64,
    pub max: f64,
    /// Over the second half of the run.
    pub growth: f64,
    pub growth_max: Option<f64>,
    pub budget: Option<f64>,
    pub passed: bool,
}

impl Trend {
    /// Of readings (seconds, value), in order.
    pub(super) fn of(rule: Rule, readings: &[(f64, f64)]) -> Self {
        let second_half = &readings[readings.len() / 2..];
        let span = second_half.last().zip(second_half.first()).map_or(0.0, |(last, first)| last.0 - first.0);
        let growth = slope(second_half) * span;
        let mut values: Vec<f64> = readings.iter().map(|reading| reading.1).collect();
        let first = values.first().copied().unwrap_or_default();
        values.sort_by(f64::total_cmp);
        let max = values.last().copied().unwrap_or_default();
        let Rule { what, unit, growth_max, budget } = rule;
        let passed = !readings.is_empty()
            && growth_max.is_none_or(|bound| growth <= bound)
            && budget.is_none_or(|budget| max <= budget);
        let median = values.get(values.len() / 2).copied().unwrap_or_default();
        Self { what, unit, first, median, max, growth, growth_max, budget, passed }
    }
}

/// Median of the slopes between every two readings.
fn slope(readings: &[(f64, f64)]) -> f64 {
    let step = readings.len().div_ceil(READINGS_MAX).max(1);
    let some: Vec<_> = readings.iter().step_by(step).collect();
    let pairs =
        some.iter().enumerate().flat_map(|(at, one)| some[at + 1..].iter().map(move |two| (one, two)));
    let mut slopes: Vec<f64> = pairs.map(|(one, two)| (two.1 - one.1) / (two.0 - one.0)).collect();
    if slopes.is_empty() {
        return 0.0;
    }
    let middle = slopes.len() / 2;
    *slopes.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { what: "memory", unit: "MiB", growth_max: Some(1.0), budget: Some(48.0) };

    fn check(value: impl Fn(f64) -> f64, passed: bool) {
        let readings: Vec<_> = (0..1000).map(|n| (f64::from(n) * 3.0, value(f64::from(n)))).collect();
        let trend = Trend::of(RULE, &readings);
        assert_eq!(trend.passed, passed, "{trend:?}");
    }

    #[test]
    fn what_rises_steadily_is_not_flat() {
        check(|_| 10.0, true);
        check(|n| 10.0 + n * 0.01, false);
        check(|n| 10.0 + n * 0.001, true);
        check(|n| 30.0 - n * 0.01, true);
    }

    #[test]
    fn what_rises_at_the_beginning_only_is_flat() {
        check(|n| 10.0 + n.min(300.0) * 0.05, true);
    }

    #[test]
    fn outliers_move_no_trend_and_still_count_against_the_budget() {
        check(|n| if n % 10.0 == 0.0 { 40.0 } else { 10.0 }, true);
        check(|n| if n == 500.0 { 49.0 } else { 10.0 }, false);
    }

    #[test]
    fn nothing_read_is_not_flat() {
        assert!(!Trend::of(RULE, &[]).passed);
    }
}
