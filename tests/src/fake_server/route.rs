//! What a request asks for, as far as the answer depends on it.

use serde::Deserialize;
use serde_json::Value;

use crate::transcript::RequestHead;

/// The routes that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Chat,
    Completions,
    Responses,
    Messages,
    Embeddings,
    Health,
    Metrics,
    Models,
    /// What the server did so far, one JSON object a line.
    Log,
    Unknown,
}

impl Route {
    fn of(head: &RequestHead) -> Self {
        match (head.method.as_str(), head.path.as_str()) {
            ("POST", "/v1/chat/completions") => Self::Chat,
            ("POST", "/v1/completions") => Self::Completions,
            ("POST", "/v1/responses") => Self::Responses,
            ("POST", "/v1/messages") => Self::Messages,
            ("POST", "/v1/embeddings") => Self::Embeddings,
            ("GET", "/health") => Self::Health,
            ("GET", "/metrics") => Self::Metrics,
            ("GET", "/v1/models") => Self::Models,
            ("GET", "/__script/log") => Self::Log,
            _ => Self::Unknown,
        }
    }

    /// May answer with a stream.
    #[must_use]
    pub fn is_streamed(self) -> bool {
        self.is_scripted() && self != Self::Embeddings
    }

    /// Follows a script; the others answer at once.
    #[must_use]
    pub fn is_scripted(self) -> bool {
        matches!(self, Self::Chat | Self::Completions | Self::Responses | Self::Messages | Self::Embeddings)
    }
}

/// The fields that matter; the prompt, which may be long, is passed over.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    model: Option<String>,
    stream: bool,
    stream_options: StreamOptions,
    logprobs: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct StreamOptions {
    include_usage: bool,
    continuous_usage_stats: bool,
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    pub route: Route,
    pub model: String,
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub usage: bool,
    /// `stream_options.continuous_usage_stats`.
    pub continuous_usage: bool,
    pub logprobs: bool,
    /// A guess from the length, which is all that a script needs.
    pub prompt_tokens: u64,
    /// Names the response, so that it is found in every log.
    pub response_number: u64,
}

impl Ask {
    /// Reads a request; a body that is no JSON asks for nothing special.
    #[must_use]
    pub fn new(head: &RequestHead, body: &[u8], response_number: u64) -> Self {
        let fields: Fields = serde_json::from_slice(body).unwrap_or_default();
        Self {
            route: Route::of(head),
            model: fields.model.unwrap_or_else(|| "demo".to_owned()),
            stream: fields.stream,
            usage: fields.stream_options.include_usage,
            continuous_usage: fields.stream_options.continuous_usage_stats,
            logprobs: fields.logprobs == Value::Bool(true) || fields.logprobs.is_u64(),
            prompt_tokens: (body.len() as u64 / 4).max(1),
            response_number,
        }
    }
}
