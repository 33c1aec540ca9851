//! What is left once the size of requests is accounted for: by size, by hour of the day; and how far sums of it scatter.
//!
//! In: deviations from the [`Shape`](super::shape::Shape), for the span of the reference. Out: a [`Level`], with which
//! deviations become scores around 0.

use serde::{Deserialize, Serialize};

use super::shape::SIZES;
use super::{DAY_NS, SECOND_NS};

pub const HOURS: usize = 24;
const HOUR_NS: u64 = DAY_NS / HOURS as u64;
/// Deviations count no more than this: one request that took a minute is no change.
const DEVIATION_MAX: f64 = 3.0;
/// Values that a size needs in the reference to be compared at all.
const OF_SIZE_MIN: u64 = 100;
/// Values of an hour that weigh as much as having no cycle.
const OF_HOUR_PRIOR: f64 = 50.0;
/// Standard errors by which the level of a size may be wrong before it counts as a change.
const ERRORS_ALLOWED: f64 = 2.0;
/// The largest score: a deviation less the mean of its size and that of its hour.
pub const SCORE_MAX: f64 = 4.0 * DEVIATION_MAX * (1.0 + ROUNDING);
/// Blocks over which sums are taken, to see how far values hang together: 10 s, 1 min, 10 min.
const BLOCKS_NS: [u64; 3] = [10 * SECOND_NS, 60 * SECOND_NS, 600 * SECOND_NS];
/// Values that are all the same.
const VARIANCE_LEAST: f64 = 1e-6;
/// Blocks below which their scatter says nothing.
const BLOCKS_MIN: u64 = 20;

/// The reference while it is learnt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Learning {
    sizes: [Mean; SIZES],
    hours: [Mean; HOURS],
    all: Mean,
    blocks: [Blocks; BLOCKS_NS.len()],
    squares: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Mean {
    count: u64,
    sum: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
    }

    fn get(self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    /// Of values that are no further from 0 than this.
    fn is_sound(self, most: f64) -> bool {
        self.sum.abs() <= most * self.count as f64 * (1.0 + ROUNDING)
    }
}

/// Sums over blocks of time. The mean is taken out at the end, hence three sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Blocks {
    index: u64,
    now: Mean,
    blocks: u64,
    values: u64,
    /// Of the blocks' sums about the mean of their hour so far.
    squares: f64,
}

/// What sums of a long time may be off by.
const ROUNDING: f64 = 1e-6;

/// What is usual.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    sizes: Vec<Mean>,
    /// Empty where the reference does not span a day.
    hours: Vec<f64>,
    /// How much more a sum scatters than values that do not hang together, of a variance of 1.
    variance: f64,
    /// Values a second.
    rate: f64,
}

/// A deviation that can be compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    pub value: f64,
    /// How far it may be off because the reference is short.
    pub uncertain: f64,
}

fn clipped(deviation: f64) -> f64 {
    deviation.clamp(-DEVIATION_MAX, DEVIATION_MAX)
}

fn hour(now_ns: u64) -> usize {
    (now_ns % DAY_NS / HOUR_NS) as usize
}

impl Learning {
    pub fn add(&mut self, now_ns: u64, size: usize, deviation: f64) {
        let value = clipped(deviation);
        self.sizes[size].add(value);
        self.all.add(value);
        self.squares += value * value;
        let hour = hour(now_ns);
        // About the mean of its own hour, so that a cycle does not look like values that hang together.
        let usual = self.hours[hour].get();
        for (blocks, length) in self.blocks.iter_mut().zip(BLOCKS_NS) {
            blocks.add(now_ns / length, value - usual);
        }
        self.hours[hour].add(value);
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.all.count
    }

    /// What comes from a file is what it could be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let means = self.sizes.iter().chain(&self.hours).chain([&self.all]);
        let blocks = self.blocks.iter().all(|blocks| {
            blocks.now.is_sound(2.0 * DEVIATION_MAX) && blocks.squares.is_finite() && blocks.squares >= 0.0
        });
        let squares = DEVIATION_MAX * DEVIATION_MAX * self.all.count as f64 * (1.0 + ROUNDING);
        means.into_iter().all(|mean| mean.is_sound(DEVIATION_MAX))
            && blocks
            && (0.0..=squares).contains(&self.squares)
    }

    /// The level after `span_ns`.
    #[must_use]
    pub fn level(&self, span_ns: u64) -> Level {
        let overall = self.all.get();
        let hours = if span_ns >= DAY_NS {
            let of = |mean: &Mean| {
                let count = mean.count as f64;
                (mean.get() - overall) * count / (count + OF_HOUR_PRIOR)
            };
            self.hours.iter().map(of).collect()
        } else {
            Vec::new()
        };
        let single = (self.squares / self.all.count.max(1) as f64 - overall * overall).max(VARIANCE_LEAST);
        let variance = self.blocks.iter().filter_map(Blocks::variance).fold(single, f64::max);
        let rate = self.all.count as f64 / (span_ns.max(1) as f64 / SECOND_NS as f64);
        Level { sizes: self.sizes.to_vec(), hours, variance, rate }
    }
}

impl Blocks {
    fn add(&mut self, index: u64, value: f64) {
        if index != self.index && self.now.count > 0 {
            self.blocks += 1;
            self.values += self.now.count;
            self.squares += self.now.sum * self.now.sum;
            self.now = Mean::default();
        }
        self.index = index;
        self.now.add(value);
    }

    /// Of a value, as sums over these blocks have it; on the high side where there are few.
    fn variance(&self) -> Option<f64> {
        let unsure = 1.0 + (2.0 / self.blocks as f64).sqrt();
        (self.blocks >= BLOCKS_MIN).then(|| self.squares / self.values as f64 * unsure)
    }
}

impl Level {
    /// `None` where values of this size are too few to be compared.
    #[must_use]
    pub fn score(&self, now_ns: u64, size: usize, deviation: f64) -> Option<Score> {
        let mean = *self.sizes.get(size)?;
        if mean.count < OF_SIZE_MIN {
            return None;
        }
        let uncertain = ERRORS_ALLOWED * (self.variance / mean.count as f64).sqrt();
        Some(Score { value: clipped(deviation) - mean.get() - self.of_hour(now_ns), uncertain })
    }

    /// Between the middles of hours it is interpolated: a cycle has no steps.
    fn of_hour(&self, now_ns: u64) -> f64 {
        if self.hours.len() != HOURS {
            return 0.0;
        }
        let place = (now_ns % DAY_NS) as f64 / HOUR_NS as f64 - 0.5;
        let place = if place < 0.0 { place + HOURS as f64 } else { place };
        let (left, part) = (place as usize % HOURS, place.fract());
        self.hours[left] * (1.0 - part) + self.hours[(left + 1) % HOURS] * part
    }

    /// Least and most that is usual at any hour, of values that have no size.
    #[must_use]
    pub fn extremes(&self) -> (f64, f64) {
        let mean = self.sizes.first().map_or(0.0, |mean| mean.get());
        let hours = || self.hours.iter().copied();
        (mean + hours().fold(0.0, f64::min), mean + hours().fold(0.0, f64::max))
    }

    /// Values in the reference.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.sizes.iter().map(|mean| mean.count).sum()
    }

    #[must_use]
    pub fn variance(&self) -> f64 {
        self.variance
    }

    /// Values a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// What comes from a file is what it could be.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let means = self.sizes.len() == SIZES && self.sizes.iter().all(|mean| mean.is_sound(DEVIATION_MAX));
        let hours = self.hours.is_empty() || self.hours.len() == HOURS;
        let positive = |value: f64| value.is_finite() && value > 0.0;
        means
            && hours
            && self.hours.iter().all(|hour| hour.abs() <= 2.0 * DEVIATION_MAX * (1.0 + ROUNDING))
            && positive(self.variance)
            && positive(self.rate)
    }
}
