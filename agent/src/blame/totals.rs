//! Stalls of each workload's roles, summed.
//!
//! In: events of the STALLS ring, and what is under way. Out: seconds by cause, and how long single stalls took.

use std::collections::HashMap;
use std::sync::Arc;

use inferscope_common::stall::{CLASS_BOUNDS_NS, CLASSES, KINDS, LONG_NS, Stall, StallEvent};

use crate::workload::Role;

/// Upper bounds of the lengths by which stalls are counted, beside those without bound; nanoseconds.
pub const LENGTHS_NS: [u64; 7] =
    [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000, 10_000_000_000];

const _: () = assert!(LENGTHS_NS[0] == CLASS_BOUNDS_NS[0] && LENGTHS_NS[2] == CLASS_BOUNDS_NS[2]);

/// Whose stalls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    pub workload: Arc<str>,
    /// `None`: helpers of the server, which serve no request.
    pub role: Option<Role>,
}

/// Stalls of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Those that are over.
    pub over_ns: u64,
    /// Those under way, and short ones that are not told yet, when that was last looked at.
    pub pending_ns: u64,
    /// Those that are over, by length: up to each bound, and longer.
    pub lengths: [u64; LENGTHS_NS.len() + 1],
}

/// The sums of all.
#[derive(Debug, Default)]
pub struct Totals {
    sums: HashMap<Owner, [Sum; KINDS]>,
}

impl Totals {
    /// A stall is over.
    pub fn on_event(&mut self, owner: Owner, event: &StallEvent) {
        let Ok(kind) = Stall::try_from(event.kind) else { return };
        let sum = &mut self.sums.entry(owner).or_default()[kind as usize];
        sum.over_ns += event.stalled_ns;
        let [shorter @ .., _] = event.counts;
        sum.lengths.iter_mut().zip(shorter).for_each(|(all, count)| *all += u64::from(count));
        // A long stall is an event of its own, unless they waited for a disk.
        let long = event.counts[CLASSES - 1];
        if long > 0 {
            let each = (event.stalled_ns / u64::from(long)).max(LONG_NS);
            let length = LENGTHS_NS.iter().position(|bound| each <= *bound).unwrap_or(LENGTHS_NS.len());
            sum.lengths[length.max(CLASSES - 1)] += u64::from(long);
        }
    }

    /// What is under way is said anew from here on.
    pub fn clear_pending(&mut self) {
        self.sums.values_mut().flatten().for_each(|sum| sum.pending_ns = 0);
    }

    /// Under way, or not told yet.
    pub fn add_pending(&mut self, owner: Owner, kind: Stall, ns: u64) {
        self.sums.entry(owner).or_default()[kind as usize].pending_ns += ns;
    }

    /// All sums.
    pub fn iter(&self) -> impl Iterator<Item = (&Owner, Stall, &Sum)> {
        self.sums.iter().flat_map(|(owner, sums)| {
            Stall::ALL.into_iter().zip(sums).map(move |(kind, sum)| (owner, kind, sum))
        })
    }

    /// A workload is gone for good.
    pub fn forget_workload(&mut self, workload: &str) {
        self.sums.retain(|owner, _| *owner.workload != *workload);
    }
}
