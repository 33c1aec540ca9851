//! What the scheduler does with a thread in, stalls out.

use proptest::prelude::*;

use super::*;

/// Sums, and what was told one by one.
#[derive(Debug, Default)]
struct Told {
    /// Nothing is taken.
    full: bool,
    lost: u32,
    sums: [u64; KINDS],
    events: Vec<(Stall, u64, u64)>,
    backwards: u32,
    untold: u32,
}

impl Sink for Told {
    fn stalled(&mut self, kind: Stall, spell: Spell, end_ns: u64) -> bool {
        if self.full {
            return false;
        }
        assert!(spell.start_ns + spell.stalled_ns <= end_ns, "{spell:?} ends at {end_ns}");
        let long = u64::from(spell.counts[CLASSES - 1]) * LONG_NS;
        assert!(spell.counts.iter().sum::<u32>() > 0 && long <= spell.stalled_ns, "{spell:?}");
        self.sums[kind as usize] += spell.stalled_ns;
        self.events.push((kind, spell.start_ns, end_ns));
        true
    }

    fn lost(&mut self) {
        self.lost += 1;
    }

    fn backwards(&mut self) {
        self.backwards += 1;
    }

    fn untold(&mut self) {
        self.untold += 1;
    }
}

const MS: u64 = 1_000_000;

fn running() -> (Thread, Told) {
    (Thread::first(1, State::Runs, 0), Told::default())
}

/// Of threads whose every switch is told: what the kernel counts is not asked.
fn at(now: u64, faults: u32) -> Leaving {
    Leaving { now, faults, executed_ns: 0 }
}

#[test]
fn a_stop_is_one_event_with_its_ends() {
    let (mut thread, mut told) = running();
    thread.leaves(State::Stopped, at(10 * MS, 0), &mut told);
    thread.wakes(false, 510 * MS, &mut told);
    thread.comes(512 * MS, &mut told);
    assert_eq!(told.events, [(Stall::Stopped, 10 * MS, 510 * MS), (Stall::RunQueue, 510 * MS, 512 * MS)]);
}

#[test]
fn a_switch_that_the_kernel_does_not_tell_takes_no_time_from_a_stall() {
    let (mut thread, mut told) = running();
    let leaves = |now, executed_ns| Leaving { executed_ns, ..at(now, 0) };
    thread.leaves(State::Throttled, leaves(400 * MS, 400 * MS), &mut told);
    thread.leaves(State::Waits, leaves(1008 * MS, 408 * MS), &mut told);
    thread.comes(1009 * MS, &mut told);
    assert_eq!(
        told.events,
        [(Stall::CpuThrottle, 400 * MS, 1000 * MS), (Stall::RunQueue, 1008 * MS, 1009 * MS)]
    );
    assert_eq!((told.untold, thread.ran_ns), (1, 408 * MS));
    // One that it was told to run longer than it was away was never away.
    thread.leaves(State::Waits, leaves(1010 * MS, 409 * MS), &mut told);
    thread.dies(leaves(1020 * MS, 900 * MS), &mut told);
    assert_eq!((told.untold, told.backwards, told.sums[Stall::RunQueue as usize]), (2, 0, MS));
}

#[test]
fn sleep_is_no_stall_and_a_wake_up_on_the_processor_changes_nothing() {
    let (mut thread, mut told) = running();
    thread.wakes(false, MS, &mut told);
    thread.leaves(State::Sleeps, at(2 * MS, 0), &mut told);
    thread.wakes(false, 90 * MS, &mut told);
    thread.wakes(false, 91 * MS, &mut told);
    thread.comes(92 * MS, &mut told);
    assert_eq!(told.events, [(Stall::RunQueue, 90 * MS, 92 * MS)]);
}

#[test]
fn who_yields_to_the_one_that_it_looks_out_for_is_not_held_up() {
    for (yields, to_own, expected) in
        [(true, true, 0), (true, false, 4 * MS), (false, true, 4 * MS), (false, false, 4 * MS)]
    {
        let (mut thread, mut told) = running();
        thread.leaves(State::able(yields, to_own), at(MS, 0), &mut told);
        thread.comes(5 * MS, &mut told);
        assert_eq!(told.sums[Stall::RunQueue as usize], expected, "yields {yields}, to its own {to_own}");
    }
}

#[test]
fn what_there_is_no_room_for_is_told_later_and_no_time_is_lost() {
    let (mut thread, mut told) = running();
    let mut stops = |from: u64, to: u64, full: bool, told: &mut Told| {
        told.full = full;
        thread.leaves(State::Stopped, at(from, 0), told);
        thread.comes(to, told);
    };
    stops(MS, 11 * MS, true, &mut told);
    stops(20 * MS, 20 * MS + 1000, true, &mut told);
    assert!(told.events.is_empty());
    stops(30 * MS, 33 * MS, false, &mut told);
    assert_eq!(told.events, [(Stall::Stopped, 30 * MS, 33 * MS), (Stall::Stopped, MS, 33 * MS)]);
    assert_eq!((told.sums[Stall::Stopped as usize], told.lost), (13 * MS + 1000, 0));
    // A thread that ends cannot wait.
    stops(40 * MS, 45 * MS, true, &mut told);
    thread.dies(at(50 * MS, 0), &mut told);
    assert_eq!(told.lost, 1);
}

#[test]
fn short_stalls_are_told_once_they_are_a_long_one_and_at_the_end() {
    let (mut thread, mut told) = running();
    for turn in 1..26 {
        thread.leaves(State::Waits, at(turn * MS, 0), &mut told);
        thread.comes(turn * MS + MS / 10, &mut told);
    }
    let tenth = MS / 10;
    let expected = [(Stall::RunQueue, MS, 10 * MS + tenth), (Stall::RunQueue, 11 * MS, 20 * MS + tenth)];
    assert_eq!(told.events, expected);
    thread.dies(at(30 * MS, 0), &mut told);
    assert_eq!(told.sums[Stall::RunQueue as usize], 25 * tenth);
}

#[test]
fn waits_for_a_disk_are_a_fault_where_the_kernel_counts_one() {
    for (faults, kind) in [(7, Stall::BlockIo), (8, Stall::MajorFault)] {
        let (mut thread, mut told) = running();
        for start in [MS, 6 * MS] {
            thread.leaves(State::Io, at(start, 7), &mut told);
            thread.wakes(false, start + 3 * MS, &mut told);
            thread.comes(start + 3 * MS, &mut told);
        }
        assert_eq!(told.sums[kind as usize], 0, "not known yet");
        thread.leaves(State::Sleeps, at(20 * MS, faults), &mut told);
        assert_eq!(told.sums[kind as usize], 6 * MS);
    }
}

#[test]
fn memory_is_looked_for_on_and_off_the_processor_and_counted_once() {
    let (mut thread, mut told) = running();
    thread.ends_reclaim(MS, &mut told);
    thread.begins_reclaim(10 * MS);
    thread.begins_reclaim(12 * MS);
    thread.leaves(State::Reclaims, at(15 * MS, 0), &mut told);
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
        thread.leaves(state, at(10 * MS, 0), &mut told);
        thread.comes(9 * MS, &mut told);
    }
    thread.dies(at(20 * MS, 0), &mut told);
    assert_eq!((told.sums, told.backwards), ([0; KINDS], 2));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Leaves(State),
    Wakes(bool),
    Comes,
    /// It comes, which nobody tells, and leaves after a while, unless it looks for memory.
    ComesUntold(State),
    BeginsReclaim,
    EndsReclaim,
    Faults,
}

impl Step {
    fn is_possible(self, state: State, reclaims: u32) -> bool {
        let on = state == State::Runs;
        let may_come = matches!(state, State::Waits | State::Throttled);
        match self {
            Self::Leaves(_) | Self::BeginsReclaim | Self::Faults => on,
            Self::EndsReclaim => on && reclaims > 0,
            Self::Comes => may_come,
            Self::ComesUntold(_) => may_come && reclaims == 0,
            Self::Wakes(_) => true,
        }
    }
}

/// What the time is that passes now.
fn kind_of(state: State, reclaims: u32) -> Option<Stall> {
    match state {
        State::Runs if reclaims > 0 => Some(Stall::MemoryReclaim),
        State::Runs | State::Sleeps => None,
        State::Stopped => Some(Stall::Stopped),
        State::Throttled => Some(Stall::CpuThrottle),
        State::Waits => Some(Stall::RunQueue),
        State::Reclaims => Some(Stall::MemoryReclaim),
        State::Io => Some(Stall::BlockIo),
    }
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
        4 => off.clone().prop_map(Step::Leaves),
        1 => off.prop_map(Step::ComesUntold),
        3 => any::<bool>().prop_map(Step::Wakes),
        4 => Just(Step::Comes),
        1 => Just(Step::BeginsReclaim),
        1 => Just(Step::EndsReclaim),
        1 => Just(Step::Faults),
    ]
}

#[test]
fn who_wakes_most_is_known_among_many() {
    let (mut thread, _) = running();
    for turn in 0..1000 {
        let rare = 100 + turn;
        for tid in [1, 2, 1, rare] {
            thread.woken_by(tid);
        }
    }
    let count =
        |tid| thread.wakers.iter().filter(|waker| waker.tid == tid).map(|waker| waker.count).sum::<u32>();
    // 4,000 wake-ups: a fifth of them is what a count can be too low.
    assert!((1200..=2000).contains(&count(1)), "{:?}", thread.wakers);
    assert!((200..=1000).contains(&count(2)), "{:?}", thread.wakers);
}

#[test]
fn time_on_a_processor_is_summed() {
    let (mut thread, mut told) = running();
    thread.leaves(State::Sleeps, at(10 * MS, 0), &mut told);
    thread.wakes(false, 20 * MS, &mut told);
    thread.comes(25 * MS, &mut told);
    thread.leaves(State::Waits, at(27 * MS, 0), &mut told);
    assert_eq!(thread.ran_ns, 12 * MS);
}

proptest! {
    /// Against one that asks at each step what the time since the last one was.
    #[test]
    fn every_nanosecond_is_of_one_kind(steps in prop::collection::vec((step(), 0..3 * MS), 1..200)) {
        let (mut thread, mut told) = running();
        let (mut now, mut state, mut reclaims, mut faults) = (MS, State::Runs, 0, 0);
        let mut sums = [0; KINDS];
        let (mut executed, mut untold) = (0, 0);
        // Waits for a disk are of one of two kinds: compared together.
        for (step, took) in steps {
            if !step.is_possible(state, reclaims) {
                continue;
            }
            now += took;
            executed += if state == State::Runs { took } else { 0 };
            if let Some(kind) = kind_of(state, reclaims) {
                sums[kind as usize] += took;
            }
            match step {
                Step::Leaves(off) => {
                    thread.leaves(off, Leaving { executed_ns: executed, ..at(now, faults) }, &mut told);
                    state = off;
                }
                Step::ComesUntold(off) => {
                    (now, executed, untold) = (now + took, executed + took, untold + 1);
                    thread.leaves(off, Leaving { executed_ns: executed, ..at(now, faults) }, &mut told);
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
        thread.dies(Leaving { executed_ns: executed, ..at(now, faults) }, &mut told);
        let [.., faulted, io] = &mut told.sums;
        *io += std::mem::take(faulted);
        prop_assert_eq!(told.sums, sums);
        prop_assert_eq!((told.backwards, told.untold), (0, untold));
    }
}
