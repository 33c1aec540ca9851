//! Stalls: times in which a thread of a watched process could not go on, and the machine that finds them.
//!
//! In: what the scheduler does with a thread, with times. Out: one [`Interval`] each time that a stall is over. Pure,
//! so that the kernel programs' logic is tested on the host; the programs keep a [`Thread`] a thread.

/// Threads that are followed at once: those of some 100 servers. One more is counted and not followed.
pub const THREADS_MAX: u32 = 16_384;
/// Size of the STALLS ring: 16,000 events between two looks of the agent.
pub const STALLS_BYTES: u32 = 1 << 20;
/// A stall of this length is an event of its own; shorter ones, and those that the ring has no room for, are summed until
/// they come to as much and there is room. So a thread makes at most a thousand events a second for each kind.
pub const LONG_NS: u64 = 1_000_000;

/// Classes of length by which stalls are counted.
pub const CLASSES: usize = 4;
/// Upper bounds of all but the last class, in which each stall is an event of its own.
pub const CLASS_BOUNDS_NS: [u64; CLASSES - 1] = [10_000, 100_000, LONG_NS];

/// What kept a thread. The order settles an overlap: the first wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Stall {
    /// Stopped by a signal or a debugger.
    Stopped = 0,
    /// Its group had used up its quota of processor time.
    CpuThrottle = 1,
    /// Others had the processors.
    RunQueue = 2,
    /// It had to find memory, or to wait until some was found: reclaim, compaction, `memory.high`.
    MemoryReclaim = 3,
    /// A page had to be read from disk.
    MajorFault = 4,
    /// It waited for a disk otherwise.
    BlockIo = 5,
}

/// Kinds of stalls.
pub const KINDS: usize = 6;

impl Stall {
    /// Every kind, in the order of its index.
    pub const ALL: [Self; KINDS] = [
        Self::Stopped,
        Self::CpuThrottle,
        Self::RunQueue,
        Self::MemoryReclaim,
        Self::MajorFault,
        Self::BlockIo,
    ];
}

impl TryFrom<u32> for Stall {
    type Error = u32;

    fn try_from(value: u32) -> Result<Self, u32> {
        Self::ALL.get(value as usize).copied().ok_or(value)
    }
}

/// One event of the STALLS ring: one long stall, or several short ones.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StallEvent {
    /// When the first began, nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub start_ns: u64,
    /// When the last was over.
    pub end_ns: u64,
    /// How long all of them took.
    pub stalled_ns: u64,
    /// The process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
    /// A [`Stall`].
    pub kind: u32,
    /// Zero.
    pub padding: u32,
    /// How many there were, by length: see [`CLASS_BOUNDS_NS`].
    pub counts: [u32; CLASSES],
}

const _: () = assert!(size_of::<StallEvent>() == 56 && align_of::<StallEvent>() == 8);

/// Short stalls of one kind that were not told yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spell {
    /// When the first began.
    pub start_ns: u64,
    /// How long all of them took.
    pub stalled_ns: u64,
    /// How many there were, by length.
    pub counts: [u32; CLASSES],
}

impl Spell {
    #[inline(always)]
    fn one(start_ns: u64, end_ns: u64) -> Self {
        let stalled_ns = end_ns - start_ns;
        let [first, second, third] = CLASS_BOUNDS_NS;
        let class = |from: u64, below: u64| u32::from(from <= stalled_ns && stalled_ns < below);
        let counts = [class(0, first), class(first, second), class(second, third), class(third, u64::MAX)];
        Self { start_ns, stalled_ns, counts }
    }

    /// None was added yet.
    #[inline(always)]
    fn is_empty(&self) -> bool {
        self.start_ns == 0
    }

    #[inline(always)]
    fn add(&mut self, other: &Self) {
        if self.is_empty() {
            self.start_ns = other.start_ns;
        }
        self.stalled_ns += other.stalled_ns;
        let [a, b, c, d] = other.counts;
        let [first, second, third, last] = &mut self.counts;
        *first += a;
        *second += b;
        *third += c;
        *last += d;
    }
}

/// What a thread does. Values of [`Thread::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// It has a processor.
    Runs = 0,
    /// It waits for what it asked for: no stall.
    Sleeps = 1,
    /// See [`Stall::Stopped`].
    Stopped = 2,
    /// See [`Stall::CpuThrottle`].
    Throttled = 3,
    /// It could run, see [`Stall::RunQueue`].
    Waits = 4,
    /// Off its processor for want of memory.
    Reclaims = 5,
    /// It waits for a disk.
    Io = 6,
}

impl State {
    /// Of a thread that leaves its processor and could go on. One that yields it to another of a server looks again and
    /// again for what that one has not done yet (vLLM's engine does so for its worker, and the worker for the engine):
    /// it waits for the other, not for a processor. To a stranger it has lost it all the same, and what it looks for
    /// may come meanwhile.
    #[must_use]
    #[inline(always)]
    pub fn able(yields: bool, to_own: bool) -> Self {
        if yields && to_own { Self::Sleeps } else { Self::Waits }
    }
}

/// What is known of a thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Since when it is in its state.
    pub since_ns: u64,
    /// Since when it looks for memory on its processor; 0 where it does not.
    pub reclaims_since_ns: u64,
    /// Time on a processor until it last left one.
    pub ran_ns: u64,
    /// The same as the kernel counts it, from the thread's beginning.
    pub executed_ns: u64,
    /// Its process.
    pub tgid: u32,
    /// A [`State`].
    pub state: u32,
    /// Reclaims that are under way, one within the other.
    pub reclaims: u32,
    /// Major faults that it had when it began to wait for a disk.
    pub faults: u32,
    /// Waits for a disk of which it is not known yet whether they were one fault's.
    pub io: Spell,
    /// When the last of these was over.
    pub io_end_ns: u64,
    /// Short stalls of each kind.
    pub spells: [Spell; KINDS],
    /// Who wakes it.
    pub wakers: [Waker; WAKERS],
}

const _: () = assert!(size_of::<Thread>() == 312 && align_of::<Thread>() == 8);

/// Wakers of a thread that are told apart. One that does more than a fifth of its wake-ups is always among them.
pub const WAKERS: usize = 4;

/// A watched thread that wakes another, and how often: a lower bound, by the heavy hitters' sketch of Misra and Gries.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waker {
    /// The thread that wakes.
    pub tid: u32,
    /// 0: the place is free.
    pub count: u32,
}

impl Waker {
    #[inline(always)]
    fn takes(&mut self, tid: u32) -> bool {
        let it = self.tid == tid && self.count != 0;
        self.count += u32::from(it);
        it
    }

    #[inline(always)]
    fn begins(&mut self, tid: u32) -> bool {
        let free = self.count == 0;
        if free {
            *self = Self { tid, count: 1 };
        }
        free
    }
}

/// A thread leaves its processor.
#[derive(Clone, Copy, Debug)]
pub struct Leaving {
    /// When.
    pub now: u64,
    /// Major faults as the kernel counts them.
    pub faults: u32,
    /// Its time on processors as the kernel counts it.
    pub executed_ns: u64,
}

/// Takes stalls that are over.
pub trait Sink {
    /// One or more stalls of a kind, the last of which was over at `end_ns`; false where there is no room for them now.
    fn stalled(&mut self, kind: Stall, spell: Spell, end_ns: u64) -> bool;
    /// There was no room for stalls of a thread that ends.
    fn lost(&mut self);
    /// A time before the one that it should be behind.
    fn backwards(&mut self);
    /// A thread leaves a processor that it was not seen to get.
    fn untold(&mut self);
}

impl Thread {
    /// A thread that is first seen in a state.
    #[must_use]
    #[inline(always)]
    pub fn first(tgid: u32, state: State, now: u64) -> Self {
        Self { since_ns: now, tgid, state: state as u32, ..Self::default() }
    }

    /// It leaves its processor.
    #[inline(always)]
    pub fn leaves(&mut self, state: State, leaving: Leaving, sink: &mut impl Sink) {
        let Leaving { now, faults, executed_ns } = leaving;
        self.comes_untold(now, executed_ns, sink);
        self.executed_ns = executed_ns;
        if self.state == State::Runs as u32 && now > self.since_ns {
            self.ran_ns += now - self.since_ns;
        }
        if self.reclaims_since_ns != 0 {
            self.over(Stall::MemoryReclaim, self.reclaims_since_ns, now, sink);
            self.reclaims_since_ns = 0;
        }
        if !self.io.is_empty() && (faults != self.faults || !matches!(state, State::Io)) {
            self.settle_io(faults, sink);
        }
        if matches!(state, State::Io) && self.io.is_empty() {
            self.faults = faults;
        }
        self.state = state as u32;
        self.since_ns = now;
    }

    /// What it waited for has come, or a signal; `throttled`: its group may not run.
    #[inline(always)]
    pub fn wakes(&mut self, throttled: bool, now: u64, sink: &mut impl Sink) {
        // A wake-up of one that has not gone to sleep yet changes nothing, nor of one that was woken.
        if self.state == State::Runs as u32
            || self.state == State::Waits as u32
            || self.state == State::Throttled as u32
        {
            return;
        }
        self.ends(now, sink);
        self.state = if throttled { State::Throttled } else { State::Waits } as u32;
        self.since_ns = now;
    }

    /// The thread `tid` has woken it.
    #[inline(always)]
    pub fn woken_by(&mut self, tid: u32) {
        // One by one, and no loop: the verifier wants to see each place.
        let [a, b, c, d] = &mut self.wakers;
        if a.takes(tid) || b.takes(tid) || c.takes(tid) || d.takes(tid) {
            return;
        }
        if a.begins(tid) || b.begins(tid) || c.begins(tid) || d.begins(tid) {
            return;
        }
        a.count -= 1;
        b.count -= 1;
        c.count -= 1;
        d.count -= 1;
    }

    /// It gets a processor.
    #[inline(always)]
    pub fn comes(&mut self, now: u64, sink: &mut impl Sink) {
        self.ends(now, sink);
        self.state = State::Runs as u32;
        self.since_ns = now;
        if self.reclaims > 0 {
            self.reclaims_since_ns = now;
        }
    }

    /// The kernel does not tell of every switch: on 6.18, now and then, not of the one by which a thread whose group may run
    /// again gets its processor (`sched_switch` is silent for its own tracer, too). It had it for as long as the kernel counts.
    #[inline(always)]
    fn comes_untold(&mut self, now: u64, executed_ns: u64, sink: &mut impl Sink) {
        if self.state != State::Runs as u32 {
            sink.untold();
            let came = now.saturating_sub(executed_ns.saturating_sub(self.executed_ns));
            self.comes(if came < self.since_ns { self.since_ns } else { came }, sink);
        }
    }

    /// It begins to look for memory.
    #[inline(always)]
    pub fn begins_reclaim(&mut self, now: u64) {
        self.reclaims += 1;
        if self.reclaims == 1 {
            self.reclaims_since_ns = now;
        }
    }

    /// It has found some, or given up.
    #[inline(always)]
    pub fn ends_reclaim(&mut self, now: u64, sink: &mut impl Sink) {
        if self.reclaims == 0 {
            // It began before anybody looked.
            return;
        }
        self.reclaims -= 1;
        if self.reclaims == 0 && self.reclaims_since_ns != 0 {
            self.over(Stall::MemoryReclaim, self.reclaims_since_ns, now, sink);
            self.reclaims_since_ns = 0;
        }
    }

    /// It ends: what was not told yet is told.
    #[inline(always)]
    pub fn dies(&mut self, leaving: Leaving, sink: &mut impl Sink) {
        let Leaving { now, faults, executed_ns } = leaving;
        self.comes_untold(now, executed_ns, sink);
        if !self.io.is_empty() {
            self.settle_io(faults, sink);
        }
        // One by one, and no loop: the verifier wants to see each place.
        self.tell(Stall::Stopped, now, sink);
        self.tell(Stall::CpuThrottle, now, sink);
        self.tell(Stall::RunQueue, now, sink);
        self.tell(Stall::MemoryReclaim, now, sink);
        self.tell(Stall::MajorFault, now, sink);
        self.tell(Stall::BlockIo, now, sink);
    }

    #[inline(always)]
    fn tell(&mut self, kind: Stall, now: u64, sink: &mut impl Sink) {
        let Some(spell) = self.spells.get_mut(kind as usize) else { return };
        if !spell.is_empty() {
            if !sink.stalled(kind, *spell, now) {
                sink.lost();
            }
            *spell = Spell::default();
        }
    }

    /// What the state was is over.
    #[inline(always)]
    fn ends(&mut self, now: u64, sink: &mut impl Sink) {
        let since = self.since_ns;
        if self.state == State::Stopped as u32 {
            self.over(Stall::Stopped, since, now, sink);
        } else if self.state == State::Throttled as u32 {
            self.over(Stall::CpuThrottle, since, now, sink);
        } else if self.state == State::Waits as u32 {
            self.over(Stall::RunQueue, since, now, sink);
        } else if self.state == State::Reclaims as u32 {
            self.over(Stall::MemoryReclaim, since, now, sink);
        } else if self.state == State::Io as u32 {
            if now < since {
                return sink.backwards();
            }
            self.io.add(&Spell::one(since, now));
            self.io_end_ns = now;
        }
    }

    /// The kernel counts a major fault when it is over, so what a wait for a disk was is known later.
    #[inline(always)]
    fn settle_io(&mut self, faults: u32, sink: &mut impl Sink) {
        let (io, end) = (self.io, self.io_end_ns);
        self.io = Spell::default();
        if faults != self.faults {
            self.add(Stall::MajorFault, io, end, sink);
        } else {
            self.add(Stall::BlockIo, io, end, sink);
        }
    }

    #[inline(always)]
    fn over(&mut self, kind: Stall, start_ns: u64, end_ns: u64, sink: &mut impl Sink) {
        if end_ns < start_ns {
            return sink.backwards();
        }
        self.add(kind, Spell::one(start_ns, end_ns), end_ns, sink);
    }

    /// A long one is told by itself, short ones once they come to as much. What there is no room for joins the short ones,
    /// so that its time is not lost, only when in that time it was.
    #[inline(always)]
    fn add(&mut self, kind: Stall, one: Spell, end_ns: u64, sink: &mut impl Sink) {
        let long = one.stalled_ns >= LONG_NS;
        let told = long && sink.stalled(kind, one, end_ns);
        let Some(spell) = self.spells.get_mut(kind as usize) else { return };
        if !told {
            spell.add(&one);
        }
        if long == told && spell.stalled_ns >= LONG_NS && sink.stalled(kind, *spell, end_ns) {
            *spell = Spell::default();
        }
    }
}

#[cfg(test)]
mod tests;
