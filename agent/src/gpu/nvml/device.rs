//! All that one GPU says: what changes quickly each time, the rest as often as it is worth.
//!
//! In: the GPU. Out: a [`Reading`]; what was not asked this time is as it was the last time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nvml_wrapper::enum_wrappers::device::{Clock, ComputeMode};

use super::ask::{Asker, Handle};
use super::fields::Fields;
use super::gpm::Gpm;
use super::library::Library;
use super::thermal::Limits;
use super::users::{Samples, of_gpu, users};
use super::{links, mig, thermal, throttle, wear};
use crate::clock::BootTime;
use crate::gpu::source::{Device, Failure, Identity, Power, Reading, Utilization};

/// Of what the driver itself samples no faster, and of lists.
const OFTEN: Duration = Duration::from_secs(1);
/// Of counts of faults and of settings. Throughput of PCIe takes 20 ms each way.
const RARELY: Duration = Duration::from_secs(5);
/// A reading that comes so much too early is not too early.
const EARLY: Duration = Duration::from_millis(50);

/// Fields that are read each time, besides those of `throttle`.
const POWER_MEAN: u32 = 185;
const ENERGY: u32 = 83;

pub(super) struct NvmlDevice {
    identity: Identity,
    asker: Asker,
    quick: Fields,
    rare: Fields,
    often: Pace,
    rarely: Pace,
    limits: Limits,
    split: bool,
    gpm: Gpm,
    samples: Samples,
    reading: Reading,
}

/// When something is to be asked again.
struct Pace {
    every: Duration,
    due: Option<Instant>,
}

impl Pace {
    fn every(every: Duration) -> Self {
        Self { every, due: None }
    }

    fn is_due(&mut self, now: Instant) -> bool {
        if self.due.is_some_and(|due| now + EARLY < due) {
            return false;
        }
        self.due = Some(now + self.every);
        true
    }
}

impl NvmlDevice {
    pub(super) fn new(library: Arc<Library>, handle: Handle, identity: Identity) -> Self {
        let quick: Vec<u32> = throttle::FIELDS.into_iter().chain([ENERGY, POWER_MEAN]).collect();
        let rare: Vec<u32> = [thermal::MEMORY]
            .into_iter()
            .chain(thermal::LIMITS)
            .chain(wear::FIELDS)
            .chain(links::FIELDS)
            .collect();
        Self {
            identity,
            asker: Asker::new(library, handle),
            quick: Fields::new("field values", &quick),
            rare: Fields::new("field values", &rare),
            often: Pace::every(OFTEN),
            rarely: Pace::every(RARELY),
            limits: Limits::default(),
            split: false,
            gpm: Gpm::default(),
            samples: Samples::default(),
            reading: Reading::default(),
        }
    }

    /// Each time.
    fn read_quick(&mut self) -> Result<(), Failure> {
        let Self { asker, quick, reading, .. } = self;
        quick.read(asker)?;
        reading.at = BootTime::now();
        reading.throttle = throttle::read(asker, quick)?;
        reading.power = Power { limit_milliwatts: reading.power.limit_milliwatts, ..power(asker, quick)? };
        reading.temperature = thermal::temperature(asker)?;
        reading.margin = thermal::margin(asker, reading.temperature, &self.limits)?;
        reading.clocks.sm = asker.ask("SM clock", |gpu| gpu.clock_info(Clock::SM))?;
        Ok(())
    }

    fn read_often(&mut self) -> Result<(), Failure> {
        let split = mig::is_split(&mut self.asker)?;
        if split != self.split {
            self.split = split;
            self.asker.forget();
            self.quick.forget();
            self.rare.forget();
        }
        let Self { asker, reading, .. } = self;
        reading.memory = if split { None } else { asker.ask("memory", mig::memory)? };
        reading.utilization = if split { None } else { utilization(asker)? };
        reading.clocks.memory = asker.ask("memory clock", |gpu| gpu.clock_info(Clock::Memory))?;
        reading.performance_state = performance_state(asker)?;
        reading.power.limit_milliwatts =
            match asker.ask("enforced power limit", |gpu| gpu.enforced_power_limit())? {
                Some(limit) => Some(limit),
                None => asker.ask("power limit", |gpu| gpu.power_management_limit())?,
            };
        reading.profile = self.gpm.read(asker)?;
        self.read_users()
    }

    fn read_users(&mut self) -> Result<(), Failure> {
        let Self { asker, reading, .. } = self;
        let whole = of_gpu(asker)?;
        if !self.split {
            reading.instances = Vec::new();
            reading.users = whole.map(users);
            if let Some(users) = &mut reading.users {
                self.samples.note(asker, users)?;
            }
            return Ok(());
        }
        let (instances, parts) = mig::instances(asker)?;
        // Who may not see the processes of the whole may see those of some instances.
        let known = whole.is_some() || instances.iter().any(|instance| instance.users.is_some());
        let mut all = whole.unwrap_or_default();
        for (tgid, bytes) in parts {
            all.entry(tgid).or_insert(bytes);
        }
        reading.users = known.then(|| users(all));
        reading.instances = instances;
        Ok(())
    }

    fn read_rarely(&mut self) -> Result<(), Failure> {
        let Self { asker, rare, reading, .. } = self;
        rare.read(asker)?;
        reading.memory_temperature = rare.whole(thermal::MEMORY);
        self.limits = thermal::limits(asker, rare, reading.temperature, self.limits)?;
        reading.slowdown_temperature = self.limits.slowdown;
        reading.shutdown_temperature = self.limits.shutdown;
        if reading.margin.is_none() {
            reading.margin = thermal::margin(asker, reading.temperature, &self.limits)?;
        }
        reading.clocks.sm_max = asker.ask("SM clock, at most", |gpu| gpu.max_clock_info(Clock::SM))?;
        reading.clocks.memory_max =
            asker.ask("memory clock, at most", |gpu| gpu.max_clock_info(Clock::Memory))?;
        reading.ecc = wear::ecc(asker, rare)?;
        reading.remapped = wear::remapped(asker, rare)?;
        reading.retired = wear::retired(asker, rare)?;
        reading.pcie = wear::pcie(asker, rare)?;
        reading.nvlink = links::read(asker, rare)?;
        reading.fan_percent = asker.ask("fan", |gpu| gpu.fan_speed(0))?;
        reading.compute_mode = asker.ask("compute mode", |gpu| gpu.compute_mode())?.map(mode_label);
        Ok(())
    }
}

impl Device for NvmlDevice {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read(&mut self) -> Result<Reading, Failure> {
        let begun = Instant::now();
        self.asker.begin();
        self.read_quick()?;
        if self.often.is_due(begun) {
            self.read_often()?;
        }
        if self.rarely.is_due(begun) {
            self.read_rarely()?;
        }
        self.asker.end()?;
        self.reading.took = begun.elapsed();
        Ok(self.reading.clone())
    }
}

fn power(asker: &mut Asker, fields: &Fields) -> Result<Power, Failure> {
    let milliwatts = match fields.whole(POWER_MEAN) {
        Some(milliwatts) => Some(milliwatts),
        None => asker.ask("power", |gpu| gpu.power_usage())?,
    };
    let energy_millijoules = match fields.whole(ENERGY) {
        Some(energy) => Some(energy),
        None => asker.ask("energy", |gpu| gpu.total_energy_consumption())?,
    };
    Ok(Power { milliwatts, energy_millijoules, limit_milliwatts: None })
}

fn utilization(asker: &mut Asker) -> Result<Option<Utilization>, Failure> {
    let rates = asker.ask("utilization", |gpu| gpu.utilization_rates())?;
    Ok(rates.map(|rates| Utilization { gpu: rates.gpu, memory: rates.memory }))
}

/// `None` where the driver does not know it, which is a number beyond the last.
fn performance_state(asker: &mut Asker) -> Result<Option<u8>, Failure> {
    let state = asker.ask("performance state", |gpu| gpu.performance_state())?;
    Ok(state
        .map(|state| state.as_c())
        .and_then(|number| u8::try_from(number).ok())
        .filter(|&number| number < 16))
}

fn mode_label(mode: ComputeMode) -> &'static str {
    match mode {
        ComputeMode::Default => "default",
        ComputeMode::ExclusiveThread => "exclusive_thread",
        ComputeMode::Prohibited => "prohibited",
        ComputeMode::ExclusiveProcess => "exclusive_process",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_kept_by_readings_that_come_a_little_early() {
        let begun = Instant::now();
        let due = |interval: u64, every: u64| {
            let mut pace = Pace::every(Duration::from_millis(every));
            let at = |number: u64| begun + Duration::from_millis(number * interval - number % 2);
            (0..20).filter(|&number| pace.is_due(at(number))).collect::<Vec<u64>>()
        };
        assert_eq!(due(1000, 1000), (0..20).collect::<Vec<_>>());
        assert_eq!(due(100, 1000), [0, 10]);
        assert_eq!(due(1000, 5000), [0, 5, 10, 15]);
        assert_eq!(due(10_000, 5000), (0..20).collect::<Vec<_>>());
    }
}
