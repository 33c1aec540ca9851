//! The last minute of a GPU, for curves, and for how much of the last seconds its clocks were held down.
//!
//! In: cards, once a tick. Out: points and rates. A tick in which the GPU did not answer is a point without values.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use crate::clock::BootTime;
use crate::gpu::{Card, Sums, ThrottleCause};

/// Points of a curve: a minute.
pub const POINTS_MAX: usize = 60;
/// Span of the rates.
pub const SPAN: Duration = Duration::from_secs(10);
/// Ticks that are kept, whatever the clock does: one more than come in [`SPAN`], and some that come early.
const TICKS_MAX: usize = 16;

/// Curves of the last minute, one point a second, the newest last; `null` where a value was not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct History {
    pub temperature_celsius: VecDeque<Option<i32>>,
    pub power_watts: VecDeque<Option<f64>>,
    pub sm_clock_hertz: VecDeque<Option<u64>>,
    pub utilization_percent: VecDeque<Option<u32>>,
}

impl History {
    /// Adds a point.
    pub fn push(&mut self, card: &Card) {
        let reading = card.reading.as_ref();
        let of = |value: Option<u32>| value.map(f64::from);
        push(&mut self.temperature_celsius, reading.and_then(|reading| reading.temperature));
        let watts = reading.and_then(|reading| of(reading.power.milliwatts)).map(|value| value / 1e3);
        push(&mut self.power_watts, watts);
        let clock = reading.and_then(|reading| reading.clocks.sm);
        push(&mut self.sm_clock_hertz, clock.map(|megahertz| u64::from(megahertz) * 1_000_000));
        push(&mut self.utilization_percent, reading.and_then(|reading| reading.utilization).map(|of| of.gpu));
    }
}

fn push<T>(points: &mut VecDeque<T>, point: T) {
    if points.len() >= POINTS_MAX {
        points.pop_front();
    }
    points.push_back(point);
}

/// Sums of the time for which clocks were held down, over the last ticks.
#[derive(Debug, Default)]
pub struct Throttled(VecDeque<(BootTime, Sums)>);

impl Throttled {
    /// Adds the sums at `now`. Returns seconds per second of the last 10 s by cause, for those that are counted; none
    /// before a second look.
    pub fn push(&mut self, now: BootTime, sums: &Sums) -> BTreeMap<&'static str, f64> {
        self.0.push_back((now, *sums));
        while let Some((oldest, _)) = self.0.front()
            && (now.since(*oldest) > SPAN || self.0.len() > TICKS_MAX)
        {
            self.0.pop_front();
        }
        let Some((since, before)) = self.0.front() else { return BTreeMap::new() };
        let span = now.since(*since).as_secs_f64();
        let rate = |cause: ThrottleCause| {
            let (known, index) = (sums.throttle_known[cause as usize], cause as usize);
            let ns = sums.throttled_ns[index].saturating_sub(before.throttled_ns[index]);
            (known && span > 0.0).then(|| (cause.label(), ns as f64 / 1e9 / span))
        };
        ThrottleCause::ALL.into_iter().filter_map(rate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Reading;
    use crate::gpu::source::Utilization;

    #[test]
    fn a_curve_is_the_last_minute_and_has_holes_where_nothing_was_known() {
        let mut history = History::default();
        for temperature in 0..100 {
            let utilization = Some(Utilization { gpu: 7, memory: 0 });
            let reading = Reading { temperature: Some(temperature), utilization, ..Reading::default() };
            history.push(&Card { reading: Some(reading), ..Card::default() });
        }
        history.push(&Card::default());
        assert_eq!(history.temperature_celsius.len(), POINTS_MAX);
        assert_eq!(history.temperature_celsius[0], Some(41));
        assert_eq!(history.temperature_celsius.back(), Some(&None));
        assert_eq!((history.utilization_percent[58], history.power_watts[58]), (Some(7), None));
    }

    #[test]
    fn rates_are_of_the_last_ten_seconds_and_of_what_is_counted() {
        let mut throttled = Throttled::default();
        let mut sums = Sums::default();
        let power = ThrottleCause::PowerCap as usize;
        sums.throttle_known[power] = true;
        let second = |second: u64| BootTime(second * 1_000_000_000);
        assert!(throttled.push(second(1), &sums).is_empty());
        for now in 2..=6 {
            sums.throttled_ns[power] += 500_000_000;
            let rates = throttled.push(second(now), &sums);
            assert_eq!(rates, BTreeMap::from([("power_cap", 0.5)]), "at {now}");
        }
        let later: Vec<f64> = (7..=17).map(|now| throttled.push(second(now), &sums)["power_cap"]).collect();
        assert!((later[4] - 0.25).abs() < 1e-12, "{later:?}");
        assert!(later[10] == 0.0, "{later:?}");
    }
}
