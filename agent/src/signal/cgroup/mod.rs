//! What does the kernel count of the servers' control groups?
//!
//! In: the newest readings, once a second. Out, by `workload`, from the group of its first process:
//!
//! | Series | Source | v1 |
//! |---|---|---|
//! | `cgroup_pressure_seconds_total{resource,kind}` | `*.pressure`: time in which some, or all, tasks waited | no |
//! | `cgroup_cpu_throttled_seconds_total` | `cpu.stat`: time for which run queues were stopped, summed over processors | yes |
//! | `cgroup_cpu_periods_total`, `cgroup_cpu_throttled_periods_total` | `cpu.stat`, where there is a quota | yes |
//! | `cgroup_memory_bytes`, `cgroup_memory_limit_bytes` | `memory.current`, `memory.max` | yes |
//! | `cgroup_memory_events_total{event}` | `memory.events`: `high`, `max`, `oom_kill` | no `high` |
//! | `cgroup_major_faults_total` | `memory.stat` | yes |
//!
//! What a host or a group does not have is absent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

use super::{Signal, Tick};
use crate::cgroup::{Cpu, Memory, Pressures, Reading};
use crate::registry::Registries;
use crate::registry::totals::{SecondsTotals, Totals};
use crate::workload::Workload;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    workload: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PressureLabels {
    workload: Arc<str>,
    resource: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    workload: Arc<str>,
    event: &'static str,
}

/// The signal `cgroup`.
#[derive(Debug, Default)]
pub struct CgroupSignal {
    pressure: SecondsTotals<PressureLabels>,
    throttled: SecondsTotals<Labels>,
    periods: Totals<Labels>,
    throttled_periods: Totals<Labels>,
    memory: Family<Labels, Gauge>,
    memory_limit: Family<Labels, Gauge>,
    memory_events: Totals<EventLabels>,
    major_faults: Totals<Labels>,
}

impl CgroupSignal {
    /// Registers its series.
    pub fn new(registries: &mut Registries) -> Self {
        let signal = Self::default();
        let registry = &mut registries.common;
        let help = "Time in which some, or all, tasks of the workload's group waited for a resource";
        registry.register_with_unit("cgroup_pressure", help, Unit::Seconds, signal.pressure.family());
        let help = "Time for which run queues of the group were stopped by its quota, summed over processors";
        registry.register_with_unit("cgroup_cpu_throttled", help, Unit::Seconds, signal.throttled.family());
        let help = "Periods of the quota in which the group ran";
        registry.register("cgroup_cpu_periods", help, signal.periods.family());
        let help = "Periods in which the group used its quota up";
        registry.register("cgroup_cpu_throttled_periods", help, signal.throttled_periods.family());
        let help = "Memory that is charged to the group, page cache included";
        registry.register_with_unit("cgroup_memory", help, Unit::Bytes, signal.memory.clone());
        let help = "Limit of the group's memory; absent without one";
        registry.register_with_unit("cgroup_memory_limit", help, Unit::Bytes, signal.memory_limit.clone());
        let help =
            "Times that the group was held up over memory.high, reached its limit, or lost a process to it";
        registry.register("cgroup_memory_events", help, signal.memory_events.family());
        let help = "Pages that tasks of the group had to read from disk";
        registry.register("cgroup_major_faults", help, signal.major_faults.family());
        signal
    }

    fn set(&self, workload: &Arc<str>, reading: &Reading) {
        let labels = Labels { workload: workload.clone() };
        if let Some(Cpu { periods, throttled_periods, throttled }) = reading.cpu {
            self.periods.set(&labels, periods);
            self.throttled_periods.set(&labels, throttled_periods);
            self.throttled.set(&labels, throttled);
        }
        if let Some(memory) = reading.memory {
            self.set_memory(&labels, &memory);
        }
        let Pressures { cpu, memory, io } = reading.pressure;
        for (resource, pressure) in [("cpu", cpu), ("memory", memory), ("io", io)] {
            let Some(pressure) = pressure else { continue };
            for (kind, time) in [("some", Some(pressure.some)), ("full", pressure.full)] {
                let Some(time): Option<Duration> = time else { continue };
                self.pressure.set(&PressureLabels { workload: workload.clone(), resource, kind }, time);
            }
        }
    }

    fn set_memory(&self, labels: &Labels, memory: &Memory) {
        for (family, bytes) in
            [(&self.memory, memory.current_bytes), (&self.memory_limit, memory.limit_bytes)]
        {
            match bytes {
                Some(bytes) => drop(family.get_or_create(labels).set(bytes.cast_signed())),
                None => drop(family.remove(labels)),
            }
        }
        let events =
            [("high", memory.high_events), ("max", memory.max_events), ("oom_kill", memory.oom_kills)];
        for (event, count) in events {
            let Some(count) = count else { continue };
            self.memory_events.set(&EventLabels { workload: labels.workload.clone(), event }, count);
        }
        if let Some(faults) = memory.major_faults {
            self.major_faults.set(labels, faults);
        }
    }
}

impl Signal for CgroupSignal {
    fn name(&self) -> &'static str {
        "cgroup"
    }

    fn on_tick(&mut self, tick: &Tick<'_>) -> Result<()> {
        for (workload, reading) in &tick.groups.readings {
            self.set(workload, reading);
        }
        match &tick.groups.failure {
            Some(failure) => bail!("{failure}"),
            None => Ok(()),
        }
    }

    fn forget_workload(&mut self, workload: &Workload) {
        let gone = |labels: &Labels| labels.workload == workload.label;
        for totals in [&self.periods, &self.throttled_periods, &self.major_faults] {
            totals.remove_where(gone);
        }
        self.throttled.remove_where(gone);
        self.pressure.remove_where(|labels| labels.workload == workload.label);
        self.memory_events.remove_where(|labels| labels.workload == workload.label);
        let labels = Labels { workload: workload.label.clone() };
        self.memory.remove(&labels);
        self.memory_limit.remove(&labels);
    }

    fn forget_model(&mut self, _workload: &str, _model: &str) {}
}

#[cfg(test)]
mod tests;
