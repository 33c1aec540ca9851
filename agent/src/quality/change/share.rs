//! A stream of yes and no: did it fail, was it cut at its limit?
//!
//! In: answers as they end. Out: a [`State`], whose effect is the difference of the shares. The reference is one step; its share
//! is taken with its uncertainty, and with the least and the most of any hour where it spans a day.

use serde::{Deserialize, Serialize};

use super::cusum::{self, Cusum};
use super::level::{Learning, Level};
use super::measure::LEVEL_VALUES;
use super::{Alarm, Settings, State, Statistic};

/// The least change that matters: twice the share, or this.
const CHANGE_MIN: f64 = 0.02;
/// No share is taken for quite impossible or quite certain.
const SHARE_LEAST: f64 = 1e-4;
/// Standard errors that a share of the reference may be off.
const ERRORS_ALLOWED: f64 = 2.0;

/// One stream.
#[derive(Clone, Debug)]
pub struct Share {
    settings: Settings,
    kept: Kept,
}

/// What is kept over a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    Learning { since_ns: Option<u64>, learning: Box<Learning> },
    Watching { level: Level, sums: Cusum },
}

impl Share {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, kept: Kept::Learning { since_ns: None, learning: Box::default() } }
    }

    /// One that goes on from what was kept; `None` where that cannot be.
    #[must_use]
    pub fn resume(settings: Settings, kept: Kept) -> Option<Self> {
        let sound = match &kept {
            Kept::Learning { learning, .. } => learning.is_sound(),
            // A value is 0 or 1.
            Kept::Watching { level, sums } => level.is_sound() && sums.is_sound(1.0),
        };
        sound.then_some(Self { settings, kept })
    }

    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    pub fn add(&mut self, now_ns: u64, yes: bool) {
        let value = f64::from(u8::from(yes));
        match &mut self.kept {
            Kept::Learning { since_ns, learning } => {
                let span_ns = now_ns.saturating_sub(*since_ns.get_or_insert(now_ns));
                learning.add(now_ns, 0, value);
                if span_ns >= self.settings.reference.as_nanos() as u64 && learning.count() >= LEVEL_VALUES {
                    self.kept = Kept::Watching { level: learning.level(span_ns), sums: Cusum::default() };
                }
            }
            Kept::Watching { level, sums } => {
                let usual = Usual::of(level);
                sums.add(now_ns, value, usual.evidence(yes), threshold(level, &self.settings));
            }
        }
    }

    #[must_use]
    pub fn state(&self, now_ns: u64) -> State {
        match &self.kept {
            Kept::Learning { since_ns, learning } => {
                let span_ns = since_ns.map_or(0, |since_ns| now_ns.saturating_sub(since_ns));
                let span = span_ns as f64 / self.settings.reference.as_nanos() as f64;
                State::Learning(span.min(learning.count() as f64 / LEVEL_VALUES as f64).min(1.0))
            }
            Kept::Watching { level, sums } => {
                let alarm = sums.raised().and_then(|sum| {
                    let (least, most) = level.extremes();
                    let effect = sum.mean() - f64::midpoint(least, most);
                    Some(Alarm { since_ns: sum.since_ns(), raised_ns: sum.raised_ns()?, effect })
                });
                let value = sums.leading().share_of(threshold(level, &self.settings));
                State::Watching(Statistic { value, alarm })
            }
        }
    }
}

fn threshold(level: &Level, settings: &Settings) -> f64 {
    cusum::threshold(level.rate() * settings.between_false_alarms.as_secs_f64())
}

/// What the reference has, at most and at least, and how much more sums scatter than tosses of a coin.
struct Usual {
    least: f64,
    most: f64,
    clumped: f64,
}

impl Usual {
    fn of(level: &Level) -> Self {
        let (least, most) = level.extremes();
        let count = level.count().max(1) as f64;
        let coin = |share: f64| (share * (1.0 - share)).max(SHARE_LEAST * (1.0 - SHARE_LEAST));
        let clumped = (level.variance() / coin(f64::midpoint(least, most))).max(1.0);
        let error = |share: f64| ERRORS_ALLOWED * (coin(share) * clumped / count).sqrt() + 1.0 / count;
        let bounded = |share: f64| share.clamp(SHARE_LEAST, 1.0 - SHARE_LEAST);
        Self { least: bounded(least - error(least)), most: bounded(most + error(most)), clumped }
    }

    /// Log likelihood ratios of the least change that matters to none, upwards and downwards.
    fn evidence(&self, yes: bool) -> (f64, f64) {
        let above = (self.most * 2.0).max(self.most + CHANGE_MIN);
        let above = above.min(f64::midpoint(self.most, 1.0));
        let below = (self.least / 2.0).min(self.least - CHANGE_MIN);
        let ratio = |other: f64, usual: f64| {
            let said = if yes { other / usual } else { (1.0 - other) / (1.0 - usual) };
            said.ln() / self.clumped
        };
        // A share near 0 cannot fall by anything that matters.
        let down = if below > 0.0 { ratio(below, self.least) } else { 0.0 };
        (ratio(above, self.most), down)
    }
}
