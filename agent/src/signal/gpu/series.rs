//! What a GPU says, as series.
//!
//! In: a card, what is kept of it, its trend. Out: series on the page. A value that is not known has no series.

use std::borrow::Cow;
use std::sync::Arc;

use super::families as family;
use super::kept::Kept;
use super::page::{More, Page, Row};
use super::trend::Trend;
use super::xid;
use crate::gpu::source::{Clocks, Instance, Memory, NvLink, Pcie, Power, Profile};
use crate::gpu::{Card, CardState, Driver, Reading, ThrottleCause, Use};

/// Series of one GPU at most, where it answers and has all there is, as many codes of faults as are told apart and no
/// instance. With each workload that uses it come [`USE_SERIES`] more, with each instance of it [`INSTANCE_SERIES`].
pub const SERIES_MAX: usize = 97;
/// Of each workload on each GPU.
pub const USE_SERIES: usize = 2;
/// Of each instance.
pub const INSTANCE_SERIES: usize = 3;

/// Adds all of a GPU. One that does not answer has its state, what it is, and what was counted.
pub fn add(page: &mut Page, card: &Card, kept: &Kept, trend: Trend) {
    let row = Arc::new(Row {
        gpu: card.identity.index.to_string().into(),
        uuid: card.identity.uuid.as_str().into(),
        name: card.identity.name.as_str().into(),
    });
    let mut of = OfGpu { page, row };
    of.identity(card, kept);
    of.counted(card, kept);
    if let Some(reading) = &card.reading {
        of.memory(reading.memory);
        of.heat(reading, trend);
        of.work(reading);
        of.power(reading.power);
        of.clocks(&reading.clocks);
        of.throttled(&reading.throttle.now);
        of.repairs(reading);
        of.links(&reading.pcie, reading.nvlink);
        of.users(&card.users);
        for instance in &reading.instances {
            of.instance(instance);
        }
    }
}

/// Adds the driver.
pub fn add_driver(page: &mut Page, driver: &Driver) {
    let text = |value: &Option<String>| Cow::Owned(value.clone().unwrap_or_default());
    let more = vec![("driver", text(&driver.version)), ("cuda", text(&driver.cuda))];
    page.add_of_node(&family::DRIVER, more, true);
}

struct OfGpu<'a> {
    page: &'a mut Page,
    row: Arc<Row>,
}

fn label(name: &'static str, value: &'static str) -> More {
    vec![(name, value.into())]
}

fn hertz(megahertz: Option<u32>) -> Option<u64> {
    megahertz.map(|megahertz| u64::from(megahertz) * 1_000_000)
}

fn watts(milliwatts: Option<u32>) -> Option<f64> {
    milliwatts.map(|milliwatts| f64::from(milliwatts) / 1e3)
}

impl OfGpu<'_> {
    fn identity(&mut self, card: &Card, kept: &Kept) {
        let mode = kept.compute_mode().unwrap_or_default();
        let more =
            vec![("bus_id", card.identity.bus_id.clone().into()), ("compute_mode", Cow::Borrowed(mode))];
        self.page.add_with(&family::INFO, &self.row, more, Some(true));
        for state in CardState::LABELS {
            let is = state == card.state.label();
            self.page.add_with(&family::STATE, &self.row, label("state", state), Some(is));
        }
    }

    /// What stays while the GPU does not answer.
    fn counted(&mut self, card: &Card, kept: &Kept) {
        let sums = &card.sums;
        for cause in ThrottleCause::ALL {
            let known = sums.throttle_known[cause as usize];
            let seconds = known.then(|| sums.throttled_ns[cause as usize] as f64 / 1e9);
            self.page.add_with(&family::THROTTLE, &self.row, label("cause", cause.label()), seconds);
        }
        let joules = sums.energy_millijoules.map(|millijoules| millijoules as f64 / 1e3);
        let source = label("source", sums.energy_source.label());
        self.page.add_with(&family::ENERGY, &self.row, source, joules);
        for (kind, counter, count) in kept.ecc() {
            let more = vec![("kind", kind.into()), ("counter", counter.into())];
            self.page.add_with(&family::ECC, &self.row, more, count);
        }
        self.page.add(&family::PCIE_REPLAYS, &self.row, kept.pcie_replays());
        for (kind, count) in kept.nvlink_errors() {
            self.page.add_with(&family::NVLINK_ERRORS, &self.row, label("kind", kind), count);
        }
        let seen = card.xids.iter().map(|(code, count)| (*code, *count));
        let not_yet = xid::GRAVE.into_iter().filter(|code| !card.xids.contains_key(code));
        for (code, count) in seen.chain(not_yet.map(|code| (code, 0))) {
            let class = xid::find(code).class.label();
            let more = vec![("xid", xid::text(code).into()), ("class", class.into())];
            self.page.add_with(&family::XID, &self.row, more, Some(count));
        }
    }

    fn memory(&mut self, memory: Option<Memory>) {
        let Some(memory) = memory else { return };
        self.page.add(&family::MEMORY_USED, &self.row, Some(memory.used));
        self.page.add(&family::MEMORY_TOTAL, &self.row, Some(memory.total));
        self.page.add(&family::MEMORY_RESERVED, &self.row, memory.reserved);
    }

    fn heat(&mut self, reading: &Reading, trend: Trend) {
        for (family, degrees) in [
            (&family::TEMPERATURE, reading.temperature),
            (&family::MEMORY_TEMPERATURE, reading.memory_temperature),
            (&family::MARGIN, reading.margin),
            (&family::SLOWDOWN, reading.slowdown_temperature),
            (&family::SHUTDOWN, reading.shutdown_temperature),
        ] {
            self.page.add(family, &self.row, degrees);
        }
        self.page.add(&family::SLOPE, &self.row, trend.celsius_per_second);
        self.page.add(&family::TO_SLOWDOWN, &self.row, trend.seconds_to_slowdown);
        self.page.add(&family::FAN, &self.row, reading.fan_percent);
    }

    fn work(&mut self, reading: &Reading) {
        self.page.add(&family::UTILIZATION, &self.row, reading.utilization.map(|percent| percent.gpu));
        self.page.add(&family::BANDWIDTH, &self.row, reading.utilization.map(|percent| percent.memory));
        let Profile { sm_active, sm_occupancy, tensor_active, memory_active } =
            reading.profile.unwrap_or_default();
        for (metric, ratio) in [
            ("sm_active", sm_active),
            ("sm_occupancy", sm_occupancy),
            ("tensor_active", tensor_active),
            ("memory_active", memory_active),
        ] {
            self.page.add_with(&family::PROFILE, &self.row, label("metric", metric), ratio);
        }
        self.page.add(&family::PERFORMANCE_STATE, &self.row, reading.performance_state.map(u32::from));
    }

    fn power(&mut self, power: Power) {
        self.page.add(&family::POWER, &self.row, watts(power.milliwatts));
        self.page.add(&family::POWER_LIMIT, &self.row, watts(power.limit_milliwatts));
    }

    fn clocks(&mut self, clocks: &Clocks) {
        for (family, clock, megahertz) in [
            (&family::CLOCK, "sm", clocks.sm),
            (&family::CLOCK, "memory", clocks.memory),
            (&family::CLOCK_MAX, "sm", clocks.sm_max),
            (&family::CLOCK_MAX, "memory", clocks.memory_max),
        ] {
            self.page.add_with(family, &self.row, label("clock", clock), hertz(megahertz));
        }
    }

    fn throttled(&mut self, now: &[Option<bool>]) {
        for (cause, now) in ThrottleCause::ALL.into_iter().zip(now) {
            self.page.add_with(&family::THROTTLED, &self.row, label("cause", cause.label()), *now);
        }
    }

    fn repairs(&mut self, reading: &Reading) {
        if let Some(rows) = &reading.remapped {
            for (kind, count) in [("corrected", rows.corrected), ("uncorrected", rows.uncorrected)] {
                self.page.add_with(&family::REMAPPED, &self.row, label("kind", kind), Some(count));
            }
            self.page.add(&family::REMAPPED_PENDING, &self.row, Some(rows.pending));
            self.page.add(&family::REMAPPED_FAILED, &self.row, Some(rows.failed));
        }
        if let Some(pages) = &reading.retired {
            for (kind, count) in [("corrected", pages.corrected), ("uncorrected", pages.uncorrected)] {
                self.page.add_with(&family::RETIRED, &self.row, label("kind", kind), Some(count));
            }
            self.page.add(&family::RETIRED_PENDING, &self.row, pages.pending);
        }
    }

    fn links(&mut self, pcie: &Pcie, nvlink: Option<NvLink>) {
        for (family, number) in [
            (&family::PCIE_GENERATION, pcie.generation),
            (&family::PCIE_GENERATION_MAX, pcie.generation_max),
            (&family::PCIE_WIDTH, pcie.width),
            (&family::PCIE_WIDTH_MAX, pcie.width_max),
            (&family::NVLINK_ACTIVE, nvlink.map(|links| links.links_active)),
        ] {
            self.page.add(family, &self.row, number);
        }
        for (direction, bytes) in
            [("sent", pcie.sent_bytes_per_second), ("received", pcie.received_bytes_per_second)]
        {
            self.page.add_with(&family::PCIE_THROUGHPUT, &self.row, label("direction", direction), bytes);
        }
    }

    fn users(&mut self, users: &[Use]) {
        for user in users {
            let more: More = vec![("workload", user.workload.to_string().into())];
            self.page.add_with(&family::USE_MEMORY, &self.row, more.clone(), user.memory_bytes);
            self.page.add_with(&family::USE_UTILIZATION, &self.row, more, user.sm_percent);
        }
    }

    /// A row of its own, with the memory that its GPU then does not show.
    fn instance(&mut self, instance: &Instance) {
        let row = Row {
            gpu: self.row.gpu.clone(),
            uuid: instance.uuid.as_str().into(),
            name: format!("{} MIG {}", self.row.name, instance.profile).into(),
        };
        OfGpu { page: self.page, row: Arc::new(row) }.memory(instance.memory);
    }
}
