//! The record of one request: times, sizes, route, status, model. No content.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::BootTime;
use crate::workload::Workload;

/// Gaps carried by one [`Progress`] at most; a longer stream sends several.
pub const GAPS_MAX: usize = 64;
/// Longest identity that is kept, in bytes.
pub const IDENTITY_BYTES_MAX: usize = 128;
/// Longest model name that is kept, in bytes; a longer one counts as none.
pub const MODEL_BYTES_MAX: usize = 128;

/// What a connection's events amount to.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// A stream went on: sent every [`GAPS_MAX`] gaps and before its record.
    Progress(Progress),
    /// A request ended.
    Finished(Box<RequestRecord>),
}

/// Part of a stream that goes on, so that long streams show while they run and cost no memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub workload: Arc<Workload>,
    /// Label of the model, already bounded.
    pub model: Arc<str>,
    /// The connection; its next record is this stream's.
    pub socket: u64,
    /// SSE events with a content, reasoning or tool-call delta since the last progress.
    pub chunks: u64,
    /// From a write that carried such events to the next such write; a gap across lost events is left out.
    pub gaps: Vec<Duration>,
}

/// One request that ended, whatever its outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestRecord {
    pub workload: Arc<Workload>,
    /// Label of the model, already bounded: the response's, else the request's, else `unknown` or `other`.
    pub model: Arc<str>,
    pub route: Route,
    pub identity: Identity,
    /// The connection, as in [`inferscope_common::socket::SocketEvent::socket`].
    pub socket: u64,
    /// Process and thread that read the request's first byte.
    pub tgid: u32,
    pub tid: u32,
    /// The thread that wrote last.
    pub writer_tid: u32,
    /// First byte of the request available to the server: its arrival, else its first read.
    pub arrival: BootTime,
    /// The server's read returned that byte.
    pub first_read: BootTime,
    /// Arrival to read; `None` where the kernel could not tell the arrival.
    pub read_delay: Option<Duration>,
    /// Streams: the write that completed the first event with a delta.
    pub first_token: Option<BootTime>,
    /// Last byte of the response handed to the socket, or the abort.
    pub end: BootTime,
    /// From sends that took less than offered to the next that took bytes, summed.
    pub send_wait: Duration,
    /// What of that was before the first token.
    pub send_wait_before: Duration,
    /// Status of the final response head; `None` when none was written.
    pub status: Option<u16>,
    pub outcome: Outcome,
    /// The response is an event stream.
    pub streamed: bool,
    /// Events with a delta in the whole stream.
    pub chunks: u64,
    pub usage: Option<Usage>,
    /// Finish reasons of the choices.
    pub finish: FinishReasons,
    /// A 2xx answer of an inference route ended with neither text, reasoning, tool call nor other result.
    pub empty: bool,
    /// Geometric mean probability of the tokens, where the response carried `logprobs` and all were seen.
    pub confidence: Option<f64>,
    /// Head and body, as far as they passed.
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// Why times, chunks or tokens of this record cannot be trusted; `None` when they can.
    pub incomplete: Option<Incomplete>,
}

impl RequestRecord {
    /// Arrival to end.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.end.since(self.arrival)
    }

    /// Arrival to the first event with a delta.
    #[must_use]
    pub fn ttft(&self) -> Option<Duration> {
        Some(self.first_token?.since(self.arrival))
    }

    /// (duration - TTFT) / (completion tokens - 1), where both are known.
    #[must_use]
    pub fn time_per_output_token(&self) -> Option<Duration> {
        let tokens = u32::try_from(self.usage?.completion_tokens).ok()?;
        let decode = self.end.since(self.first_token?);
        (tokens > 1).then(|| decode / (tokens - 1))
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Ok,
    /// 4xx but 429.
    ClientError,
    /// 429.
    Rejected,
    /// 5xx, or an `error` event in a stream.
    ServerError,
    /// The peer closed or reset before the end.
    ClientAbort,
    /// The server closed before the end.
    ServerReset,
}

impl Outcome {
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::ClientError,
        Self::Rejected,
        Self::ServerError,
        Self::ClientAbort,
        Self::ServerReset,
    ];

    /// Value of the label `outcome`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientError => "client_error",
            Self::Rejected => "rejected",
            Self::ServerError => "server_error",
            Self::ClientAbort => "client_abort",
            Self::ServerReset => "server_reset",
        }
    }

    /// Counts in `vllm_request_errors_total`.
    #[must_use]
    pub fn is_error(self) -> bool {
        matches!(self, Self::Rejected | Self::ServerError | Self::ServerReset)
    }
}

/// Why a record is incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Incomplete {
    /// Events of its connection were lost between kernel and agent.
    EventsLost,
    /// A border inside the bytes that were not copied was missed.
    BorderMissed,
}

impl Incomplete {
    /// Value of the label `reason`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::EventsLost => "events_lost",
            Self::BorderMissed => "border_missed",
        }
    }
}

/// `usage` on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
}

/// Finish reasons of a response's choices, each counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FinishReasons {
    pub stop: u32,
    pub length: u32,
    pub tool_calls: u32,
    pub content_filter: u32,
    pub other: u32,
}

/// How a request is found again in logs and traces. Printable ASCII, at most [`IDENTITY_BYTES_MAX`] each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `id` of the response.
    pub response_id: Option<Box<str>>,
    /// `x-request-id` of the request, else of the response.
    pub request_id: Option<Box<str>>,
    /// Trace id of `traceparent`.
    pub trace_id: Option<Box<str>>,
}

/// The path of a request, reduced to a bounded set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    ChatCompletions,
    Completions,
    Responses,
    Messages,
    Embeddings,
    Score,
    Rerank,
    Pooling,
    Classify,
    Audio,
    Generate,
    /// Not in latency; counted in `inferscope_http_requests_total`.
    Other(OtherRoute),
}

/// Routes that are counted only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OtherRoute {
    Health,
    Metrics,
    Models,
    Tokenize,
    Docs,
    Rest,
}

/// Every route whose requests are measured.
pub const INFERENCE_ROUTES: [Route; 11] = [
    Route::ChatCompletions,
    Route::Completions,
    Route::Responses,
    Route::Messages,
    Route::Embeddings,
    Route::Score,
    Route::Rerank,
    Route::Pooling,
    Route::Classify,
    Route::Audio,
    Route::Generate,
];

impl Route {
    /// A POST to this route is a request in latency.
    #[must_use]
    pub fn is_inference(self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// Value of the label `route`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Responses => "/v1/responses",
            Self::Messages => "/v1/messages",
            Self::Embeddings => "/v1/embeddings",
            Self::Score => "/score",
            Self::Rerank => "/rerank",
            Self::Pooling => "/pooling",
            Self::Classify => "/classify",
            Self::Audio => "/v1/audio",
            Self::Generate => "/generate",
            Self::Other(OtherRoute::Health) => "/health",
            Self::Other(OtherRoute::Metrics) => "/metrics",
            Self::Other(OtherRoute::Models) => "/v1/models",
            Self::Other(OtherRoute::Tokenize) => "/tokenize",
            Self::Other(OtherRoute::Docs) => "/docs",
            Self::Other(OtherRoute::Rest) => "other",
        }
    }
}

/// Why an open request counts as stalled: no byte has passed for the configured time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stall {
    /// The client has not sent the whole request.
    RequestUnfinished,
    /// The server has the request and has written no byte of the answer.
    NoResponse,
    /// The answer stopped in its middle.
    ResponseStopped,
    /// The client takes no more bytes.
    ClientNotReading,
    /// The server should answer, and none of its threads does anything.
    ServerIdle,
    /// The server should answer, and the thread of its sockets only computes.
    EventLoopBlocked,
}

impl Stall {
    pub const ALL: [Self; 6] = [
        Self::RequestUnfinished,
        Self::NoResponse,
        Self::ResponseStopped,
        Self::ClientNotReading,
        Self::ServerIdle,
        Self::EventLoopBlocked,
    ];

    /// Value of the label `why`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::RequestUnfinished => "request_unfinished",
            Self::NoResponse => "no_response",
            Self::ResponseStopped => "response_stopped",
            Self::ClientNotReading => "client_not_reading",
            Self::ServerIdle => "server_idle",
            Self::EventLoopBlocked => "event_loop_blocked",
        }
    }
}

/// One inference request that is under way.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenRequest {
    pub workload: Arc<Workload>,
    /// Label of its model as far as it is known.
    pub model: Arc<str>,
    pub arrival: BootTime,
    pub first_token: Option<BootTime>,
    /// As far as they passed.
    pub request_bytes: u64,
    /// The thread that read its first byte.
    pub tid: u32,
    /// Set when no byte has passed for the configured time.
    pub stalled: Option<Stall>,
}

/// Why bytes were not understood; value of the label `reason` of `inferscope_parse_failures_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParseFailure {
    /// HTTP/2 (preface, or an accepted upgrade to it).
    Http2,
    /// An accepted upgrade to another protocol.
    Upgrade,
    /// TLS inside the server: connection timing only.
    Tls,
    /// `Content-Encoding`: the bytes of the body are not text.
    ContentEncoding,
    /// A request head that is no HTTP/1, too long, answered before its end, or cut by what was not copied.
    RequestHead,
    /// The same of a response head.
    ResponseHead,
    /// Broken chunked framing.
    Chunk,
    /// A response with no request before it.
    UnexpectedResponse,
    /// An event or a body that is not the JSON it says to be.
    Json,
    /// The call's bytes could not be copied (io_uring, or a page not present).
    NoBytes,
}

impl ParseFailure {
    pub const ALL: [Self; 10] = [
        Self::Http2,
        Self::Upgrade,
        Self::Tls,
        Self::ContentEncoding,
        Self::RequestHead,
        Self::ResponseHead,
        Self::Chunk,
        Self::UnexpectedResponse,
        Self::Json,
        Self::NoBytes,
    ];

    /// Value of the label `reason`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Http2 => "http2",
            Self::Upgrade => "upgrade",
            Self::Tls => "tls",
            Self::ContentEncoding => "content_encoding",
            Self::RequestHead => "request_head",
            Self::ResponseHead => "response_head",
            Self::Chunk => "chunk",
            Self::UnexpectedResponse => "unexpected_response",
            Self::Json => "json",
            Self::NoBytes => "no_bytes",
        }
    }
}
