//! A stream of values: times, counts of tokens, confidences.
//!
//! In: values above 0 with the size of their request. Out: a [`State`]. What it has learnt can be kept and taken up again.

use serde::{Deserialize, Serialize};

use super::cusum::{self, Cusum};
use super::level::{Learning, Level, SCORE_MAX};
use super::shape::{Shape, Sketch, size_index};
use super::{Alarm, SECOND_NS, SHIFT_MIN, Settings, State, Statistic};

/// Values of the first step, and the part of the reference's span that it takes at least.
const SHAPE_VALUES: u64 = 1000;
const SHAPE_PART: u64 = 24;
/// Values of the second step at least.
pub const LEVEL_VALUES: u64 = 2000;

/// Values that scatter less than their quartiles say are not trusted to go on so.
const VARIANCE_LEAST: f64 = 0.25;

/// One stream.
#[derive(Clone, Debug)]
pub struct Measure {
    settings: Settings,
    phase: Phase,
    rate: Rate,
    /// Values of sizes that the reference has too few of.
    uncompared: u64,
}

#[derive(Clone, Debug)]
enum Phase {
    Shape { since_ns: Option<u64>, sketch: Box<Sketch> },
    Known(Box<Kept>),
}

/// What is kept over a restart: all but the first step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    shape: Shape,
    step: Step,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Learning { since_ns: u64, learning: Box<Learning> },
    Watching { level: Level, sums: Cusum },
}

/// Values a second, of the last whole minute.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    minute: u64,
    count: u64,
    per_second: f64,
}

impl Rate {
    fn add(&mut self, now_ns: u64) {
        let minute = now_ns / (60 * SECOND_NS);
        if minute != self.minute {
            self.per_second = self.count as f64 / 60.0;
            (self.minute, self.count) = (minute, 0);
        }
        self.count += 1;
    }
}

impl Measure {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let phase = Phase::Shape { since_ns: None, sketch: Box::default() };
        Self { settings, phase, rate: Rate::default(), uncompared: 0 }
    }

    /// One that goes on from what was kept; `None` where that cannot be.
    #[must_use]
    pub fn resume(settings: Settings, kept: Kept) -> Option<Self> {
        let sound = kept.shape.is_sound()
            && match &kept.step {
                Step::Learning { learning, .. } => learning.is_sound(),
                Step::Watching { level, sums } => level.is_sound() && sums.is_sound(SCORE_MAX),
            };
        sound.then(|| Self { phase: Phase::Known(Box::new(kept)), ..Self::new(settings) })
    }

    #[must_use]
    pub fn kept(&self) -> Option<&Kept> {
        match &self.phase {
            Phase::Shape { .. } => None,
            Phase::Known(kept) => Some(kept),
        }
    }

    /// Takes a value at a time in nanoseconds since 1970; one that is not above 0 says nothing.
    pub fn add(&mut self, now_ns: u64, size: u64, value: f64) {
        if !(value.is_finite() && value > 0.0) {
            return;
        }
        let value_ln = value.ln();
        self.rate.add(now_ns);
        match &mut self.phase {
            Phase::Shape { since_ns, sketch } => {
                let since_ns = *since_ns.get_or_insert(now_ns);
                sketch.add(size, value_ln);
                let span_ns = self.settings.reference.as_nanos() as u64 / SHAPE_PART;
                if sketch.total() >= SHAPE_VALUES && now_ns.saturating_sub(since_ns) >= span_ns {
                    let Some(shape) = sketch.shape() else { return };
                    let step = Step::Learning { since_ns: now_ns, learning: Box::default() };
                    self.phase = Phase::Known(Box::new(Kept { shape, step }));
                }
            }
            Phase::Known(kept) => {
                let size_at = size_index(size);
                let deviation = kept.shape.deviation(size, value_ln);
                let compared =
                    kept.step.add(now_ns, (size_at, deviation), &self.settings, self.rate.per_second);
                self.uncompared += u64::from(!compared);
            }
        }
    }

    #[must_use]
    pub fn state(&self, now_ns: u64) -> State {
        let Phase::Known(kept) = &self.phase else { return State::Learning(0.0) };
        match &kept.step {
            Step::Learning { since_ns, learning } => {
                let span =
                    now_ns.saturating_sub(*since_ns) as f64 / self.settings.reference.as_nanos() as f64;
                let values = learning.count() as f64 / LEVEL_VALUES as f64;
                State::Learning(span.min(values).min(1.0))
            }
            Step::Watching { level, sums } => {
                let threshold = threshold(level, &self.settings, self.rate.per_second);
                let alarm = sums.raised().and_then(|sum| {
                    let effect = (sum.mean() * kept.shape.scatter()).exp();
                    Some(Alarm { since_ns: sum.since_ns(), raised_ns: sum.raised_ns()?, effect })
                });
                State::Watching(Statistic { value: sums.leading().share_of(threshold), alarm })
            }
        }
    }

    /// Values of sizes that the reference has too few of to be compared.
    #[must_use]
    pub fn uncompared(&self) -> u64 {
        self.uncompared
    }
}

impl Step {
    /// False where the value could not be compared.
    fn add(&mut self, now_ns: u64, (size, deviation): (usize, f64), settings: &Settings, rate: f64) -> bool {
        match self {
            Self::Learning { since_ns, learning } => {
                learning.add(now_ns, size, deviation);
                let span_ns = now_ns.saturating_sub(*since_ns);
                if span_ns >= settings.reference.as_nanos() as u64 && learning.count() >= LEVEL_VALUES {
                    *self = Self::Watching { level: learning.level(span_ns), sums: Cusum::default() };
                }
                true
            }
            Self::Watching { level, sums } => {
                let Some(score) = level.score(now_ns, size, deviation) else { return false };
                let evidence = |value: f64| {
                    (value - score.uncertain - SHIFT_MIN / 2.0) * SHIFT_MIN
                        / level.variance().max(VARIANCE_LEAST)
                };
                let both = (evidence(score.value), evidence(-score.value));
                sums.add(now_ns, score.value, both, threshold(level, settings, rate));
                true
            }
        }
    }
}

/// Of as many values as come between two false alarms at the reference's rate, or that of now where it is higher.
fn threshold(level: &Level, settings: &Settings, rate: f64) -> f64 {
    cusum::threshold(level.rate().max(rate) * settings.between_false_alarms.as_secs_f64())
}
