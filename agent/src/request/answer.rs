//! What an answer says of itself: the facts of its body, or of the events of its stream.
//!
//! In: JSON values by their path. Out: model, id, usage, finish reasons, whether there was text,
//! confidence. One table of paths for OpenAI's chat, completions and responses, Anthropic's messages,
//! llama.cpp and SGLang: their paths do not contradict each other.

use super::document::Ended;
use super::json::{Text, Token};
use super::key::Key;
use super::record::{FinishReasons, MODEL_BYTES_MAX, Usage};

/// The facts of one answer.
#[derive(Default)]
pub struct Answer {
    pub id: Option<Box<str>>,
    pub model: Option<Box<str>>,
    pub finish: FinishReasons,
    /// It holds text, reasoning, a tool call or another result.
    result: bool,
    /// Part of it was not seen.
    holed: bool,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    logprobs: Logprobs,
    document: DocumentFacts,
}

/// Facts of the document (body or event) under way.
#[derive(Clone, Copy, Default)]
struct DocumentFacts {
    delta: bool,
    error: bool,
    status: Option<Status>,
    reason: Option<Reason>,
}

/// What one document meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meaning {
    /// A content, reasoning or tool-call delta, or text.
    pub delta: bool,
    pub error: bool,
}

/// `status` of `/v1/responses`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Completed,
    Incomplete,
    Failed,
    Cancelled,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
    Other,
}

#[derive(Default)]
struct Logprobs {
    sum: f64,
    count: u64,
    /// Some are no numbers.
    missed: bool,
}

impl Answer {
    /// A value of the document under way.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a token is a reference; passing it twice removed helps nobody"
    )]
    pub fn see(&mut self, path: &[Key], token: Token<'_>) {
        match token {
            Token::Text(text) => self.text(path, &text),
            Token::Number(digits) => self.number(path, digits),
            Token::Object | Token::Array => self.container(path, matches!(token, Token::Object)),
            Token::Bool | Token::Null => {}
        }
    }

    /// The document is over.
    pub fn document_ends(&mut self, ended: Ended) -> Meaning {
        let document = std::mem::take(&mut self.document);
        self.holed |= matches!(ended, Ended::Holed | Ended::Broken);
        if let Some(status) = document.status {
            self.finished(match status {
                Status::Completed => Reason::Stop,
                Status::Incomplete => document.reason.unwrap_or(Reason::Other),
                Status::Failed | Status::Cancelled => Reason::Other,
            });
        }
        self.result |= document.delta;
        let error = document.error || document.status == Some(Status::Failed);
        Meaning { delta: document.delta, error }
    }

    /// Bytes were lost that may have held anything.
    pub fn missed(&mut self) {
        self.holed = true;
    }

    /// It was seen whole and holds no result.
    pub fn is_empty(&self) -> bool {
        !self.result && !self.holed
    }

    pub fn usage(&self) -> Option<Usage> {
        if self.prompt_tokens.is_none() && self.completion_tokens.is_none() {
            return None;
        }
        Some(Usage {
            prompt_tokens: self.prompt_tokens.unwrap_or(0),
            completion_tokens: self.completion_tokens.unwrap_or(0),
        })
    }

    /// Geometric mean probability of the tokens.
    pub fn confidence(&self) -> Option<f64> {
        let Logprobs { sum, count, missed } = self.logprobs;
        #[allow(clippy::cast_precision_loss, reason = "an answer has fewer than 2^52 tokens")]
        (count > 0 && !missed && !self.holed).then(|| (sum / count as f64).exp().min(1.0))
    }

    fn text(&mut self, path: &[Key], text: &Text<'_>) {
        use Key::{
            Arguments, Choices, Content, ContentBlock, Delta, Function, FunctionCall, Input, Item, Message,
            Name, Output, OutputItem, PartialJson, Reasoning, ReasoningContent, Refusal, Summary, Thinking,
            ToolCalls,
        };
        if text.is_empty() {
            return;
        }
        match path {
            [Choices, Item, Delta, Content | Reasoning | ReasoningContent | Refusal]
            | [Choices, Item, Delta, Content, Item, Key::Text]
            | [Choices, Item, Delta, ToolCalls, Item, Key::Id]
            | [Choices, Item, Delta, ToolCalls, Item, Function, Name | Arguments]
            | [Choices, Item, Delta, FunctionCall, Name | Arguments]
            | [Choices, Item, Key::Text]
            | [Delta]
            | [Delta, Key::Text | Thinking | PartialJson]
            | [Key::Text]
            | [Key::Text, Item] => self.document.delta = true,
            [Choices, Item, Message, Content | Reasoning | ReasoningContent | Refusal]
            | [Choices, Item, Message, Content, Item, Key::Text]
            | [Choices, Item, Message, FunctionCall, Name]
            | [ContentBlock | OutputItem, Name]
            | [Content, Item, Key::Text | Thinking | Name | Input] => self.result = true,
            _ => match within(path) {
                [Output, Item, Content, Item, Key::Text]
                | [Output, Item, Summary, Item, Key::Text]
                | [Output, Item, Name | Arguments] => self.result = true,
                path => self.named(path, text),
            },
        }
    }

    /// Texts whose value matters.
    fn named(&mut self, path: &[Key], text: &Text<'_>) {
        use Key::{
            Choices, Delta, FinishReason, Id, IncompleteDetails, Item, MetaInfo, Model, Object, RequestId,
            StopReason, Type,
        };
        let is = |expected: &str| text.decode().is_some_and(|text| text == expected);
        match path {
            [Id] | [RequestId] | [MetaInfo, Id] if self.id.is_none() => {
                self.id = text.decode().map(Into::into)
            }
            [Model] if self.model.is_none() => self.model = model_name(text),
            [Choices, Item, FinishReason]
            | [StopReason]
            | [Delta, StopReason]
            | [MetaInfo, FinishReason]
            | [MetaInfo, FinishReason, Type] => self.finished(reason(text)),
            [Key::Status] => self.document.status = status(text),
            [IncompleteDetails, Key::Reason] => self.document.reason = Some(reason(text)),
            [Object | Type] => self.document.error |= is("error"),
            [Key::Error] => self.document.error = true,
            _ => {}
        }
    }

    fn number(&mut self, path: &[Key], digits: &[u8]) {
        use Key::{
            Choices, CompletionTokens, Content, InputTokens, Item, Logprob, MetaInfo, Output, OutputTokens,
            PromptTokens, TokenIds, TokenLogprobs,
        };
        match within(path) {
            [Key::Usage, PromptTokens | InputTokens] | [MetaInfo, PromptTokens] => {
                self.prompt_tokens = number(digits).or(self.prompt_tokens);
            }
            [Key::Usage, CompletionTokens | OutputTokens] | [MetaInfo, CompletionTokens] => {
                self.completion_tokens = number(digits).or(self.completion_tokens);
            }
            [Choices, Item, Key::Logprobs, Content, Item, Logprob]
            | [Choices, Item, Key::Logprobs, TokenLogprobs, Item]
            | [Key::Logprobs, Item, Logprob]
            | [Output, Item, Content, Item, Key::Logprobs, Item, Logprob] => self.logprobs.add(digits),
            [Choices, Item, TokenIds, Item] | [Key::Data | Key::Results, Item] => self.result = true,
            _ => {}
        }
    }

    fn container(&mut self, path: &[Key], object: bool) {
        use Key::{Audio, Choices, Content, Data, Item, Message, Results, ToolCalls};
        match within(path) {
            [Key::Error] if object => self.document.error = true,
            [Choices, Item, Message, ToolCalls, Item]
            | [Choices, Item, Message, Audio]
            | [Content, Item, Key::Input]
            | [Data | Results, Item] => self.result = true,
            _ => {}
        }
    }

    fn finished(&mut self, reason: Reason) {
        let count = match reason {
            Reason::Stop => &mut self.finish.stop,
            Reason::Length => &mut self.finish.length,
            Reason::ToolCalls => &mut self.finish.tool_calls,
            Reason::ContentFilter => &mut self.finish.content_filter,
            Reason::Other => &mut self.finish.other,
        };
        *count = count.saturating_add(1);
    }
}

impl Logprobs {
    fn add(&mut self, digits: &[u8]) {
        match number::<f64>(digits) {
            Some(logprob) if logprob.is_finite() => {
                self.sum += logprob;
                self.count += 1;
            }
            _ => self.missed = true,
        }
    }
}

/// The path inside the answer that an event of `/v1/responses` or `/v1/messages` carries whole.
fn within(path: &[Key]) -> &[Key] {
    match path {
        [Key::Response | Key::Message, rest @ ..] if !rest.is_empty() => rest,
        path => path,
    }
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn reason(text: &Text<'_>) -> Reason {
    match text.decode().as_deref() {
        Some("stop" | "stop_sequence" | "end_turn") => Reason::Stop,
        Some("length" | "max_tokens" | "max_output_tokens") => Reason::Length,
        Some("tool_calls" | "tool_use" | "function_call") => Reason::ToolCalls,
        Some("content_filter" | "refusal") => Reason::ContentFilter,
        _ => Reason::Other,
    }
}

fn status(text: &Text<'_>) -> Option<Status> {
    match text.decode().as_deref() {
        Some("completed") => Some(Status::Completed),
        Some("incomplete") => Some(Status::Incomplete),
        Some("failed") => Some(Status::Failed),
        Some("cancelled") => Some(Status::Cancelled),
        _ => None,
    }
}

/// A model name that may become a label: of bounded length and without control characters.
pub fn model_name(text: &Text<'_>) -> Option<Box<str>> {
    let name = text.decode()?;
    (!name.is_empty() && name.len() <= MODEL_BYTES_MAX && !name.chars().any(char::is_control))
        .then(|| name.into())
}
