//! Spans of time, counters that jump, and faults that come in bursts: once or again and again.
//!
//! In: seconds, as a scenario has them. Out: whether, how long, how many until a time; exact to the nanosecond.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::timeline::{nanoseconds, period};

/// From one time until another, nanoseconds; the end is not within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub from: u64,
    pub to: u64,
}

/// For what a scenario writes with `from` and `to` among other keys.
macro_rules! spanned {
    ($($what:ty),*) => {$(
        impl $what {
            #[must_use]
            pub fn span(&self) -> $crate::scenario::spans::Span {
                $crate::scenario::spans::Span { from: self.from, to: self.to }
            }
        }
    )*};
}
pub(crate) use spanned;

/// A time as a scenario has it.
pub(crate) fn seconds<'de, D: Deserializer<'de>>(written: D) -> Result<u64, D::Error> {
    nanoseconds(f64::deserialize(written)?).map_err(D::Error::custom)
}

/// The end of what lasts.
pub(crate) fn never() -> u64 {
    u64::MAX
}

impl Span {
    #[must_use]
    pub fn has(&self, ns: u64) -> bool {
        (self.from..self.to).contains(&ns)
    }
}

/// The spans, in order and without overlap, again after each repetition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    merged: Vec<Span>,
    repeat: Option<u64>,
}

impl Spans {
    #[must_use]
    pub fn new(spans: impl IntoIterator<Item = Span>, repeat: Option<u64>) -> Self {
        let mut spans: Vec<Span> = spans.into_iter().collect();
        spans.sort_by_key(|span| span.from);
        let mut merged: Vec<Span> = Vec::new();
        for span in spans {
            match merged.last_mut() {
                Some(last) if span.from <= last.to => last.to = last.to.max(span.to),
                _ => merged.push(span),
            }
        }
        Self { merged, repeat }
    }

    #[must_use]
    pub fn has(&self, ns: u64) -> bool {
        let ns = self.repeat.map_or(ns, |repeat| ns % repeat);
        self.merged.iter().any(|span| span.has(ns))
    }

    /// Nanoseconds of these spans from 0 to this time.
    #[must_use]
    pub fn total(&self, ns: u64) -> u64 {
        let once = |ns: u64| self.merged.iter().map(|span| span.to.min(ns).saturating_sub(span.from)).sum();
        let Some(repeat) = self.repeat else { return once(ns) };
        ns / repeat * once(repeat) + once(ns % repeat)
    }

    /// Those between two times, each whole or cut.
    #[must_use]
    pub fn between(&self, from: u64, to: u64) -> Vec<Span> {
        let rounds = self.repeat.map_or(0..=0, |repeat| from / repeat..=to / repeat);
        let shift = |round| round * self.repeat.unwrap_or_default();
        rounds
            .flat_map(|round| self.merged.iter().map(move |span| (shift(round), span)))
            .map(|(shift, span)| Span {
                from: span.from.saturating_add(shift).max(from),
                to: span.to.saturating_add(shift).min(to),
            })
            .filter(|span| span.from < span.to)
            .collect()
    }
}

/// A count that jumps at times: pairs of seconds and by how much.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenCounter")]
pub struct Counter {
    before: u64,
    jumps: Vec<(u64, u64)>,
    repeat: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenCounter {
    Still(u64),
    Jumps(Vec<(f64, u64)>),
    Full(FullCounter),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FullCounter {
    #[serde(default)]
    before: u64,
    #[serde(default)]
    jumps: Vec<(f64, u64)>,
    repeat: Option<f64>,
}

impl TryFrom<WrittenCounter> for Counter {
    type Error = String;

    fn try_from(written: WrittenCounter) -> Result<Self, String> {
        let (before, jumps, repeat) = match written {
            WrittenCounter::Still(before) => (before, Vec::new(), None),
            WrittenCounter::Jumps(jumps) => (0, jumps, None),
            WrittenCounter::Full(full) => (full.before, full.jumps, full.repeat),
        };
        let jumps = jumps.into_iter().map(|(at, by)| Ok((nanoseconds(at)?, by)));
        let (jumps, repeat) = (jumps.collect::<Result<Vec<_>, String>>()?, repeat.map(period).transpose()?);
        if repeat.is_some_and(|repeat| jumps.iter().any(|(at, _)| *at >= repeat)) {
            return Err("a count that jumps after the end of its repetition".to_owned());
        }
        Ok(Self { before, jumps, repeat })
    }
}

impl Counter {
    /// What had been counted before the scenario began.
    #[must_use]
    pub fn before(&self) -> u64 {
        self.before
    }

    /// What was counted from 0 to this time, and at this time.
    #[must_use]
    pub fn since_start(&self, ns: u64) -> u64 {
        let once = |ns: u64| -> u64 { self.jumps.iter().filter(|(at, _)| *at <= ns).map(|(_, by)| by).sum() };
        let Some(repeat) = self.repeat else { return once(ns) };
        ns / repeat * once(repeat - 1) + once(ns % repeat)
    }
}

/// Faults of one code.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenBurst")]
pub struct Burst {
    pub code: u64,
    at: u64,
    count: u64,
    every: u64,
    repeat: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBurst {
    code: u64,
    at: f64,
    #[serde(default = "one")]
    count: u64,
    #[serde(default)]
    every: f64,
    repeat: Option<f64>,
}

fn one() -> u64 {
    1
}

impl TryFrom<WrittenBurst> for Burst {
    type Error = String;

    fn try_from(written: WrittenBurst) -> Result<Self, String> {
        let (at, every) = (nanoseconds(written.at)?, nanoseconds(written.every)?);
        let (count, repeat) = (written.count, written.repeat.map(period).transpose()?);
        let end = every.checked_mul(count).and_then(|length| length.checked_add(at));
        if count > 1 && every == 0 {
            return Err("faults that come one after another without a time between: `every`".to_owned());
        }
        if count == 0 || end.is_none_or(|end| repeat.is_some_and(|repeat| end > repeat)) {
            return Err("a burst of faults that is empty, or longer than its repetition".to_owned());
        }
        Ok(Self { code: written.code, at, count, every, repeat })
    }
}

impl Burst {
    /// When the first one comes that is later than this; at or after it with `same`.
    #[must_use]
    pub fn next(&self, after: u64, same: bool) -> Option<u64> {
        let least = if same { after } else { after.checked_add(1)? };
        let round = self.repeat.map_or(0, |repeat| least / repeat);
        let of_round = |round: u64| {
            let start = self.repeat.map_or(0, |repeat| repeat * round) + self.at;
            let index = match self.every {
                0 => 0,
                every => least.saturating_sub(start).div_ceil(every),
            };
            let at = start + index * self.every;
            (index < self.count && at >= least).then_some(at)
        };
        of_round(round).or_else(|| self.repeat.and_then(|_| of_round(round + 1)))
    }

    /// How many came from 0 to this time, and at this time.
    #[must_use]
    pub fn count(&self, ns: u64) -> u64 {
        let once = |ns: u64| match ns.checked_sub(self.at) {
            None => 0,
            Some(since) => self.count.min(since.checked_div(self.every).unwrap_or_default() + 1),
        };
        let Some(repeat) = self.repeat else { return once(ns) };
        ns / repeat * once(repeat - 1) + once(ns % repeat)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_spans() -> impl Strategy<Value = (Vec<Span>, Option<u64>)> {
        let span = (0_u64..200, 1_u64..60).prop_map(|(from, length)| Span { from, to: from + length });
        (prop::collection::vec(span, 0..6), prop::option::of(260_u64..400))
    }

    proptest! {
        #[test]
        fn the_time_within_spans_is_the_sum_of_its_nanoseconds((spans, repeat) in any_spans(), until in 0_u64..1500) {
            let among = |ns: u64| {
                let ns = repeat.map_or(ns, |repeat| ns % repeat);
                spans.iter().any(|span| span.from <= ns && ns < span.to)
            };
            let fast = Spans::new(spans.iter().copied(), repeat);
            prop_assert!((0..until).all(|ns| fast.has(ns) == among(ns)));
            prop_assert_eq!(fast.total(until), (0..until).filter(|ns| among(*ns)).count() as u64);
            let from = until / 3;
            let cut: u64 = fast.between(from, until).iter().map(|span| span.to - span.from).sum();
            prop_assert_eq!(cut, fast.total(until) - fast.total(from));
        }

        #[test]
        fn counters_and_bursts_are_the_sum_of_their_jumps(
            at in 0_u64..100, every in 1_u64..20, count in 1_u64..8, repeat in prop::option::of(300_u64..400),
            until in 0_u64..1500,
        ) {
            let burst = Burst { code: 1, at, count, every, repeat };
            let among = |ns: u64| {
                let ns = repeat.map_or(ns, |repeat| ns % repeat);
                (0..count).any(|index| at + index * every == ns)
            };
            let slow: Vec<u64> = (0..=until).filter(|ns| among(*ns)).collect();
            prop_assert_eq!(burst.count(until), slow.len() as u64);
            let mut fast = Vec::new();
            let mut next = burst.next(0, true);
            while let Some(at) = next.filter(|at| *at <= until) {
                fast.push(at);
                next = burst.next(at, false);
            }
            prop_assert_eq!(fast, slow.clone());
            let jumps = (0..count).map(|index| (at + index * every, 3)).collect();
            let counter = Counter { before: 7, jumps, repeat };
            prop_assert_eq!(counter.since_start(until), 3 * slow.len() as u64);
        }
    }
}
