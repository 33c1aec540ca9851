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
