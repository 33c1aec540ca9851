//! What is true at one time: the library answers by it, and tests compare with it.
//!
//! Counters that the driver keeps begin at 0 when it is loaded: in a scenario at its start, and after each absence.

use crate::scenario::failure::Absence;
use crate::scenario::gpu::{Instance, Process, Profile, Repairs};
use crate::scenario::spans::{Counter, Span};
use crate::scenario::timeline::{SECOND, Timeline};
use crate::scenario::{Cause, Gpu, Scenario, Throttles};

const GIB: i128 = 1 << 30;
/// Reason "nothing runs".
const IDLE: u64 = 1;

/// A scenario at one time.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    pub scenario: &'a Scenario,
    /// Since the scenario began.
    pub ns: u64,
}

/// One GPU at one time.
#[derive(Clone, Copy, Debug)]
pub struct GpuAt<'a> {
    pub at: At<'a>,
    pub index: usize,
    pub gpu: &'a Gpu,
}

/// Memory of a GPU or an instance, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub total: u64,
    pub reserved: u64,
    pub used: u64,
}

/// A process on a GPU at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub pid: u32,
    pub memory_bytes: Option<u64>,
    pub sm_percent: Option<u32>,
    pub gpu_instance: Option<u32>,
}

impl<'a> At<'a> {
    pub(crate) fn new(scenario: &'a Scenario, ns: u64) -> Self {
        Self { scenario, ns }
    }

    #[must_use]
    pub fn gpu(self, index: usize) -> Option<GpuAt<'a>> {
        self.scenario.gpus.get(index).map(|gpu| GpuAt { at: self, index, gpu })
    }

    pub fn gpus(self) -> impl Iterator<Item = GpuAt<'a>> {
        (0..self.scenario.gpus.len()).filter_map(move |index| self.gpu(index))
    }

    /// While the driver is not there.
    #[must_use]
    pub fn absence(self) -> Option<&'a Absence> {
        self.scenario.absences.iter().find(|absence| absence.span().has(self.ns))
    }

    /// How often the driver was loaded since the scenario began.
    #[must_use]
    pub fn loads(self) -> usize {
        self.scenario.absences.iter().filter(|absence| absence.to <= self.ns).count()
    }

    /// Since when the driver counts.
    #[must_use]
    pub fn loaded_ns(self) -> u64 {
        self.loads().checked_sub(1).map_or(0, |last| self.scenario.absences[last].to)
    }

    #[must_use]
    pub fn driver_version(self) -> &'a str {
        let replaced = self.scenario.absences[..self.loads()].iter().rev();
        let newest = replaced.filter_map(|absence| absence.driver_version.as_deref()).next();
        newest.unwrap_or(&self.scenario.driver_version)
    }

    /// From 580.82 on, fields 251 to 273 have other numbers.
    #[must_use]
    pub fn fields_are_renumbered(self) -> bool {
        let mut parts = self.driver_version().split('.').map(|part| part.parse().unwrap_or(0_u32));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (580, 82)
    }
}

impl<'a> GpuAt<'a> {
    fn throttles(&self) -> &'a Throttles {
        &self.at.scenario.throttles[self.index]
    }

    fn whole(&self, line: Option<&Timeline>) -> Option<i64> {
        line.map(|line| line.whole_at(self.at.ns))
    }

    /// A number that cannot be negative, such as a clock.
    pub(crate) fn number(&self, line: Option<&Timeline>) -> Option<u32> {
        self.whole(line).map(|value| u32::try_from(value).unwrap_or(0))
    }

    #[must_use]
    pub fn uuid(&self) -> String {
        let made_up = || format!("GPU-5e6d0000-0000-4000-8000-{:012x}", self.index);
        self.gpu.uuid.clone().unwrap_or_else(made_up)
    }

    #[must_use]
    pub fn bus_id(&self) -> String {
        let made_up = || format!("00000000:{:02X}:00.0", 0x10 + self.index);
        self.gpu.bus_id.clone().unwrap_or_else(made_up)
    }

    #[must_use]
    pub fn temperature(&self) -> Option<i32> {
        self.whole(self.gpu.temperature_celsius.as_ref()).map(narrow)
    }

    #[must_use]
    pub fn memory_temperature(&self) -> Option<i32> {
        self.whole(self.gpu.memory_temperature_celsius.as_ref()).map(narrow)
    }

    /// Degrees to the highest temperature of operation; only cards that know limits of it tell it.
    #[must_use]
    pub fn margin(&self) -> Option<i32> {
        self.gpu.margin_limits_celsius?;
        let own = self.whole(self.gpu.margin_celsius.as_ref()).map(narrow);
        own.or_else(|| Some(narrow(self.gpu.thresholds_celsius.gpu_max?.into()) - self.temperature()?))
    }

    #[must_use]
    pub fn power_instant_milliwatts(&self) -> Option<u32> {
        self.gpu.power_watts.as_ref().map(|line| u32::try_from(line.at(self.at.ns)).unwrap_or(0))
    }

    /// What the driver tells as power: an average where the card has one.
    #[must_use]
    pub fn power_milliwatts(&self) -> Option<u32> {
        let length = ((self.gpu.power_average_seconds * SECOND as f64) as u64).min(self.at.ns);
        if length == 0 {
            return self.power_instant_milliwatts();
        }
        let sum = self.integral(self.at.ns - length, self.at.ns)?;
        Some(u32::try_from(sum / i128::from(length)).unwrap_or(0))
    }

    /// Since the driver was loaded.
    #[must_use]
    pub fn energy_millijoules(&self) -> Option<u64> {
        if !self.gpu.energy {
            return None;
        }
        self.consumed_millijoules(self.at.loaded_ns())
    }

    /// From this time of the scenario until now: milliwatts times nanoseconds are 10^-9 mJ.
    #[must_use]
    pub fn consumed_millijoules(&self, from_ns: u64) -> Option<u64> {
        let sum = self.integral(from_ns, self.at.ns)?;
        Some(u64::try_from(sum / i128::from(SECOND)).unwrap_or(0))
    }

    fn integral(&self, from_ns: u64, to_ns: u64) -> Option<i128> {
        let line = self.gpu.power_watts.as_ref()?;
        Some(line.integral(to_ns) - line.integral(from_ns))
    }

    #[must_use]
    pub fn power_limit_milliwatts(&self) -> Option<u32> {
        self.gpu.power_limit_watts.as_ref().map(|line| u32::try_from(line.at(self.at.ns)).unwrap_or(0))
    }

    /// The lowest limit that is in force.
    #[must_use]
    pub fn enforced_limit_milliwatts(&self) -> Option<u32> {
        let own = self.gpu.enforced_power_limit_watts.as_ref();
        own.map(|line| u32::try_from(line.at(self.at.ns)).unwrap_or(0))
            .or_else(|| self.power_limit_milliwatts())
    }

    #[must_use]
    pub fn sm_clock_mhz(&self) -> Option<u32> {
        let clock = self.number(self.gpu.sm_clock_mhz.as_ref())?;
        Some(self.throttles().clock(self.at.ns).map_or(clock, |throttled| throttled.min(clock)))
    }

    #[must_use]
    pub fn utilization_percent(&self) -> Option<(u32, u32)> {
        let gpu = self.number(self.gpu.utilization_percent.as_ref())?;
        Some((gpu, self.number(self.gpu.memory_utilization_percent.as_ref())?))
    }

    #[must_use]
    pub fn memory(&self) -> Memory {
        Memory {
            total: bytes(self.gpu.memory_total_gib),
            reserved: bytes(self.gpu.memory_reserved_gib),
            used: self.gib(&self.gpu.memory_used_gib),
        }
    }

    fn gib(&self, line: &Timeline) -> u64 {
        u64::try_from(i128::from(line.at(self.at.ns)) * GIB / 1000).unwrap_or(0)
    }

    /// Whether this cause holds the clocks down now.
    #[must_use]
    pub fn is_throttled(&self, cause: Cause) -> bool {
        self.throttles().of(cause).has(self.at.ns)
    }

    /// The driver's bits for all that holds the clocks down now.
    #[must_use]
    pub fn reasons(&self) -> u64 {
        let line = self.gpu.utilization_percent.as_ref();
        let idle = if line.is_some_and(|line| line.at(self.at.ns) == 0) { IDLE } else { 0 };
        let causes = self.throttles().causes().filter(|(_, spans)| spans.has(self.at.ns));
        causes.fold(idle, |bits, (cause, _)| bits | cause.bits())
    }

    /// For how long this cause held the clocks down since the driver was loaded.
    #[must_use]
    pub fn throttled_ns(&self, cause: Cause) -> u64 {
        self.since_load(|ns| self.throttles().of(cause).total(ns))
    }

    /// By heat, whoever reacted to it.
    #[must_use]
    pub fn thermal_ns(&self) -> u64 {
        self.since_load(|ns| self.throttles().thermal.total(ns))
    }

    /// By whatever.
    #[must_use]
    pub fn any_throttled_ns(&self) -> u64 {
        self.since_load(|ns| self.throttles().any.total(ns))
    }

    /// In which nothing ran.
    #[must_use]
    pub fn idle_ns(&self) -> u64 {
        let line = self.gpu.utilization_percent.as_ref();
        self.since_load(|ns| line.map_or(0, |line| line.zero_ns(ns)))
    }

    /// Spans of this cause from this time of the scenario until now.
    #[must_use]
    pub fn throttled_spans(&self, cause: Cause, from_ns: u64) -> Vec<Span> {
        self.throttles().of(cause).between(from_ns, self.at.ns)
    }

    fn since_load(&self, total: impl Fn(u64) -> u64) -> u64 {
        total(self.at.ns) - total(self.at.loaded_ns())
    }

    /// Of a counter that the driver keeps.
    #[must_use]
    pub fn counted(&self, counter: &Counter) -> u64 {
        let before_load = self.at.loaded_ns().checked_sub(1).map_or(0, |ns| counter.since_start(ns));
        counter.since_start(self.at.ns) - before_load
    }

    /// Of a counter that the board keeps.
    #[must_use]
    pub fn counted_in_life(&self, counter: &Counter) -> u64 {
        counter.before() + counter.since_start(self.at.ns)
    }

    #[must_use]
    pub fn is_pending(&self, repairs: &Repairs) -> bool {
        self.whole(repairs.pending.as_ref()).is_some_and(|pending| pending != 0)
    }

    #[must_use]
    pub fn has_failed(&self, repairs: &Repairs) -> bool {
        self.whole(repairs.failed.as_ref()).is_some_and(|failed| failed != 0)
    }

    /// Faults since the scenario began, of this code.
    #[must_use]
    pub fn xids(&self, code: u64) -> u64 {
        let bursts = self.gpu.xid.iter().filter(|burst| burst.code == code);
        bursts.map(|burst| burst.count(self.at.ns)).sum()
    }

    /// Those that have memory on it now.
    #[must_use]
    pub fn users(&self) -> Vec<User> {
        let processes = self.gpu.process.iter().filter(|process| process.span().has(self.at.ns));
        processes.filter_map(|process| self.user(process)).collect()
    }

    fn user(&self, process: &Process) -> Option<User> {
        let of_file = || {
            let path = self.at.scenario.folder.join(process.pid_file.as_ref()?);
            std::fs::read_to_string(path).ok()?.trim().parse().ok()
        };
        Some(User {
            pid: process.pid.or_else(of_file)?,
            memory_bytes: process.memory_gib.as_ref().map(|line| self.gib(line)),
            sm_percent: self.number(process.sm_percent.as_ref()),
            gpu_instance: process.gpu_instance,
        })
    }

    /// Parts that it is split into now, with their numbers in the scenario.
    pub fn instances(&self) -> impl Iterator<Item = (usize, &'a Instance)> + use<'a> {
        let ns = self.at.ns;
        self.gpu.instance.iter().enumerate().filter(move |(_, instance)| instance.span().has(ns))
    }

    #[must_use]
    pub fn instance_uuid(&self, instance: &Instance) -> String {
        let (own, compute) = (instance.gpu_instance, instance.compute_instance);
        let made_up = || format!("MIG-5e6d0000-{own:04x}-{compute:04x}-8000-{:012x}", self.index);
        instance.uuid.clone().unwrap_or_else(made_up)
    }

    #[must_use]
    pub fn instance_memory(&self, instance: &Instance) -> Memory {
        let total = bytes(instance.memory_total_gib);
        Memory { total, reserved: 0, used: self.gib(&instance.memory_used_gib) }
    }

    /// The mean of a profile's value from this time of the scenario until now, percent.
    #[must_use]
    pub fn profile_percent(&self, line: &Timeline, from_ns: u64) -> Option<f64> {
        let length = self.at.ns.checked_sub(from_ns).filter(|length| *length > 0)?;
        let sum = line.integral(self.at.ns) - line.integral(from_ns);
        Some(sum as f64 / length as f64 / 1000.0)
    }

    /// What GPM measures of the whole GPU, or of an instance.
    #[must_use]
    pub fn profile(&self, gpu_instance: Option<u32>) -> Option<&'a Profile> {
        let Some(wanted) = gpu_instance else { return self.gpu.gpm.as_ref() };
        let mut instances = self.instances();
        instances.find(|(_, instance)| instance.gpu_instance == wanted)?.1.gpm.as_ref()
    }
}

fn bytes(gib: f64) -> u64 {
    (gib * GIB as f64) as u64
}

fn narrow(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    proptest! {
        /// Seconds are written in milliseconds; the slow oracle looks at every one of them.
        #[test]
        fn reasons_and_what_is_counted_of_them_are_the_same(
            spans in prop::collection::vec((0_usize..8, 0_u64..2000, 1_u64..900), 0..6),
            absence in (500_u64..2500, 1_u64..500), repeats in any::<bool>(), until_ms in 0_u64..5000,
        ) {
            let names = ["power_cap", "sw_thermal", "hw_thermal", "power_brake", "hw_slowdown", "sync_boost",
                "board_limit", "reliability"];
            let seconds = |ms: u64| format!("{}.{:03}", ms / 1000, ms % 1000);
            let throttle: String = spans.iter().map(|(cause, from, length)| format!(
                "{{ cause = \"{}\", from = {}, to = {} }},", names[*cause], seconds(*from), seconds(from + length)
            )).collect();
            let repeat = if repeats { "throttle_repeat = 3" } else { "" };
            let (from, to) = (absence.0, absence.0 + absence.1);
            let text = format!(
                "absence = [{{ from = {}, to = {} }}]\n[[gpu]]\nmodel = \"h100\"\n{repeat}\n\
                 utilization_percent = 5\nthrottle = [{throttle}]\n", seconds(from), seconds(to)
            );
            let scenario = Scenario::parse(&text).unwrap();
            let at = |ms: u64| scenario.at(ms * MS).gpu(0).unwrap();
            let loaded = if until_ms >= to { to } else { 0 };
            for cause in Cause::ALL {
                let slow = (loaded..until_ms).filter(|ms| at(*ms).is_throttled(cause)).count() as u64 * MS;
                prop_assert_eq!(at(until_ms).throttled_ns(cause), slow, "{:?}", cause);
            }
            let reasons = |bits| (loaded..until_ms).filter(|ms| at(*ms).reasons() & bits != 0).count() as u64 * MS;
            prop_assert_eq!(at(until_ms).thermal_ns(), reasons(0x60));
            prop_assert_eq!(at(until_ms).any_throttled_ns(), reasons(u64::MAX));
            prop_assert_eq!(at(until_ms).energy_millijoules(), Some(320 * (until_ms - loaded)));
        }
    }

    #[test]
    fn a_counter_of_the_driver_begins_again_and_one_of_the_board_does_not() {
        let text = "absence = [{ from = 5, to = 8 }]\n[[gpu]]\nmodel = \"h100\"\n\
                    ecc = { corrected = { before = 100, jumps = [[1, 2], [6, 4], [8, 8]] } }\n";
        let scenario = Scenario::parse(text).unwrap();
        let ecc = scenario.gpus[0].ecc.clone().unwrap();
        let check = |second: u64, volatile, aggregate| {
            let gpu = scenario.at(second * SECOND).gpu(0).unwrap();
            assert_eq!(
                (gpu.counted(&ecc.corrected), gpu.counted_in_life(&ecc.corrected)),
                (volatile, aggregate)
            );
        };
        check(0, 0, 100);
        check(4, 2, 102);
        check(8, 8, 114);
    }

    #[test]
    fn power_is_the_mean_of_the_second_before() {
        let text =
            "[[gpu]]\nmodel = \"h100\"\npower_watts = { points = [[0, 100], [10, 500]], steps = true }\n";
        let scenario = Scenario::parse(text).unwrap();
        let at = |ms: u64| scenario.at(ms * MS).gpu(0).unwrap();
        for (ms, milliwatts) in [(0, 100_000), (10_000, 100_000), (10_250, 200_000), (11_000, 500_000)] {
            assert_eq!(at(ms).power_milliwatts(), Some(milliwatts), "{ms} ms");
        }
        assert_eq!(at(10_250).power_instant_milliwatts(), Some(500_000));
        assert_eq!(at(11_000).consumed_millijoules(9 * SECOND), Some(600_000));
    }
}
