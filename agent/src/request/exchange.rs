//! One request and its answer while they are under way.
//!
//! In: what the two directions of its connection found out, and when. Out: progress of its stream, and
//! its record when it ended.

use std::sync::Arc;
use std::time::Duration;

use super::answer::Answer;
use super::counts::Counts;
use super::http::{self, Media, RequestHead, ResponseHead};
use super::record::{
    GAPS_MAX, Identity, Incomplete, Observation, OpenRequest, OtherRoute, Outcome, Progress, RequestRecord,
    Route, Stall,
};
use crate::clock::BootTime;
use crate::workload::Workload;
use crate::workload::labels::{ModelLabels, UNKNOWN};

/// What the names and identities of a request take, as a rule.
const TEXT_BYTES: usize = 256;

/// Where what is found out goes.
pub struct Outlet<'a> {
    pub models: &'a mut ModelLabels,
    pub out: &'a mut Vec<Observation>,
    pub counts: &'a mut Counts,
    /// What the request ids of the agent's own requests begin with.
    pub own: Option<&'a str>,
}

/// The read that brought a request's first byte.
#[derive(Clone, Copy)]
pub struct FirstRead {
    pub time: BootTime,
    /// When the bytes became readable, where the kernel could tell.
    pub arrival: Option<BootTime>,
    pub socket: u64,
    pub tgid: u32,
    pub tid: u32,
}

/// One request under way.
pub struct Exchange {
    /// Number among the requests of its connection.
    pub id: u64,
    pub workload: Arc<Workload>,
    first_read: FirstRead,
    /// `None` until the head is complete.
    head: Option<Asked>,
    pub request_complete: bool,
    pub request_bytes: u64,
    request_model: Option<Box<str>>,
    label: Option<Arc<str>>,
    /// `label` is that of the answer's model.
    named: bool,
    status: Option<u16>,
    streamed: bool,
    pub response_bytes: u64,
    response_request_id: Option<Box<str>>,
    pub answer: Answer,
    stream: Stream,
    /// A stream said that it failed.
    pub error: bool,
    /// The body of the answer cannot be read, so that nothing says it is empty.
    pub unreadable: bool,
    pub send_wait: Duration,
    /// The thread that wrote last.
    pub writer_tid: u32,
    pub incomplete: Option<Incomplete>,
    /// The last byte of it in either direction.
    pub last_byte: BootTime,
}

/// What its head said.
struct Asked {
    route: Route,
    head_only: bool,
    connect: bool,
    request_id: Option<Box<str>>,
    trace_id: Option<Box<str>>,
}

/// Times of the events with a delta.
#[derive(Default)]
struct Stream {
    first_token: Option<BootTime>,
    /// Time until then in which the client took no bytes.
    waited_before: Duration,
    /// Last write with such events, unless something was lost since.
    last: Option<BootTime>,
    chunks: u64,
    /// Those in no progress yet.
    new_chunks: u64,
    gaps: Vec<Duration>,
    /// Such events in the write at hand.
    in_write: u32,
}

impl Exchange {
    pub fn new(id: u64, workload: Arc<Workload>, first_read: FirstRead) -> Self {
        Self {
            id,
            workload,
            first_read,
            head: None,
            request_complete: false,
            request_bytes: 0,
            request_model: None,
            label: None,
            named: false,
            status: None,
            streamed: false,
            response_bytes: 0,
            response_request_id: None,
            answer: Answer::default(),
            stream: Stream::default(),
            error: false,
            unreadable: false,
            send_wait: Duration::ZERO,
            writer_tid: first_read.tid,
            incomplete: None,
            last_byte: first_read.time,
        }
    }

    pub fn asked(&mut self, head: &mut RequestHead) {
        self.head = Some(Asked {
            route: head.route,
            head_only: head.head_only,
            connect: head.connect,
            request_id: head.request_id.take(),
            trace_id: head.trace_id.take(),
        });
    }

    /// The head of the final answer.
    pub fn answered(&mut self, head: &mut ResponseHead) {
        self.status = Some(head.status);
        self.streamed = head.media == Media::Events;
        self.response_request_id = head.request_id.take();
    }

    /// Memory it takes, in bytes; what is short beside that is left out.
    pub fn held(&self) -> usize {
        size_of::<Self>() + self.stream.gaps.capacity() * size_of::<Duration>() + TEXT_BYTES
    }

    pub fn route(&self) -> Route {
        self.head.as_ref().map_or(Route::Other(OtherRoute::Rest), |head| head.route)
    }

    pub fn head_seen(&self) -> bool {
        self.head.is_some()
    }

    pub fn head_only(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.head_only)
    }

    pub fn connect(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.connect)
    }

    pub fn status(&self) -> Option<u16> {
        self.status
    }

    pub fn is_success(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// The request named its model, which may have a label already.
    pub fn asked_for(&mut self, model: Box<str>, models: &ModelLabels) {
        if !self.named {
            self.label = models.known(&self.workload.label, &model);
        }
        self.request_model = Some(model);
    }

    /// Bytes of it were lost; times before and after cannot be compared. The first reason stays.
    pub fn lost(&mut self, why: Incomplete) {
        self.incomplete.get_or_insert(why);
        self.stream.last = None;
        self.answer.missed();
    }

    /// Events with a delta in the write at hand.
    pub fn deltas(&mut self, count: u32) {
        self.stream.in_write += count;
    }

    /// The write at hand, at `time`, is over, or the answer is complete within it.
    pub fn write_ends(&mut self, time: BootTime, outlet: &mut Outlet<'_>) {
        self.name_model(time, outlet.models);
        let deltas = u64::from(std::mem::take(&mut self.stream.in_write));
        if deltas == 0 {
            return;
        }
        let stream = &mut self.stream;
        stream.chunks += deltas;
        stream.new_chunks += deltas;
        if stream.first_token.is_none() {
            stream.first_token = Some(time);
            stream.waited_before = self.send_wait;
        }
        if let Some(last) = stream.last.replace(time) {
            stream.gaps.push(time.since(last));
        }
        if stream.gaps.len() >= GAPS_MAX {
            self.progress(time, outlet);
        }
    }

    fn progress(&mut self, now: BootTime, outlet: &mut Outlet<'_>) {
        if self.stream.new_chunks == 0 {
            return;
        }
        let progress = Progress {
            workload: self.workload.clone(),
            model: self.model(now, outlet.models),
            socket: self.first_read.socket,
            chunks: std::mem::take(&mut self.stream.new_chunks),
            gaps: std::mem::take(&mut self.stream.gaps),
        };
        outlet.out.push(Observation::Progress(progress));
    }

    /// A 2xx answer may have named its model by now.
    fn name_model(&mut self, now: BootTime, models: &mut ModelLabels) {
        if !self.named
            && let Some(model) = &self.answer.model
        {
            self.label = Some(models.label(&self.workload.label, Some(model), true, now));
            self.named = true;
        }
    }

    /// The label of its model. A name that was not labelled is asked for once, since asking counts.
    fn model(&mut self, now: BootTime, models: &mut ModelLabels) -> Arc<str> {
        self.name_model(now, models);
        if let Some(label) = &self.label {
            return label.clone();
        }
        let label = models.label(&self.workload.label, self.request_model.as_deref(), false, now);
        self.label.insert(label).clone()
    }

    /// It ended at `end`: its progress and its record go out.
    pub fn finish(mut self: Box<Self>, end: BootTime, ending: Ending, outlet: &mut Outlet<'_>) {
        outlet.counts.requests_finished += 1;
        if let Some(why) = self.incomplete {
            outlet.counts.incomplete(why);
        }
        if self.is_own(outlet.own) {
            outlet.counts.requests_own += 1;
            return;
        }
        let model = if self.route().is_inference() {
            self.write_ends(end, outlet);
            self.progress(end, outlet);
            self.model(end, outlet.models)
        } else {
            UNKNOWN.into()
        };
        let record = self.into_record(end, ending, model);
        outlet.out.push(Observation::Finished(Box::new(record)));
    }

    /// The agent asked it itself: it is nobody's latency, and names no model.
    pub fn is_own(&self, own: Option<&str>) -> bool {
        let id = self.head.as_ref().and_then(|head| head.request_id.as_deref());
        matches!((own, id), (Some(own), Some(id)) if id.starts_with(own))
    }

    fn into_record(self: Box<Self>, end: BootTime, ending: Ending, model: Arc<str>) -> RequestRecord {
        let outcome = self.outcome(ending);
        let route = self.route();
        let sure = ending == Ending::Answered && self.incomplete.is_none() && !self.unreadable;
        let empty = sure
            && outcome == Outcome::Ok
            && self.is_success()
            && route.is_inference()
            && self.answer.is_empty();
        let first_read = self.first_read;
        let arrival = first_read.arrival.unwrap_or(first_read.time);
        let this = *self;
        let (request_id, trace_id) = this.head.map_or((None, None), |head| (head.request_id, head.trace_id));
        RequestRecord {
            workload: this.workload,
            model,
            route,
            socket: first_read.socket,
            tgid: first_read.tgid,
            tid: first_read.tid,
            writer_tid: this.writer_tid,
            arrival,
            first_read: first_read.time,
            read_delay: first_read.arrival.map(|arrival| first_read.time.since(arrival)),
            // A server may write on for a while to a peer that is gone.
            first_token: this.stream.first_token.filter(|time| *time <= end),
            end,
            send_wait: this.send_wait,
            send_wait_before: this.stream.waited_before,
            status: this.status,
            outcome,
            streamed: this.streamed,
            chunks: this.stream.chunks,
            usage: this.answer.usage(),
            finish: this.answer.finish,
            empty,
            confidence: this.answer.confidence(),
            request_bytes: this.request_bytes,
            response_bytes: this.response_bytes,
            incomplete: this.incomplete,
            identity: Identity {
                response_id: this.answer.id.and_then(|id| http::identity(id.as_bytes())),
                request_id: request_id.or(this.response_request_id),
                trace_id,
            },
        }
    }

    fn outcome(&self, ending: Ending) -> Outcome {
        match (ending, self.status) {
            (Ending::ClientAbort, _) => Outcome::ClientAbort,
            (Ending::ServerReset, _) => Outcome::ServerReset,
            (_, Some(429)) => Outcome::Rejected,
            (_, Some(400..500)) => Outcome::ClientError,
            (_, Some(500..)) => Outcome::ServerError,
            _ if self.error => Outcome::ServerError,
            _ => Outcome::Ok,
        }
    }

    /// How it stands at `now`. `blocked`: the socket takes no more of its answer.
    pub fn open(&self, now: BootTime, stalled_after: Duration, blocked: bool) -> OpenRequest {
        let why = if blocked {
            Stall::ClientNotReading
        } else if self.status.is_some() {
            Stall::ResponseStopped
        } else if self.request_complete {
            Stall::NoResponse
        } else {
            Stall::RequestUnfinished
        };
        OpenRequest {
            workload: self.workload.clone(),
            model: self.label.clone().unwrap_or_else(|| UNKNOWN.into()),
            arrival: self.first_read.arrival.unwrap_or(self.first_read.time),
            first_token: self.stream.first_token,
            request_bytes: self.request_bytes,
            tid: self.first_read.tid,
            stalled: (now.since(self.last_byte) >= stalled_after).then_some(why),
        }
    }
}

/// How the following of a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The answer is complete.
    Answered,
    /// The peer closed or reset before that.
    ClientAbort,
    /// The server closed before that.
    ServerReset,
    /// It was not seen, for events were lost; the status says what there is to say.
    Unseen,
}
