//! What does it mean? Each folder is one signal: it sees finished records and a tick a second, and
//! owns the series that it names. Signals do not import each other.

pub mod canary;
pub mod cgroup;
pub mod drift;
pub mod energy;
pub mod engine;
pub mod gpu;
pub mod latency;
pub mod live;
pub mod mmlu;
pub mod slo;
pub mod slow;
pub mod stalls;

use anyhow::Result;

use crate::blame::{Totals, Verdict};
use crate::cgroup::Groups;
use crate::clock::BootTime;
use crate::engine::Engines;
use crate::gpu::Gpus;
use crate::quality::Standings;
use crate::request::record::{OpenRequest, Progress, RequestRecord};
use crate::workload::Workload;

pub use crate::workload::WorkloadState;

/// One thing that is measured. Called by the task that owns the pipeline, so it needs no lock; what it
/// exports are atomics that a scrape reads without waiting.
pub trait Signal: Send {
    /// Section of the configuration, label and log field.
    fn name(&self) -> &'static str;

    /// A request ended, and this is what its time went to. Bounded work, no I/O.
    fn on_request(&mut self, _record: &RequestRecord, _verdict: &Verdict) {}

    /// A stream went on.
    fn on_progress(&mut self, _progress: &Progress) {}

    /// A second passed.
    ///
    /// # Errors
    /// What made the signal miss this tick; the runner counts it and goes on.
    fn on_tick(&mut self, _tick: &Tick<'_>) -> Result<()> {
        Ok(())
    }

    /// Why it measures nothing though nothing went wrong; `None` where it does.
    fn unavailable(&self) -> Option<Unavailable> {
        None
    }

    /// A workload is gone for good: its series go.
    fn forget_workload(&mut self, workload: &Workload);

    /// A model gave its label back: its series go.
    fn forget_model(&mut self, workload: &str, model: &str);
}

/// Why a signal measures nothing though nothing went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// By configuration.
    Disabled,
    /// This machine cannot: why.
    Unsupported(String),
}

/// What every signal may look at once a second.
#[derive(Debug)]
pub struct Tick<'a> {
    pub now: BootTime,
    /// Workloads that run, and those that went less than a day ago (`up` false).
    pub workloads: &'a [WorkloadState],
    /// Inference requests under way.
    pub open: &'a [OpenRequest],
    /// What held up the servers' threads so far.
    pub stalls: &'a Totals,
    /// What the kernel counts of the servers' control groups.
    pub groups: &'a Groups,
    /// What the servers say of themselves, where they are asked.
    pub engines: &'a Engines,
    /// The GPUs as they stand.
    pub gpus: &'a Gpus,
    /// What files say of the models' quality.
    pub quality: &'a Standings,
}

#[cfg(test)]
mod tests;
