//! When were a GPU's clocks held down, for how long, and by how much? Pure.
//!
//! In: two readings, one after the other. Out: for each cause the time that it held the clocks down between them, where
//! in the stretch that was, and which share of its speed the GPU lost.
//!
//! Where the driver counts nanoseconds their sum is exact. Where it only says whether a cause holds now, a stretch counts
//! whole if both its ends say yes and half if one does: each edge of a throttle is wrong by half a stretch at most, and by
//! nothing in the mean; one that comes and goes between two readings is not seen. When in a stretch it was is known
//! where one end says yes: next to that end. Else it is spread evenly.

use std::collections::VecDeque;
use std::time::Duration;

use super::card::Sums;
use super::source::{Clocks, Reading, THROTTLE_CAUSES, ThrottleCause};
use crate::clock::BootTime;

/// Intervals are kept so long: no request is measured that takes longer.
const KEPT: Duration = Duration::from_secs(3600);
/// Intervals of one cause that are kept: those of ten minutes at ten readings a second, none of them like the one before.
const INTERVALS_MAX: usize = 6144;
/// Neighbours whose share of lost speed differs by less become one.
const ALIKE: f64 = 0.02;
/// A throttle that holds at the newest reading goes on until the next one, at most so long: the slowest poll.
const GOES_ON_MAX: Duration = Duration::from_secs(10);

/// A stretch of time in which a cause held the clocks down, all the while or for a part of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    pub cause: ThrottleCause,
    pub start: BootTime,
    pub end: BootTime,
    /// Less than from start to end where nobody knows when in it that was.
    pub throttled_ns: u64,
    /// Of its speed, 0 to 1: what the clock of its multiprocessors was below its maximum; 1 where clocks are not known.
    pub lost: f64,
}

impl Interval {
    fn length(&self) -> u64 {
        self.end.0 - self.start.0
    }

    /// The part of the stretch that is throttled.
    pub(super) fn density(&self) -> f64 {
        if self.is_exact() { 1.0 } else { self.throttled_ns as f64 / self.length() as f64 }
    }

    fn is_exact(&self) -> bool {
        self.throttled_ns == self.length()
    }

    /// Both as one, where they are neighbours and alike. Not where either is spread: how finely is known then.
    fn with(&self, next: &Self) -> Option<Self> {
        let joins = self.end == next.start
            && self.is_exact()
            && next.is_exact()
            && (self.lost - next.lost).abs() < ALIKE;
        let throttled_ns = self.throttled_ns + next.throttled_ns;
        let weighed = self.lost * self.throttled_ns as f64 + next.lost * next.throttled_ns as f64;
        joins.then(|| Self { end: next.end, throttled_ns, lost: weighed / throttled_ns as f64, ..*self })
    }
}

/// What is known of one GPU's throttles.
#[derive(Clone, Debug, Default)]
pub struct Throttles {
    /// Of each cause, the newest total that the driver told, and when.
    counted: [Option<(BootTime, u64)>; THROTTLE_CAUSES],
    intervals: [VecDeque<Interval>; THROTTLE_CAUSES],
    /// From the reading before to the newest, where nothing went wrong between.
    period: Option<Duration>,
}

impl Throttles {
    /// Takes a reading. `before`: the one before it, where nothing went wrong between: over a gap the driver's totals
    /// still count, but when in it that was is not known, and no interval is made up.
    pub fn on_read(&mut self, before: Option<&Reading>, after: &Reading, sums: &mut Sums) {
        let before = before.filter(|before| before.at < after.at);
        self.period = before.map(|before| after.at.since(before.at));
        for cause in ThrottleCause::ALL {
            let index = cause as usize;
            let told = (after.throttle.lost_ns[index], after.throttle.now[index]);
            sums.throttle_known[index] |= told != (None, None);
            let counted = self.counted[index];
            if let Some(total) = told.0 {
                self.counted[index] = Some((after.at, total));
            }
            let ns = match (counted, told.0) {
                (Some((at, earlier)), Some(total)) => grown(earlier, total, after.at.since(at)),
                // Where it begins to count, or says nothing this time: what is missed now is in the next total.
                (Some(_), None) | (None, Some(_)) => continue,
                (None, None) => before.map_or(0, |before| sampled(cause, before, after)),
            };
            sums.throttled_ns[index] += ns;
            let since = |before: &&Reading| counted.is_none_or(|(at, _)| at == before.at);
            if let Some(interval) = before.filter(since).and_then(|before| place(cause, ns, before, after)) {
                self.keep(interval);
            }
        }
    }

    fn keep(&mut self, interval: Interval) {
        let kept = &mut self.intervals[interval.cause as usize];
        if let Some(last) = kept.back_mut()
            && let Some(both) = last.with(&interval)
        {
            *last = both;
            return;
        }
        let old = |first: &Interval| interval.end.since(first.end) > KEPT;
        while kept.len() >= INTERVALS_MAX || kept.front().is_some_and(old) {
            kept.pop_front();
        }
        kept.push_back(interval);
    }

    /// Every interval that has a part between two times.
    pub fn between(&self, from: u64, to: u64) -> impl Iterator<Item = &Interval> {
        self.intervals.iter().flat_map(move |kept| {
            let first = kept.partition_point(|interval| interval.end.0 <= from);
            kept.range(first..).take_while(move |interval| interval.start.0 < to)
        })
    }

    /// What holds the clocks down at the newest reading, as if it went on until the next.
    pub fn going_on(&self, newest: &Reading) -> impl Iterator<Item = Interval> {
        let period = self.period.unwrap_or_default().min(GOES_ON_MAX).as_nanos() as u64;
        let (start, end) = (newest.at, BootTime(newest.at.0 + period));
        let on = move |cause: &ThrottleCause| period > 0 && is_on(*cause, newest);
        ThrottleCause::ALL.into_iter().filter(on).map(move |cause| {
            let last = self.intervals[cause as usize].back().filter(|last| last.end == start);
            let density = last.map_or(1.0, Interval::density);
            let throttled_ns = (period as f64 * density) as u64;
            Interval { cause, start, end, throttled_ns, lost: lost(&newest.clocks).unwrap_or(1.0) }
        })
    }
}

/// How much more a counter of the driver's says. A smaller total than before is of a driver that was loaded again, and
/// began anew at 0; it cannot have counted longer than since the total before.
fn grown(before: u64, total: u64, elapsed: Duration) -> u64 {
    total.checked_sub(before).unwrap_or_else(|| total.min(elapsed.as_nanos() as u64))
}

fn is_on(cause: ThrottleCause, reading: &Reading) -> bool {
    reading.throttle.now[cause as usize] == Some(true)
}

/// From what both ends of a stretch say.
fn sampled(cause: ThrottleCause, before: &Reading, after: &Reading) -> u64 {
    let length = after.at.0 - before.at.0;
    match (before.throttle.now[cause as usize], after.throttle.now[cause as usize]) {
        (Some(true), Some(true)) => length,
        (Some(true), Some(false)) | (Some(false), Some(true)) => length / 2,
        _ => 0,
    }
}

/// Where in the stretch it was.
fn place(cause: ThrottleCause, ns: u64, before: &Reading, after: &Reading) -> Option<Interval> {
    // A total may be told late, and be more than the stretch.
    let ns = ns.min(after.at.0 - before.at.0);
    let (was, is) = (is_on(cause, before), is_on(cause, after));
    let (start, end) = match (was, is) {
        (false, true) => (after.at.0 - ns, after.at.0),
        (true, false) => (before.at.0, before.at.0 + ns),
        _ => (before.at.0, after.at.0),
    };
    let (start, end) = (BootTime(start), BootTime(end));
    let lost = lost_between(was, is, before, after);
    (ns > 0).then_some(Interval { cause, start, end, throttled_ns: ns, lost })
}

/// By the clocks of the end at which it held; of both their mean. One that held at neither came and went between: there
/// the slower end is nearer to it.
fn lost_between(was: bool, is: bool, before: &Reading, after: &Reading) -> f64 {
    let of = [lost(&before.clocks), lost(&after.clocks)];
    let known = match (was, is) {
        (true, false) => of[0].or(of[1]),
        (false, true) => of[1].or(of[0]),
        (true, true) => of[0].zip(of[1]).map(|(a, b)| f64::midpoint(a, b)).or(of[0]).or(of[1]),
        (false, false) => of[0].zip(of[1]).map(|(a, b)| a.max(b)).or(of[0]).or(of[1]),
    };
    known.unwrap_or(1.0)
}

/// The share of its speed that a GPU loses; `None` where its clocks are not known.
fn lost(clocks: &Clocks) -> Option<f64> {
    let (now, max) = (clocks.sm?, clocks.sm_max.filter(|max| *max > 0)?);
    Some((1.0 - f64::from(now) / f64::from(max)).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
