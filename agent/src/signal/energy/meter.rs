//! The energy of one GPU, until it is booked.
//!
//! In: the GPU as it stands at each tick. Out: stretches of time with their energy and who had a share of it, once
//! everything that was under way in them is known.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::idle::Idle;
use crate::clock::BootTime;
use crate::gpu::Card;
use crate::gpu::energy::{STRETCH_MAX, Stretch};

/// What a GPU took between two readings.
#[derive(Debug)]
pub struct Ready {
    pub stretch: Stretch,
    /// Whose it was, in parts of 1, by what they had of the GPU at the tick after its end.
    pub shares: Arc<[(Arc<str>, f64)]>,
}

/// The meter of one GPU.
#[derive(Debug, Default)]
pub struct Meter {
    /// Up to here its energy has been taken.
    taken: BootTime,
    waiting: VecDeque<Ready>,
    shares: Arc<[(Arc<str>, f64)]>,
    idle: HashMap<Arc<str>, Idle>,
}

impl Meter {
    /// Takes what it took since the tick before. There are as many at most as a card keeps.
    pub fn take(&mut self, card: &Card) {
        // One that does not answer just now had its users until then.
        if card.reading.is_some() {
            self.shares = card.shares().into();
        }
        for stretch in card.energy_after(self.taken) {
            self.taken = stretch.end;
            self.waiting.push_back(Ready { stretch: *stretch, shares: self.shares.clone() });
        }
    }

    /// Those that ended before a time until which all is known.
    pub fn ready(&mut self, known_until: BootTime) -> Vec<Ready> {
        let count = self.waiting.partition_point(|part| part.stretch.end <= known_until);
        self.waiting.drain(..count).collect()
    }

    /// Whether any of it is not booked yet.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What was under way before this will not be asked.
    #[must_use]
    pub fn needs(&self, now: BootTime) -> BootTime {
        let under_way = if now.since(self.taken) <= STRETCH_MAX { self.taken } else { now };
        self.waiting.front().map_or(under_way, |first| first.stretch.start.min(under_way))
    }

    /// The idle power of a workload on it.
    pub fn idle(&mut self, workload: &Arc<str>) -> &mut Idle {
        self.idle.entry(workload.clone()).or_default()
    }

    /// A workload is gone for good.
    pub fn forget(&mut self, workload: &str) {
        self.idle.retain(|other, _| **other != *workload);
    }
}
