//! The JSON of events and bodies; that of `/v1/responses` and `/v1/messages` is in [`super::typed`].

use serde_json::{Value, json};

use super::typed::{Typed, messages_delta, responses_delta};
use super::{Ask, Route, Script};

/// Part of every text that the server makes up, so that a leak is found by searching for it.
pub const COMPLETION_CANARY: &str = "canary-completion-7f3a";

/// One SSE event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// As on the wire, the empty line included.
    pub text: String,
    /// Carries content, reasoning or a tool call.
    pub delta: bool,
}

/// What a delta is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Reasoning,
    Content,
    ToolCall,
}

/// The events of a streamed response, by their place in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Events {
    /// Before the first delta.
    pub opening: Vec<Event>,
    pub deltas: Vec<Event>,
    /// After the last delta, `[DONE]` last where the route has it.
    pub closing: Vec<Event>,
}

/// All events of the response to `ask`.
#[must_use]
pub fn events(script: &Script, ask: &Ask) -> Events {
    let teller = Teller { script, ask };
    let kinds = [
        (Kind::Reasoning, script.reasoning),
        (Kind::Content, script.content),
        (Kind::ToolCall, script.tool_calls),
    ];
    let kinds = kinds.into_iter().flat_map(|(kind, count)| std::iter::repeat_n(kind, count as usize));
    Events {
        opening: teller.opening(),
        deltas: kinds.enumerate().map(|(index, kind)| teller.delta(index, kind)).collect(),
        closing: teller.closing(),
    }
}

/// The body of a response that is no stream.
#[must_use]
pub fn whole_body(script: &Script, ask: &Ask) -> Vec<u8> {
    let teller = Teller { script, ask };
    if let Some(text) = &script.says {
        return teller.whole(text).to_string().into_bytes();
    }
    let bare = teller.whole("").to_string().len();
    let length = match ask.route {
        Route::Embeddings => 0,
        _ if script.deltas() == 0 => 0,
        _ => script.body_bytes.saturating_sub(bare).max(script.text_bytes),
    };
    teller.whole(&text(length)).to_string().into_bytes()
}

/// The body of an answer that is an error.
#[must_use]
pub fn error_body(status: u16) -> Vec<u8> {
    error(status).to_string().into_bytes()
}

fn error(status: u16) -> Value {
    json!({"error": {"message": "as the script says", "type": "ScriptedError", "param": null, "code": status}})
}

fn text(length: usize) -> String {
    let mut text = COMPLETION_CANARY.repeat(length / COMPLETION_CANARY.len() + 1);
    text.truncate(length);
    text
}

struct Teller<'a> {
    script: &'a Script,
    ask: &'a Ask,
}

impl Teller<'_> {
    fn id(&self) -> String {
        let prefix = match self.ask.route {
            Route::Chat => "chatcmpl",
            Route::Responses => "resp",
            Route::Messages => "msg",
            _ => "cmpl",
        };
        format!("{prefix}-{:016x}", self.ask.response_number)
    }

    fn typed(&self) -> Typed<'_> {
        let completion = self.script.completion_tokens();
        Typed { id: self.id(), ask: self.ask, finish: &self.script.finish, completion_tokens: completion }
    }

    /// All of its deltas in one.
    fn whole_text(&self) -> String {
        text(self.script.text_bytes).repeat(self.script.deltas() as usize)
    }

    fn opening(&self) -> Vec<Event> {
        match self.ask.route {
            Route::Chat if self.script.role_first => {
                vec![self.chat_event(&json!({"role": "assistant", "content": ""}), None, None, false)]
            }
            Route::Responses => self.typed().responses_opening(),
            Route::Messages => self.typed().messages_opening(),
            _ => Vec::new(),
        }
    }

    fn delta(&self, index: usize, kind: Kind) -> Event {
        let text = text(self.script.text_bytes);
        let last = index + 1 == self.script.deltas() as usize;
        // The Python front end puts the finish reason on the last delta.
        let finish = (last && !self.finishes_apart()).then_some(self.script.finish.as_str());
        let usage = self.ask.continuous_usage.then(|| self.usage_at(index as u64 + 1));
        match self.ask.route {
            Route::Responses => responses_delta(&text),
            Route::Messages => messages_delta(kind, &text),
            Route::Completions => self.completion_event(&text, finish, usage.as_ref(), true),
            _ => {
                let delta = match kind {
                    Kind::Reasoning => json!({"reasoning_content": text}),
                    Kind::Content => json!({"content": text}),
                    Kind::ToolCall => json!({"tool_calls": [{"index": 0, "function": {"arguments": text}}]}),
                };
                self.chat_event(&delta, finish, usage.as_ref(), true)
            }
        }
    }

    fn closing(&self) -> Vec<Event> {
        let usage = self.usage_at(u64::from(self.script.deltas()));
        let mut closing = match self.ask.route {
            Route::Responses => self.typed().responses_closing(&self.whole_text()),
            Route::Messages => self.typed().messages_closing(),
            _ => self.openai_closing(&usage),
        };
        if self.script.ending == super::Ending::ErrorEvent {
            closing = vec![plain(&error(500), false)];
        }
        if matches!(self.ask.route, Route::Chat | Route::Completions) {
            closing.push(Event { text: "data: [DONE]\n\n".to_owned(), delta: false });
        }
        closing
    }

    fn openai_closing(&self, usage: &Value) -> Vec<Event> {
        let mut closing = Vec::new();
        if self.finishes_apart() {
            let finish = Some(self.script.finish.as_str());
            closing.push(match self.ask.route {
                Route::Completions => self.completion_event("", finish, None, false),
                _ => self.chat_event(&json!({}), finish, None, false),
            });
        }
        let wanted = match self.script.usage {
            super::Usage::AsAsked => self.ask.usage,
            super::Usage::Never => false,
            super::Usage::Always => true,
        };
        if wanted {
            closing.push(plain(&self.openai(&json!([]), Some(usage)), false));
        }
        closing
    }

    fn finishes_apart(&self) -> bool {
        self.script.front_end == super::FrontEnd::Rust || self.script.deltas() == 0
    }

    fn usage_at(&self, events: u64) -> Value {
        let completion = events * u64::from(self.script.tokens_per_event);
        let prompt = self.ask.prompt_tokens;
        json!({"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion})
    }

    fn openai(&self, choices: &Value, usage: Option<&Value>) -> Value {
        let object = if self.ask.route == Route::Chat { "chat.completion.chunk" } else { "text_completion" };
        let mut value = json!({"id": self.id(), "object": object, "created": 1_700_000_000, "model": self.ask.model, "choices": choices});
        if let Some(usage) = usage {
            value["usage"] = usage.clone();
        }
        value
    }

    fn chat_event(&self, delta: &Value, finish: Option<&str>, usage: Option<&Value>, counts: bool) -> Event {
        let logprobs = if counts && self.ask.logprobs {
            self.chat_logprobs(self.script.tokens_per_event)
        } else {
            Value::Null
        };
        let choice = json!({"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish});
        plain(&self.openai(&json!([choice]), usage), counts)
    }

    fn completion_event(
        &self,
        text: &str,
        finish: Option<&str>,
        usage: Option<&Value>,
        counts: bool,
    ) -> Event {
        let logprobs = if counts && self.ask.logprobs {
            self.text_logprobs(self.script.tokens_per_event)
        } else {
            Value::Null
        };
        let choice = json!({"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish});
        plain(&self.openai(&json!([choice]), usage), counts)
    }

    /// Log probabilities that differ from token to token and are the same in every run.
    fn logprob(&self, token: u32) -> f64 {
        -0.05 * f64::from(1 + (token + self.ask.response_number as u32) % 7)
    }

    fn chat_logprobs(&self, tokens: u32) -> Value {
        let tokens: Vec<_> = (0..tokens)
            .map(|token| json!({"token": text(4), "logprob": self.logprob(token), "bytes": [99, 97, 110], "top_logprobs": []}))
            .collect();
        json!({"content": tokens})
    }

    fn text_logprobs(&self, tokens: u32) -> Value {
        let logprobs: Vec<_> = (0..tokens).map(|token| self.logprob(token)).collect();
        json!({"tokens": vec![text(4); logprobs.len()], "token_logprobs": logprobs, "top_logprobs": null, "text_offset": []})
    }

    fn whole(&self, text: &str) -> Value {
        let usage = self.usage_at(u64::from(self.script.deltas()));
        let tokens = u32::try_from(self.script.completion_tokens()).unwrap_or(u32::MAX);
        let finish = &self.script.finish;
        let with_logprobs = self.ask.logprobs && tokens > 0;
        match self.ask.route {
            Route::Chat => {
                let logprobs = if with_logprobs { self.chat_logprobs(tokens) } else { Value::Null };
                let message = json!({"role": "assistant", "content": text});
                json!({"id": self.id(), "object": "chat.completion", "created": 1_700_000_000, "model": self.ask.model,
                    "choices": [{"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}], "usage": usage})
            }
            Route::Responses => self.typed().responses_whole(text),
            Route::Messages => self.typed().messages_whole(text),
            Route::Embeddings => {
                let numbers = vec![0.123_456_7; (self.script.body_bytes / 10).max(3)];
                json!({"id": self.id(), "object": "list", "model": self.ask.model, "data": [{"object": "embedding", "index": 0, "embedding": numbers}],
                    "usage": {"prompt_tokens": self.ask.prompt_tokens, "total_tokens": self.ask.prompt_tokens, "completion_tokens": 0}})
            }
            _ => {
                let logprobs = if with_logprobs { self.text_logprobs(tokens) } else { Value::Null };
                json!({"id": self.id(), "object": "text_completion", "created": 1_700_000_000, "model": self.ask.model,
                    "choices": [{"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish}], "usage": usage})
            }
        }
    }
}

fn plain(value: &Value, delta: bool) -> Event {
    Event { text: format!("data: {value}\n\n"), delta }
}
