//! Has what requests show changed? Streams of values against a reference, with a chosen time between false alarms.
//!
//! In: values of requests as they end, each with the size of its request. Out: a [`Statistic`] for each stream, and an
//! alarm with the time of the change, its direction and its size. Pure: no clock, no files.
//!
//! A stream first learns what is usual, in two steps that the reference consists of:
//!
//! 1. [`shape`]: the median of the logarithm of the values for each size of request, and how far they scatter. A longer
//!    prompt takes longer; that is no change. Between sizes it is interpolated.
//! 2. [`level`]: with that fixed, what is left for each size, for each hour of the day where the reference spans a day, and
//!    how much sums of values scatter, which is more than each for itself where they hang together.
//!
//! Then [`cusum`] sums up what each value says for a change of at least [`SHIFT_MIN`] scatters against none. Its threshold
//! is the logarithm of the expected number of values between false alarms, for which Lorden's bound holds whatever
//! the rest. Shares (errors, finish reasons) are told by [`share`] in the same way.
//!
//! **A daily cycle** is part of a reference that spans a day or more: each hour is compared with itself. With a shorter one it
//! is a change like any other. Weekdays are not told apart.

pub mod cause;
pub mod cusum;
pub mod level;
pub mod measure;
pub mod pair;
pub mod shape;
pub mod share;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds of a second, the unit of times here.
pub const SECOND_NS: u64 = 1_000_000_000;
pub const DAY_NS: u64 = 86_400 * SECOND_NS;
/// The least change that matters, in scatters of single values: for a scatter of 0.5 in the logarithm it is 5 %.
pub const SHIFT_MIN: f64 = 0.1;

/// How streams are watched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Expected time between false alarms of one stream.
    pub between_false_alarms: Duration,
    /// Span of the reference, without its first step.
    pub reference: Duration,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    /// The part of the reference that there is, 0 to 1.
    Learning(f64),
    Watching(Statistic),
}

/// What speaks for a change.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Statistic {
    /// Share of the threshold, 0 to [`cusum::FULL`]; 1 raises the alarm.
    pub value: f64,
    pub alarm: Option<Alarm>,
}

/// A change that chance does not explain.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// Since when, as far as the sum tells, by the caller's clock in nanoseconds.
    pub since_ns: u64,
    pub raised_ns: u64,
    /// Values of now to those of the reference: 1.1 is 10 % more. Of shares their difference.
    pub effect: f64,
}

#[cfg(test)]
mod tests;
