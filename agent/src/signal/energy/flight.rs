//! Which requests were under way when? Pure.
//!
//! In: requests with their times, and marks: moments between which is asked. Out: at each mark, how long the server had
//! had any request until then, and how that time is divided: each moment is shared evenly by the requests that were under
//! way in it. So what one has does not depend on how often a GPU is read.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::BootTime;

/// A part of a request's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Until its first token came; all of an answer without a stream.
    Prefill,
    /// From then on.
    Decode,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 2] = [Self::Prefill, Self::Decode];

    /// Value of the label `phase`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

/// A request, whether under way or ended: its arrival, and the thread that read it.
pub type Key = (BootTime, u32);
/// Whose time: a model, and what its requests did.
pub type Slot = (Arc<str>, Phase);

/// One that is or was under way.
#[derive(Clone, Debug)]
pub struct Flight {
    pub key: Key,
    /// `None`: it has not been told yet.
    pub model: Option<Arc<str>>,
    pub first_token: Option<BootTime>,
    /// `None`: it goes on.
    pub end: Option<BootTime>,
}

/// Nanoseconds, from some moment to a mark.
#[derive(Clone, Debug, Default)]
pub struct Until {
    /// In which any request was under way.
    pub busy: f64,
    /// What a request has of these that was under way all the time.
    each: f64,
    /// What the requests of each slot have of it.
    slots: Vec<f64>,
}

/// All of them.
#[derive(Debug)]
pub struct Flights {
    slots: Vec<Slot>,
    marks: HashMap<BootTime, Until>,
    /// Those without a model, and `each` as it was when they arrived.
    unnamed: Vec<(Key, f64)>,
}

/// What the requests of a server did in a stretch of time, in nanoseconds.
#[derive(Debug, Default)]
pub struct Share<'a> {
    pub busy: f64,
    /// Of `busy`, by whose it was; what is missing is of those without a model.
    pub slots: Vec<(&'a Slot, f64)>,
    pub unnamed: Vec<(Key, f64)>,
}

/// A request comes, goes on to its next phase, or goes.
struct Change {
    time: BootTime,
    /// `None`: it has no model yet.
    slot: Option<usize>,
    comes: bool,
    key: Key,
}

impl Flights {
    /// Of these requests, asked at these marks.
    #[must_use]
    pub fn new<'a>(flights: impl Iterator<Item = &'a Flight>, mut marks: Vec<BootTime>) -> Self {
        marks.sort_unstable();
        marks.dedup();
        let (Some(first), Some(last)) = (marks.first().copied(), marks.last().copied()) else {
            return Self { slots: Vec::new(), marks: HashMap::new(), unnamed: Vec::new() };
        };
        let mut slots = Slots::default();
        let mut changes = Vec::new();
        for flight in flights {
            slots.changes(flight, first, last, &mut changes);
        }
        changes.sort_unstable_by_key(|change| change.time);
        let mut sweep = Sweep::new(first, slots.all.len());
        let (mut changes, mut at_marks) = (changes.into_iter().peekable(), HashMap::new());
        for mark in marks {
            while let Some(change) = changes.next_if(|change| change.time <= mark) {
                sweep.take(&change);
            }
            sweep.go_on(mark);
            at_marks.insert(mark, sweep.until.clone());
        }
        Self { slots: slots.all, marks: at_marks, unnamed: sweep.unnamed }
    }

    /// Between two of the marks.
    #[must_use]
    pub fn between(&self, from: BootTime, to: BootTime) -> Share<'_> {
        let (Some(from), Some(to)) = (self.marks.get(&from), self.marks.get(&to)) else {
            return Share::default();
        };
        let slots = self.slots.iter().zip(from.slots.iter().zip(&to.slots));
        let slots = slots.map(|(slot, (from, to))| (slot, to - from)).filter(|(_, time)| *time > 0.0);
        let unnamed = self.unnamed.iter().map(|(key, came)| (*key, to.each - from.each.max(*came)));
        Share {
            busy: to.busy - from.busy,
            slots: slots.collect(),
            unnamed: unnamed.filter(|(_, time)| *time > 0.0).collect(),
        }
    }
}

/// Numbers of the slots.
#[derive(Default)]
struct Slots {
    all: Vec<Slot>,
    numbers: HashMap<Arc<str>, usize>,
}

impl Slots {
    /// Of a model's first phase; the second one's is the next.
    fn number(&mut self, model: &Arc<str>) -> usize {
        if let Some(number) = self.numbers.get(model) {
            return *number;
        }
        let number = self.all.len();
        self.all.extend(Phase::ALL.map(|phase| (model.clone(), phase)));
        self.numbers.insert(model.clone(), number);
        number
    }

    /// What a request changes, between the first and the last mark.
    fn changes(&mut self, flight: &Flight, first: BootTime, last: BootTime, out: &mut Vec<Change>) {
        let (arrival, _) = flight.key;
        let end = flight.end.unwrap_or(last).min(last);
        let begun = flight.first_token.unwrap_or(end).clamp(arrival.min(end), end);
        let number = flight.model.as_ref().map(|model| self.number(model));
        let decode = number.map(|number| number + Phase::Decode as usize);
        for (from, to, slot) in [(arrival.max(first), begun, number), (begun.max(first), end, decode)] {
            if from < to {
                out.push(Change { time: from, slot, comes: true, key: flight.key });
                out.push(Change { time: to, slot, comes: false, key: flight.key });
            }
        }
    }
}

/// Goes through the changes in time.
struct Sweep {
    at: BootTime,
    open: u64,
    by_slot: Vec<u64>,
    until: Until,
    unnamed: Vec<(Key, f64)>,
}

impl Sweep {
    fn new(at: BootTime, slots: usize) -> Self {
        let until = Until { slots: vec![0.0; slots], ..Until::default() };
        Self { at, open: 0, by_slot: vec![0; slots], until, unnamed: Vec::new() }
    }

    fn go_on(&mut self, to: BootTime) {
        let passed = to.since(self.at).as_nanos() as f64;
        self.at = to;
        if self.open == 0 || passed == 0.0 {
            return;
        }
        let each = passed / self.open as f64;
        self.until.busy += passed;
        self.until.each += each;
        for (sum, open) in self.until.slots.iter_mut().zip(&self.by_slot) {
            *sum += each * *open as f64;
        }
    }

    fn take(&mut self, change: &Change) {
        self.go_on(change.time);
        let step = |count: &mut u64| if change.comes { *count += 1 } else { *count -= 1 };
        step(&mut self.open);
        match change.slot {
            Some(slot) => step(&mut self.by_slot[slot]),
            // It has no model because it goes on, and so is there until the last mark.
            None if change.comes => self.unnamed.push((change.key, self.until.each)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests;
