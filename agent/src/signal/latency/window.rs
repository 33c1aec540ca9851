//! What happened lately: sliding windows over distributions, means and rates.
//!
//! In: values as they come, and the time once a second. Out: quantiles and means of the last 5 min (in
//! steps of 30 s), rates per second. A window that has nothing in it holds no memory.

use std::array;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::bounds::{HIGHEST_NS, SIGNIFICANT_DIGITS, UNIT_NS};
use crate::clock::BootTime;

/// Length of the sliding windows.
pub const WINDOW: Duration = Duration::from_secs(300);
/// Parts that a window is made of: the oldest leaves as a whole.
pub const PARTS: usize = 10;
const PART_NS: u64 = WINDOW.as_nanos() as u64 / PARTS as u64;
/// Short span of rates.
pub const SHORT: Duration = Duration::from_secs(10);
const SECONDS: usize = WINDOW.as_secs() as usize;

/// Numbers of the parts of `PARTS` that end when time goes from one part to another.
fn ended(from: u64, to: u64) -> impl Iterator<Item = usize> {
    let count = to.saturating_sub(from).min(PARTS as u64);
    (to + 1 - count..=to).map(|part| (part % PARTS as u64) as usize)
}

/// A distribution of durations over the last 5 min. Relative error of its quantiles: at most 1 % from
/// 10 us to 1 h, see [`super::bounds`].
#[derive(Debug)]
pub struct SlidingHistogram {
    // Kept beside its parts, so that a quantile reads one histogram instead of adding ten.
    merged: Option<Histogram<u32>>,
    parts: [Option<Histogram<u32>>; PARTS],
    part: u64,
}

impl SlidingHistogram {
    /// Empty, beginning at `now`.
    #[must_use]
    pub fn new(now: BootTime) -> Self {
        Self { merged: None, parts: array::from_fn(|_| None), part: now.0 / PART_NS }
    }

    /// Counts one value; one above 1 h counts as 1 h.
    pub fn record(&mut self, value: Duration) {
        let ns = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        let part = &mut self.parts[(self.part % PARTS as u64) as usize];
        for histogram in [part, &mut self.merged] {
            histogram.get_or_insert_with(empty).saturating_record(ns);
        }
    }

    /// Lets what is older than the window go.
    pub fn advance(&mut self, now: BootTime) {
        let part = now.0 / PART_NS;
        for index in ended(self.part, part) {
            let Some(gone) = self.parts[index].take() else { continue };
            let merged = self.merged.as_mut();
            let left = merged.map(|merged| merged.subtract(&gone).map(|()| merged.len()));
            // Counters saturate at 4e9 per step; after that the parts no longer add up, and the window starts anew.
            if !matches!(left, Some(Ok(1..))) {
                self.merged = None;
            }
        }
        if self.merged.is_none() {
            self.parts = array::from_fn(|_| None);
        }
        self.part = self.part.max(part);
    }

    /// Values in the window.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.merged.as_ref().map_or(0, Histogram::len)
    }

    /// The value that a share `quantile` of the values does not exceed; `None` without values.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let merged = self.merged.as_ref()?;
        let ns = merged.value_at_quantile(quantile);
        // The middle of the step: half the error of its end.
        Some(Duration::from_nanos(merged.median_equivalent(ns).min(HIGHEST_NS)))
    }
}

fn empty() -> Histogram<u32> {
    Histogram::new_with_bounds(UNIT_NS, HIGHEST_NS, SIGNIFICANT_DIGITS)
        .expect("the bounds are constants that the library accepts")
}

/// A mean over the last 5 min.
#[derive(Debug)]
pub struct SlidingMean {
    parts: [(f64, u64); PARTS],
    part: u64,
}

impl SlidingMean {
    /// Empty, beginning at `now`.
    #[must_use]
    pub fn new(now: BootTime) -> Self {
        Self { parts: [(0.0, 0); PARTS], part: now.0 / PART_NS }
    }

    /// Adds one value.
    pub fn record(&mut self, value: f64) {
        let (sum, count) = &mut self.parts[(self.part % PARTS as u64) as usize];
        *sum += value;
        *count += 1;
    }

    /// Lets what is older than the window go.
    pub fn advance(&mut self, now: BootTime) {
        let part = now.0 / PART_NS;
        for index in ended(self.part, part) {
            self.parts[index] = (0.0, 0);
        }
        self.part = self.part.max(part);
    }

    /// Sum and count of the window.
    #[must_use]
    pub fn totals(&self) -> (f64, u64) {
        self.parts.iter().fold((0.0, 0), |(sum, count), part| (sum + part.0, count + part.1))
    }
}

/// Events per second, over the last 10 s and 5 min.
#[derive(Debug)]
pub struct SlidingRate {
    seconds: Box<[u32; SECONDS]>,
    second: u64,
}

impl SlidingRate {
    /// Empty, beginning at `now`.
    #[must_use]
    pub fn new(now: BootTime) -> Self {
        Self { seconds: Box::new([0; SECONDS]), second: now.0 / 1_000_000_000 }
    }

    /// Adds `count` events of this second.
    pub fn add(&mut self, count: u64) {
        let second = &mut self.seconds[(self.second % SECONDS as u64) as usize];
        *second = second.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Goes on to the second of `now`.
    pub fn advance(&mut self, now: BootTime) {
        let second = now.0 / 1_000_000_000;
        let ended = second.saturating_sub(self.second).min(SECONDS as u64);
        for gone in second + 1 - ended..=second {
            self.seconds[(gone % SECONDS as u64) as usize] = 0;
        }
        self.second = self.second.max(second);
    }

    /// Mean per second of the last `span` whole seconds, at most those that were watched.
    #[must_use]
    pub fn per_second(&self, span: Duration, watched: Duration) -> f64 {
        let span = span.as_secs().min(SECONDS as u64 - 1).min(watched.as_secs());
        let first = self.second.saturating_sub(span);
        let sum: u64 =
            (first..self.second).map(|s| u64::from(self.seconds[(s % SECONDS as u64) as usize])).sum();
        if span == 0 { 0.0 } else { sum as f64 / span as f64 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime(seconds * 1_000_000_000)
    }

    /// The smallest value that a share `quantile` of the values does not exceed, by sorting them all.
    fn oracle(values: &mut [u64], quantile: f64) -> u64 {
        values.sort_unstable();
        let rank = (quantile * values.len() as f64).ceil().max(1.0) as usize;
        values[rank - 1]
    }

    proptest! {
        #[test]
        fn quantiles_are_within_one_percent_of_the_sorted_values(
            // Evenly over the orders of magnitude from 10 us to 1 h, in nanoseconds.
            exponents in prop::collection::vec(4.0f64..12.5563, 1..400),
            quantile in prop::sample::select(vec![0.01, 0.5, 0.9, 0.95, 0.99, 1.0]),
        ) {
            let mut values: Vec<u64> = exponents.iter().map(|e| 10f64.powf(*e) as u64).collect();
            let mut window = SlidingHistogram::new(at(0));
            for value in &values {
                window.record(Duration::from_nanos(*value));
            }
            let measured = window.quantile(quantile).unwrap().as_nanos() as f64;
            let expected = oracle(&mut values, quantile) as f64;
            prop_assert!((measured - expected).abs() <= expected * 0.01, "{measured} for {expected}");
        }

        #[test]
        fn the_window_is_what_came_in_its_parts(
            steps in prop::collection::vec((0u64..120, 1u64..5_000), 1..60),
        ) {
            let mut window = SlidingHistogram::new(at(0));
            let mut mean = SlidingMean::new(at(0));
            let mut all: Vec<(u64, u64)> = Vec::new();
            let mut now = 0;
            for (pause, ms) in steps {
                now += pause;
                window.advance(at(now));
                mean.advance(at(now));
                window.record(Duration::from_millis(ms));
                mean.record(ms as f64);
                all.push((now / 30, ms));
                let mut kept: Vec<u64> =
                    all.iter().filter(|(part, _)| part + PARTS as u64 > now / 30).map(|(_, ms)| *ms).collect();
                prop_assert_eq!(window.count(), kept.len() as u64);
                prop_assert_eq!(mean.totals().1, kept.len() as u64);
                prop_assert!((mean.totals().0 - kept.iter().sum::<u64>() as f64).abs() < 1e-6);
                let expected = oracle(&mut kept, 0.95) as f64 / 1e3;
                let measured = window.quantile(0.95).unwrap().as_secs_f64();
                prop_assert!((measured - expected).abs() <= expected * 0.01, "{} for {}", measured, expected);
            }
        }
    }

    #[test]
    fn a_window_without_values_has_no_quantile_and_no_memory() {
        let mut window = SlidingHistogram::new(at(1000));
        assert_eq!(window.quantile(0.95), None);
        window.record(Duration::from_millis(80));
        window.advance(at(1000 + 269));
        assert_eq!(window.count(), 1);
        window.advance(at(1000 + 330));
        assert_eq!((window.count(), window.quantile(0.95)), (0, None));
        assert!(window.merged.is_none() && window.parts.iter().all(Option::is_none));
    }

    #[test]
    fn values_outside_the_range_count_as_its_ends() {
        let mut window = SlidingHistogram::new(at(0));
        window.record(Duration::from_secs(86_400));
        let hour = window.quantile(1.0).unwrap().as_secs_f64();
        assert!((hour - 3600.0).abs() <= 36.0, "{hour}");
        window.record(Duration::ZERO);
        assert!(window.quantile(0.5).unwrap() < Duration::from_micros(1));
    }

    #[test]
    fn a_clock_that_steps_back_or_far_ahead_loses_nothing_it_should_keep() {
        let mut window = SlidingHistogram::new(at(600));
        window.record(Duration::from_millis(1));
        window.advance(at(0));
        assert_eq!(window.count(), 1);
        window.advance(at(1_000_000));
        assert_eq!(window.count(), 0);
    }

    #[test]
    fn rates_are_of_whole_seconds_that_were_watched() {
        let mut rate = SlidingRate::new(at(100));
        for second in 100..120 {
            rate.advance(at(second));
            rate.add(5);
        }
        // The second under way is not counted: it is not over.
        let check = |rate: &SlidingRate, span, watched, expected: f64| {
            let measured = rate.per_second(span, Duration::from_secs(watched));
            assert!((measured - expected).abs() < 1e-9, "{measured} for {expected}");
        };
        check(&rate, SHORT, 20, 5.0);
        check(&rate, WINDOW, 19, 5.0);
        check(&rate, SHORT, 0, 0.0);
        rate.advance(at(125));
        check(&rate, SHORT, 25, 2.5);
        rate.advance(at(500));
        check(&rate, WINDOW, 400, 0.0);
    }
}
