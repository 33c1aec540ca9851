//! One GPU as a scenario describes it: what it is, what is true of it over time, what goes wrong.
//!
//! A value that is not there is one that the card does not have: its calls answer "not supported".

use std::path::PathBuf;

use serde::Deserialize;

use super::failure::{Calls, Fail, Hang};
use super::spans::{Burst, Counter, never, seconds, spanned};
use super::timeline::Timeline;

spanned!(Throttle, Process, Instance);

/// What holds the clocks down. Bits of reasons and counted nanoseconds follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    PowerCap,
    SwThermal,
    HwThermal,
    PowerBrake,
    /// The hardware, for a reason that it does not tell.
    HwSlowdown,
    SyncBoost,
    BoardLimit,
    Reliability,
}

impl Cause {
    pub const ALL: [Self; 8] = [
        Self::PowerCap,
        Self::SwThermal,
        Self::HwThermal,
        Self::PowerBrake,
        Self::HwSlowdown,
        Self::SyncBoost,
        Self::BoardLimit,
        Self::Reliability,
    ];

    /// Bits that the driver shows: heat and the power brake are slowdowns by the hardware, too.
    #[must_use]
    pub fn bits(self) -> u64 {
        match self {
            Self::PowerCap => 0x4,
            Self::SwThermal => 0x20,
            Self::HwThermal => 0x40 | 0x8,
            Self::PowerBrake => 0x80 | 0x8,
            Self::HwSlowdown => 0x8,
            Self::SyncBoost => 0x10,
            Self::BoardLimit => 0x200,
            Self::Reliability => 0x400,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    pub cause: Cause,
    /// Nanoseconds of the scenario.
    #[serde(default, deserialize_with = "seconds")]
    pub from: u64,
    /// Without it, for good.
    #[serde(default = "never", deserialize_with = "seconds")]
    pub to: u64,
    /// The clock meanwhile, MHz, where the timeline of the clock has more.
    pub sm_clock_mhz: Option<u32>,
}

/// A process that has memory on the GPU.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Nanoseconds of the scenario.
    #[serde(default, deserialize_with = "seconds")]
    pub from: u64,
    /// Without it, for good.
    #[serde(default = "never", deserialize_with = "seconds")]
    pub to: u64,
    pub pid: Option<u32>,
    /// A file whose content is the pid, read at every call; relative to the scenario's folder. Without it, or
    /// without a number in it, there is no such process.
    pub pid_file: Option<PathBuf>,
    /// Absent where the driver does not tell.
    pub memory_gib: Option<Timeline>,
    pub sm_percent: Option<Timeline>,
    /// Which instance of a split GPU it runs on.
    pub gpu_instance: Option<u32>,
}

/// A part of a split GPU.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// Nanoseconds of the scenario.
    #[serde(default, deserialize_with = "seconds")]
    pub from: u64,
    /// Without it, for good.
    #[serde(default = "never", deserialize_with = "seconds")]
    pub to: u64,
    pub uuid: Option<String>,
    /// Such as `3g.40gb`.
    pub profile: String,
    pub gpu_instance: u32,
    #[serde(default)]
    pub compute_instance: u32,
    pub slices: u32,
    pub multiprocessors: u32,
    pub memory_total_gib: f64,
    pub memory_used_gib: Timeline,
    pub gpm: Option<Profile>,
}

/// Percent of the time, as GPM measures it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub graphics_percent: Option<Timeline>,
    pub sm_percent: Option<Timeline>,
    pub sm_occupancy_percent: Option<Timeline>,
    pub tensor_percent: Option<Timeline>,
    pub memory_percent: Option<Timeline>,
}

/// Degrees of margin at which something begins; negative beyond the highest temperature of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarginLimits {
    pub shutdown: i32,
    pub slowdown: i32,
    pub memory: i32,
    pub gpu: i32,
}

/// Degrees Celsius.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    pub shutdown: Option<u32>,
    pub slowdown: Option<u32>,
    pub memory_max: Option<u32>,
    pub gpu_max: Option<u32>,
}

/// Errors since the driver was loaded; those of the board's life have `before` in addition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ecc {
    pub corrected: Counter,
    pub uncorrected: Counter,
}

/// Rows of memory replaced (Ampere and later), or pages retired (before): of the board's life.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repairs {
    #[serde(default)]
    pub corrected: Counter,
    #[serde(default)]
    pub uncorrected: Counter,
    /// 1 while some wait for a reset.
    pub pending: Option<Timeline>,
    /// 1 once no spare ones were left.
    pub failed: Option<Timeline>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pcie {
    pub generation: Timeline,
    pub generation_max: u32,
    pub width: Timeline,
    pub width_max: u32,
    pub sent_kb_per_second: Option<Timeline>,
    pub received_kb_per_second: Option<Timeline>,
    pub replays: Option<Counter>,
}

/// The counters are those of the first link; the others have no errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NvLink {
    pub links: u32,
    /// How many of these are up.
    pub active: Timeline,
    #[serde(default)]
    pub replay_errors: Counter,
    #[serde(default)]
    pub recovery_errors: Counter,
    #[serde(default)]
    pub crc_errors: Counter,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    pub uuid: Option<String>,
    pub name: String,
    /// `00000000:3B:00.0`.
    pub bus_id: Option<String>,
    pub serial: Option<String>,
    pub minor: Option<u32>,

    pub temperature_celsius: Option<Timeline>,
    pub memory_temperature_celsius: Option<Timeline>,
    /// Degrees to the highest temperature of operation, where it is not that minus the temperature.
    pub margin_celsius: Option<Timeline>,
    #[serde(default)]
    pub thresholds_celsius: Thresholds,
    pub margin_limits_celsius: Option<MarginLimits>,

    pub power_watts: Option<Timeline>,
    /// Over how long the driver's power is an average; 0: it is that of the moment.
    #[serde(default)]
    pub power_average_seconds: f64,
    pub power_limit_watts: Option<Timeline>,
    /// Where it is not the limit that is set.
    pub enforced_power_limit_watts: Option<Timeline>,
    pub power_limit_min_watts: Option<u32>,
    pub power_limit_max_watts: Option<u32>,
    /// Whether it counts energy.
    #[serde(default)]
    pub energy: bool,

    pub sm_clock_mhz: Option<Timeline>,
    pub memory_clock_mhz: Option<Timeline>,
    pub sm_clock_max_mhz: Option<u32>,
    pub memory_clock_max_mhz: Option<u32>,
    pub performance_state: Option<Timeline>,
    pub utilization_percent: Option<Timeline>,
    pub memory_utilization_percent: Option<Timeline>,
    pub memory_total_gib: f64,
    #[serde(default)]
    pub memory_reserved_gib: f64,
    /// Of processes; what the driver keeps for itself is not among it.
    pub memory_used_gib: Timeline,

    /// Whether it tells reasons, and counts nanoseconds of each.
    #[serde(default)]
    pub reasons: bool,
    #[serde(default)]
    pub violations: bool,
    #[serde(default)]
    pub throttle: Vec<Throttle>,
    /// After so many seconds the throttling begins anew.
    pub throttle_repeat: Option<f64>,

    pub ecc: Option<Ecc>,
    pub remapped_rows: Option<Repairs>,
    pub retired_pages: Option<Repairs>,
    pub pcie: Option<Pcie>,
    pub nvlink: Option<NvLink>,
    pub fan_percent: Option<Timeline>,
    /// 0 default, 2 prohibited, 3 exclusive process.
    pub compute_mode: Option<u32>,
    pub gpm: Option<Profile>,

    /// Whether it tells faults.
    #[serde(default)]
    pub events: bool,
    #[serde(default)]
    pub xid: Vec<Burst>,
    #[serde(default)]
    pub process: Vec<Process>,
    /// Whether it can be split, and is.
    pub mig: Option<bool>,
    #[serde(default = "mig_devices_max")]
    pub mig_devices_max: u32,
    #[serde(default)]
    pub instance: Vec<Instance>,

    /// Calls and numbers of fields that this card does not have.
    #[serde(default)]
    pub not_supported: Calls,
    #[serde(default)]
    pub fields_not_supported: Vec<u32>,
    #[serde(default)]
    pub fail: Vec<Fail>,
    #[serde(default)]
    pub hang: Vec<Hang>,
}

/// Of every card that can be split so far.
fn mig_devices_max() -> u32 {
    7
}
