//! Streams that are made, and a detector that is fed with one.

use std::time::Duration;

use inferscope::quality::change::measure::Measure;
use inferscope::quality::change::{DAY_NS, SECOND_NS, Settings, State, Statistic, cusum};

use super::chance::Chance;

pub const DAY: Duration = Duration::from_secs(86_400);
/// Standard deviation of the logarithm of values.
const SIGMA: f64 = 0.5;
/// How far a day's cycle moves the logarithm: a quarter up in the afternoon, a quarter down at night.
const CYCLE: f64 = 0.25;
/// Seconds a prompt takes whatever its length, and for each token.
const BASE_SECONDS: f64 = 0.05;
const TOKEN_SECONDS: f64 = 0.0004;

/// What the values are like without a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Log-normal, each for itself.
    Independent,
    /// The same with a daily cycle.
    Cycle,
    /// Moved together by something that lasts half a minute.
    Together,
    /// Times of prompts of many lengths.
    Prompts,
}

/// A detector and what it is fed with.
pub struct Stream {
    kind: Kind,
    chance: Chance,
    common: f64,
    step_ns: u64,
    pub now_ns: u64,
    /// Factor of every value.
    pub factor: f64,
    /// Median length of prompts.
    pub median_tokens: f64,
    pub times: Measure,
    /// The lengths themselves.
    pub lengths: Measure,
}

impl Stream {
    pub fn new(kind: Kind, seed: u64, per_second: f64, between: Duration) -> Self {
        let settings = Settings { between_false_alarms: between, reference: DAY };
        Self {
            kind,
            chance: Chance::new(seed),
            common: 0.0,
            step_ns: (SECOND_NS as f64 / per_second) as u64,
            now_ns: 20_000 * DAY_NS,
            factor: 1.0,
            median_tokens: 400.0,
            times: Measure::new(settings),
            lengths: Measure::new(settings),
        }
    }

    /// Until the reference is learnt.
    pub fn learn(&mut self) {
        while !matches!(self.times.state(self.now_ns), State::Watching(_)) {
            self.step();
        }
    }

    /// One value more.
    pub fn step(&mut self) {
        self.now_ns += self.step_ns;
        let (size, value) = self.value();
        self.times.add(self.now_ns, size, value * self.factor);
        if self.kind == Kind::Prompts {
            self.lengths.add(self.now_ns, 0, size as f64);
        }
    }

    fn value(&mut self) -> (u64, f64) {
        let noise = SIGMA * self.chance.normal();
        let of_day = (std::f64::consts::TAU * (self.now_ns % DAY_NS) as f64 / DAY_NS as f64).sin();
        match self.kind {
            Kind::Independent => (400, noise.exp()),
            Kind::Cycle => (400, (CYCLE * of_day + noise).exp()),
            Kind::Together => {
                self.common = self.common * 0.997 + 0.02 * self.chance.normal();
                (400, (self.common + noise).exp())
            }
            Kind::Prompts => {
                let size = (self.median_tokens * (0.6 * self.chance.normal()).exp()).max(1.0) as u64;
                (size, (BASE_SECONDS + TOKEN_SECONDS * size as f64) * noise.exp())
            }
        }
    }

    pub fn statistic(&self) -> Statistic {
        statistic(&self.times, self.now_ns)
    }

    /// The evidence itself, whatever the threshold.
    pub fn evidence(&self, per_second: f64, between: Duration) -> f64 {
        self.statistic().value * cusum::threshold(per_second * between.as_secs_f64())
    }
}

pub fn statistic(measure: &Measure, now_ns: u64) -> Statistic {
    match measure.state(now_ns) {
        State::Learning(_) => Statistic::default(),
        State::Watching(statistic) => statistic,
    }
}
