//! Stalls in, vectors out: by hand, and against one that asks of every moment.

use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn told(kind: Stall, start: u64, end: u64) -> Told {
    Told { kind, start_ns: start * MS, end_ns: end * MS, stalled_ns: (end - start) * MS }
}

/// A sum of short stalls.
fn short(kind: Stall, start: u64, end: u64, stalled: u64) -> Told {
    Told { stalled_ns: stalled * MS, ..told(kind, start, end) }
}

fn slowed(start: u64, end: u64, lost: f64) -> Slowed {
    Slowed { start_ns: start * MS, end_ns: end * MS, lost }
}

/// Arrives at 100 ms, is read at 110, has its first token at 200 and its last at 500.
const TIMES: Times = Times {
    arrival: 100 * MS,
    first_read: 110 * MS,
    first_token: Some(200 * MS),
    end: 500 * MS,
    send_wait_before: 0,
    send_wait: 0,
};

/// Causes with time, in milliseconds.
fn causes(vector: &Vector) -> Vec<(Cause, u128)> {
    let of = Cause::ALL.map(|cause| (cause, vector.of(cause).as_millis()));
    of.into_iter().filter(|(_, ms)| *ms > 0).collect()
}

fn phases(times: &Times, way: &Way<'_>) -> Vec<(Phase, Vec<(Cause, u128)>)> {
    blame(times, way).iter().map(|(phase, vector)| (*phase, causes(vector))).collect()
}

#[test]
fn without_stalls_only_the_read_delay_has_a_cause() {
    use Cause::{EventLoop, Rest};
    let expected =
        [(Phase::BeforeFirstToken, vec![(EventLoop, 10), (Rest, 90)]), (Phase::After, vec![(Rest, 300)])];
    assert_eq!(phases(&TIMES, &Way::default()), expected);
    let whole = Times { first_token: None, ..TIMES };
    assert_eq!(phases(&whole, &Way::default()), [(Phase::Whole, vec![(EventLoop, 10), (Rest, 390)])]);
}

#[test]
fn a_stall_counts_in_the_phases_that_it_overlaps_and_nowhere_else() {
    let lanes =
        [vec![told(Stall::Stopped, 50, 90), told(Stall::Stopped, 150, 250), told(Stall::RunQueue, 490, 600)]];
    let way = Way { serial: &lanes, ..Way::default() };
    let expected = [
        (Phase::BeforeFirstToken, vec![(Cause::Stopped, 50), (Cause::EventLoop, 10), (Cause::Rest, 40)]),
        (Phase::After, vec![(Cause::Stopped, 50), (Cause::RunQueue, 10), (Cause::Rest, 240)]),
    ];
    assert_eq!(phases(&TIMES, &way), expected);
}

#[test]
fn of_causes_that_overlap_the_first_has_the_time() {
    let lanes = [vec![told(Stall::RunQueue, 300, 400)], vec![told(Stall::Stopped, 350, 380)]];
    let way = Way { serial: &lanes, gpu: &[slowed(390, 450, 1.0)], ..Way::default() };
    let (_, after) = &phases(&TIMES, &way)[1];
    let expected =
        [(Cause::Stopped, 30), (Cause::RunQueue, 70), (Cause::GpuThrottle, 50), (Cause::Rest, 150)];
    assert_eq!(*after, expected);
}

#[test]
fn a_gpu_that_is_held_down_has_the_time_that_it_lost_and_leaves_the_rest() {
    // At 1200 of 1980 MHz.
    let lost = 1.0 - 1200.0 / 1980.0;
    let lanes = [vec![told(Stall::RunQueue, 250, 300)]];
    let gpu = [slowed(0, 200, lost), slowed(200, 400, lost), slowed(400, 450, 0.0), slowed(450, 460, 1.0)];
    let way = Way { serial: &lanes, gpu: &gpu, ..Way::default() };
    // 90 ms before, of which it lost 35.4; 150 after without the stall, of which 59.1, and 10 of which all.
    let expected = [
        (Phase::BeforeFirstToken, vec![(Cause::GpuThrottle, 35), (Cause::EventLoop, 10), (Cause::Rest, 54)]),
        (Phase::After, vec![(Cause::RunQueue, 50), (Cause::GpuThrottle, 69), (Cause::Rest, 180)]),
    ];
    assert_eq!(phases(&TIMES, &way), expected);
}

#[test]
fn while_it_lies_at_the_socket_its_reader_alone_is_to_blame() {
    let reader = [told(Stall::RunQueue, 100, 104)];
    let lanes = [reader.to_vec(), vec![told(Stall::Stopped, 100, 120)]];
    let way = Way { reader: &reader, serial: &lanes, ..Way::default() };
    let (_, before) = &phases(&TIMES, &way)[0];
    let expected = [(Cause::Stopped, 10), (Cause::RunQueue, 4), (Cause::EventLoop, 6), (Cause::Rest, 80)];
    assert_eq!(*before, expected);
}

#[test]
fn of_threads_side_by_side_the_one_held_up_longest_counts() {
    let lanes = [vec![told(Stall::RunQueue, 210, 230)], vec![told(Stall::MajorFault, 300, 350)]];
    let way = Way { parallel: &lanes, ..Way::default() };
    let (_, after) = &phases(&TIMES, &way)[1];
    assert_eq!(*after, [(Cause::MajorFault, 50), (Cause::Rest, 250)]);
}

#[test]
fn short_stalls_count_by_their_share_and_never_as_a_sum_over_threads() {
    let lanes = [vec![short(Stall::RunQueue, 100, 300, 20)], vec![short(Stall::RunQueue, 200, 300, 4)]];
    let way = Way { serial: &lanes, ..Way::default() };
    let (_, after) = &phases(&TIMES, &way)[1];
    assert_eq!(*after, [(Cause::RunQueue, 10), (Cause::Rest, 290)]);
}

#[test]
fn a_slow_client_has_what_is_left() {
    let times = Times { send_wait_before: 5 * MS, send_wait: 400 * MS, ..TIMES };
    let lanes = [vec![told(Stall::BlockIo, 250, 300)]];
    let way = Way { serial: &lanes, ..Way::default() };
    let expected = [
        (Phase::BeforeFirstToken, vec![(Cause::EventLoop, 10), (Cause::SendWait, 5), (Cause::Rest, 85)]),
        (Phase::After, vec![(Cause::BlockIo, 50), (Cause::SendWait, 250)]),
    ];
    assert_eq!(phases(&times, &way), expected);
}

prop_compose! {
    fn stall()(kind in 0..KINDS, start in 0..100_u64, length in 1..40_u64, part in 1..=100_u64, exact: bool) -> Told {
        let part = if exact { 100 } else { part };
        let (start, length) = (start * 1000, length * 1000);
        Told { kind: Stall::ALL[kind], start_ns: start, end_ns: start + length, stalled_ns: length * part / 100 }
    }
}

prop_compose! {
    fn request()(
        mut marks in prop::array::uniform4(0..100_u64),
        streamed: bool,
        waits in (0..50_000_u64, 0..50_000_u64),
    ) -> Times {
        marks.sort_unstable();
        let [arrival, first_read, first_token, end] = marks.map(|mark| mark * 1000);
        let send_wait = waits.0 + waits.1;
        Times { arrival, first_read, first_token: streamed.then_some(first_token), end, send_wait_before: waits.0, send_wait }
    }
}

prop_compose! {
    /// Whole microseconds, losses by quarters: of each microsecond a part that is whole too.
    fn gpu()(pieces in prop::collection::vec((0..20_u64, 1..20_u64, 0..=4_u32), 0..6)) -> Vec<Slowed> {
        let mut at = 0;
        let piece = |(wait, length, lost): (u64, u64, u32)| {
            let start = at + wait * 1000;
            at = start + length * 1000;
            Slowed { start_ns: start, end_ns: at, lost: f64::from(lost) / 4.0 }
        };
        pieces.into_iter().map(piece).collect()
    }
}

fn lanes() -> impl Strategy<Value = Vec<Vec<Told>>> {
    prop::collection::vec(prop::collection::vec(stall(), 0..12), 0..4)
}

proptest! {
    #[test]
    fn the_causes_of_a_phase_sum_to_its_time(times in request(), serial in lanes(), parallel in lanes(), gpu in gpu()) {
        let reader = serial.first().cloned().unwrap_or_default();
        let way = Way { reader: &reader, serial: &serial, parallel: &parallel, gpu: &gpu };
        let phases = blame(&times, &way);
        let sums: Vec<_> = phases.iter().map(|(phase, vector)| (*phase, vector.sum().as_nanos() as u64)).collect();
        let expected = match times.first_token {
            Some(first) => vec![(Phase::BeforeFirstToken, first - times.arrival), (Phase::After, times.end - first)],
            None => vec![(Phase::Whole, times.end - times.arrival)],
        };
        prop_assert_eq!(sums, expected);
    }

    /// Against one that asks of every microsecond which causes it has.
    #[test]
    fn what_is_known_exactly_is_shared_out_exactly(times in request(), serial in lanes(), gpu in gpu()) {
        let mut serial = serial;
        serial.iter_mut().flatten().for_each(|told| told.stalled_ns = told.end_ns - told.start_ns);
        let reader = serial.first().cloned().unwrap_or_default();
        let times = Times { send_wait: 0, send_wait_before: 0, ..times };
        let way = Way { reader: &reader, serial: &serial, gpu: &gpu, ..Way::default() };
        let mut expected = [Vector::default(), Vector::default()];
        for at in (times.arrival..times.end).step_by(1000) {
            let holds = |lane: &[Told]| lane.iter().filter(|told| told.start_ns <= at && at < told.end_ns).map(|told| Cause::from(told.kind)).min();
            let cause = if at < times.first_read {
                holds(&reader).unwrap_or(Cause::EventLoop)
            } else {
                serial.iter().filter_map(|lane| holds(lane)).min().unwrap_or(Cause::Rest)
            };
            let after = times.first_token.is_some_and(|first| at >= first);
            let slowed = gpu.iter().find(|slowed| slowed.start_ns <= at && at < slowed.end_ns);
            let lost = match (cause, slowed) {
                (Cause::Rest, Some(slowed)) => (1000.0 * slowed.lost) as u64,
                _ => 0,
            };
            expected[usize::from(after)].add(Cause::GpuThrottle, lost);
            expected[usize::from(after)].add(cause, 1000 - lost);
        }
        let found: Vec<Vector> = blame(&times, &way).into_iter().map(|(_, vector)| vector).collect();
        prop_assert_eq!(&found[..], &expected[..found.len()]);
    }
}
