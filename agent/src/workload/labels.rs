//! Bounded label values: which model names and which workloads may become series.
//!
//! In: names from responses and requests, and what is known of a server. Out: a label that is one of a
//! bounded set. A model's name takes one of the slots only when a 2xx response carries it, and gives it
//! back after a day unused. A workload keeps its label over restarts; one beyond the slots has none.

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

/// Longest label of a workload, in bytes.
pub const LABEL_BYTES_MAX: usize = 128;
/// What a label of a workload is, for messages.
pub const LABEL_RULE: &str = "1 to 128 of the characters A-Z a-z 0-9 . _ : @ / -";

/// Hexadecimal digits that keep two long texts apart when they are cut.
const CUT_DIGITS: usize = 8;

/// `text` can be a workload's label as it stands.
#[must_use]
pub fn is_label(text: &str) -> bool {
    !text.is_empty() && text.len() <= LABEL_BYTES_MAX && text.bytes().all(is_label_byte)
}

/// `text` with every other character as `_`, cut with a checksum where it is too long.
#[must_use]
pub fn label_text(text: &str) -> String {
    let clean: String =
        text.chars().map(|c| if c.is_ascii() && is_label_byte(c as u8) { c } else { '_' }).collect();
    if clean.is_empty() {
        return UNKNOWN.to_owned();
    }
    if clean.len() <= LABEL_BYTES_MAX {
        return clean;
    }
    let kept = LABEL_BYTES_MAX - CUT_DIGITS - 1;
    format!("{}-{:08x}", &clean[..kept], checksum(text.as_bytes()))
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._:@/-".contains(&byte)
}

/// FNV-1a: the same in every build, as the label has to be.
fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, &byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The labels that workloads have.
///
/// A server is known by its base, what its label is made of, and its door, where it listens. Two that
/// differ in the door alone get two labels: the first has the plain one, the other adds its door, and each
/// gets its own again after a restart. A server that comes back at another door, while no other with its
/// label runs, keeps it.
#[derive(Debug)]
pub struct WorkloadLabels {
    slots: usize,
    taken: Vec<TakenLabel>,
}

#[derive(Debug)]
struct TakenLabel {
    base: String,
    door: Option<String>,
    label: Arc<str>,
}

impl WorkloadLabels {
    /// With room for `slots` workloads.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self { slots, taken: Vec::new() }
    }

    /// With room for `slots` from now on; labels that are taken stay.
    pub fn set_slots(&mut self, slots: usize) {
        self.slots = slots;
    }

    /// The label of the server known by `base` and `door`; `None` when no slot is free. `runs` tells of
    /// a label whether a server with it runs.
    pub fn label(&mut self, base: &str, door: Option<&str>, runs: impl Fn(&str) -> bool) -> Option<Arc<str>> {
        let base = label_text(base);
        let same = |taken: &&TakenLabel| taken.base == base && taken.door.as_deref() == door;
        if let Some(taken) = self.taken.iter().find(same) {
            return Some(taken.label.clone());
        }
        let label = match (self.with(&base), door) {
            (None, _) => base.clone(),
            (Some(plain), _) if plain.base == base && !runs(&base) => {
                plain.door = door.map(str::to_owned);
                return Some(plain.label.clone());
            }
            (Some(_), Some(door)) => label_text(&format!("{base}-{door}")),
            // Nothing tells them apart: they are one workload.
            (Some(plain), None) => return Some(plain.label.clone()),
        };
        if let Some(taken) = self.with(&label) {
            return Some(taken.label.clone());
        }
        if self.taken.len() >= self.slots {
            return None;
        }
        let label: Arc<str> = label.into();
        self.taken.push(TakenLabel { base, door: door.map(str::to_owned), label: label.clone() });
        Some(label)
    }

    fn with(&mut self, label: &str) -> Option<&mut TakenLabel> {
        self.taken.iter_mut().find(|taken| *taken.label == *label)
    }

    /// The label's slot is free again.
    pub fn release(&mut self, label: &str) {
        self.taken.retain(|taken| *taken.label != *label);
    }
}

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
