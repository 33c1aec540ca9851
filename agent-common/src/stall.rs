//! Stalls: times in which a thread of a watched process could not go on, and the machine that finds them.
//!
//! In: what the scheduler does with a thread, with times. Out: one [`Interval`] each time that a stall is over. Pure,
//! so that the kernel programs' logic is tested on the host; the programs keep a [`Thread`] a thread.

/// Threads that are followed at once: those of some 100 servers. One more is counted and not followed.
pub const THREADS_MAX: u32 = 16_384;
/// Size of the STALLS ring: 16,000 events between two looks of the agent.
pub const STALLS_BYTES: u32 = 1 << 20;
/// A stall of this length is an event of its own; shorter ones are summed until they come to as much. So a thread
/// makes at most a thousand events a second for each kind.
pub const LONG_NS: u64 = 1_000_000;

/// Classes of length by which stalls are counted.
pub const CLASSES: usize = 4;
/// Upper bounds of all but the last class, in which each stall is an event of its own.
pub const CLASS_BOUNDS_NS: [u64; CLASSES - 1] = [10_000, 100_000, LONG_NS];

/// What kept a thread. The order settles an overlap: the first wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// What is known of a thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Since when it is in its state.
    pub since_ns: u64,
    /// Since when it looks for memory on its processor; 0 where it does not.
    pub reclaims_since_ns: u64,
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
}

const _: () = assert!(size_of::<Thread>() == 264 && align_of::<Thread>() == 8);

/// Takes stalls that are over.
pub trait Sink {
    /// One or more stalls of a kind, the last of which was over at `end_ns`.
    fn stalled(&mut self, kind: Stall, spell: Spell, end_ns: u64);
    /// A time before the one that it should be behind.
    fn backwards(&mut self);
}

impl Thread {
    /// A thread that is first seen in a state.
    #[must_use]
    #[inline(always)]
    pub fn first(tgid: u32, state: State, now: u64) -> Self {
        Self { since_ns: now, tgid, state: state as u32, ..Self::default() }
    }

    /// It leaves its processor; `faults` as the kernel counts its major faults.
    #[inline(always)]
    pub fn leaves(&mut self, state: State, now: u64, faults: u32, sink: &mut impl Sink) {
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
    pub fn dies(&mut self, now: u64, faults: u32, sink: &mut impl Sink) {
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
            sink.stalled(kind, *spell, now);
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

    #[inline(always)]
    fn add(&mut self, kind: Stall, short: Spell, end_ns: u64, sink: &mut impl Sink) {
        if short.stalled_ns >= LONG_NS {
            return sink.stalled(kind, short, end_ns);
        }
        let Some(spell) = self.spells.get_mut(kind as usize) else { return };
        spell.add(&short);
        if spell.stalled_ns >= LONG_NS {
            let whole = *spell;
            *spell = Spell::default();
            sink.stalled(kind, whole, end_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sums, and what was told one by one.
    #[derive(Debug, Default)]
    struct Told {
        sums: [u64; KINDS],
        events: Vec<(Stall, u64, u64)>,
        backwards: u32,
    }

    impl Sink for Told {
        fn stalled(&mut self, kind: Stall, spell: Spell, end_ns: u64) {
            assert!(spell.start_ns + spell.stalled_ns <= end_ns, "{spell:?} ends at {end_ns}");
            let long = u64::from(spell.counts[CLASSES - 1]) * LONG_NS;
            assert!(spell.counts.iter().sum::<u32>() > 0 && long <= spell.stalled_ns, "{spell:?}");
            self.sums[kind as usize] += spell.stalled_ns;
            self.events.push((kind, spell.start_ns, end_ns));
        }

        fn backwards(&mut self) {
            self.backwards += 1;
        }
    }

    const MS: u64 = 1_000_000;

    fn running() -> (Thread, Told) {
        (Thread::first(1, State::Runs, 0), Told::default())
    }

    #[test]
    fn a_stop_is_one_event_with_its_ends() {
        let (mut thread, mut told) = running();
        thread.leaves(State::Stopped, 10 * MS, 0, &mut told);
        thread.wakes(false, 510 * MS, &mut told);
        thread.comes(512 * MS, &mut told);
        assert_eq!(told.events, [(Stall::Stopped, 10 * MS, 510 * MS), (Stall::RunQueue, 510 * MS, 512 * MS)]);
    }

    #[test]
    fn sleep_is_no_stall_and_a_wake_up_on_the_processor_changes_nothing() {
        let (mut thread, mut told) = running();
        thread.wakes(false, MS, &mut told);
        thread.leaves(State::Sleeps, 2 * MS, 0, &mut told);
        thread.wakes(false, 90 * MS, &mut told);
        thread.wakes(false, 91 * MS, &mut told);
        thread.comes(92 * MS, &mut told);
        assert_eq!(told.events, [(Stall::RunQueue, 90 * MS, 92 * MS)]);
    }

    #[test]
    fn short_stalls_are_told_once_they_are_a_long_one_and_at_the_end() {
        let (mut thread, mut told) = running();
        for turn in 1..26 {
            thread.leaves(State::Waits, turn * MS, 0, &mut told);
            thread.comes(turn * MS + MS / 10, &mut told);
        }
        let tenth = MS / 10;
        let expected = [(Stall::RunQueue, MS, 10 * MS + tenth), (Stall::RunQueue, 11 * MS, 20 * MS + tenth)];
        assert_eq!(told.events, expected);
        thread.dies(30 * MS, 0, &mut told);
        assert_eq!(told.sums[Stall::RunQueue as usize], 25 * tenth);
    }

    #[test]
    fn waits_for_a_disk_are_a_fault_where_the_kernel_counts_one() {
        for (faults, kind) in [(7, Stall::BlockIo), (8, Stall::MajorFault)] {
            let (mut thread, mut told) = running();
            for start in [MS, 6 * MS] {
                thread.leaves(State::Io, start, 7, &mut told);
                thread.wakes(false, start + 3 * MS, &mut told);
                thread.comes(start + 3 * MS, &mut told);
            }
            assert_eq!(told.sums[kind as usize], 0, "not known yet");
            thread.leaves(State::Sleeps, 20 * MS, faults, &mut told);
            assert_eq!(told.sums[kind as usize], 6 * MS);
        }
    }

    #[test]
    fn memory_is_looked_for_on_and_off_the_processor_and_counted_once() {
        let (mut thread, mut told) = running();
        thread.ends_reclaim(MS, &mut told);
        thread.begins_reclaim(10 * MS);
        thread.begins_reclaim(12 * MS);
        thread.leaves(State::Reclaims, 15 * MS, 0, &mut told);
        thread.wakes(false, 25 * MS, &mut told);
        thread.comes(28 * MS, &mut told);
        thread.ends_reclaim(30 * MS, &mut told);
        thread.ends_reclaim(31 * MS, &mut told);
        assert_eq!(told.sums[Stall::MemoryReclaim as usize], (5 + 10 + 3) * MS);
        assert_eq!(told.sums[Stall::RunQueue as usize], 3 * MS);
    }

    #[test]
    fn a_clock_that_goes_back_is_counted_and_nothing_else() {
        let (mut thread, mut told) = running();
        for state in [State::Waits, State::Io] {
            thread.leaves(state, 10 * MS, 0, &mut told);
            thread.comes(9 * MS, &mut told);
        }
        thread.dies(20 * MS, 0, &mut told);
        assert_eq!((told.sums, told.backwards), ([0; KINDS], 2));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Leaves(State),
        Wakes(bool),
        Comes,
        BeginsReclaim,
        EndsReclaim,
        Faults,
    }

    fn step() -> impl Strategy<Value = Step> {
        let off = prop_oneof![
            Just(State::Sleeps),
            Just(State::Stopped),
            Just(State::Throttled),
            Just(State::Waits),
            Just(State::Reclaims),
            Just(State::Io),
        ];
        prop_oneof![
            4 => off.prop_map(Step::Leaves),
            3 => any::<bool>().prop_map(Step::Wakes),
            4 => Just(Step::Comes),
            1 => Just(Step::BeginsReclaim),
            1 => Just(Step::EndsReclaim),
            1 => Just(Step::Faults),
        ]
    }

    proptest! {
        /// Against one that asks at each step what the time since the last one was.
        #[test]
        fn every_nanosecond_is_of_one_kind(steps in prop::collection::vec((step(), 0..3 * MS), 1..200)) {
            let (mut thread, mut told) = running();
            let (mut now, mut state, mut reclaims, mut faults) = (MS, State::Runs, 0, 0);
            let mut sums = [0; KINDS];
            // Waits for a disk are of one of two kinds: compared together.
            for (step, took) in steps {
                let kind = match state {
                    State::Runs if reclaims > 0 => Some(Stall::MemoryReclaim),
                    State::Runs | State::Sleeps => None,
                    State::Stopped => Some(Stall::Stopped),
                    State::Throttled => Some(Stall::CpuThrottle),
                    State::Waits => Some(Stall::RunQueue),
                    State::Reclaims => Some(Stall::MemoryReclaim),
                    State::Io => Some(Stall::BlockIo),
                };
                let on = state == State::Runs;
                let possible = match step {
                    Step::Leaves(_) | Step::BeginsReclaim | Step::Faults => on,
                    Step::EndsReclaim => on && reclaims > 0,
                    Step::Comes => matches!(state, State::Waits | State::Throttled),
                    Step::Wakes(_) => true,
                };
                if !possible {
                    continue;
                }
                now += took;
                if let Some(kind) = kind {
                    sums[kind as usize] += took;
                }
                match step {
                    Step::Leaves(off) => {
                        thread.leaves(off, now, faults, &mut told);
                        state = off;
                    }
                    Step::Wakes(throttled) => {
                        thread.wakes(throttled, now, &mut told);
                        if !matches!(state, State::Runs | State::Waits | State::Throttled) {
                            state = if throttled { State::Throttled } else { State::Waits };
                        }
                    }
                    Step::Comes => {
                        thread.comes(now, &mut told);
                        state = State::Runs;
                    }
                    Step::BeginsReclaim => {
                        thread.begins_reclaim(now);
                        reclaims += 1;
                    }
                    Step::EndsReclaim => {
                        thread.ends_reclaim(now, &mut told);
                        reclaims -= 1;
                    }
                    Step::Faults => faults += 1,
                }
            }
            if state != State::Runs {
                thread.wakes(false, now, &mut told);
                thread.comes(now, &mut told);
            }
            (0..reclaims).for_each(|_| thread.ends_reclaim(now, &mut told));
            thread.dies(now, faults, &mut told);
            let [.., faulted, io] = &mut told.sums;
            *io += std::mem::take(faulted);
            prop_assert_eq!(told.sums, sums);
            prop_assert_eq!(told.backwards, 0);
        }
    }
}
