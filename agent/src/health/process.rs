//! The agent's own process: processor time, memory, file descriptors.
//!
//! In: `/proc/self`, read when a page is encoded, and the kernel's clock of the process, once a second. Out: the
//! `process_*` families under the names that every Prometheus client has, and what `/api/v1/agent` says of memory and
//! of the processor lately. What cannot be read is left out.

use std::collections::VecDeque;
use std::fmt::Error;
use std::time::Duration;

use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::clock::BootTime;

/// Span of [`CpuReport::last_10s`].
const SPAN: Duration = Duration::from_secs(10);
/// Looks at the clock that are kept, whatever the ticks do: one more than come in [`SPAN`], and some that come early.
const LOOKS_MAX: usize = 16;

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

/// Processor time of the agent.
#[derive(Debug, PartialEq, Serialize)]
pub struct CpuReport {
    pub seconds_total: f64,
    /// Share of one processor over the last 10 s, 0.01 for a hundredth; `null` in the first second.
    pub last_10s: Option<f64>,
}

/// Memory of the agent.
#[derive(Debug, Serialize)]
pub struct MemoryReport {
    /// `null` where it cannot be read.
    pub resident_bytes: Option<u64>,
    /// What of that is no file's.
    pub anonymous_bytes: Option<u64>,
}

impl MemoryReport {
    /// As it is now.
    pub fn read() -> Self {
        let status = Process::myself().and_then(|process| process.status()).ok();
        let bytes = |kib: Option<u64>| kib.map(|kib| kib * 1024);
        let anonymous_bytes = bytes(status.as_ref().and_then(|status| status.rssanon));
        Self { resident_bytes: bytes(status.and_then(|status| status.vmrss)), anonymous_bytes }
    }
}

/// Processor time that the agent has had, at the newest ticks.
#[derive(Debug, Default)]
pub struct CpuTime(VecDeque<(BootTime, Duration)>);

impl CpuTime {
    /// Looks at `now`. The scheduler's clock is finer than the ticks of `/proc/self/stat`: of 0.5 % of a processor ten
    /// seconds have five.
    pub fn look(&mut self, now: BootTime) {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        self.note(now, Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec as u32));
    }

    fn note(&mut self, now: BootTime, used: Duration) {
        self.0.push_back((now, used));
        // The newest that is older than the span stays: from there on it is measured.
        while self.0.len() > LOOKS_MAX || self.0.get(1).is_some_and(|(time, _)| now.since(*time) >= SPAN) {
            self.0.pop_front();
        }
    }

    /// As of the newest look.
    pub fn report(&self) -> CpuReport {
        let (Some((since, before)), Some((until, used))) = (self.0.front(), self.0.back()) else {
            return CpuReport { seconds_total: 0.0, last_10s: None };
        };
        let span = until.since(*since).as_secs_f64();
        let share = (span > 0.0).then(|| used.saturating_sub(*before).as_secs_f64() / span);
        CpuReport { seconds_total: used.as_secs_f64(), last_10s: share }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_of_a_processor_is_of_the_last_ten_seconds() {
        let mut cpu = CpuTime::default();
        assert_eq!(cpu.report(), CpuReport { seconds_total: 0.0, last_10s: None });
        // A busy start, then a hundredth.
        for second in 0..=30_u64 {
            let used = Duration::from_secs(3) * second.min(1) as u32 + Duration::from_millis(10 * second);
            cpu.note(BootTime(second * 1_000_000_000), used);
            let report = cpu.report();
            assert!((report.seconds_total - used.as_secs_f64()).abs() < 1e-9);
            let expected = match second {
                0 => None,
                1..=10 => Some(3.0 / second as f64 + 0.01),
                _ => Some(0.01),
            };
            let near = match (report.last_10s, expected) {
                (Some(share), Some(expected)) => (share - expected).abs() < 1e-9,
                (share, expected) => share == expected,
            };
            assert!(near, "{:?} for {expected:?} in second {second}", report.last_10s);
        }
        // A clock that stands still adds looks, not memory.
        (0..100).for_each(|_| cpu.note(BootTime(30_000_000_000), Duration::from_secs(4)));
        assert_eq!((cpu.0.len(), cpu.report().last_10s), (LOOKS_MAX, None));
    }

    #[test]
    fn this_process_has_had_time_and_memory() {
        let mut cpu = CpuTime::default();
        cpu.look(BootTime::now());
        assert!(cpu.report().seconds_total > 0.0);
        let memory = MemoryReport::read();
        assert!(memory.anonymous_bytes.unwrap() > 0 && memory.anonymous_bytes <= memory.resident_bytes);
    }
}
