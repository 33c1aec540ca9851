//! What is usual: of each size class of a model the last requests, and their medians.
//!
//! A long prompt takes longer than a short one, so a request is compared with those of its own size only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::vector::{CAUSES, Cause, Vector};
use crate::request::record::RequestRecord;

/// Requests of a class that are kept.
const KEPT: usize = 64;
/// Below so many there is no median.
const ENOUGH: usize = 16;
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
    requests: Vec<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    duration: Duration,
    ttft: Option<Duration>,
    vector: Vector,
}

impl Typical {
    /// The medians of a class, once there are enough of it.
    #[must_use]
    pub fn usual(&self, class: &Class) -> Option<Usual> {
        let requests = &self.classes.get(class)?.requests;
        if requests.len() < ENOUGH {
            return None;
        }
        Some(Usual {
            duration: median(requests.iter().map(|sample| sample.duration))?,
            ttft: median(requests.iter().filter_map(|sample| sample.ttft)),
        })
    }

    /// What each cause usually has, in the order of [`Cause`]; nothing where there are not enough.
    #[must_use]
    pub fn causes(&self, class: &Class) -> [Duration; CAUSES] {
        let kept = self.classes.get(class).filter(|kept| kept.requests.len() >= ENOUGH);
        let Some(kept) = kept else { return [Duration::ZERO; CAUSES] };
        let of =
            |cause| median(kept.requests.iter().map(|sample| sample.vector.of(cause))).unwrap_or_default();
        Cause::ALL.map(of)
    }

    /// One more.
    pub fn add(&mut self, class: Class, record: &RequestRecord, vector: Vector) {
        self.turn += 1;
        if !self.classes.contains_key(&class) && self.classes.len() >= CLASSES_MAX {
            let oldest =
                self.classes.iter().min_by_key(|(_, kept)| kept.used).map(|(class, _)| class.clone());
            oldest.and_then(|class| self.classes.remove(&class));
        }
        let kept = self.classes.entry(class).or_default();
        kept.used = self.turn;
        let sample = Sample { duration: record.duration(), ttft: record.ttft(), vector };
        if kept.requests.len() < KEPT {
            kept.requests.push(sample);
        } else {
            kept.requests[kept.next] = sample;
            kept.next = (kept.next + 1) % KEPT;
        }
    }

    /// A model or a server is gone.
    pub fn forget(&mut self, workload: &str, model: Option<&str>) {
        let gone =
            |class: &Class| *class.workload == *workload && model.is_none_or(|model| *class.model == *model);
        self.classes.retain(|class, _| !gone(class));
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
