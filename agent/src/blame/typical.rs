//! What is usual: of each size class of a model some of the last requests, and their medians.
//!
//! A long prompt takes longer than a short one, so a request is compared with those of its own size only. Of a busy model
//! not the very last: those of ten minutes are sampled, or a fault of a few seconds would be what is usual by its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::vector::{CAUSES, Cause, Vector};
use crate::request::record::RequestRecord;

/// Requests of a class that are kept.
const KEPT: usize = 64;
/// Once there are so many, one takes another's place so long after the last that did: what is kept spans ten minutes.
const APART_NS: u64 = 600_000_000_000 / KEPT as u64;
/// Below so many there is no median.
const ENOUGH: usize = 16;
/// Medians are made anew after so many more requests: a dozen of them for each would cost more than all else.
const RENEWED_EVERY: usize = 8;
const _: () = assert!(KEPT.is_multiple_of(RENEWED_EVERY) && ENOUGH.is_multiple_of(RENEWED_EVERY));
/// Classes of all models; beyond it the one that was used longest ago goes.
pub const CLASSES_MAX: usize = 256;
/// Bytes of a prompt's JSON for one token, where the answer does not say how many there were.
pub const BYTES_PER_TOKEN: u64 = 4;

/// Requests that should take about as long.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Class {
    workload: Arc<str>,
    model: Arc<str>,
    streamed: bool,
    /// Binary logarithms.
    prompt: u32,
    output: u32,
}

impl Class {
    /// The class of a request.
    #[must_use]
    pub fn of(record: &RequestRecord) -> Self {
        let (prompt, output) = sizes(record);
        let logarithm = |size: u64| u64::BITS - size.leading_zeros();
        Self {
            workload: record.workload.label.clone(),
            model: record.model.clone(),
            streamed: record.streamed,
            prompt: logarithm(prompt),
            output: logarithm(output),
        }
    }
}

/// Tokens of prompt and answer; where the answer does not say, what comes nearest.
#[must_use]
pub fn sizes(record: &RequestRecord) -> (u64, u64) {
    match record.usage {
        Some(usage) => (usage.prompt_tokens, usage.completion_tokens),
        None => (record.request_bytes / BYTES_PER_TOKEN, record.chunks),
    }
}

/// Medians of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usual {
    pub duration: Duration,
    /// Of streams.
    pub ttft: Option<Duration>,
    /// What each cause has, in the order of [`Cause`].
    pub causes: [Duration; CAUSES],
    /// The same until the first token; of a request without one, none.
    pub causes_before: [Duration; CAUSES],
}

/// The classes of all models.
#[derive(Debug, Default)]
pub struct Typical {
    classes: HashMap<Class, Kept>,
    turn: u64,
}

#[derive(Debug, Default)]
struct Kept {
    used: u64,
    next: usize,
    /// The end of the newest that is kept.
    newest_ns: u64,
    requests: Vec<Sample>,
    /// As of the last time it was made anew.
    usual: Option<Usual>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    duration: Duration,
    ttft: Option<Duration>,
    vector: Vector,
    before: Vector,
}

impl Typical {
    /// The medians of a class, once there are enough of it.
    #[must_use]
    pub fn usual(&self, class: &Class) -> Option<&Usual> {
        self.classes.get(class)?.usual.as_ref()
    }

    /// One more: what its time went to, and that until its first token.
    pub fn add(&mut self, class: Class, record: &RequestRecord, [vector, before]: [Vector; 2]) {
        self.turn += 1;
        if !self.classes.contains_key(&class) && self.classes.len() >= CLASSES_MAX {
            let oldest =
                self.classes.iter().min_by_key(|(_, kept)| kept.used).map(|(class, _)| class.clone());
            oldest.and_then(|class| self.classes.remove(&class));
        }
        let kept = self.classes.entry(class).or_default();
        kept.used = self.turn;
        if kept.requests.len() == KEPT && record.end.0 < kept.newest_ns + APART_NS {
            return;
        }
        kept.newest_ns = record.end.0;
        let sample = Sample { duration: record.duration(), ttft: record.ttft(), vector, before };
        if kept.requests.len() < KEPT {
            kept.requests.push(sample);
        } else {
            kept.requests[kept.next] = sample;
            kept.next = (kept.next + 1) % KEPT;
        }
        if kept.next.is_multiple_of(RENEWED_EVERY) && kept.requests.len().is_multiple_of(RENEWED_EVERY) {
            kept.usual = kept.medians();
        }
    }

    /// A model or a server is gone.
    pub fn forget(&mut self, workload: &str, model: Option<&str>) {
        let gone =
            |class: &Class| *class.workload == *workload && model.is_none_or(|model| *class.model == *model);
        self.classes.retain(|class, _| !gone(class));
    }
}

impl Kept {
    fn medians(&self) -> Option<Usual> {
        if self.requests.len() < ENOUGH {
            return None;
        }
        let of = |vector: fn(&Sample) -> &Vector| {
            let of = |cause| median(self.requests.iter().map(|sample| vector(sample).of(cause)));
            Cause::ALL.map(|cause| of(cause).unwrap_or_default())
        };
        Some(Usual {
            duration: median(self.requests.iter().map(|sample| sample.duration))?,
            ttft: median(self.requests.iter().filter_map(|sample| sample.ttft)),
            causes: of(|sample| &sample.vector),
            causes_before: of(|sample| &sample.before),
        })
    }
}

fn median(times: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut times: Vec<Duration> = times.collect();
    if times.is_empty() {
        return None;
    }
    let middle = times.len() / 2;
    Some(*times.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::record::Usage;
    use crate::signal::latency::tests::record;

    fn sized(prompt_tokens: u64, ms: u64) -> RequestRecord {
        let mut record = record();
        record.usage = Some(Usage { prompt_tokens, completion_tokens: 9 });
        record.end.0 = record.arrival.0 + ms * 1_000_000;
        record
    }

    fn later(mut record: RequestRecord, ns: u64) -> RequestRecord {
        record.arrival.0 += ns;
        record.end.0 += ns;
        record
    }

    fn add(typical: &mut Typical, record: &RequestRecord, rest: Duration) {
        let vector = |time| Vector::of_times([(Cause::Rest, time)]);
        typical.add(Class::of(record), record, [vector(rest), vector(rest / 4)]);
    }

    #[test]
    fn what_is_usual_is_that_of_requests_of_the_same_size() {
        let mut typical = Typical::default();
        for turn in 0..KEPT as u64 {
            // One in four is an outlier.
            let ms = if turn.is_multiple_of(4) { 5000 } else { 100 };
            add(&mut typical, &sized(100, ms), Duration::from_millis(ms));
            add(&mut typical, &sized(3000, 900), Duration::from_millis(900));
        }
        let usual =
            |prompt| typical.usual(&Class::of(&sized(prompt, 1))).map(|usual| usual.duration.as_millis());
        assert_eq!((usual(120), usual(2500), usual(1)), (Some(100), Some(900), None));
        let usual = typical.usual(&Class::of(&sized(100, 1))).unwrap();
        assert_eq!(usual.causes[Cause::Rest as usize], Duration::from_millis(100));
        assert_eq!(usual.causes_before[Cause::Rest as usize], Duration::from_millis(25));
    }

    #[test]
    fn there_is_nothing_usual_before_there_are_enough_and_it_follows_the_newest() {
        let mut typical = Typical::default();
        let class = Class::of(&sized(100, 1));
        for turn in 0..ENOUGH {
            assert!(typical.usual(&class).is_none(), "after {turn}");
            add(&mut typical, &sized(100, 100), Duration::ZERO);
        }
        assert!(typical.usual(&class).is_some());
        (ENOUGH..KEPT).for_each(|_| add(&mut typical, &sized(100, 100), Duration::ZERO));
        let duration = |typical: &Typical| typical.usual(&class).unwrap().duration.as_millis();
        // Thousands in a few seconds are a fault; what stays for ten minutes is usual.
        (1..5000).for_each(|turn| {
            add(&mut typical, &later(sized(100, 200), turn * 2_000_000), Duration::ZERO);
        });
        assert_eq!(duration(&typical), 100);
        (1..=KEPT as u64 / 2).for_each(|turn| {
            add(&mut typical, &later(sized(100, 200), 10_000_000_000 + turn * APART_NS), Duration::ZERO);
        });
        assert_eq!(duration(&typical), 200);
        typical.forget("w", Some("m"));
        assert!(typical.usual(&class).is_none());
    }

    #[test]
    fn classes_are_bounded_and_the_one_not_used_for_longest_goes() {
        let mut typical = Typical::default();
        let named = |name: usize| RequestRecord { model: name.to_string().into(), ..sized(100, 100) };
        for name in 0..=CLASSES_MAX {
            (0..ENOUGH).for_each(|_| add(&mut typical, &named(name), Duration::ZERO));
        }
        assert_eq!(typical.classes.len(), CLASSES_MAX);
        assert!(typical.usual(&Class::of(&named(0))).is_none());
        assert!(typical.usual(&Class::of(&named(CLASSES_MAX))).is_some());
    }
}
