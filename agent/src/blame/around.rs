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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::record::{Identity, Usage};
    use crate::signal::latency::tests::{record, workload};

    const MS: u64 = 1_000_000;
    /// Before everything.
    const ALWAYS: BootTime = BootTime(0);

    /// Arrives, has its first token and ends at these milliseconds.
    fn request([arrival, first_token, end]: [u64; 3], prompt_tokens: u64) -> RequestRecord {
        let at = |ms: u64| BootTime(record().workload.started.0 + ms * MS);
        RequestRecord {
            arrival: at(arrival),
            first_token: Some(at(first_token)),
            end: at(end),
            usage: Some(Usage { prompt_tokens, completion_tokens: 9 }),
            identity: Identity { response_id: Some(format!("r-{arrival}").into()), ..Identity::default() },
            ..record()
        }
    }

    fn of(others: &[RequestRecord], one: &RequestRecord) -> Surroundings {
        let mut around = Around::default();
        others.iter().for_each(|other| around.add(other));
        around.of(one, &[], ALWAYS, Some(Duration::from_millis(20)))
    }

    #[test]
    fn who_was_there_as_it_arrived_is_counted() {
        let others = [
            request([0, 20, 90], 10),
            request([50, 70, 300], 200),
            request([110, 130, 400], 1000),
            request([50, 70, 200], 7),
        ];
        let mut elsewhere = request([50, 70, 300], 5000);
        elsewhere.workload = workload("another");
        let found = of(&[others.as_slice(), &[elsewhere]].concat(), &request([100, 120, 250], 100));
        assert_eq!((found.in_flight, found.prompt_tokens_in_flight), (2, 207));
        assert!(!found.queued && found.neighbour.is_none() && !found.first_of_start);
    }

    #[test]
    fn one_that_begins_when_another_ends_was_queued() {
        let before = [request([0, 20, 500], 10)];
        assert!(of(&before, &request([100, 520, 900], 10)).queued);
        assert!(!of(&before, &request([100, 700, 900], 10)).queued, "it began much later than that");
        assert!(!of(&before, &request([100, 480, 900], 10)).queued, "it began before that");
    }

    #[test]
    fn a_long_prompt_that_is_worked_on_meanwhile_is_a_neighbour() {
        let neighbour = |arrival: u64, tokens| {
            Some(Neighbour { response_id: Some(format!("r-{arrival}").into()), prompt_tokens: tokens })
        };
        let one = request([100, 400, 500], 100);
        let long = request([50, 350, 900], 8000);
        let longer = request([120, 380, 900], 9000);
        assert_eq!(of(&[long.clone(), longer], &one).neighbour, neighbour(120, 9000));
        assert_eq!(of(&[request([50, 350, 900], 300)], &one).neighbour, None, "that is not long");
        assert_eq!(of(&[request([0, 90, 900], 8000)], &one).neighbour, None, "its prompt was done");
        assert_eq!(of(&[long], &request([100, 400, 500], 7000)).neighbour, None, "nor beside this one");
    }

    #[test]
    fn until_the_first_answer_of_a_start_is_whole_all_are_first() {
        let (first, second, third) =
            (request([100, 400, 500], 10), request([200, 450, 510], 10), request([600, 620, 700], 10));
        assert!(of(&[], &first).first_of_start);
        assert!(of(std::slice::from_ref(&first), &second).first_of_start, "it arrived before that");
        assert!(!of(&[first.clone(), second], &third).first_of_start);
        let late = Around::default().of(&first, &[], BootTime(u64::MAX), None);
        assert!(!late.first_of_start, "a start before the agent's own");
    }
}
