//! Was it slow, and why? Pure.
//!
//! In: a request's vector, what is usual for its size, and what surrounded it. Out: its causes by what they took more
//! than usual, and, of a slow request, the one that it counts for.

use std::time::Duration;

use super::around::Surroundings;
use super::settings::Settings;
use super::typical::Usual;
use super::vector::{CAUSES, Cause, Vector};
use crate::request::record::RequestRecord;

/// Less than this more than usual is no cause worth naming, and no request is slow for it.
const EXCESS_MIN: Duration = Duration::from_millis(5);

/// What a slow request counts for: a cause, or what `rest` was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    Cause(Cause),
    /// It had to wait for another request's place.
    Queued,
    /// A long prompt was worked on beside it.
    Neighbour,
    /// The server gave up work on requests to make room for others.
    Preempted,
    /// The server had answered nothing yet.
    FirstOfStart,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; CAUSES + 4] = [
        Self::Cause(Cause::Stopped),
        Self::Cause(Cause::CpuThrottle),
        Self::Cause(Cause::RunQueue),
        Self::Cause(Cause::MemoryReclaim),
        Self::Cause(Cause::MajorFault),
        Self::Cause(Cause::BlockIo),
        Self::Cause(Cause::GpuThrottle),
        Self::Cause(Cause::EventLoop),
        Self::Cause(Cause::SendWait),
        Self::Queued,
        Self::Neighbour,
        Self::Preempted,
        Self::FirstOfStart,
        Self::Cause(Cause::Rest),
    ];

    /// Value of the label `cause`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Cause(cause) => cause.label(),
            Self::Queued => "queued",
            Self::Neighbour => "neighbour",
            Self::Preempted => "preempted",
            Self::FirstOfStart => "first_of_start",
        }
    }
}

/// Over what a slow request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `slow.duration` or `slow.ttft`.
    Objective(Duration),
    /// A multiple of what is usual for its size.
    Usual(Duration),
}

/// What a slow request was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    pub limit: Limit,
    /// Its first token was late, and the whole of it was not: what came after is not to blame.
    pub first_token_only: bool,
}

/// How much longer than it should a request took; `None` where it was not slow.
#[must_use]
pub fn limit(record: &RequestRecord, usual: Option<&Usual>, settings: &Settings) -> Option<Over> {
    let over = |took: Option<Duration>, objective: Option<Duration>, usual: Option<Duration>| {
        let took = took?;
        if let Some(objective) = objective.filter(|objective| took > *objective) {
            return Some(Limit::Objective(objective));
        }
        let usual = usual?;
        let slow = took > usual.mul_f64(settings.multiple) && took - usual >= EXCESS_MIN;
        slow.then_some(Limit::Usual(usual))
    };
    let usual_ttft = usual.and_then(|usual| usual.ttft);
    let first = over(record.ttft(), settings.ttft, usual_ttft);
    let whole = over(Some(record.duration()), settings.duration, usual.map(|usual| usual.duration));
    Some(Over { limit: first.or(whole)?, first_token_only: whole.is_none() })
}

/// The causes of a request by how much more than usual they took, the most first; those below what is worth naming are
/// left out. Where nothing is known of what is usual, a server should not have been held up at all; how long it should
/// have worked, nobody can say, so `rest` is no cause then.
#[must_use]
pub fn causes(vector: &Vector, usual: Option<&[Duration; CAUSES]>) -> Vec<(Cause, Duration)> {
    let more = |cause: Cause| match (usual, cause) {
        (Some(usual), _) => vector.of(cause).saturating_sub(usual[cause as usize]),
        (None, Cause::Rest) => Duration::ZERO,
        (None, _) => vector.of(cause),
    };
    let mut causes: Vec<_> = Cause::ALL.into_iter().map(|cause| (cause, more(cause))).collect();
    causes.retain(|(_, more)| *more >= EXCESS_MIN);
    causes.sort_by_key(|(_, more)| std::cmp::Reverse(*more));
    causes
}

/// What a slow request counts for.
#[must_use]
pub fn reason(causes: &[(Cause, Duration)], around: &Surroundings) -> Reason {
    match causes.first() {
        Some((cause, _)) if *cause != Cause::Rest => Reason::Cause(*cause),
        _ if around.first_of_start => Reason::FirstOfStart,
        _ if around.preempted => Reason::Preempted,
        _ if around.neighbour.is_some() => Reason::Neighbour,
        _ if around.queued => Reason::Queued,
        _ => Reason::Cause(Cause::Rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::BootTime;
    use crate::signal::latency::tests::record;

    const MS: Duration = Duration::from_millis(1);

    fn vector(causes: &[(Cause, u32)]) -> Vector {
        Vector::of_times(causes.iter().map(|(cause, ms)| (*cause, MS * *ms)))
    }

    #[test]
    fn causes_are_ordered_by_what_they_took_more_than_usual() {
        let found =
            vector(&[(Cause::RunQueue, 30), (Cause::EventLoop, 40), (Cause::Rest, 500), (Cause::BlockIo, 4)]);
        let mut usual = [Duration::ZERO; CAUSES];
        usual[Cause::EventLoop as usize] = MS * 35;
        usual[Cause::Rest as usize] = MS * 490;
        let expected = [(Cause::RunQueue, MS * 30), (Cause::Rest, MS * 10), (Cause::EventLoop, MS * 5)];
        assert_eq!(causes(&found, Some(&usual)), expected);
        let without = [(Cause::EventLoop, MS * 40), (Cause::RunQueue, MS * 30)];
        assert_eq!(causes(&found, None), without, "how long it should have worked is not known");
    }

    #[test]
    fn a_late_first_token_is_not_blamed_on_what_came_after() {
        let usual = Usual {
            duration: MS * 200,
            ttft: Some(MS * 20),
            causes: [MS * 20; CAUSES],
            causes_before: [MS * 2; CAUSES],
        };
        let over = |ttft: u64, duration: u64| {
            let arrival = record().arrival;
            let at = |ms: u64| BootTime(arrival.0 + ms * 1_000_000);
            let record = RequestRecord { first_token: Some(at(ttft)), end: at(duration), ..record() };
            let over = limit(&record, Some(&usual), &Settings::default())?;
            Some((over.limit, over.first_token_only))
        };
        let (late, long) = (Limit::Usual(MS * 20), Limit::Usual(MS * 200));
        assert_eq!(over(60, 600), None);
        assert_eq!(over(61, 240), Some((late, true)));
        assert_eq!(over(61, 601), Some((late, false)), "all of it took too long");
        assert_eq!(over(60, 601), Some((long, false)));
    }

    #[test]
    fn rest_is_told_apart_by_what_surrounded_it() {
        let rest = [(Cause::Rest, MS * 100)];
        let around = Surroundings { queued: true, ..Surroundings::default() };
        assert_eq!(reason(&rest, &Surroundings::default()), Reason::Cause(Cause::Rest));
        assert_eq!(reason(&rest, &around), Reason::Queued);
        assert_eq!(reason(&[], &around), Reason::Queued);
        let stopped = [(Cause::Stopped, MS * 60), (Cause::Rest, MS * 50)];
        assert_eq!(reason(&stopped, &around), Reason::Cause(Cause::Stopped));
        let all = Surroundings { preempted: true, first_of_start: true, ..around };
        assert_eq!(reason(&rest, &all), Reason::FirstOfStart);
        assert_eq!(reason(&rest, &Surroundings { first_of_start: false, ..all }), Reason::Preempted);
    }
}
