//! What energy did a GPU take? Pure.
//!
//! In: readings. Out: millijoules since the agent began, and the newest stretches of time with what each took. By the
//! driver's counter where there is one. Else by the power, which is integrated by trapezoids: exact where it changes
//! evenly; a step between two readings is wrong by half of it times their distance, in either direction.

use std::collections::VecDeque;
use std::time::Duration;

use super::card::{EnergySource, Sums};
use super::source::Reading;
use crate::clock::BootTime;

/// Over longer stretches power is not integrated, and what energy was for is asked no more: three of the slowest poll.
pub const STRETCH_MAX: Duration = Duration::from_secs(30);
/// Power is not integrated over a gap of more such periods as the one before.
const PERIODS_MAX: u32 = 4;
/// Stretches that wait for the next tick: of ten a second, for ten seconds.
const STRETCHES_MAX: usize = 128;
/// No GPU draws more: after a driver was loaded again its counter cannot say more than this since.
const WATTS_MAX: f64 = 10_000.0;

/// What was taken between two readings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stretch {
    pub start: BootTime,
    pub end: BootTime,
    pub joules: f64,
}

/// What is known of one GPU's energy.
#[derive(Clone, Debug, Default)]
pub struct Energy {
    counted: Option<(BootTime, u64)>,
    /// Milliwatts.
    power: Option<(BootTime, u32)>,
    period: Option<Duration>,
    /// Of a millijoule, not in the sum yet.
    rest: f64,
    stretches: VecDeque<Stretch>,
}

impl Energy {
    /// Takes a reading. What went wrong since the one before does not matter to the driver's counter.
    pub fn on_read(&mut self, reading: &Reading, sums: &mut Sums) {
        match reading.power.energy_millijoules {
            Some(total) => self.on_total(reading.at, total, sums),
            // It counts, and says nothing this time: the next total has it.
            None if self.counted.is_some() => {}
            None => self.on_power(reading, sums),
        }
    }

    fn on_total(&mut self, at: BootTime, total: u64, sums: &mut Sums) {
        let sum = sums.energy_millijoules.get_or_insert(0);
        sums.energy_source = EnergySource::Counter;
        if let Some((before, earlier)) = self.counted {
            let most = (WATTS_MAX * 1000.0 * at.since(before).as_secs_f64()) as u64;
            let growth = total.checked_sub(earlier).unwrap_or_else(|| total.min(most));
            *sum += growth;
            self.keep(Stretch { start: before, end: at, joules: growth as f64 / 1000.0 });
        }
        self.counted = Some((at, total));
    }

    fn on_power(&mut self, reading: &Reading, sums: &mut Sums) {
        let Some(milliwatts) = reading.power.milliwatts else { return };
        let sum = sums.energy_millijoules.get_or_insert(0);
        sums.energy_source = EnergySource::Integrated;
        let before = self.power.replace((reading.at, milliwatts));
        let Some((before, earlier)) = before.filter(|(before, _)| *before < reading.at) else { return };
        let length = reading.at.since(before);
        let most = self.period.map_or(STRETCH_MAX, |period| STRETCH_MAX.min(period * PERIODS_MAX));
        self.period = Some(length);
        if length > most {
            return;
        }
        let millijoules = f64::midpoint(earlier.into(), milliwatts.into()) * length.as_secs_f64();
        self.rest += millijoules;
        *sum += self.rest as u64;
        self.rest = self.rest.fract();
        self.keep(Stretch { start: before, end: reading.at, joules: millijoules / 1000.0 });
    }

    fn keep(&mut self, stretch: Stretch) {
        if stretch.start >= stretch.end || stretch.end.since(stretch.start) > STRETCH_MAX {
            return;
        }
        if self.stretches.len() >= STRETCHES_MAX {
            self.stretches.pop_front();
        }
        self.stretches.push_back(stretch);
    }

    /// Stretches that ended after a time, the oldest first; the newest ones only.
    pub fn after(&self, time: BootTime) -> impl Iterator<Item = &Stretch> {
        let first = self.stretches.partition_point(|stretch| stretch.end <= time);
        self.stretches.range(first..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::source::Power;

    fn at(ms: u64, power: Power) -> Reading {
        Reading { at: BootTime(ms * 1_000_000), power, ..Reading::default() }
    }

    fn counted(ms: u64, total: u64) -> Reading {
        at(ms, Power { energy_millijoules: Some(total), milliwatts: Some(999), ..Power::default() })
    }

    fn drawn(ms: u64, milliwatts: u32) -> Reading {
        at(ms, Power { milliwatts: Some(milliwatts), ..Power::default() })
    }

    fn check(readings: &[Reading], sum: Option<u64>, source: EnergySource, joules: &[f64]) {
        let (mut energy, mut sums) = (Energy::default(), Sums::default());
        readings.iter().for_each(|reading| energy.on_read(reading, &mut sums));
        assert_eq!((sums.energy_millijoules, sums.energy_source), (sum, source), "{readings:?}");
        let found: Vec<f64> = energy.after(BootTime(0)).map(|stretch| stretch.joules).collect();
        assert_eq!(found, joules, "{readings:?}");
    }

    #[test]
    fn the_counter_is_exact_over_what_was_missed_and_begins_anew_with_its_driver() {
        let source = EnergySource::Counter;
        check(&[counted(1000, 5000)], Some(0), source, &[]);
        check(
            &[counted(1000, 5000), counted(2000, 5700), counted(3000, 6000)],
            Some(1000),
            source,
            &[0.7, 0.3],
        );
        let silent = at(2000, Power { milliwatts: Some(700_000), ..Power::default() });
        check(&[counted(1000, 5000), silent, counted(3000, 6000)], Some(1000), source, &[1.0]);
        check(&[counted(1000, 5000), counted(2000, 100)], Some(100), source, &[0.1]);
        // More than any GPU draws in a second.
        check(&[counted(1000, 50_000_000), counted(2000, 49_000_000)], Some(10_000_000), source, &[10_000.0]);
        // Longer than what it was for is remembered.
        check(&[counted(1000, 5000), counted(32_000, 6000)], Some(1000), source, &[]);
    }

    #[test]
    fn power_is_integrated_where_nothing_counts_and_not_over_gaps() {
        let source = EnergySource::Integrated;
        check(&[drawn(1000, 100)], Some(0), source, &[]);
        check(&[drawn(1000, 100), drawn(2000, 300), drawn(2500, 300)], Some(350), source, &[0.2, 0.15]);
        // Four periods are no gap, five are; the one after is none.
        check(&[drawn(0, 100), drawn(1000, 100), drawn(5000, 100)], Some(500), source, &[0.1, 0.4]);
        check(
            &[drawn(0, 100), drawn(1000, 100), drawn(6000, 100), drawn(11_000, 100)],
            Some(600),
            source,
            &[0.1, 0.5],
        );
        // Parts of a millijoule are not lost.
        let often: Vec<Reading> = (0..=1000).map(|each| drawn(each, 500)).collect();
        let (mut energy, mut sums) = (Energy::default(), Sums::default());
        often.iter().for_each(|reading| energy.on_read(reading, &mut sums));
        assert!(sums.energy_millijoules.is_some_and(|sum| (499..=500).contains(&sum)), "{sums:?}");
        check(&[at(1, Power::default())], None, EnergySource::Counter, &[]);
        // One that appears later takes over from where it then stands.
        check(
            &[drawn(0, 100), drawn(1000, 100), counted(2000, 7), counted(3000, 9)],
            Some(102),
            EnergySource::Counter,
            &[0.1, 0.002],
        );
    }

    #[test]
    fn stretches_that_nobody_takes_are_bounded() {
        let (mut energy, mut sums) = (Energy::default(), Sums::default());
        (0..2 * STRETCHES_MAX as u64).for_each(|each| energy.on_read(&counted(each, each), &mut sums));
        assert_eq!(energy.after(BootTime(0)).count(), STRETCHES_MAX);
        assert_eq!(energy.after(BootTime((2 * STRETCHES_MAX as u64 - 3) * 1_000_000)).count(), 2);
    }
}
