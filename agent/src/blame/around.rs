//! What was going on around a request: the others of its server that were under way with it.
//!
//! From the wire alone: arrivals, first tokens, ends, and the sizes of prompts.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::typical::{BYTES_PER_TOKEN, sizes};
use crate::clock::BootTime;
use crate::request::record::{OpenRequest, Outcome, RequestRecord};

/// Requests that ended lately, of all servers.
const ENDED_MAX: usize = 4096;
/// Servers whose first answer is remembered.
const STARTS_MAX: usize = 256;
/// A prompt of fewer tokens holds nobody up.
const LONG_PROMPT: u64 = 1024;
/// A prompt is long beside one of a fourth.
const LONGER_BY: u64 = 4;

/// One request beside another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    workload: Arc<str>,
    arrival: BootTime,
    first_token: Option<BootTime>,
    end: BootTime,
    prompt_tokens: u64,
    /// As its answer named it.
    response_id: Option<Box<str>>,
}

/// A request with a long prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbour {
    pub response_id: Option<Box<str>>,
    /// From the answer's `usage`, else a fourth of the request's bytes.
    pub prompt_tokens: u64,
}

/// What surrounded a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Others of its server under way as it arrived.
    pub in_flight: u64,
    /// Tokens of their prompts.
    pub prompt_tokens_in_flight: u64,
    /// It began when another one ended, so that it had waited for a place; or the server said that some waited.
    pub queued: bool,
    /// The server said that it gave up work meanwhile.
    pub preempted: bool,
    /// The longest prompt that was worked on while this one waited.
    pub neighbour: Option<Neighbour>,
    /// No answer of this start of the server was complete yet.
    pub first_of_start: bool,
}

/// Requests that ended lately.
#[derive(Debug, Default)]
pub struct Around {
    ended: VecDeque<Beside>,
    /// When the first answer of a start was complete.
    first_answers: HashMap<(Arc<str>, BootTime), BootTime>,
}

impl Around {
    /// A request ended.
    pub fn add(&mut self, record: &RequestRecord) {
        let start = (record.workload.label.clone(), record.workload.started);
        if record.outcome == Outcome::Ok && !self.first_answers.contains_key(&start) {
            if self.first_answers.len() >= STARTS_MAX {
                let oldest =
                    self.first_answers.iter().min_by_key(|(_, end)| **end).map(|(start, _)| start.clone());
                oldest.and_then(|start| self.first_answers.remove(&start));
            }
            self.first_answers.insert(start, record.end);
        }
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(Beside {
            workload: record.workload.label.clone(),
            arrival: record.arrival,
            first_token: record.first_token,
            end: record.end,
            prompt_tokens: sizes(record).0,
            response_id: record.identity.response_id.clone(),
        });
    }

    /// What surrounded `record`, which was not added yet. `since`: starts from then on were seen from their beginning.
    /// `usual_ttft`: what a request of its size takes to its first token, or as a whole.
    #[must_use]
    pub fn of(
        &self,
        record: &RequestRecord,
        open: &[OpenRequest],
        since: BootTime,
        usual: Option<Duration>,
    ) -> Surroundings {
        let (own_tokens, _) = sizes(record);
        let begun = record.first_token.unwrap_or(record.end);
        let others = self.ended.iter().filter(|other| *other.workload == *record.workload.label);
        let others = others.filter(|other| other.end > record.arrival && other.arrival < record.end);
        let under_way = open.iter().filter(|other| other.workload.label == record.workload.label);
        let under_way: Vec<Beside> = under_way.map(|other| Beside::open(other, record.end)).collect();
        let mut found = Surroundings::default();
        for other in others.chain(&under_way) {
            if other.arrival < record.arrival {
                found.in_flight += 1;
                found.prompt_tokens_in_flight += other.prompt_tokens;
            }
            let gave_way = other.arrival < record.arrival && other.end < begun;
            found.queued |= gave_way && usual.is_some_and(|usual| begun.since(other.end) <= usual * 2);
            let works_until = other.first_token.unwrap_or(other.end);
            let beside = other.arrival < record.end && works_until > record.arrival;
            let longest = found.neighbour.as_ref().map_or(0, |longest| longest.prompt_tokens);
            let long = other.prompt_tokens >= LONG_PROMPT.max(own_tokens * LONGER_BY);
            if beside && long && other.prompt_tokens > longest {
                let response_id = other.response_id.clone();
                found.neighbour = Some(Neighbour { response_id, prompt_tokens: other.prompt_tokens });
            }
        }
        let workload = &record.workload;
        let first = self.first_answers.get(&(workload.label.clone(), workload.started));
        found.first_of_start = workload.started >= since && first.is_none_or(|first| record.arrival < *first);
        found
    }

    /// A workload is gone for good.
    pub fn forget_workload(&mut self, workload: &str) {
        self.ended.retain(|other| *other.workload != *workload);
        self.first_answers.retain(|(label, _), _| **label != *workload);
    }
}

impl Beside {
    /// One that is under way still: it goes on beyond `end`.
    fn open(open: &OpenRequest, end: BootTime) -> Self {
        Self {
            workload: open.workload.label.clone(),
            arrival: open.arrival,
            first_token: open.first_token,
            end: BootTime(end.0 + 1),
            prompt_tokens: open.request_bytes / BYTES_PER_TOKEN,
            response_id: None,
        }
    }
}
