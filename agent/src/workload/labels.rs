//! Bounded label values: which model names may become series.
//!
//! In: names from responses and requests. Out: a label that is one of a bounded set. A name takes
//! one of the slots only when a 2xx response carries it, and gives it back after a day unused.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::BootTime;

/// Label of requests that named no model and whose response named none.
pub const UNKNOWN: &str = "unknown";
/// Label of models beyond the slots.
pub const OTHER: &str = "other";
/// Slots unless the configuration says otherwise.
pub const MODEL_SLOTS_DEFAULT: usize = 8;
/// A model unused for this long gives its slot back.
pub const MODEL_IDLE: Duration = Duration::from_secs(24 * 60 * 60);

/// The models that have a label of their own.
#[derive(Debug)]
pub struct ModelLabels {
    slots: usize,
    taken: Vec<Slot>,
    overflow: u64,
}

#[derive(Debug)]
struct Slot {
    workload: Arc<str>,
    model: Arc<str>,
    used: BootTime,
}

impl ModelLabels {
    /// With room for `slots` pairs of model and workload.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self { slots, taken: Vec::new(), overflow: 0 }
    }

    /// The label for `model` of `workload`. `answered`: a 2xx response carried the name, so it may
    /// take a slot.
    pub fn label(
        &mut self,
        workload: &Arc<str>,
        model: Option<&str>,
        answered: bool,
        now: BootTime,
    ) -> Arc<str> {
        let Some(model) = model else { return UNKNOWN.into() };
        if let Some(slot) =
            self.taken.iter_mut().find(|slot| slot.workload == *workload && *slot.model == *model)
        {
            if answered {
                slot.used = now;
            }
            return slot.model.clone();
        }
        if answered && self.taken.len() < self.slots {
            let model: Arc<str> = model.into();
            self.taken.push(Slot { workload: workload.clone(), model: model.clone(), used: now });
            return model;
        }
        self.overflow += 1;
        OTHER.into()
    }

    /// The label `model` of `workload` has already, if any; asking neither takes a slot nor counts.
    #[must_use]
    pub fn known(&self, workload: &Arc<str>, model: &str) -> Option<Arc<str>> {
        let slot = self.taken.iter().find(|slot| slot.workload == *workload && *slot.model == *model)?;
        Some(slot.model.clone())
    }

    /// Takes back the slots unused for [`MODEL_IDLE`]; returns (workload, model) of each, whose series go.
    pub fn expire(&mut self, now: BootTime) -> Vec<(Arc<str>, Arc<str>)> {
        let (kept, gone) = self.taken.drain(..).partition(|slot| now.since(slot.used) < MODEL_IDLE);
        self.taken = kept;
        gone.into_iter().map(|slot: Slot| (slot.workload, slot.model)).collect()
    }

    /// Requests labelled [`OTHER`] so far.
    #[must_use]
    pub fn overflow(&self) -> u64 {
        self.overflow
    }
}
