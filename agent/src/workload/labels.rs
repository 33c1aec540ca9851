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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: u64) -> BootTime {
        BootTime(hours * 3_600_000_000_000)
    }

    #[test]
    fn a_model_takes_a_slot_only_when_it_is_answered() {
        let mut labels = ModelLabels::new(1);
        let workload: Arc<str> = "w".into();
        assert_eq!(&*labels.label(&workload, None, true, at(0)), UNKNOWN);
        assert_eq!(&*labels.label(&workload, Some("a"), false, at(0)), OTHER);
        assert_eq!(&*labels.label(&workload, Some("a"), true, at(0)), "a");
        assert_eq!(&*labels.label(&workload, Some("a"), false, at(0)), "a");
        assert_eq!(&*labels.label(&workload, Some("b"), true, at(0)), OTHER);
        assert_eq!(labels.overflow(), 2);
    }

    #[test]
    fn a_model_of_two_workloads_takes_two_slots() {
        let mut labels = ModelLabels::new(2);
        let [first, second, third]: [Arc<str>; 3] = ["1".into(), "2".into(), "3".into()];
        assert_eq!(&*labels.label(&first, Some("a"), true, at(0)), "a");
        assert_eq!(&*labels.label(&second, Some("a"), true, at(0)), "a");
        assert_eq!(&*labels.label(&third, Some("a"), true, at(0)), OTHER);
    }

    #[test]
    fn a_model_gives_its_slot_back_after_a_day() {
        let mut labels = ModelLabels::new(1);
        let workload: Arc<str> = "w".into();
        labels.label(&workload, Some("a"), true, at(0));
        labels.label(&workload, Some("a"), true, at(20));
        // Asking for it does not keep it.
        labels.label(&workload, Some("a"), false, at(40));
        assert_eq!(labels.expire(at(43)), []);
        assert_eq!(labels.expire(at(44)), [(workload.clone(), "a".into())]);
        assert_eq!(&*labels.label(&workload, Some("b"), true, at(44)), "b");
    }

    #[test]
    fn label_text_is_bounded_in_characters_and_length() {
        for (text, expected) in [
            ("prod/qwen", "prod/qwen"),
            ("vllm@a.service", "vllm@a.service"),
            ("a b\"c\\d\n{é}", "a_b_c_d____"),
            ("", UNKNOWN),
        ] {
            assert_eq!(label_text(text), expected, "{text}");
            assert!(is_label(&label_text(text)));
        }
        let long =
            ["x".repeat(200) + "1", "x".repeat(200) + "2", "é".repeat(200)].map(|text| label_text(&text));
        assert!(long.iter().all(|label| label.len() == LABEL_BYTES_MAX && is_label(label)));
        assert_ne!(long[0], long[1]);
    }

    /// Base, door, what runs, the label.
    type Row<'a> = (&'a str, Option<&'a str>, &'a [&'a str], Option<&'a str>);

    fn check(slots: usize, rows: &[Row<'_>]) {
        let mut labels = WorkloadLabels::new(slots);
        for (base, door, up, expected) in rows {
            let found = labels.label(base, *door, |label| up.contains(&label));
            assert_eq!(found.as_deref(), *expected, "{base} {door:?}");
        }
    }

    #[test]
    fn servers_of_one_base_are_told_apart_by_their_door() {
        let up: &[&str] = &["b", "b-2", "b-uds-x"];
        check(
            8,
            &[
                ("b", Some("1"), up, Some("b")),
                ("b", Some("2"), up, Some("b-2")),
                ("b", Some("uds-x"), up, Some("b-uds-x")),
                ("b", Some("2"), &[], Some("b-2")),
                ("b", Some("1"), &[], Some("b")),
                ("b", None, up, Some("b")),
            ],
        );
    }

    #[test]
    fn a_label_made_of_other_parts_is_not_shared_by_chance() {
        let up: &[&str] = &["b-2", "b"];
        check(8, &[("b-2", Some("9"), up, Some("b-2")), ("b", Some("1"), up, Some("b"))]);
    }

    #[test]
    fn a_server_that_moves_keeps_its_label() {
        check(
            8,
            &[
                ("b", Some("1"), &[], Some("b")),
                ("b", Some("2"), &[], Some("b")),
                ("b", Some("1"), &["b"], Some("b-1")),
            ],
        );
    }

    #[test]
    fn workloads_beyond_the_slots_have_no_label() {
        check(1, &[("a", None, &[], Some("a")), ("b", None, &[], None), ("a", None, &[], Some("a"))]);
        let mut labels = WorkloadLabels::new(1);
        labels.label("a", None, |_| true);
        labels.release("a");
        assert_eq!(labels.label("b", None, |_| true).as_deref(), Some("b"));
    }
}
