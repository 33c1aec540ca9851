//! What the kernel programs count of themselves: `seen + lost = happened`, per stage and reason.
//!
//! The COUNTERS table has one value a processor, indexed by [`Counter`].

/// Index of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Calls and state changes of followed sockets, each of which is one event.
    SocketSeen = 0,
    /// Events put into the EVENTS ring.
    SocketSent = 1,
    /// Events lost because the EVENTS ring was full.
    SocketRingFull = 2,
    /// Events lost because the SOCKETS table took no new entry.
    SocketTableFull = 3,
    /// Calls on sockets with the verdict ignored, of which nothing more is done.
    SocketIgnored = 4,
    /// Calls whose verdict was still open and whose bytes did not decide it.
    SocketUndecided = 5,
    /// Process events put into the PROCESSES ring.
    ProcessSent = 6,
    /// Process events lost because the PROCESSES ring was full.
    ProcessRingFull = 7,
    /// Calls for which the kernel skipped a program, taken by its second copy; of unwatched processes, too.
    CallTakenOver = 8,
    /// Events put into the STALLS ring.
    StallSent = 9,
    /// Events lost because the STALLS ring was full when their thread ended.
    StallRingFull = 10,
    /// Times of the scheduler before the ones they should be behind.
    StallBackwards = 11,
    /// Threads that are not followed, because the THREADS table was full.
    ThreadTableFull = 12,
    /// Events for which the STALLS ring had no room, summed with later ones of their thread.
    StallDeferred = 13,
    /// Switches to a thread of which the kernel told only that it was over.
    SwitchUntold = 14,
}

impl Counter {
    /// Every counter, in the order of its index.
    pub const ALL: [Self; 15] = [
        Self::SocketSeen,
        Self::SocketSent,
        Self::SocketRingFull,
        Self::SocketTableFull,
        Self::SocketIgnored,
        Self::SocketUndecided,
        Self::ProcessSent,
        Self::ProcessRingFull,
        Self::CallTakenOver,
        Self::StallSent,
        Self::StallRingFull,
        Self::StallBackwards,
        Self::ThreadTableFull,
        Self::StallDeferred,
        Self::SwitchUntold,
    ];
}

/// What one processor counted.
pub type Counters = [u64; Counter::ALL.len()];
