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
    /// It has a `text`, which is a delta unless it has a `type` too: `response.output_text.done` repeats all.
    text: bool,
    typed: bool,
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
        self.result |= document.delta || document.text;
        let delta = document.delta || document.text && !document.typed;
        let error = document.error || document.status == Some(Status::Failed);
        Meaning { delta, error }
    }

    /// Bytes were lost that may have held anything.
    pub fn missed(&mut self) {
        self.holed = true;
    }

    /// The document under way was lost, with its end: what follows is another.
    pub fn document_lost(&mut self) {
        self.missed();
        self.document = Default::default();
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
            | [Delta, Key::Text | Thinking | PartialJson] => self.document.delta = true,
            [Key::Text] | [Key::Text, Item] => self.document.text = true,
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
        match path {
            [Id] | [RequestId] | [MetaInfo, Id] if self.id.is_none() => {
                self.id = text.decode().map(Into::into);
            }
            [Model] if self.model.is_none() => self.model = model_name(text),
            [Choices, Item, FinishReason]
            | [StopReason]
            | [Delta, StopReason]
            | [MetaInfo, FinishReason]
            | [MetaInfo, FinishReason, Type] => self.finished(reason(text)),
            [Key::Status] => self.document.status = status(text),
            [IncompleteDetails, Key::Reason] => self.document.reason = Some(reason(text)),
            [Object] => self.document.error |= text.is("error"),
            [Type] => {
                self.document.typed = true;
                self.document.error |= text.is("error");
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::document::Document;

    fn read(documents: &[&str]) -> (Answer, Meaning) {
        let mut answer = Answer::default();
        let mut meaning = Meaning::default();
        for json in documents {
            let mut document = Document::new();
            document.feed(json.as_bytes(), &mut |path, token| answer.see(path, token));
            let ended = document.end(&mut |path, token| answer.see(path, token));
            assert_eq!(ended, Ended::Whole, "{json}");
            meaning = answer.document_ends(ended);
        }
        (answer, meaning)
    }

    fn check_delta(event: &str, expected: bool) {
        assert_eq!(read(&[event]).1, Meaning { delta: expected, error: false }, "{event}");
    }

    fn check_error(event: &str, expected: bool) {
        assert_eq!(read(&[event]).1.error, expected, "{event}");
    }

    fn check_empty(body: &str, expected: bool) {
        assert_eq!(read(&[body]).0.is_empty(), expected, "{body}");
    }

    #[test]
    fn chat_deltas_are_content_reasoning_and_tool_calls() {
        let chat = |delta: &str, expected| {
            check_delta(&format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#), expected);
        };
        chat(r#"{"content":"a"}"#, true);
        chat(r#"{"reasoning":"a"}"#, true);
        chat(r#"{"reasoning_content":"a"}"#, true);
        chat(r#"{"content":[{"type":"text","text":"a"}]}"#, true);
        chat(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}"#, true);
        chat(r#"{"tool_calls":[{"index":0,"id":"call_1","function":{"name":"f","arguments":""}}]}"#, true);
        chat(r#"{"role":"assistant","content":""}"#, false);
        chat(r#"{"role":"assistant","content":null,"tool_calls":[]}"#, false);
        chat(r#"{"tool_calls":[{"index":0,"function":{"arguments":""}}]}"#, false);
        chat("{}", false);
        check_delta(r#"{"choices":[],"usage":{"prompt_tokens":1}}"#, false);
    }

    #[test]
    fn completions_have_text() {
        check_delta(r#"{"choices":[{"index":0,"text":"a"}]}"#, true);
        check_delta(r#"{"choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#, false);
    }

    #[test]
    fn responses_have_delta_events() {
        check_delta(r#"{"type":"response.output_text.delta","delta":"a"}"#, true);
        check_delta(r#"{"type":"response.reasoning_text.delta","delta":"a"}"#, true);
        check_delta(r#"{"type":"response.function_call_arguments.delta","delta":"{"}"#, true);
        check_delta(r#"{"type":"response.output_text.delta","delta":""}"#, false);
        check_delta(r#"{"type":"response.output_text.done","text":"a"}"#, false);
        check_delta(r#"{"text":"a","type":"response.reasoning_text.done"}"#, false);
        check_delta(
            r#"{"type":"response.completed","response":{"status":"completed","output":[{"content":[{"text":"a"}]}]}}"#,
            false,
        );
    }

    #[test]
    fn messages_have_text_thinking_and_input_deltas() {
        let message = |delta: &str, expected| {
            check_delta(&format!(r#"{{"type":"content_block_delta","delta":{delta}}}"#), expected);
        };
        message(r#"{"type":"text_delta","text":"a"}"#, true);
        message(r#"{"type":"thinking_delta","thinking":"a"}"#, true);
        message(r#"{"type":"input_json_delta","partial_json":"{"}"#, true);
        message(r#"{"type":"input_json_delta","partial_json":""}"#, false);
        message(r#"{"type":"signature_delta","signature":"x"}"#, false);
        check_delta(r#"{"type":"content_block_start","content_block":{"type":"text","text":""}}"#, false);
    }

    #[test]
    fn generate_has_text() {
        check_delta(r#"{"text":"a","meta_info":{"id":"1"}}"#, true);
        check_delta(r#"{"text":["a"]}"#, true);
        check_delta(r#"{"text":"","meta_info":{"finish_reason":{"type":"stop"}}}"#, false);
    }

    #[test]
    fn errors_in_a_stream_are_told_from_null() {
        check_error(r#"{"error":{"message":"m","code":500}}"#, true);
        check_error(r#"{"error":"m"}"#, true);
        check_error(r#"{"object":"error","message":"m"}"#, true);
        check_error(r#"{"type":"error","error":{"type":"overloaded_error"}}"#, true);
        check_error(
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"x"}}}"#,
            true,
        );
        check_error(r#"{"type":"response.created","response":{"status":"in_progress","error":null}}"#, false);
        check_error(r#"{"error":null,"choices":[{"delta":{"content":"error"}}]}"#, false);
    }

    fn check_finish(documents: &[&str], expected: FinishReasons) {
        assert_eq!(read(documents).0.finish, expected, "{documents:?}");
    }

    #[test]
    fn finish_reasons_of_every_wire_format_are_counted() {
        let none = FinishReasons::default();
        check_finish(
            &[r#"{"choices":[{"finish_reason":"stop"},{"finish_reason":"length"},{"finish_reason":null}]}"#],
            FinishReasons { stop: 1, length: 1, ..none },
        );
        check_finish(
            &[r#"{"choices":[{"finish_reason":"abort","stop_reason":"stop"}]}"#],
            FinishReasons { other: 1, ..none },
        );
        check_finish(
            &[r#"{"type":"message","stop_reason":"tool_use"}"#],
            FinishReasons { tool_calls: 1, ..none },
        );
        check_finish(
            &[
                r#"{"type":"message_start","message":{"stop_reason":null}}"#,
                r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"}}"#,
            ],
            FinishReasons { length: 1, ..none },
        );
        check_finish(
            &[r#"{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}"#],
            FinishReasons { length: 1, ..none },
        );
        check_finish(
            &[r#"{"response":{"status":"in_progress"}}"#, r#"{"response":{"status":"completed"}}"#],
            FinishReasons { stop: 1, ..none },
        );
        check_finish(
            &[r#"{"text":"a","meta_info":{"finish_reason":{"type":"length","length":8}}}"#],
            FinishReasons { length: 1, ..none },
        );
    }

    fn check_usage(documents: &[&str], expected: Option<(u64, u64)>) {
        let usage =
            expected.map(|(prompt_tokens, completion_tokens)| Usage { prompt_tokens, completion_tokens });
        assert_eq!(read(documents).0.usage(), usage, "{documents:?}");
    }

    #[test]
    fn usage_is_the_last_on_the_wire() {
        check_usage(&[r#"{"usage":null}"#], None);
        check_usage(
            &[r#"{"usage":{"prompt_tokens":9,"total_tokens":13,"completion_tokens":4}}"#],
            Some((9, 4)),
        );
        check_usage(&[r#"{"data":[],"usage":{"prompt_tokens":9,"total_tokens":9}}"#], Some((9, 0)));
        check_usage(
            &[
                r#"{"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1}}}"#,
                r#"{"type":"message_delta","usage":{"output_tokens":4}}"#,
            ],
            Some((9, 4)),
        );
        check_usage(&[r#"{"response":{"usage":{"input_tokens":9,"output_tokens":4}}}"#], Some((9, 4)));
        check_usage(&[r#"{"text":"a","meta_info":{"prompt_tokens":9,"completion_tokens":4}}"#], Some((9, 4)));
        check_usage(&[r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":9}"}}]}"#], None);
    }

    #[test]
    fn answers_without_any_result_are_empty() {
        check_empty(
            r#"{"choices":[{"message":{"role":"assistant","content":""},"finish_reason":"stop"}]}"#,
            true,
        );
        check_empty(r#"{"choices":[{"message":{"content":null,"reasoning":null,"tool_calls":[]}}]}"#, true);
        check_empty(r#"{"choices":[{"message":{"content":"a"}}]}"#, false);
        check_empty(r#"{"choices":[{"message":{"content":null,"reasoning_content":"a"}}]}"#, false);
        check_empty(r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"1"}]}}]}"#, false);
        check_empty(r#"{"choices":[{"text":""}]}"#, true);
        check_empty(r#"{"content":[]}"#, true);
        check_empty(r#"{"content":[{"type":"tool_use","input":{}}]}"#, false);
        check_empty(r#"{"output":[{"type":"message","content":[{"text":""}]}]}"#, true);
        check_empty(r#"{"output":[{"type":"message","content":[{"text":"a"}]}]}"#, false);
        check_empty(r#"{"output":[{"type":"function_call","name":"f"}]}"#, false);
        check_empty(r#"{"data":[]}"#, true);
        check_empty(r#"{"data":[{"embedding":[0.5]}]}"#, false);
        check_empty(r#"{"results":[{"index":0}]}"#, false);
        check_empty(r#"{"text":"a"}"#, false);
    }

    fn check_confidence(body: &str, expected: Option<f64>) {
        let confidence = read(&[body]).0.confidence();
        let close = match (confidence, expected) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-12,
            (a, b) => a == b,
        };
        assert!(close, "{confidence:?} of {body}");
    }

    #[test]
    fn confidence_is_the_geometric_mean_of_the_tokens() {
        let (half, eighth) = (0.5_f64.ln(), 0.125_f64.ln());
        check_confidence(
            &format!(
                r#"{{"choices":[{{"logprobs":{{"content":[{{"token":"a","logprob":{half},"top_logprobs":[{{"logprob":-9}}]}},{{"logprob":{eighth}}}]}}}}]}}"#
            ),
            Some(0.25),
        );
        check_confidence(
            &format!(r#"{{"choices":[{{"logprobs":{{"token_logprobs":[null,{half}]}}}}]}}"#),
            Some(0.5),
        );
        check_confidence(r#"{"choices":[{"logprobs":null}]}"#, None);
        check_confidence(r#"{"choices":[{"logprobs":{"token_logprobs":[-1,-Infinity]}}]}"#, None);
    }

    #[test]
    fn model_and_id_are_those_of_the_answer() {
        for (body, expected) in [
            (r#"{"id":"i","model":"m"}"#, (Some("i"), Some("m"))),
            (r#"{"type":"message_start","message":{"id":"i","model":"m"}}"#, (Some("i"), Some("m"))),
            (r#"{"type":"response.created","response":{"id":"i","model":"m"}}"#, (Some("i"), Some("m"))),
            (r#"{"meta_info":{"id":"i"}}"#, (Some("i"), None)),
            (r#"{"choices":[{"id":"no","model":"no","message":{"model":"no"}}]}"#, (None, None)),
            (r#"{"id":1,"model":"a\u0000b"}"#, (None, None)),
        ] {
            let answer = read(&[body]).0;
            assert_eq!((answer.id.as_deref(), answer.model.as_deref()), expected, "{body}");
        }
    }
}
