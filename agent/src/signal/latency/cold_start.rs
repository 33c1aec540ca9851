//! How long a server took from its start to its first answer.
//!
//! In: what each tick says of a workload, and its records. Out: seconds since the start of its first
//! process for the phases `listening` (first listen), `healthy` (end of the first 2xx of its health route)
//! and `first_response` (end of the first 2xx answer of an inference route). A start counts only where
//! nothing of it can have been missed: the process began after the agent, or it did not yet listen when it
//! was first looked at.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::BootTime;
use crate::request::record::{OtherRoute, RequestRecord, Route};
use crate::signal::WorkloadState;

/// One start of one workload.
#[derive(Debug)]
pub struct ColdStart {
    /// When its first process began: another value is another start.
    started: BootTime,
    /// Nothing of the start was missed; `None` until a tick has told.
    seen_whole: Option<bool>,
    listening: Option<Duration>,
    healthy: Option<Duration>,
    first_response: Option<Duration>,
    model: Option<Arc<str>>,
}

impl ColdStart {
    /// The start of a workload whose first process began at `started`, looked at by an agent that runs
    /// since `agent_started`.
    #[must_use]
    pub fn new(started: BootTime, agent_started: BootTime) -> Self {
        Self {
            started,
            seen_whole: (started >= agent_started).then_some(true),
            listening: None,
            healthy: None,
            first_response: None,
            model: None,
        }
    }

    /// Whether a process that began at `started` is a later start. An earlier one is not: records of
    /// the processes before a restart may come after it.
    #[must_use]
    pub fn is_before(&self, started: BootTime) -> bool {
        self.started < started
    }

    /// Takes what a tick says.
    pub fn on_tick(&mut self, state: &WorkloadState) {
        if state.workload.started != self.started {
            return;
        }
        if self.seen_whole.is_none() {
            let answered = self.healthy.is_some() || self.first_response.is_some();
            self.seen_whole = Some(state.listening.is_none() && !answered);
        }
        if self.listening.is_none() {
            self.listening = state.listening.map(|listening| listening.since(self.started));
        }
    }

    /// Takes what a record says.
    pub fn on_record(&mut self, record: &RequestRecord) {
        let is_2xx = record.status.is_some_and(|status| (200..300).contains(&status));
        if !is_2xx || record.workload.started != self.started {
            return;
        }
        let since_start = record.end.since(self.started);
        if record.route == Route::Other(OtherRoute::Health) {
            self.healthy.get_or_insert(since_start);
        } else if record.route.is_inference() && self.first_response.is_none() {
            self.first_response = Some(since_start);
            self.model = Some(record.model.clone());
        }
    }

    /// The model that answered first, and the phases in the order of [`super::series::START_PHASES`];
    /// `None` until it has answered, or where the start was not seen.
    #[must_use]
    pub fn measured(&self) -> Option<(&Arc<str>, [Option<Duration>; 3])> {
        let model = self.model.as_ref().filter(|_| self.seen_whole == Some(true))?;
        Some((model, [self.listening, self.healthy, self.first_response]))
    }
}
