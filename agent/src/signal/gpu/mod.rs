//! What do the GPUs say?
//!
//! In: the GPUs as they stand, once a second. Out, by `gpu` (its index), `uuid` and `name`, from the driver's library:
//!
//! | Series | What |
//! |---|---|
//! | `gpu_memory_used_bytes`, `_total_bytes`, `_reserved_bytes` | of processes; in all; what the driver keeps for itself |
//! | `gpu_temperature_celsius`, `gpu_memory_temperature_celsius` | now |
//! | `gpu_temperature_margin_celsius` | to the nearest slowdown, as the driver says |
//! | `gpu_slowdown_temperature_celsius`, `gpu_shutdown_temperature_celsius` | thresholds |
//! | `gpu_temperature_slope_celsius_per_second`, `gpu_seconds_to_slowdown` | by a fit over the last minute ([`trend`]) |
//! | `gpu_utilization_percent`, `gpu_memory_bandwidth_utilization_percent` | of the driver's last sample period |
//! | `gpu_profile_ratio{metric}` | `sm_active`, `sm_occupancy`, `tensor_active`, `memory_active`: Hopper and later |
//! | `gpu_power_watts`, `gpu_power_limit_watts` | now; the lowest limit in force |
//! | `gpu_energy_joules_total{source}` | since the agent began: `counter` of the card, else `integrated` power |
//! | `gpu_clock_hertz{clock}`, `gpu_clock_max_hertz{clock}` | `sm`, `memory` |
//! | `gpu_performance_state` | 0, the fastest, to 15 |
//! | `gpu_throttle_seconds_total{cause}`, `gpu_throttled{cause}` | since the agent began; now |
//! | `gpu_ecc_errors_total{kind,counter}` | `corrected`, `uncorrected`; `volatile`, `aggregate` |
//! | `gpu_remapped_rows{kind}`, `_pending`, `_failed` | Ampere and later |
//! | `gpu_retired_pages{kind}`, `_pending` | before Ampere |
//! | `gpu_xid_errors_total{xid,class}` | faults since the agent began; the gravest codes from 0 on ([`xid`]) |
//! | `gpu_pcie_link_generation`, `gpu_pcie_link_width`, each also `_max` | now, at best |
//! | `gpu_pcie_throughput_bytes_per_second{direction}`, `gpu_pcie_replays_total` | `sent`, `received` |
//! | `gpu_nvlink_links_active`, `gpu_nvlink_errors_total{kind}` | `replay`, `recovery`, `crc` |
//! | `gpu_fan_speed_percent` | |
//! | `gpu_info{bus_id,compute_mode}`, `gpu_state{state}` | 1; 1 for the state it is in |
//! | `gpu_workload_memory_bytes{workload}`, `gpu_workload_utilization_percent{workload}` | join `inferscope_workload_info` for pod and container |
//!
//! and `gpu_driver_info{driver,cuda}`. At most [`SERIES_MAX`] a GPU, and a few for each workload on it and each instance. A
//! split GPU has no memory: each instance is a row of its own, so sums are right. What is not known is absent, never 0. A GPU
//! that does not answer has `gpu_state`, `gpu_info` and its counters; one that was taken out has nothing.

mod families;
mod history;
mod kept;
mod page;
mod series;
#[cfg(test)]
pub(crate) mod tests;
pub mod trend;
pub mod view;
pub mod xid;

use std::collections::HashMap;

use anyhow::{Result, bail};

use self::history::{History, Throttled};
use self::kept::Kept;
use self::page::{Newest, Page};
pub use self::series::{INSTANCE_SERIES, SERIES_MAX, USE_SERIES};
use self::trend::{Recent, Trend};
use self::view::{Beside, GpuReport, GpusSnapshot, GpusView};
use super::{Signal, Tick, Unavailable};
use crate::clock::BootTime;
use crate::gpu::{Card, CardState, Failure, Gpus};
use crate::registry::Registries;
use crate::workload::Workload;

/// The signal `gpu`.
#[derive(Debug)]
pub struct GpuSignal {
    newest: Newest,
    view: GpusView,
    /// By UUID.
    followed: HashMap<String, Followed>,
    unavailable: Option<Unavailable>,
}

/// What is kept of a GPU from tick to tick.
#[derive(Debug, Default)]
struct Followed {
    kept: Kept,
    heat: Recent,
    throttled: Throttled,
    history: History,
}

impl GpuSignal {
    /// Registers its series. Where it is not `enabled`, nobody asks the GPUs.
    pub fn new(enabled: bool, registries: &mut Registries) -> Self {
        let newest = Newest::default();
        registries.common.register_collector(Box::new(newest.clone()));
        let unavailable = (!enabled).then_some(Unavailable::Disabled);
        Self { newest, view: GpusView::default(), followed: HashMap::new(), unavailable }
    }

    /// What the API shows of it.
    #[must_use]
    pub fn view(&self) -> GpusView {
        self.view.clone()
    }
}

impl Followed {
    /// Takes a card as it stands, adds its series, and tells of it.
    fn take(&mut self, card: &Card, now: BootTime, page: &mut Page) -> GpuReport {
        let trend = card.reading.as_ref().map_or_else(Trend::default, |reading| {
            self.kept.set(reading);
            self.heat.push(reading)
        });
        self.history.push(card);
        series::add(page, card, &self.kept, trend);
        let throttle_seconds_per_second = self.throttled.push(now, &card.sums);
        let beside = Beside { kept: &self.kept, trend, throttle_seconds_per_second, history: &self.history };
        GpuReport::of(card, now, beside)
    }
}

impl Signal for GpuSignal {
    fn name(&self) -> &'static str {
        "gpu"
    }

    fn on_tick(&mut self, tick: &Tick<'_>) -> Result<()> {
        let gpus = tick.gpus;
        let mut before = std::mem::take(&mut self.followed);
        let (mut page, mut reports) = (Page::default(), Vec::new());
        for card in gpus.cards() {
            let uuid = &card.identity.uuid;
            let mut followed = before.remove(uuid).unwrap_or_default();
            reports.push(followed.take(card, tick.now, &mut page));
            self.followed.insert(uuid.clone(), followed);
        }
        if let Some(Ok(driver)) = gpus.driver() {
            series::add_driver(&mut page, driver);
        }
        self.newest.publish(page);
        self.view.publish(GpusSnapshot::of(gpus, reports));
        if self.unavailable != Some(Unavailable::Disabled) {
            self.unavailable = unsupported(gpus).map(Unavailable::Unsupported);
        }
        match failure(gpus) {
            Some(failure) => bail!("{failure}"),
            None => Ok(()),
        }
    }

    fn unavailable(&self) -> Option<Unavailable> {
        self.unavailable.clone()
    }

    /// Who uses a GPU is told anew at each tick.
    fn forget_workload(&mut self, _workload: &Workload) {}

    fn forget_model(&mut self, _workload: &str, _model: &str) {}
}

/// Why this node has no GPU.
fn unsupported(gpus: &Gpus) -> Option<String> {
    match gpus.driver() {
        Some(Err(Failure::Absent(why))) => Some(why.clone()),
        Some(Ok(_)) if gpus.cards().next().is_none() => Some("the driver knows no GPU".to_owned()),
        _ => None,
    }
}

/// Why nothing can be read of a node's GPUs. One that fails beside others is a state of its own.
fn failure(gpus: &Gpus) -> Option<String> {
    match gpus.driver() {
        None | Some(Err(Failure::Absent(_))) => None,
        Some(Err(failure)) => Some(failure.to_string()),
        Some(Ok(_)) => {
            let mut failures = gpus.cards().map(|card| (card, failure_of(&card.state)));
            let (card, first) = failures.next()?;
            let (first, all) = (first?, failures.all(|(_, failure)| failure.is_some()));
            all.then(|| format!("no GPU answers; GPU {}: {first}", card.identity.index))
        }
    }
}

fn failure_of(state: &CardState) -> Option<&str> {
    match state {
        CardState::Found | CardState::Answers => None,
        CardState::Unresponsive(_) => Some("it was asked and has not answered"),
        CardState::Lost(why) | CardState::Failed(why) => Some(why),
    }
}
