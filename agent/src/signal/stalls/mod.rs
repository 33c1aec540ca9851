//! What holds the servers' threads up?
//!
//! In: the sums of stalls at each tick. Out, by `workload`, `role` and `cause`, from the kernel's scheduler events:
//! `stall_seconds_total`, thread seconds, those under way included; `stall_duration_seconds`, how long single stalls
//! took, of `run_queue` and `memory_reclaim`, once they are over. And [`view::StallsView`], the rates of the last 10 s,
//! for the API.

mod lengths;
#[cfg(test)]
mod tests;
pub mod view;

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use inferscope_common::stall::Stall;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Unit;

use self::lengths::Lengths;
use self::view::{Recent, StallsView};
use super::{Signal, Tick};
use crate::blame::Cause;
use crate::registry::{FloatCounter, Registries};
use crate::workload::{Role, Workload};

/// Stalls whose length is exported.
const WITH_LENGTHS: [Stall; 2] = [Stall::RunQueue, Stall::MemoryReclaim];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    workload: Arc<str>,
    role: &'static str,
    cause: &'static str,
}

/// The signal `stalls`.
#[derive(Debug)]
pub struct StallSignal {
    seconds: Family<Labels, FloatCounter>,
    /// What was exported of each series, nanoseconds.
    exported: HashMap<Labels, u64>,
    lengths: Lengths,
    recent: Recent,
    view: StallsView,
}

impl StallSignal {
    /// Registers its series.
    pub fn new(registries: &mut Registries) -> Self {
        let seconds = Family::default();
        let help = "Time in which threads of a workload could not go on, those under way included, by cause";
        registries.common.register_with_unit("stall", help, Unit::Seconds, seconds.clone());
        let lengths = Lengths::default();
        lengths.register(registries);
        let (recent, view) = (Recent::default(), StallsView::default());
        Self { seconds, exported: HashMap::new(), lengths, recent, view }
    }

    /// What the API shows of it.
    #[must_use]
    pub fn view(&self) -> StallsView {
        self.view.clone()
    }

    /// What is under way is counted before it is over, so a sum that is read a little later may be less. Returns by how
    /// many nanoseconds it grew.
    fn export(&mut self, labels: &Labels, ns: u64) -> u64 {
        let exported = self.exported.entry(labels.clone()).or_default();
        let more = ns.saturating_sub(*exported);
        *exported += more;
        self.seconds.get_or_create(labels).inc_by(more as f64 / 1e9);
        more
    }
}

fn role_label(role: Option<Role>) -> &'static str {
    role.map_or("other", Role::label)
}

impl Signal for StallSignal {
    fn name(&self) -> &'static str {
        "stalls"
    }

    fn on_tick(&mut self, tick: &Tick<'_>) -> Result<()> {
        let mut grown = HashMap::new();
        for (owner, kind, sum) in tick.stalls.iter() {
            let cause = Cause::from(kind).label();
            let labels = Labels { workload: owner.workload.clone(), role: role_label(owner.role), cause };
            if WITH_LENGTHS.contains(&kind) {
                self.lengths.set(&labels, sum);
            }
            let more = self.export(&labels, sum.over_ns + sum.pending_ns);
            if more > 0 {
                grown.insert(labels, more);
            }
        }
        self.recent.push(tick.now, grown);
        self.view.publish(self.recent.snapshot(self.exported.keys()));
        Ok(())
    }

    fn forget_workload(&mut self, workload: &Workload) {
        let of = |labels: &Labels| labels.workload == workload.label;
        let gone: Vec<Labels> = self.exported.keys().filter(|labels| of(labels)).cloned().collect();
        for labels in gone {
            self.exported.remove(&labels);
            self.seconds.remove(&labels);
            self.lengths.remove(&labels);
        }
    }

    fn forget_model(&mut self, _workload: &str, _model: &str) {}
}
