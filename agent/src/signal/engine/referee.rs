//! Compares two counts of first tokens, the wire's and the engine's, over the same requests. Pure.
//!
//! In: each first token of the wire, and looks at the engine's sum and count. Out: spans over which both counted the same
//! requests, with what each says that these took.
//!
//! Two looks between which both counts grew alike have the same requests between them, because the engine counts a
//! request before its first token is on the wire: as long as it leads by as much as it did, nothing was added that the
//! wire does not have. A request that only the engine counts (no stream, given up by its client) makes it lead by one
//! more from then on: the span with it is given up, those after are compared as before. A look during which a first token
//! came is passed over, since nobody can tell whether the page has it. What is left: where a request is between engine
//! and wire at both looks of a span, the wire has the first and the engine the second; the mean is off by the difference
//! of these two, divided by the requests of the span.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::BootTime;

/// Looks that wait for one that they can be compared with: half a minute at the default pace.
const POINTS_MAX: usize = 64;
/// First tokens that wait for a look.
const TOKENS_MAX: usize = 16_384;
/// By what a sum may fall for no reason but the order in which a server with several processes adds.
const ROUNDING_SECONDS: f64 = 1e-6;

/// First tokens so far, and the seconds to them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    pub count: u64,
    pub seconds: f64,
}

impl Sum {
    fn since(self, before: Self) -> Self {
        Self { count: self.count.saturating_sub(before.count), seconds: self.seconds - before.seconds }
    }

    fn add(&mut self, other: Self) {
        *self = Self { count: self.count + other.count, seconds: self.seconds + other.seconds };
    }
}

/// What came of a look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ruling {
    /// Of as many requests, those of the span that ends now.
    pub wire: Sum,
    pub engine: Sum,
    /// Requests of spans that were given up.
    pub uncompared: u64,
}

impl Ruling {
    pub fn add(&mut self, other: &Self) {
        self.wire.add(other.wire);
        self.engine.add(other.engine);
        self.uncompared += other.uncompared;
    }
}

/// A look at which both sides are known.
#[derive(Clone, Copy, Debug)]
struct Point {
    wire: Sum,
    engine: Sum,
}

impl Point {
    /// By how many requests the engine is ahead.
    fn lead(&self) -> i128 {
        i128::from(self.engine.count) - i128::from(self.wire.count)
    }

    /// Requests since an earlier one: all of those that the side has which has more.
    fn requests_since(&self, before: &Self) -> u64 {
        let (wire, engine) = (self.wire.since(before.wire), self.engine.since(before.engine));
        wire.count.max(engine.count)
    }
}

/// One server.
#[derive(Debug, Default)]
pub struct Referee {
    /// Those that wait, the oldest first: what was before the first has been compared or given up.
    points: VecDeque<Point>,
    wire: Sum,
    engine: Sum,
    /// First tokens that are not in `wire` yet, in no order.
    tokens: Vec<(BootTime, Duration)>,
}

impl Referee {
    /// The wire had a first token.
    pub fn on_first_token(&mut self, time: BootTime, ttft: Duration) {
        if self.tokens.len() >= TOKENS_MAX {
            // The looks meanwhile do not agree then, and are counted as such.
            self.settle(BootTime(u64::MAX));
        }
        self.tokens.push((time, ttft));
    }

    /// Every look that was begun before has been told of.
    pub fn settle(&mut self, before: BootTime) {
        for (_, ttft) in self.tokens.extract_if(.., |(time, _)| *time <= before) {
            self.wire.add(Sum { count: 1, seconds: ttft.as_secs_f64() });
        }
    }

    /// The server began anew, and counts from 0.
    pub fn on_restart(&mut self) -> Ruling {
        let now = Point { wire: self.wire, engine: self.engine };
        let uncompared = self.points.front().map_or(0, |first| now.requests_since(first));
        self.points.clear();
        self.engine = Sum::default();
        Ruling { uncompared, ..Ruling::default() }
    }

    /// The engine's own count, of a page that it made between two times. Every first token up to then is known.
    pub fn on_look(&mut self, asked: BootTime, answered: BootTime, engine: Sum) -> Ruling {
        self.settle(asked);
        let mut ruling = Ruling::default();
        let fell = engine.count < self.engine.count;
        if fell || engine.seconds < self.engine.seconds - ROUNDING_SECONDS {
            ruling = self.on_restart();
        }
        self.engine = engine;
        if self.tokens.iter().any(|(time, _)| *time <= answered) {
            return ruling;
        }
        let now = Point { wire: self.wire, engine };
        if let Some(from) = self.points.iter().find(|point| point.lead() == now.lead()).copied() {
            if from.wire.count == now.wire.count {
                // Nothing new.
                return ruling;
            }
            ruling.wire = now.wire.since(from.wire);
            ruling.engine = now.engine.since(from.engine);
            ruling.uncompared += self.points.front().map_or(0, |first| from.requests_since(first));
            self.points.clear();
        } else if self.points.len() >= POINTS_MAX
            && let (Some(first), Some(next)) = (self.points.pop_front(), self.points.front())
        {
            ruling.uncompared += next.requests_since(&first);
        }
        self.points.push_back(now);
        ruling
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// By how much the engine notes every arrival late.
    const LATE: f64 = 0.003;

    /// A server and its wire, in milliseconds.
    #[derive(Default)]
    struct Bench {
        referee: Referee,
        engine: Sum,
        sum: Ruling,
    }

    impl Bench {
        /// A stream: its first token at a time, and how long it took on the wire.
        fn stream(&mut self, at: u64, ttft: u64) {
            self.counted(ttft as f64 / 1e3 - LATE);
            self.written(at, ttft);
        }

        fn counted(&mut self, seconds: f64) {
            self.engine.add(Sum { count: 1, seconds });
        }

        fn written(&mut self, at: u64, ttft: u64) {
            self.referee.on_first_token(BootTime(at), Duration::from_millis(ttft));
        }

        fn look(&mut self, asked: u64, answered: u64) {
            let ruling = self.referee.on_look(BootTime(asked), BootTime(answered), self.engine);
            assert_eq!(ruling.wire.count, ruling.engine.count);
            self.sum.add(&ruling);
        }

        #[track_caller]
        fn is(&self, compared: u64, uncompared: u64) {
            assert_eq!((self.sum.wire.count, self.sum.uncompared), (compared, uncompared));
            let difference = self.sum.wire.seconds - self.sum.engine.seconds;
            assert!((difference - compared as f64 * LATE).abs() < 1e-6, "{difference} of {compared}");
        }
    }

    #[test]
    fn the_same_requests_are_compared_and_none_twice() {
        let mut bench = Bench::default();
        bench.stream(5, 100);
        bench.look(10, 11);
        bench.is(0, 0);
        bench.look(20, 21);
        bench.is(0, 0);
        bench.stream(22, 40);
        bench.stream(23, 4000);
        bench.look(30, 31);
        bench.look(40, 41);
        bench.is(2, 0);
        bench.stream(45, 7);
        bench.look(50, 51);
        bench.is(3, 0);
    }

    #[test]
    fn what_only_the_engine_counts_spoils_its_span_alone() {
        let mut bench = Bench::default();
        bench.look(10, 11);
        bench.stream(12, 50);
        bench.counted(90.0);
        bench.look(20, 21);
        bench.is(0, 0);
        bench.stream(25, 60);
        bench.look(30, 31);
        bench.is(1, 2);
        bench.counted(90.0);
        bench.look(40, 41);
        bench.look(50, 51);
        bench.stream(55, 60);
        bench.look(60, 61);
        bench.is(2, 3);
    }

    #[test]
    fn a_token_on_its_way_at_a_look_waits_for_the_next() {
        let mut bench = Bench::default();
        bench.look(10, 11);
        bench.counted(0.5 - LATE);
        bench.look(20, 21);
        bench.is(0, 0);
        bench.written(22, 500);
        bench.look(30, 31);
        bench.is(1, 0);
        // While the page is made: nobody knows whether it is on it.
        bench.stream(45, 10);
        bench.look(40, 50);
        bench.is(1, 0);
        bench.look(60, 61);
        bench.is(2, 0);
    }

    #[test]
    fn a_server_that_begins_anew_is_not_subtracted_from_the_one_before() {
        let mut bench = Bench::default();
        bench.stream(5, 50);
        bench.look(10, 11);
        bench.stream(12, 50);
        bench.engine = Sum::default();
        bench.look(20, 21);
        bench.is(0, 1);
        bench.stream(25, 50);
        bench.look(30, 31);
        bench.is(1, 1);
        // As many again by the next look: only who knows of the start can tell.
        bench.stream(32, 50);
        bench.sum.add(&bench.referee.on_restart());
        bench.engine = Sum::default();
        bench.stream(33, 70);
        bench.stream(34, 70);
        bench.look(40, 41);
        bench.is(1, 1);
        bench.stream(45, 50);
        bench.look(50, 51);
        bench.is(2, 1);
        bench.engine.seconds -= 0.2;
        bench.look(60, 61);
        bench.stream(65, 50);
        bench.look(70, 71);
        bench.is(3, 1);
    }

    #[test]
    fn what_waits_is_bounded_and_counted() {
        let mut bench = Bench::default();
        let many = 3 * POINTS_MAX as u64;
        for at in 1..=many {
            bench.counted(1.0);
            bench.look(10 * at, 10 * at + 1);
        }
        assert_eq!(bench.referee.points.len(), POINTS_MAX);
        bench.is(0, many - POINTS_MAX as u64);
        let mut bench = Bench::default();
        for at in 0..=TOKENS_MAX as u64 {
            bench.stream(at, 10);
        }
        assert_eq!(bench.referee.tokens.len(), 1);
        bench.look(1 << 20, 1 << 20);
        bench.stream((1 << 20) + 1, 10);
        bench.look(1 << 21, 1 << 21);
        bench.is(1, 0);
    }

    /// One thing that happens: the time since the last, the time to its first token, and what it is.
    type Event = (u64, u64, u8);

    proptest! {
        /// Against the requests themselves: whatever is compared is the same requests on both sides, so that no time of
        /// one is taken from that of another.
        #[test]
        fn only_the_same_requests_are_compared(
            events in prop::collection::vec((1..20_u64, 10..100_000_u64, 0..10_u8), 0..200),
            mixed in any::<bool>(),
        ) {
            let events: Vec<Event> = events;
            let (mut bench, mut now, mut streams, mut others) = (Bench::default(), 0, 0, 0);
            let (mut seen, mut first) = (0, None);
            for (wait, ttft, what) in events {
                now += wait;
                match what {
                    0 if mixed => {
                        bench.counted(1e6 + ttft as f64);
                        others += u64::from(first.is_some());
                    }
                    1..=3 => {
                        bench.look(now, now);
                        first.get_or_insert(streams);
                        seen = streams;
                    }
                    _ => {
                        bench.stream(now, ttft);
                        streams += 1;
                    }
                }
            }
            let compared = bench.sum.wire.count;
            bench.is(compared, bench.sum.uncompared);
            let between = seen - first.unwrap_or(seen);
            prop_assert!(compared <= between);
            prop_assert!(compared + bench.sum.uncompared <= between + others);
            if others == 0 {
                prop_assert_eq!((compared, bench.sum.uncompared), (between, 0));
            }
        }
    }
}
