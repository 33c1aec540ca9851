//! What a GPU can be asked, whoever answers: the driver's library, or a script of a test.
//!
//! In: calls, each of which may take its time or never return: only threads of the room's own make them. Out: a
//! [`Reading`], in which what the card, the driver or the rights do not allow is `None`, never 0. What of it is a
//! [`Serialize`] is shown by the API as it is.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::clock::BootTime;

/// Reaches the GPUs of this node.
pub trait GpuSource: Send + Sync {
    /// Begins anew: after a failure, a driver that was loaded again, a library that has appeared.
    ///
    /// # Errors
    /// There is no library, no driver, or no right to ask it.
    fn open(&self) -> Result<Box<dyn Session>, Failure>;
}

/// A GPU, or why it answers not even who it is.
pub type Found = Result<Box<dyn Device>, Failure>;

/// One library that answers, until it does no more.
pub trait Session: Send {
    fn driver(&self) -> &Driver;

    /// Every GPU of the node.
    ///
    /// # Errors
    /// The library does not answer any more.
    fn devices(&self) -> Result<Vec<Found>, Failure>;

    /// Faults of these GPUs from now on.
    ///
    /// # Errors
    /// The driver tells none.
    fn events(&self) -> Result<Box<dyn Events>, Failure>;
}

/// One GPU. Asked by one thread.
pub trait Device: Send {
    fn identity(&self) -> &Identity;

    /// Asks all there is. A value that cannot be had this time is `None`.
    ///
    /// # Errors
    /// The GPU, or the driver, answers no more.
    fn read(&mut self) -> Result<Reading, Failure>;
}

/// Faults as the driver tells them.
pub trait Events: Send {
    /// The next one; `None` where none came in this time.
    ///
    /// # Errors
    /// No more will come.
    fn next(&mut self, wait: Duration) -> Result<Option<Xid>, Failure>;
}

/// Why nothing can be read. The text says what was asked and what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no library, or no driver: a node without GPUs, or not yet.
    Absent(String),
    /// This GPU is gone: it fell off the bus, or has to be reset.
    Lost(String),
    /// The library has to be opened again: the driver went, or was replaced.
    Session(String),
    /// Not this time.
    Refused(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Absent(text) | Self::Lost(text) | Self::Session(text) | Self::Refused(text)) = self;
        out.write_str(text)
    }
}

/// What answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    pub library: PathBuf,
    pub version: Option<String>,
    /// Newest CUDA that the driver supports, `12.9`.
    pub cuda: Option<String>,
}

/// Which GPU. Its UUID is its name for good: the index changes with the order of the bus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    pub uuid: String,
    pub index: u32,
    pub name: String,
    /// `00000000:3B:00.0`.
    pub bus_id: String,
}

/// What one GPU said at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// When the counters among these were read.
    pub at: BootTime,
    /// How long all of it took.
    pub took: Duration,
    /// Absent where the GPU is split: that of its instances is.
    pub memory: Option<Memory>,
    /// Degrees Celsius.
    pub temperature: Option<i32>,
    pub memory_temperature: Option<i32>,
    /// Degrees to the nearest temperature at which the clocks go down; negative beyond.
    pub margin: Option<i32>,
    pub slowdown_temperature: Option<i32>,
    pub shutdown_temperature: Option<i32>,
    pub utilization: Option<Utilization>,
    pub power: Power,
    pub clocks: Clocks,
    /// 0, the fastest, to 15.
    pub performance_state: Option<u8>,
    pub throttle: Throttle,
    pub ecc: Ecc,
    pub remapped: Option<RemappedRows>,
    pub retired: Option<RetiredPages>,
    pub pcie: Pcie,
    pub nvlink: Option<NvLink>,
    /// Percent of its full speed; absent without one.
    pub fan_percent: Option<u32>,
    /// `default`, `exclusive_process`, `prohibited`.
    pub compute_mode: Option<&'static str>,
    /// On Hopper and later; the mean since the reading before.
    pub profile: Option<Profile>,
    /// Processes that have memory on it, instances included. `None`: nobody may know.
    pub users: Option<Vec<User>>,
    /// Parts that the GPU is split into (MIG).
    pub instances: Vec<Instance>,
}

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Of processes; what the driver reserves for itself is not among it.
    pub used: u64,
    pub total: u64,
    /// What the driver keeps for itself.
    pub reserved: Option<u64>,
}

/// Percent of the driver's last sample period, 1 s to a sixth of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Utilization {
    /// In which any kernel ran at all.
    pub gpu: u32,
    /// In which memory was read or written.
    pub memory: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Power {
    pub milliwatts: Option<u32>,
    /// The lowest limit that is in force.
    pub limit_milliwatts: Option<u32>,
    /// Millijoules since the driver was loaded.
    pub energy_millijoules: Option<u64>,
}

/// Megahertz.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    pub sm: Option<u32>,
    pub memory: Option<u32>,
    pub sm_max: Option<u32>,
    pub memory_max: Option<u32>,
}

/// What holds clocks down. In the order of the table of `gpu_throttle_seconds_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum ThrottleCause {
    /// It draws all the power that it may.
    PowerCap,
    /// The driver holds it down because it, or its memory, is hot.
    SwThermal,
    /// The hardware does, by half or more: hotter still.
    HwThermal,
    /// Heat, where the driver does not tell which.
    Thermal,
    /// The machine's power supply asks for less.
    PowerBrake,
    /// The hardware does, for a reason that the driver does not tell.
    HwSlowdown,
    /// It waits for the slowest of its group.
    SyncBoost,
    /// The board's limit.
    BoardLimit,
    /// So that the chip lasts.
    Reliability,
}

/// Causes that hold clocks down.
pub const THROTTLE_CAUSES: usize = 9;

impl ThrottleCause {
    /// Every cause, in the order of its index.
    pub const ALL: [Self; THROTTLE_CAUSES] = [
        Self::PowerCap,
        Self::SwThermal,
        Self::HwThermal,
        Self::Thermal,
        Self::PowerBrake,
        Self::HwSlowdown,
        Self::SyncBoost,
        Self::BoardLimit,
        Self::Reliability,
    ];

    /// Value of the label `cause`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::PowerCap => "power_cap",
            Self::SwThermal => "sw_thermal",
            Self::HwThermal => "hw_thermal",
            Self::Thermal => "thermal",
            Self::PowerBrake => "power_brake",
            Self::HwSlowdown => "hw_slowdown",
            Self::SyncBoost => "sync_boost",
            Self::BoardLimit => "board_limit",
            Self::Reliability => "reliability",
        }
    }
}

/// What is known of each cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttle {
    /// Whether it holds clocks down at this moment; `None`: the driver does not tell.
    pub now: [Option<bool>; THROTTLE_CAUSES],
    /// For how long it did, nanoseconds since the driver was loaded; `None`: the driver does not count it.
    pub lost_ns: [Option<u64>; THROTTLE_CAUSES],
}

/// Memory errors; absent where the card has no ECC, or it is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ecc {
    /// Since the driver was loaded.
    pub volatile: Option<EccCounts>,
    /// In the life of the board.
    pub aggregate: Option<EccCounts>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EccCounts {
    pub corrected: u64,
    pub uncorrected: u64,
}

/// Rows of memory that were replaced by spare ones (Ampere and later).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RemappedRows {
    pub corrected: u32,
    pub uncorrected: u32,
    /// Some will be once the GPU is reset.
    pub pending: bool,
    /// There were no spare ones left.
    pub failed: bool,
}

/// Pages of memory that are used no more (before Ampere).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RetiredPages {
    pub corrected: u32,
    pub uncorrected: u32,
    pub pending: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pcie {
    pub generation: Option<u32>,
    pub generation_max: Option<u32>,
    pub width: Option<u32>,
    pub width_max: Option<u32>,
    /// Bytes a second, over the driver's last 20 ms; asked every few seconds, since each asking takes as long.
    pub sent_bytes_per_second: Option<u64>,
    pub received_bytes_per_second: Option<u64>,
    /// Packets sent once more, since the driver was loaded.
    pub replays: Option<u64>,
}

/// Errors of all links together, since the driver was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NvLink {
    pub links_active: u32,
    pub replay_errors: Option<u64>,
    pub recovery_errors: Option<u64>,
    pub crc_errors: Option<u64>,
}

/// Parts of the time, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Profile {
    /// In which a multiprocessor had work: the mean over all.
    pub sm_active: Option<f64>,
    /// Of the warps that it could have.
    pub sm_occupancy: Option<f64>,
    /// In which tensor cores computed.
    pub tensor_active: Option<f64>,
    /// Of the memory's bandwidth.
    pub memory_active: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// Its number as this agent's own namespace, or the node's, has it.
    pub tgid: u32,
    /// `None`: nobody may know.
    pub memory_bytes: Option<u64>,
    /// Percent of the time in which its kernels ran, lately; not on a split GPU.
    pub sm_percent: Option<u32>,
}

/// A part of a split GPU.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Instance {
    pub uuid: String,
    /// Such as `3g.40gb`.
    pub profile: String,
    pub gpu_instance: Option<u32>,
    pub compute_instance: Option<u32>,
    pub memory: Option<Memory>,
    pub users: Option<Vec<User>>,
}

/// A fault that the driver tells of: an XID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xid {
    pub uuid: String,
    pub code: u64,
    pub at: BootTime,
}
