//! What the room counts of itself.

use super::record::{Incomplete, ParseFailure};

/// Totals since the start.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Socket events taken: each is one of the next four.
    pub events: u64,
    /// Events of connections that are followed.
    pub events_followed: u64,
    /// Events that were still on their way when their connection was given up.
    pub events_ignored: u64,
    /// Ends and waits of sockets without a connection: nothing was under way there.
    pub events_idle: u64,
    /// Events of processes that belong to no workload (any more).
    pub events_unclaimed: u64,
    /// Events of followed connections that did not arrive, by the gaps in their numbers.
    pub events_missed: u64,
    /// Connections forgotten to make room for others.
    pub connections_evicted: u64,
    /// Connections that the kernel forgot to make room for others, by numbers that begin again.
    pub connections_forgotten: u64,
    /// Connections that were gone without a word: their end was lost.
    pub connections_vanished: u64,
    /// Requests that began: each is one of the next three, or still under way.
    pub requests_begun: u64,
    /// Records of requests, of whatever route.
    pub requests_finished: u64,
    /// Those of them that the agent asked itself: they leave no record.
    pub requests_own: u64,
    /// What began like a request and was none.
    pub requests_void: u64,
    /// Requests that ended before their head was complete, so that nothing says what they were.
    pub requests_unfinished: u64,
    /// Requests beside those, for which there was no room: they are not measured.
    pub requests_refused: u64,
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
