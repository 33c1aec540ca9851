//! What an SSE event or a whole body says: deltas, model, usage, finish reasons, errors.

use serde_json::Value;

/// Routes whose POSTs count as requests in latency.
const INFERENCE_ROUTES: [&str; 10] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/score",
    "/rerank",
    "/pooling",
    "/classify",
    "/generate",
];

/// What one event or body says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meaning {
    /// Content, reasoning or a tool call.
    pub delta: bool,
    pub error: bool,
    pub model: Option<String>,
    pub id: Option<String>,
    /// Prompt and completion tokens.
    pub usage: Option<(u64, u64)>,
    pub finish: Vec<String>,
    /// Natural logarithms of the probabilities of its tokens.
    pub logprobs: Vec<f64>,
}

/// Whether POSTs to `path` are requests in latency.
#[must_use]
pub fn is_inference(path: &str) -> bool {
    INFERENCE_ROUTES.contains(&path) || path.starts_with("/v1/audio/")
}

/// Reads the data of one SSE event.
#[must_use]
pub fn event_meaning(data: &str) -> Meaning {
    let Ok(value) = serde_json::from_str::<Value>(data) else { return Meaning::default() };
    let kind = value["type"].as_str().unwrap_or_default();
    let mut meaning = common(&value);
    meaning.delta = choices(&value).any(|choice| says(&choice["delta"]) || non_empty(&choice["text"]))
        || (kind.ends_with(".delta") && non_empty(&value["delta"]))
        || (kind == "content_block_delta"
            && ["text", "thinking", "partial_json"].iter().any(|key| non_empty(&value["delta"][key])));
    meaning
}

/// Reads a body that is not a stream.
#[must_use]
pub fn whole_meaning(body: &[u8]) -> Meaning {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return Meaning::default() };
    let mut meaning = common(&value);
    meaning.delta = choices(&value).any(|choice| says(&choice["message"]) || non_empty(&choice["text"]))
        || ["output", "content", "data", "results"].iter().any(|key| non_empty(&value[key]));
    meaning
}

fn common(value: &Value) -> Meaning {
    let inner = [value, &value["response"], &value["message"]];
    let text = |key: &str| inner.iter().find_map(|part| part[key].as_str()).map(str::to_owned);
    Meaning {
        delta: false,
        error: value["error"].is_object() || value["type"] == "error",
        model: text("model"),
        id: text("id"),
        usage: inner.iter().find_map(|part| usage(&part["usage"])),
        finish: choices(value)
            .map(|choice| &choice["finish_reason"])
            .chain([&value["delta"]["stop_reason"], &value["stop_reason"]])
            .filter_map(|reason| reason.as_str().map(str::to_owned))
            .collect(),
        logprobs: choices(value).flat_map(|choice| logprobs(&choice["logprobs"])).collect(),
    }
}

fn choices(value: &Value) -> impl Iterator<Item = &Value> {
    value["choices"].as_array().into_iter().flatten()
}

fn says(delta: &Value) -> bool {
    ["content", "reasoning", "reasoning_content", "tool_calls"].iter().any(|key| non_empty(&delta[key]))
}

fn non_empty(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
        || value.as_array().is_some_and(|items| !items.is_empty())
}

fn usage(value: &Value) -> Option<(u64, u64)> {
    let number = |keys: [&str; 2]| keys.iter().find_map(|key| value[*key].as_u64());
    let prompt = number(["prompt_tokens", "input_tokens"])?;
    Some((prompt, number(["completion_tokens", "output_tokens"]).unwrap_or(0)))
}

fn logprobs(value: &Value) -> Vec<f64> {
    if let Some(tokens) = value["content"].as_array() {
        return tokens.iter().filter_map(|token| token["logprob"].as_f64()).collect();
    }
    value["token_logprobs"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_a_delta() {
        let check = |data: &str, expected: bool| {
            assert_eq!(event_meaning(data).delta, expected, "{data}");
        };
        check(r#"{"choices":[{"delta":{"content":"a"}}]}"#, true);
        check(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#, false);
        check(r#"{"choices":[{"delta":{"reasoning_content":"a"}}]}"#, true);
        check(r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#, true);
        check(r#"{"choices":[{"delta":{"tool_calls":[]}}]}"#, false);
        check(r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, false);
        check(r#"{"choices":[{"text":"a"}]}"#, true);
        check(r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#, false);
        check(r#"{"type":"response.output_text.delta","delta":"a"}"#, true);
        check(r#"{"type":"response.output_text.done","text":"a"}"#, false);
        check(r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"a"}}"#, true);
        check("[DONE]", false);
    }

    #[test]
    fn usage_of_every_dialect() {
        let check = |data: &str| assert_eq!(event_meaning(data).usage, Some((1, 2)), "{data}");
        check(r#"{"usage":{"prompt_tokens":1,"completion_tokens":2}}"#);
        check(r#"{"type":"response.completed","response":{"usage":{"input_tokens":1,"output_tokens":2}}}"#);
        check(r#"{"type":"message_start","message":{"usage":{"input_tokens":1,"output_tokens":2}}}"#);
    }
}
