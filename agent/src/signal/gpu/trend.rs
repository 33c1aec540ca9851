//! Where does the temperature go?
//!
//! In: readings. Out: degrees per second by a least-squares fit over the last minute, and from it the time until the clocks
//! go down. A reading is in whole degrees: below some 0.02 degrees a second a slope is not told from rounding.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::BootTime;
use crate::gpu::Reading;

/// Span of the fit.
pub const SPAN: Duration = Duration::from_secs(60);
/// No slope before readings span this.
const SPAN_MIN: Duration = Duration::from_secs(10);
/// Readings that are kept, whatever the clock does: one a tick, and some that come early.
const READINGS_MAX: usize = 80;
/// Two points always lie on a line.
const POINTS_MIN: usize = 3;

/// What is said of a temperature.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trend {
    pub celsius_per_second: Option<f64>,
    /// Until the clocks go down at the present slope; infinite while it does not come nearer, 0 beyond.
    pub seconds_to_slowdown: Option<f64>,
}

/// Readings of the last minute, each once.
#[derive(Debug, Default)]
pub struct Recent(VecDeque<Point>);

#[derive(Clone, Copy, Debug)]
struct Point {
    at: BootTime,
    temperature: Option<f64>,
    /// Degrees until the clocks go down.
    distance: Option<f64>,
}

impl Recent {
    /// Takes the newest reading, and says where it goes. A reading that was taken before changes nothing.
    pub fn push(&mut self, reading: &Reading) -> Trend {
        if self.0.back().is_none_or(|newest| newest.at < reading.at) {
            let (temperature, distance) = (reading.temperature.map(f64::from), distance(reading));
            self.0.push_back(Point { at: reading.at, temperature, distance: distance.map(f64::from) });
        }
        while let Some(oldest) = self.0.front()
            && (reading.at.since(oldest.at) > SPAN || self.0.len() > READINGS_MAX)
        {
            self.0.pop_front();
        }
        // What the newest does not have has no slope either.
        let of = |value: fn(&Point) -> Option<f64>| self.0.back().and_then(value).and(self.slope(value));
        let seconds_to_slowdown =
            of(|point| point.distance).zip(distance(reading)).map(|(slope, distance)| {
                let distance = f64::from(distance);
                if distance <= 0.0 {
                    0.0
                } else if slope < 0.0 {
                    distance / -slope
                } else {
                    f64::INFINITY
                }
            });
        Trend { celsius_per_second: of(|point| point.temperature), seconds_to_slowdown }
    }

    /// Least squares: the covariance of time and value, by the variance of time.
    fn slope(&self, value: fn(&Point) -> Option<f64>) -> Option<f64> {
        let first = self.0.front()?.at;
        let points: Vec<(f64, f64)> = self
            .0
            .iter()
            .filter_map(|point| Some((point.at.since(first).as_secs_f64(), value(point)?)))
            .collect();
        let span = points.last()?.0 - points.first()?.0;
        if points.len() < POINTS_MIN || span < SPAN_MIN.as_secs_f64() {
            return None;
        }
        let count = points.len() as f64;
        let mean_time = points.iter().map(|(time, _)| time).sum::<f64>() / count;
        let mean_value = points.iter().map(|(_, value)| value).sum::<f64>() / count;
        let both = points.iter().map(|(time, value)| (time - mean_time) * (value - mean_value)).sum::<f64>();
        let squares = points.iter().map(|(time, _)| (time - mean_time).powi(2)).sum::<f64>();
        Some(both / squares)
    }
}

/// Degrees until the clocks go down: the driver's own margin, which knows every sensor, else by the threshold.
fn distance(reading: &Reading) -> Option<i32> {
    reading.margin.or_else(|| Some(reading.slowdown_temperature? - reading.temperature?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reading(second: f64, temperature: i32) -> Reading {
        Reading {
            at: BootTime((second * 1e9) as u64),
            temperature: Some(temperature),
            slowdown_temperature: Some(90),
            ..Reading::default()
        }
    }

    /// The trend after these temperatures, one a second.
    fn after(temperatures: impl IntoIterator<Item = i32>) -> Trend {
        let mut recent = Recent::default();
        let push = |(second, temperature)| recent.push(&reading(f64::from(second), temperature));
        (1..).zip(temperatures).map(push).last().unwrap()
    }

    fn close(value: Option<f64>, expected: f64) -> bool {
        value.is_some_and(|value| (value - expected).abs() <= 1e-9 * expected.abs().max(1.0))
    }

    #[test]
    fn a_steady_climb_reaches_the_threshold_when_it_does() {
        let trend = after((0..30).map(|second| 40 + second / 2));
        assert!((trend.celsius_per_second.unwrap() - 0.5).abs() < 0.01, "{trend:?}");
        // 54 degrees now.
        assert!((trend.seconds_to_slowdown.unwrap() - 72.0).abs() < 2.0, "{trend:?}");
        let trend = after((0..30).map(|second| 40 + second));
        assert!(close(trend.celsius_per_second, 1.0) && close(trend.seconds_to_slowdown, 21.0), "{trend:?}");
    }

    #[test]
    fn what_does_not_rise_never_gets_there_and_what_is_beyond_is_there() {
        let never = Some(f64::INFINITY);
        assert_eq!(after([70; 60]), Trend { celsius_per_second: Some(0.0), seconds_to_slowdown: never });
        assert_eq!(after((0..30).map(|second| 90 - second)).seconds_to_slowdown, never);
        assert_eq!(after([95; 20]).seconds_to_slowdown, Some(0.0));
        assert_eq!(after((0..20).map(|second| 110 - second)).seconds_to_slowdown, Some(0.0));
    }

    #[test]
    fn nothing_is_said_before_it_is_known() {
        assert_eq!(after([40; 10]), Trend::default(), "nine seconds");
        assert!(after([40; 11]).celsius_per_second.is_some());
        let mut recent = Recent::default();
        let same = reading(1.0, 50);
        assert!((0..60).all(|_| recent.push(&same) == Trend::default()), "one reading, looked at often");
        assert_eq!(recent.0.len(), 1);
        let without = |second| Reading { slowdown_temperature: None, ..reading(second, 50) };
        let trend = (1..30).map(|second| recent.push(&without(f64::from(second)))).last().unwrap();
        assert_eq!(trend, Trend { celsius_per_second: Some(0.0), seconds_to_slowdown: None });
        let gone = Reading { temperature: None, ..without(30.0) };
        assert_eq!(recent.push(&gone), Trend::default(), "the newest has none");
    }

    #[test]
    fn only_the_last_minute_counts_and_the_drivers_margin_stands_over_the_threshold() {
        let trend = after((0..200).map(|second| if second < 100 { second } else { 99 }));
        assert!(close(trend.celsius_per_second, 0.0), "{trend:?}");
        let mut recent = Recent::default();
        let margin = |second: i32| Reading { margin: Some(50 - second), ..reading(f64::from(second), 40) };
        let trend = (1..=30).map(|second| recent.push(&margin(second))).last().unwrap();
        assert!(close(trend.celsius_per_second, 0.0) && close(trend.seconds_to_slowdown, 20.0), "{trend:?}");
    }

    proptest! {
        /// Against the slope between all pairs of points, weighed by the square of their distance in time.
        #[test]
        fn the_fit_is_the_weighed_mean_of_all_slopes(temperatures in prop::collection::vec(0_i32..120, 11..60)) {
            let (mut weighed, mut weights) = (0.0, 0.0);
            for (i, a) in temperatures.iter().enumerate() {
                for (j, b) in temperatures.iter().enumerate().skip(i + 1) {
                    let time = (j - i) as f64;
                    weighed += time * f64::from(b - a);
                    weights += time * time;
                }
            }
            let found = after(temperatures).celsius_per_second.unwrap();
            prop_assert!((found - weighed / weights).abs() < 1e-6);
        }

        #[test]
        fn what_is_kept_is_bounded(times in prop::collection::vec(0_u64..10_000, 0..500)) {
            let mut recent = Recent::default();
            for time in times {
                recent.push(&reading(time as f64 / 1000.0, 50));
                prop_assert!(recent.0.len() <= READINGS_MAX);
            }
        }
    }
}
