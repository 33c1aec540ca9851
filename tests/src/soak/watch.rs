//! Looks at the agent every few seconds: its page by an independent reader, and what it takes of the node.
//!
//! In: where it listens, its number. Out: readings over time, and every rule its pages broke: a counter that fell,
//! a series that went though nothing ended, a text that must not leave.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::bench::process::{cpu_time, kernel_bytes, memory_bytes};
use crate::client::{HEADER_CANARY, PROMPT_CANARY};
use crate::fake_server::COMPLETION_CANARY;
use crate::oracle::http_get;
use crate::page::{self, Family, Format, Labels};
use crate::socket::Endpoint;

const SCRAPE_EVERY: Duration = Duration::from_secs(3);
/// Faults that are kept.
const FAULTS_MAX: usize = 20;
const POLL: Duration = Duration::from_millis(50);
const MIB: f64 = 1_048_576.0;

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) scrapes: u64,
    /// By what is read: (seconds, value).
    pub(super) readings: BTreeMap<&'static str, Vec<(f64, f64)>>,
    pub(super) falls: Vec<String>,
    pub(super) leaks: Vec<String>,
    /// Looks that failed.
    pub(super) failures: Vec<String>,
    counters: BTreeMap<(String, Labels), f64>,
    cpu: Duration,
}

pub(super) struct Watch {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(listen: SocketAddr, tgid: u32) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let (of_thread, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let began = Instant::now();
            let mut due = began;
            while !stopped.load(Ordering::Relaxed) {
                if Instant::now() >= due {
                    due = Instant::now() + SCRAPE_EVERY;
                    look(&of_thread, began, listen, tgid);
                }
                std::thread::sleep(POLL);
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// The newest reading.
    pub(super) fn newest(&self, what: &str) -> f64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.readings.get(what).and_then(|readings| readings.last()).map_or(0.0, |reading| reading.1)
    }

    pub(super) fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed already, and its readings end there.
            let _ = thread.join();
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One look. The lock is held for the books only, never while something is waited for.
fn look(seen: &Mutex<Seen>, began: Instant, listen: SocketAddr, tgid: u32) {
    let asked = Instant::now();
    let page = http_get(&Endpoint::Tcp(listen), "/metrics");
    let took = asked.elapsed();
    let usage = usage(tgid);
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let at = began.elapsed().as_secs_f64();
    seen.scrapes += 1;
    let done = page.and_then(|page| {
        let text = String::from_utf8(page).context("read the agent's page")?;
        seen.take_page(at, &text)
    });
    seen.add(at, SCRAPE_MS, took.as_secs_f64() * 1e3);
    let done = done.and(usage).map(|usage| seen.take_usage(at, usage));
    if let Err(error) = done {
        note(&mut seen.failures, format!("{error:#}"));
    }
}

pub(super) const ANONYMOUS_MIB: &str = "anonymous memory";
pub(super) const MAPS_MIB: &str = "kernel memory of its maps";
pub(super) const FILES: &str = "open files";
pub(super) const THREADS: &str = "threads";
pub(super) const SERIES: &str = "series on its page";
pub(super) const CPU_PERCENT: &str = "of a core";
pub(super) const SCRAPE_MS: &str = "a scrape takes";

struct Usage {
    readings: Vec<(&'static str, f64)>,
    cpu: Duration,
}

fn usage(tgid: u32) -> Result<Usage> {
    let files = fs::read_dir(format!("/proc/{tgid}/fd")).context("count open files")?.count();
    let threads = fs::read_dir(format!("/proc/{tgid}/task")).context("count threads")?.count();
    let readings = vec![
        (ANONYMOUS_MIB, memory_bytes(tgid, "RssAnon")? as f64 / MIB),
        (MAPS_MIB, kernel_bytes(tgid)?.0 as f64 / MIB),
        (FILES, files as f64),
        (THREADS, threads as f64),
    ];
    Ok(Usage { readings, cpu: cpu_time(tgid)? })
}

fn note(faults: &mut Vec<String>, fault: String) {
    if faults.len() < FAULTS_MAX {
        faults.push(fault);
    }
}

impl Seen {
    fn add(&mut self, at: f64, what: &'static str, value: f64) {
        self.readings.entry(what).or_default().push((at, value));
    }

    fn take_usage(&mut self, at: f64, usage: Usage) {
        for (what, value) in usage.readings {
            self.add(at, what, value);
        }
        let before = self.readings[THREADS].iter().rev().nth(1).map(|reading| reading.0);
        if let Some(before) = before.filter(|before| at > *before) {
            let spent = usage.cpu.saturating_sub(self.cpu).as_secs_f64();
            self.add(at, CPU_PERCENT, 100.0 * spent / (at - before));
        }
        self.cpu = usage.cpu;
    }

    fn take_page(&mut self, at: f64, text: &str) -> Result<()> {
        for canary in [PROMPT_CANARY, COMPLETION_CANARY, HEADER_CANARY] {
            if text.contains(canary) {
                note(&mut self.leaks, format!("{canary} on the page of metrics"));
            }
        }
        let families = page::read(text, Format::Text)?;
        self.add(at, SERIES, families.values().map(|family| family.samples.len()).sum::<usize>() as f64);
        let counters = counters(&families);
        for (series, before) in &self.counters {
            match counters.get(series) {
                Some(now) if now >= before => {}
                now => note(&mut self.falls, format!("{series:?} went from {before} to {now:?}")),
            }
        }
        self.counters = counters;
        Ok(())
    }
}

/// Whatever may only rise.
fn counters(families: &BTreeMap<String, Family>) -> BTreeMap<(String, Labels), f64> {
    let rising = families.values().filter(|family| matches!(family.kind.as_str(), "counter" | "histogram"));
    let samples = rising.flat_map(|family| &family.samples);
    samples.map(|sample| ((sample.name.clone(), sample.labels.clone()), sample.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(counter: Option<u32>, gauge: u32) -> String {
        let series = counter.map_or(String::new(), |count| format!("a_total{{x=\"1\"}} {count}\n"));
        format!("# HELP a_total A.\n# TYPE a_total counter\n{series}# HELP g G.\n# TYPE g gauge\ng {gauge}\n")
    }

    #[test]
    fn a_counter_that_falls_or_goes_is_a_fault() {
        for (second, faults) in [(Some(5), 0), (Some(6), 0), (Some(4), 1), (None, 1)] {
            let mut seen = Seen::default();
            seen.take_page(0.0, &page(Some(5), 9)).unwrap();
            seen.take_page(1.0, &page(second, 3)).unwrap();
            assert_eq!(seen.falls.len(), faults, "{second:?}: {:?}", seen.falls);
        }
    }

    #[test]
    fn a_text_that_must_not_leave_is_found() {
        let mut seen = Seen::default();
        let leak = page(Some(1), 1).replace("A.", &format!("{PROMPT_CANARY}."));
        seen.take_page(0.0, &leak).unwrap();
        assert_eq!(seen.leaks.len(), 1);
    }
}
