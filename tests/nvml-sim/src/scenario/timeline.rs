//! A value over time: a polygon or steps, once or again and again.
//!
//! In: pairs of seconds and value, as a scenario has them. Out: the value and its exact integral at a time, in
//! thousandths and nanoseconds, so that no sum depends on how often it was asked.

use serde::Deserialize;

/// Nanoseconds of a second.
pub(crate) const SECOND: u64 = 1_000_000_000;
/// Seconds that a scenario may name: beyond, integrals would not fit.
const SECONDS_MAX: f64 = 1e8;
/// Values that a scenario may name, for the same reason.
const VALUE_MAX: f64 = 1e9;

/// A value over time; before its first point it has the value of the first, after its last that of the last.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Timeline {
    /// Nanoseconds and thousandths; at least one, in order of time.
    points: Vec<(u64, i64)>,
    steps: bool,
    /// After so many nanoseconds it begins anew.
    repeat: Option<u64>,
}

/// As it stands in a scenario.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Constant(f64),
    Polygon(Vec<(f64, f64)>),
    Full(Full),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    points: Vec<(f64, f64)>,
    #[serde(default)]
    steps: bool,
    repeat: Option<f64>,
}

impl TryFrom<Written> for Timeline {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let full = match written {
            Written::Constant(value) => Full { points: vec![(0.0, value)], steps: false, repeat: None },
            Written::Polygon(points) => Full { points, steps: false, repeat: None },
            Written::Full(full) => full,
        };
        Self::new(&full.points, full.steps, full.repeat)
    }
}

impl Timeline {
    /// # Errors
    /// No point, points out of order, one after the end of the repetition, or a number out of range.
    pub fn new(points: &[(f64, f64)], steps: bool, repeat: Option<f64>) -> Result<Self, String> {
        let points = points
            .iter()
            .map(|(at, value)| Ok((nanoseconds(*at)?, thousandths(*value)?)))
            .collect::<Result<Vec<_>, String>>()?;
        if points.is_empty() {
            return Err("a timeline without points".to_owned());
        }
        if !points.is_sorted_by(|one, next| one.0 < next.0) {
            return Err("points of a timeline that are not in order of time".to_owned());
        }
        let repeat = repeat.map(period).transpose()?;
        if repeat.is_some_and(|repeat| points.iter().any(|(at, _)| *at > repeat)) {
            return Err("a point after the end of its repetition".to_owned());
        }
        Ok(Self { points, steps, repeat })
    }

    /// Thousandths.
    #[must_use]
    pub fn at(&self, ns: u64) -> i64 {
        let ns = self.repeat.map_or(ns, |repeat| ns % repeat);
        let next = self.points.partition_point(|(at, _)| *at <= ns);
        if next == 0 {
            return self.points[0].1;
        }
        let (from, value) = self.points[next - 1];
        match self.points.get(next) {
            Some((to, goal)) if !self.steps => {
                let rise = i128::from(goal - value) * i128::from(ns - from);
                value + narrow(rise.div_euclid(i128::from(to - from)))
            }
            _ => value,
        }
    }

    /// The value rounded down to a whole number.
    #[must_use]
    pub fn whole_at(&self, ns: u64) -> i64 {
        self.at(ns).div_euclid(1000)
    }

    /// From 0 to this time: thousandths times nanoseconds, rounded down.
    #[must_use]
    pub fn integral(&self, ns: u64) -> i128 {
        let (periods, rest) = self.repeat.map_or((0, ns), |repeat| (ns / repeat, ns % repeat));
        let period = self.repeat.map_or(0, |repeat| self.once(repeat).0);
        (i128::from(periods) * period + self.once(rest).0).div_euclid(2)
    }

    /// From 0 to this time: nanoseconds in which it was 0.
    #[must_use]
    pub fn zero_ns(&self, ns: u64) -> u64 {
        let (periods, rest) = self.repeat.map_or((0, ns), |repeat| (ns / repeat, ns % repeat));
        let period = self.repeat.map_or(0, |repeat| self.once(repeat).1);
        periods * period + self.once(rest).1
    }

    /// Without repetition: twice the integral, because half a thousandth is a matter of every polygon; and for how
    /// long it was 0.
    fn once(&self, ns: u64) -> (i128, u64) {
        let first = self.points[0];
        let before = first.0.min(ns);
        let mut twice = 2 * i128::from(first.1) * i128::from(before);
        let mut zero = if first.1 == 0 { before } else { 0 };
        for (index, (from, value)) in self.points.iter().enumerate() {
            if *from >= ns {
                break;
            }
            let next = self.points.get(index + 1);
            let length = next.map_or(ns, |(to, _)| ns.min(*to)) - from;
            let slope = next.filter(|_| !self.steps).map(|(to, goal)| (goal - value, to - from));
            let (rise, whole) = slope.unwrap_or((0, 1));
            twice += 2 * i128::from(*value) * i128::from(length);
            twice += (i128::from(rise) * i128::from(length).pow(2)).div_euclid(i128::from(whole));
            zero += if *value == 0 && rise == 0 { length } else { 0 };
        }
        (twice, zero)
    }
}

impl From<i32> for Timeline {
    /// A value that does not change.
    fn from(value: i32) -> Self {
        Self { points: vec![(0, i64::from(value) * 1000)], steps: false, repeat: None }
    }
}

/// A point of a polygon lies between its neighbours, which are `i64`.
fn narrow(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Of seconds as a scenario has them.
pub(crate) fn nanoseconds(seconds: f64) -> Result<u64, String> {
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err(format!("{seconds} seconds, outside 0 to {SECONDS_MAX}"));
    }
    Ok((seconds * SECOND as f64).round() as u64)
}

/// Of seconds after which something begins anew.
pub(crate) fn period(seconds: f64) -> Result<u64, String> {
    let repeat = nanoseconds(seconds)?;
    if repeat < SECOND / 10 { Err(format!("a repetition after {seconds} seconds")) } else { Ok(repeat) }
}

fn thousandths(value: f64) -> Result<i64, String> {
    if !(-VALUE_MAX..=VALUE_MAX).contains(&value) {
        return Err(format!("value {value}, outside -{VALUE_MAX} to {VALUE_MAX}"));
    }
    Ok((value * 1000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn polygon(points: &[(f64, f64)], repeat: Option<f64>) -> Timeline {
        Timeline::new(points, false, repeat).unwrap()
    }

    #[test]
    fn values_are_those_of_the_line_between_points() {
        let line = polygon(&[(10.0, 40.0), (20.0, 90.0)], None);
        for (at, value) in [(0, 40_000), (10, 40_000), (15, 65_000), (20, 90_000), (99, 90_000)] {
            assert_eq!(line.at(at * SECOND), value, "{at} s");
        }
        let steps = Timeline::new(&[(10.0, 40.0), (20.0, 90.0)], true, Some(30.0)).unwrap();
        for (at, value) in [(0, 40_000), (19, 40_000), (20, 90_000), (29, 90_000), (30, 40_000), (51, 90_000)]
        {
            assert_eq!(steps.at(at * SECOND), value, "{at} s");
        }
        assert_eq!(polygon(&[(0.0, -1.0), (1.0, -2.0)], None).whole_at(SECOND / 2), -2);
    }

    #[test]
    fn what_makes_no_timeline_is_refused() {
        let check = |points: &[(f64, f64)], repeat| assert!(Timeline::new(points, false, repeat).is_err());
        check(&[], None);
        check(&[(2.0, 1.0), (1.0, 1.0)], None);
        check(&[(1.0, 1.0), (1.0, 2.0)], None);
        check(&[(-1.0, 1.0)], None);
        check(&[(0.0, f64::NAN)], None);
        check(&[(0.0, 1.0), (9.0, 1.0)], Some(8.0));
        check(&[(0.0, 1.0)], Some(0.0));
    }

    /// Milliseconds and values; the slow oracle adds up every millisecond by the trapezoid.
    fn any_timeline() -> impl Strategy<Value = Timeline> {
        let points = prop::collection::btree_map(0_u32..3000, -500_i32..500, 1..6);
        (points, any::<bool>(), prop::option::of(3000_u32..5000)).prop_map(|(points, steps, repeat)| {
            let points: Vec<_> =
                points.iter().map(|(at, value)| (f64::from(*at) / 1e3, f64::from(*value))).collect();
            Timeline::new(&points, steps, repeat.map(|repeat| f64::from(repeat) / 1e3)).unwrap()
        })
    }

    proptest! {
        #[test]
        fn the_integral_is_the_sum_of_small_slices(line in any_timeline(), until_ms in 0_u64..12_000) {
            const MS: u64 = 1_000_000;
            let slice = |ms: u64| {
                let (from, last) = (ms * MS, (ms + 1) * MS - 1);
                (i128::from(line.at(from)) + i128::from(line.at(last))) * i128::from(MS) / 2
            };
            let slow: i128 = (0..until_ms).map(slice).sum();
            let fast = line.integral(until_ms * MS);
            // Both ends of a slice are rounded down to a thousandth.
            let error_max = i128::from(until_ms + 1) * i128::from(MS) * 2;
            prop_assert!((fast - slow).abs() <= error_max, "{fast} {slow}");
        }

        #[test]
        fn time_at_zero_is_counted_to_the_nanosecond(line in any_timeline(), until_ms in 0_u64..12_000) {
            const MS: u64 = 1_000_000;
            // Beside 0 a polygon is rounded down to it.
            let line = Timeline { steps: true, ..line };
            let slow = (0..until_ms).filter(|ms| line.at(*ms * MS) == 0).count() as u64 * MS;
            prop_assert_eq!(line.zero_ns(until_ms * MS), slow);
        }
    }
}
