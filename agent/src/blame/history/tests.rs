//! Stalls in, what a stretch of time has of them out.

use super::*;

const MS: u64 = 1_000_000;

fn event(tid: u32, kind: Stall, start: u64, end: u64) -> StallEvent {
    StallEvent {
        start_ns: start * MS,
        end_ns: end * MS,
        stalled_ns: (end - start) * MS,
        tgid: 1,
        tid,
        kind: kind as u32,
        ..StallEvent::default()
    }
}

fn told(kind: Stall, start: u64, end: u64) -> Told {
    Told { kind, start_ns: start * MS, end_ns: end * MS, stalled_ns: (end - start) * MS }
}

#[test]
fn the_stalls_of_a_thread_are_found_by_time() {
    let mut history = History::default();
    for start in [10, 20, 30, 40] {
        history.on_event(&event(7, Stall::RunQueue, start, start + 5));
    }
    history.on_event(&event(8, Stall::Stopped, 0, 100));
    let starts = |from: u64, to: u64| -> Vec<u64> {
        history.of(7, None, from * MS, to * MS).iter().map(|told| told.start_ns / MS).collect()
    };
    assert_eq!(starts(0, 100), [10, 20, 30, 40]);
    assert_eq!(starts(15, 40), [20, 30], "one that was over as it began, and one that begins as it ends");
    assert_eq!(starts(24, 31), [20, 30]);
    assert!(history.of(9, None, 0, 100 * MS).is_empty());
}

#[test]
fn what_is_under_way_counts_once_before_and_once_after_it_is_told() {
    let mut history = History::default();
    let thread = Thread { since_ns: 10 * MS, tgid: 1, state: State::Stopped as u32, ..Thread::default() };
    history.on_table(&[(7, thread)], 60 * MS);
    assert_eq!(history.of(7, None, 0, 100 * MS), [told(Stall::Stopped, 10, 60)]);
    history.on_event(&event(7, Stall::Stopped, 10, 80));
    assert_eq!(history.of(7, None, 0, 100 * MS), [told(Stall::Stopped, 10, 80)]);
    history.on_table(&[(7, Thread { state: State::Runs as u32, since_ns: 80 * MS, ..thread })], 90 * MS);
    assert_eq!(history.of(7, None, 0, 100 * MS), [told(Stall::Stopped, 10, 80)]);
}

#[test]
fn short_stalls_that_are_not_told_yet_count() {
    let mut history = History::default();
    let mut thread = Thread { tgid: 1, state: State::Runs as u32, ..Thread::default() };
    thread.spells[Stall::RunQueue as usize] =
        Spell { start_ns: 20 * MS, stalled_ns: MS / 2, counts: [3, 0, 0, 0] };
    history.on_table(&[(7, thread)], 60 * MS);
    let expected = Told { kind: Stall::RunQueue, start_ns: 20 * MS, end_ns: 60 * MS, stalled_ns: MS / 2 };
    assert_eq!(history.of(7, None, 0, 100 * MS), [expected]);
    history.on_event(&StallEvent { stalled_ns: MS, ..event(7, Stall::RunQueue, 20, 70) });
    assert_eq!(history.of(7, None, 0, 100 * MS).len(), 1);
}

#[test]
fn a_number_that_is_given_again_begins_anew() {
    let mut history = History::default();
    history.on_event(&event(7, Stall::Stopped, 0, 50));
    history.on_event(&StallEvent { tgid: 2, ..event(7, Stall::RunQueue, 60, 70) });
    assert_eq!(history.of(7, None, 0, 100 * MS), [told(Stall::RunQueue, 60, 70)]);
    let thread = Thread { since_ns: 80 * MS, tgid: 3, state: State::Waits as u32, ..Thread::default() };
    history.on_table(&[(7, thread)], 90 * MS);
    assert_eq!(history.of(7, None, 0, 100 * MS), [told(Stall::RunQueue, 80, 90)]);
}

#[test]
fn what_a_number_stood_for_is_asked_for_no_more_once_it_stands_for_another() {
    let mut history = History::default();
    history.on_event(&event(7, Stall::Stopped, 0, 50));
    history.on_event(&StallEvent { tgid: 2, ..event(8, Stall::Stopped, 0, 50) });
    assert_eq!(history.of(7, Some(1), 0, 100 * MS).len(), 1);
    assert!(history.of(7, Some(2), 0, 100 * MS).is_empty(), "a thread of another process has it now");
    history.forget_process(1);
    assert!(history.of(7, None, 0, 100 * MS).is_empty());
    assert_eq!((history.of(8, None, 0, 100 * MS).len(), history.told), (1, 1));
}

#[test]
fn many_stalls_lose_their_places_and_not_their_time() {
    let mut history = History::default();
    let count = 20 * TOLD_MAX as u64;
    for number in 0..count {
        let kind = if number % 3 == 0 { Stall::Stopped } else { Stall::RunQueue };
        history.on_event(&event(7, kind, number * 10, number * 10 + 4));
    }
    let all = history.of(7, None, 0, u64::MAX);
    assert!(all.len() <= TOLD_MAX, "{}", all.len());
    assert!(all.is_sorted_by_key(|told| told.end_ns));
    assert_eq!(all.iter().map(|told| told.stalled_ns).sum::<u64>(), count * 4 * MS);
    let stopped =
        all.iter().filter(|told| told.kind == Stall::Stopped).map(|told| told.stalled_ns).sum::<u64>();
    assert_eq!(stopped, count.div_ceil(3) * 4 * MS);
    assert!(all[all.len() - 1].is_exact(), "the newest keep theirs");
    history.forget_before(count * 10 * MS);
    assert_eq!((history.told, history.threads.len()), (0, 0));
}
