//! The agent's own process: processor time, memory, file descriptors.
//!
//! In: `/proc/self`, read when a page is encoded. Out: the `process_*` families under the names that every
//! Prometheus client has. What cannot be read is left out.

use std::fmt::Error;

use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

/// Registers the families.
pub fn register(registry: &mut Registry) {
    // Wall time of the boot does not change, and reading it can take a millisecond on a big machine.
    registry.register_collector(Box::new(Own { booted: procfs::boot_time_secs().ok() }));
}

#[derive(Debug)]
struct Own {
    booted: Option<u64>,
}

impl Collector for Own {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Ok(process) = Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let ticks = procfs::ticks_per_second() as f64;
            let help = "Processor time of the agent.";
            let mut cpu =
                encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?;
            let seconds = (stat.utime + stat.stime) as f64 / ticks;
            cpu.encode_counter::<NoLabelSet, f64, f64>(&seconds, None)?;
            let mut bytes = Gauges { encoder: &mut encoder, unit: Some(Unit::Bytes) };
            bytes.add(
                "process_resident_memory",
                "Memory of the agent.",
                &(stat.rss * procfs::page_size()),
            )?;
            bytes.add("process_virtual_memory", "Address space of the agent.", &stat.vsize)?;
            if let Some(booted) = self.booted {
                let help = "Start of the agent, since 1970.";
                let started = booted as f64 + stat.starttime as f64 / ticks;
                let mut seconds = Gauges { encoder: &mut encoder, unit: Some(Unit::Seconds) };
                seconds.add("process_start_time", help, &started)?;
            }
        }
        let mut plain = Gauges { encoder: &mut encoder, unit: None };
        if let Ok(open) = process.fd_count() {
            plain.add("process_open_fds", "Open file descriptors of the agent.", &(open as u64))?;
        }
        match process.limits().map(|limits| limits.max_open_files.soft_limit) {
            Ok(LimitValue::Value(max)) => {
                plain.add("process_max_fds", "Limit on open file descriptors.", &max)
            }
            _ => Ok(()),
        }
    }
}

struct Gauges<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
    unit: Option<Unit>,
}

impl Gauges<'_, '_> {
    fn add(&mut self, name: &str, help: &str, value: &impl EncodeGaugeValue) -> Result<(), Error> {
        let mut encoder =
            self.encoder.encode_descriptor(name, help, self.unit.as_ref(), MetricType::Gauge)?;
        encoder.encode_gauge(value)
    }
}
