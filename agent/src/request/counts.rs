//! What the room counts of itself.

use super::record::{Incomplete, ParseFailure};

/// Totals since the start.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Socket events taken.
    pub events: u64,
    /// Events of followed sockets that did not arrive, by the gaps in their numbers.
    pub events_lost: u64,
    /// Events of processes that belong to no workload (any more).
    pub events_unclaimed: u64,
    /// Connections forgotten to make room for others.
    pub connections_evicted: u64,
    /// Requests that began when no more could be followed; of their connection nothing more is measured.
    pub requests_refused: u64,
    /// Requests that ended before their head was complete, so that nothing says what they were.
    pub requests_unfinished: u64,
    failures: [u64; ParseFailure::ALL.len()],
    incomplete: [u64; 2],
}

impl Counts {
    /// Bytes that were not understood, by reason.
    pub fn failures(&self) -> impl Iterator<Item = (ParseFailure, u64)> + '_ {
        ParseFailure::ALL.into_iter().map(|reason| (reason, self.failures[reason as usize]))
    }

    /// Records that are incomplete, by reason.
    pub fn incompletes(&self) -> impl Iterator<Item = (Incomplete, u64)> + '_ {
        [Incomplete::EventsLost, Incomplete::BorderMissed]
            .into_iter()
            .map(|reason| (reason, self.incomplete[reason as usize]))
    }

    pub(super) fn failure(&mut self, reason: ParseFailure) {
        self.failures[reason as usize] += 1;
    }

    pub(super) fn incomplete(&mut self, reason: Incomplete) {
        self.incomplete[reason as usize] += 1;
    }
}
