//! Readings in, intervals and sums out: by hand, and against a GPU whose every millisecond is known.

use proptest::prelude::*;

use super::*;
use crate::gpu::source::Throttle;

const MS: u64 = 1_000_000;
const CAUSE: ThrottleCause = ThrottleCause::SwThermal;

/// At so many ms, this cause: whether it holds, and milliseconds that the driver counted.
fn reading(at: u64, now: Option<bool>, lost: Option<u64>, sm: Option<u32>) -> Reading {
    let mut throttle = Throttle::default();
    throttle.now[CAUSE as usize] = now;
    throttle.lost_ns[CAUSE as usize] = lost.map(|ms| ms * MS);
    let clocks = Clocks { sm, sm_max: Some(1980), ..Clocks::default() };
    Reading { at: BootTime(at * MS), throttle, clocks, ..Reading::default() }
}

/// Takes readings, `None` for a gap.
fn taken(readings: &[Option<Reading>]) -> (Throttles, Sums) {
    let (mut throttles, mut sums) = (Throttles::default(), Sums::default());
    let mut before: Option<&Reading> = None;
    for reading in readings {
        if let Some(reading) = reading {
            throttles.on_read(before, reading, &mut sums);
        }
        before = reading.as_ref();
    }
    (throttles, sums)
}

/// Intervals as start, end and throttled ms; and their sum.
fn check(readings: &[Option<Reading>], intervals: &[(u64, u64, u64)], sum: u64) {
    let (throttles, sums) = taken(readings);
    let found: Vec<_> = throttles
        .between(0, u64::MAX)
        .map(|each| (each.start.0 / MS, each.end.0 / MS, each.throttled_ns / MS))
        .collect();
    assert_eq!(found, intervals, "{readings:#?}");
    assert_eq!(sums.throttled_ns[CAUSE as usize] / MS, sum);
}

#[test]
fn what_the_driver_counts_is_exact_and_lies_next_to_the_end_that_says_yes() {
    let at = |at, now, lost| Some(reading(at, Some(now), Some(lost), None));
    // It began 300 ms before the second reading, and was over 200 ms after the third.
    check(
        &[at(0, false, 70), at(1000, true, 370), at(2000, true, 1370), at(3000, false, 1570)],
        &[(700, 2200, 1500)],
        1500,
    );
    check(&[at(0, false, 0), at(1000, false, 250)], &[(0, 1000, 250)], 250);
    check(
        &[at(0, true, 0), at(1000, true, 250), at(2000, true, 500)],
        &[(0, 1000, 250), (1000, 2000, 250)],
        500,
    );
    check(&[at(0, true, 0), at(1000, true, 1004)], &[(0, 1000, 1000)], 1004);
    check(&[at(0, true, 5)], &[], 0);
}

#[test]
fn where_it_only_says_whether_it_holds_an_edge_counts_half() {
    let at = |at, now| Some(reading(at, now, None, None));
    let (yes, no) = (Some(true), Some(false));
    check(&[at(0, no), at(1000, yes), at(2000, yes), at(3000, no)], &[(500, 2500, 2000)], 2000);
    check(&[at(0, no), at(1000, no)], &[], 0);
    check(&[at(0, None), at(1000, yes)], &[], 0);
    let (_, sums) = taken(&[at(0, None)]);
    assert!(!sums.throttle_known[CAUSE as usize]);
    let (_, sums) = taken(&[at(0, no), at(1000, None)]);
    assert!(sums.throttle_known[CAUSE as usize], "what has been told once is not absent later");
}

#[test]
fn over_a_gap_totals_count_and_no_interval_is_made_up() {
    let at = |at, lost| Some(reading(at, Some(true), Some(lost), None));
    check(&[at(0, 0), None, at(2000, 1700), at(3000, 2700)], &[(2000, 3000, 1000)], 2700);
    let sampled = |at| Some(reading(at, Some(true), None, None));
    check(&[sampled(0), None, sampled(2000), sampled(3000)], &[(2000, 3000, 1000)], 1000);
    // The driver was loaded again: it began at 0, and cannot have counted longer than that took.
    check(&[at(0, 90_000), None, at(2000, 400), at(3000, 400)], &[], 400);
    check(&[at(0, 90_000), None, at(2000, 80_000)], &[], 2000);
    // It says nothing for once: the next total has it, and when that was is not known.
    let silent = Some(reading(1000, Some(true), None, None));
    check(&[at(0, 0), silent, at(2000, 1500), at(3000, 2500)], &[(2000, 3000, 1000)], 2500);
    // Two readings of one time, or in the wrong order, are a gap.
    check(&[at(1000, 0), at(1000, 5), at(500, 9)], &[], 9);
}

#[test]
fn the_share_of_speed_lost_is_of_the_clocks_while_it_holds() {
    let check = |readings: [(bool, Option<u32>); 2], expected: f64| {
        let [before, after] = readings;
        let at = |at, (now, sm), lost| Some(reading(at, Some(now), Some(lost), sm));
        let (throttles, _) = taken(&[at(0, before, 0), at(1000, after, 400)]);
        let found = throttles.between(0, u64::MAX).next().unwrap().lost;
        assert!((found - expected).abs() < 1e-9, "{readings:?}: {found}");
    };
    let (fast, slow, slower) = (Some(1980), Some(1188), Some(594));
    check([(false, fast), (true, slow)], 0.4);
    check([(true, slow), (false, fast)], 0.4);
    check([(true, slow), (true, slower)], 0.55);
    check([(false, fast), (false, slow)], 0.4);
    check([(false, fast), (true, None)], 0.0);
    check([(true, None), (true, slow)], 0.4);
    check([(true, None), (true, None)], 1.0);
    check([(true, Some(2100)), (true, Some(2100))], 0.0);
}

#[test]
fn what_holds_at_the_newest_reading_goes_on_for_one_period() {
    let going_on = |readings: &[Option<Reading>]| {
        let (throttles, _) = taken(readings);
        let newest = readings.last().unwrap().as_ref().unwrap();
        let found = throttles
            .going_on(newest)
            .map(|each| (each.start.0 / MS, each.end.0 / MS, each.throttled_ns / MS));
        found.collect::<Vec<_>>()
    };
    let at = |at, now, lost| Some(reading(at, Some(now), Some(lost), None));
    assert_eq!(going_on(&[at(0, true, 0)]), [], "for how long nobody knows");
    assert_eq!(going_on(&[at(0, false, 0), at(500, true, 100)]), [(500, 1000, 500)]);
    assert_eq!(going_on(&[at(0, true, 0), at(500, false, 100)]), []);
    // As much of it as in the stretch before.
    assert_eq!(going_on(&[at(0, true, 0), at(1000, true, 250)]), [(1000, 2000, 250)]);
    assert_eq!(going_on(&[at(0, true, 0), at(60_000, true, 60_000)]), [(60_000, 70_000, 10_000)]);
    assert_eq!(going_on(&[at(0, true, 0), None, at(2000, true, 2000)]), []);
}

#[test]
fn intervals_are_bounded_in_number_and_in_time() {
    let (mut throttles, mut sums) = (Throttles::default(), Sums::default());
    // Each is slower or faster than the one before by more than is alike.
    let at = |each: u64| {
        reading(each * 100, Some(true), None, Some(if each.is_multiple_of(2) { 500 } else { 900 }))
    };
    let readings: Vec<Reading> = (0..2 * INTERVALS_MAX as u64).map(at).collect();
    readings.windows(2).for_each(|pair| throttles.on_read(Some(&pair[0]), &pair[1], &mut sums));
    assert!(throttles.between(0, u64::MAX).count() <= INTERVALS_MAX);
    let later = KEPT.as_nanos() as u64 / MS * 3;
    let [before, after] = [later, later + 1000].map(|at| reading(at, Some(true), None, Some(700)));
    throttles.on_read(Some(&before), &after, &mut sums);
    assert_eq!(throttles.between(0, u64::MAX).count(), 1);
}

prop_compose! {
    /// Milliseconds in which it is throttled.
    fn truth()(edges in prop::collection::vec(1..4000_u64, 0..12)) -> Vec<bool> {
        let mut truth = vec![false; 20_000];
        let mut at = 0;
        for (index, length) in edges.into_iter().enumerate() {
            let end = (at + length as usize).min(truth.len());
            truth[at..end].fill(index % 2 == 1);
            at = end;
        }
        truth
    }
}

proptest! {
    /// A GPU that counts is told to the nanosecond in sum; each interval lies within a stretch that has throttled time; and
    /// one that does not count is wrong by half a stretch an edge at most.
    #[test]
    fn intervals_say_what_was(truth in truth(), phase in 0..1000_usize, period in 100..1500_usize, counts: bool) {
        let times: Vec<usize> = (phase..truth.len()).step_by(period).collect();
        let before = |at: usize| truth[..at].iter().filter(|on| **on).count() as u64;
        let at = |&at: &usize| Some(reading(at as u64, Some(truth[at]), counts.then(|| before(at)), None));
        let readings: Vec<Option<Reading>> = times.iter().map(at).collect();
        let (throttles, sums) = taken(&readings);
        let (first, last) = (times[0], times[times.len() - 1]);
        let sum = sums.throttled_ns[CAUSE as usize];
        let found: u64 = throttles.between(0, u64::MAX).map(|each| each.throttled_ns).sum();
        prop_assert_eq!(found, sum);
        let expected = (before(last) - before(first)) * MS;
        if counts {
            prop_assert_eq!(sum, expected);
        } else {
            let edges = truth[first..=last].windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
            prop_assert!(sum.abs_diff(expected) <= edges * period as u64 * MS, "{} {}", sum, expected);
        }
        for each in throttles.between(0, u64::MAX) {
            prop_assert!(each.throttled_ns <= each.length());
            let (start, end) = ((each.start.0 / MS) as usize, (each.end.0 / MS) as usize);
            // Within one period of what was.
            let (near, far) = (start.saturating_sub(period), (end + period).min(truth.len()));
            prop_assert!(truth[near..far].iter().any(|on| *on), "{} to {} is far from any", start, end);
        }
        let mut ends: Vec<u64> = Vec::new();
        for each in throttles.between(0, u64::MAX) {
            prop_assert!(ends.last().is_none_or(|end| *end <= each.start.0));
            ends.push(each.end.0);
        }
    }

    /// A request that overlaps a throttle by more than a period is always told, one farther than a period never.
    #[test]
    fn a_request_meets_its_throttles(truth in truth(), phase in 0..1000_usize, period in 100..1000_usize, counts: bool, request in (0..19_000_usize, 1..5000_usize)) {
        let (from, to) = (request.0, (request.0 + request.1).min(truth.len()));
        let before = |at: usize| truth[..at].iter().filter(|on| **on).count() as u64;
        let at = |at: usize| Some(reading(at as u64, Some(truth[at]), counts.then(|| before(at)), None));
        // What is known when it ends.
        let readings: Vec<Option<Reading>> = (phase..to).step_by(period).map(at).collect();
        let (throttles, _) = taken(&readings);
        let newest = readings.last().and_then(Option::as_ref);
        let mut all: Vec<Interval> = throttles.between(0, u64::MAX).copied().collect();
        all.extend(newest.iter().flat_map(|newest| throttles.going_on(newest)));
        let (start, end) = (from as u64 * MS, to as u64 * MS);
        let found = all.iter().any(|each| each.start.0 < end && each.end.0 > start);
        let longest = truth[from..to].split(|on| !on).map(<[bool]>::len).max().unwrap_or(0);
        // The first reading has none before it.
        if longest > period && from > phase + period {
            prop_assert!(found, "{} ms of it", longest);
        }
        let near = from.saturating_sub(period)..(to + period).min(truth.len());
        if !truth[near].iter().any(|on| *on) {
            prop_assert!(!found);
        }
    }
}
