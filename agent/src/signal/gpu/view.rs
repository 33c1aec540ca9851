//! What the API and the terminal view may see of this signal. The fields are told at the head of `export/api.rs`.
//!
//! In: cards at each tick. Out: a snapshot, made once a second.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::history::History;
use super::kept::Kept;
use super::trend::Trend;
use super::xid;
use crate::clock::BootTime;
use crate::gpu::source::{Instance, NvLink, Pcie, Profile, RemappedRows, RetiredPages};
use crate::gpu::{Card, CardState, Gpus, Reading, ThrottleCause, Use};
use crate::registry::latest::Latest;

/// The newest snapshot.
pub type GpusView = Latest<GpusSnapshot>;

/// All GPUs of the node, in the order of their indices, as of the newest tick.
#[derive(Debug, Default, Serialize)]
pub struct GpusSnapshot {
    pub driver: Option<DriverReport>,
    /// Why there is none.
    pub reason: Option<String>,
    /// Why the driver tells no faults.
    pub xids_reason: Option<String>,
    pub gpus: Vec<GpuReport>,
}

#[derive(Debug, Serialize)]
pub struct DriverReport {
    pub library: PathBuf,
    pub version: Option<String>,
    pub cuda: Option<String>,
}

/// One GPU. What is not known is `None`.
#[derive(Debug, Serialize)]
pub struct GpuReport {
    pub gpu: u32,
    pub uuid: String,
    pub name: String,
    pub bus_id: String,
    pub compute_mode: Option<&'static str>,
    pub state: &'static str,
    /// Why it does not answer.
    pub state_reason: Option<String>,
    #[serde(flatten)]
    pub values: Values,
    pub throttled: Vec<&'static str>,
    pub throttle_seconds_per_second: BTreeMap<&'static str, f64>,
    pub energy_joules: Option<f64>,
    pub energy_source: &'static str,
    pub ecc_errors: EccReport,
    pub xids: Vec<XidReport>,
    pub users: Vec<UseReport>,
    pub instances: Vec<InstanceReport>,
    pub history: History,
}

/// What the newest reading says; nothing where it does not answer.
#[derive(Debug, Default, Serialize)]
pub struct Values {
    pub read_seconds_ago: Option<f64>,
    pub read_took_seconds: Option<f64>,
    pub temperature_celsius: Option<i32>,
    pub memory_temperature_celsius: Option<i32>,
    pub temperature_margin_celsius: Option<i32>,
    pub slowdown_temperature_celsius: Option<i32>,
    pub shutdown_temperature_celsius: Option<i32>,
    pub temperature_slope_celsius_per_second: Option<f64>,
    pub seconds_to_slowdown: Option<f64>,
    pub utilization_percent: Option<u32>,
    pub memory_bandwidth_utilization_percent: Option<u32>,
    pub memory_used_bytes: Option<u64>,
    pub memory_total_bytes: Option<u64>,
    pub memory_reserved_bytes: Option<u64>,
    pub power_watts: Option<f64>,
    pub power_limit_watts: Option<f64>,
    pub sm_clock_hertz: Option<u64>,
    pub sm_clock_max_hertz: Option<u64>,
    pub memory_clock_hertz: Option<u64>,
    pub memory_clock_max_hertz: Option<u64>,
    pub performance_state: Option<u8>,
    pub fan_speed_percent: Option<u32>,
    pub profile_ratio: Option<Profile>,
    pub remapped_rows: Option<RemappedRows>,
    pub retired_pages: Option<RetiredPages>,
    pub pcie: Pcie,
    pub nvlink: Option<NvLink>,
}

/// Each `None` where it is not counted.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct EccReport {
    pub volatile_corrected: Option<u64>,
    pub volatile_uncorrected: Option<u64>,
    pub aggregate_corrected: Option<u64>,
    pub aggregate_uncorrected: Option<u64>,
}

/// A code of faults that came.
#[derive(Debug, Serialize)]
pub struct XidReport {
    /// `other` for those beyond the limit of a GPU.
    pub xid: String,
    pub class: &'static str,
    pub what: &'static str,
    pub action: &'static str,
    pub count: u64,
}

/// A workload on the GPU.
#[derive(Debug, Serialize)]
pub struct UseReport {
    pub workload: Arc<str>,
    pub memory_bytes: Option<u64>,
    pub utilization_percent: Option<u32>,
}

/// A part of a split GPU.
#[derive(Debug, Serialize)]
pub struct InstanceReport {
    pub uuid: String,
    pub profile: String,
    pub gpu_instance: Option<u32>,
    pub compute_instance: Option<u32>,
    pub memory_used_bytes: Option<u64>,
    pub memory_total_bytes: Option<u64>,
    pub memory_reserved_bytes: Option<u64>,
}

/// What this signal knows of a card beside its reading.
#[derive(Debug)]
pub struct Beside<'a> {
    pub kept: &'a Kept,
    pub trend: Trend,
    pub throttle_seconds_per_second: BTreeMap<&'static str, f64>,
    pub history: &'a History,
}

impl GpusSnapshot {
    /// Of these GPUs, of which each is told in `reports`.
    pub(super) fn of(gpus: &Gpus, mut reports: Vec<GpuReport>) -> Self {
        reports.sort_by(|a, b| (a.gpu, &a.uuid).cmp(&(b.gpu, &b.uuid)));
        let driver = gpus.driver().and_then(|driver| driver.as_ref().ok());
        let driver = driver.map(|driver| DriverReport {
            library: driver.library.clone(),
            version: driver.version.clone(),
            cuda: driver.cuda.clone(),
        });
        let failure = gpus.driver().and_then(|driver| driver.as_ref().err());
        Self {
            driver,
            reason: failure.map(ToString::to_string),
            xids_reason: gpus.no_faults().map(ToString::to_string),
            gpus: reports,
        }
    }
}

impl GpuReport {
    pub(super) fn of(card: &Card, now: BootTime, beside: Beside<'_>) -> Self {
        let identity = &card.identity;
        let reading = card.reading.as_ref();
        let of_reading = |reading: &Reading| Values::of(reading, now, beside.trend);
        let [
            (.., volatile_corrected),
            (.., volatile_uncorrected),
            (.., aggregate_corrected),
            (.., aggregate_uncorrected),
        ] = beside.kept.ecc();
        let ecc_errors = EccReport {
            volatile_corrected,
            volatile_uncorrected,
            aggregate_corrected,
            aggregate_uncorrected,
        };
        let instances = reading.map(|reading| reading.instances.as_slice()).unwrap_or_default();
        Self {
            gpu: identity.index,
            uuid: identity.uuid.clone(),
            name: identity.name.clone(),
            bus_id: identity.bus_id.clone(),
            compute_mode: beside.kept.compute_mode(),
            state: card.state.label(),
            state_reason: reason(&card.state, now),
            values: reading.map(of_reading).unwrap_or_default(),
            throttled: reading.map(throttled).unwrap_or_default(),
            throttle_seconds_per_second: beside.throttle_seconds_per_second,
            energy_joules: card.sums.energy_millijoules.map(|millijoules| millijoules as f64 / 1e3),
            energy_source: card.sums.energy_source.label(),
            ecc_errors,
            xids: card.xids.iter().map(|(code, count)| XidReport::of(*code, *count)).collect(),
            users: reading.map(|_| card.users.iter().map(UseReport::of).collect()).unwrap_or_default(),
            instances: instances.iter().map(InstanceReport::of).collect(),
            history: beside.history.clone(),
        }
    }
}

/// Why it does not answer; `None` where it does.
fn reason(state: &CardState, now: BootTime) -> Option<String> {
    match state {
        CardState::Found | CardState::Answers => None,
        CardState::Unresponsive(asked) => {
            Some(format!("has not answered for {} s", now.since(*asked).as_secs()))
        }
        CardState::Lost(why) | CardState::Failed(why) => Some(why.clone()),
    }
}

/// What holds its clocks down now.
fn throttled(reading: &Reading) -> Vec<&'static str> {
    let now = ThrottleCause::ALL.into_iter().zip(reading.throttle.now);
    now.filter(|(_, now)| *now == Some(true)).map(|(cause, _)| cause.label()).collect()
}

impl Values {
    fn of(reading: &Reading, now: BootTime, trend: Trend) -> Self {
        let clocks = &reading.clocks;
        let hertz = |megahertz: Option<u32>| megahertz.map(|megahertz| u64::from(megahertz) * 1_000_000);
        let watts = |milliwatts: Option<u32>| milliwatts.map(|milliwatts| f64::from(milliwatts) / 1e3);
        Self {
            read_seconds_ago: Some(now.since(reading.at).as_secs_f64()),
            read_took_seconds: Some(reading.took.as_secs_f64()),
            temperature_celsius: reading.temperature,
            memory_temperature_celsius: reading.memory_temperature,
            temperature_margin_celsius: reading.margin,
            slowdown_temperature_celsius: reading.slowdown_temperature,
            shutdown_temperature_celsius: reading.shutdown_temperature,
            temperature_slope_celsius_per_second: trend.celsius_per_second,
            // JSON has no infinity.
            seconds_to_slowdown: trend.seconds_to_slowdown.filter(|seconds| seconds.is_finite()),
            utilization_percent: reading.utilization.map(|percent| percent.gpu),
            memory_bandwidth_utilization_percent: reading.utilization.map(|percent| percent.memory),
            memory_used_bytes: reading.memory.map(|memory| memory.used),
            memory_total_bytes: reading.memory.map(|memory| memory.total),
            memory_reserved_bytes: reading.memory.and_then(|memory| memory.reserved),
            power_watts: watts(reading.power.milliwatts),
            power_limit_watts: watts(reading.power.limit_milliwatts),
            sm_clock_hertz: hertz(clocks.sm),
            sm_clock_max_hertz: hertz(clocks.sm_max),
            memory_clock_hertz: hertz(clocks.memory),
            memory_clock_max_hertz: hertz(clocks.memory_max),
            performance_state: reading.performance_state,
            fan_speed_percent: reading.fan_percent,
            profile_ratio: reading.profile,
            remapped_rows: reading.remapped,
            retired_pages: reading.retired,
            pcie: reading.pcie,
            nvlink: reading.nvlink,
        }
    }
}

impl XidReport {
    fn of(code: u64, count: u64) -> Self {
        let known = xid::find(code);
        let class = known.class.label();
        Self { xid: xid::text(code), class, what: known.what, action: known.action, count }
    }
}

impl UseReport {
    fn of(user: &Use) -> Self {
        Self {
            workload: user.workload.clone(),
            memory_bytes: user.memory_bytes,
            utilization_percent: user.sm_percent,
        }
    }
}

impl InstanceReport {
    fn of(instance: &Instance) -> Self {
        Self {
            uuid: instance.uuid.clone(),
            profile: instance.profile.clone(),
            gpu_instance: instance.gpu_instance,
            compute_instance: instance.compute_instance,
            memory_used_bytes: instance.memory.map(|memory| memory.used),
            memory_total_bytes: instance.memory.map(|memory| memory.total),
            memory_reserved_bytes: instance.memory.and_then(|memory| memory.reserved),
        }
    }
}
