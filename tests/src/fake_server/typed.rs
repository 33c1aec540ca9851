//! The dialects whose events say their type: `/v1/responses` and `/v1/messages`, field by field as the
//! real server writes them. Events after the last delta repeat the text, and must not count again.

use serde_json::{Value, json};

use super::Ask;
use super::event::{Event, Kind};

/// What such an answer says beside its deltas.
pub(super) struct Typed<'a> {
    pub(super) id: String,
    pub(super) ask: &'a Ask,
    pub(super) finish: &'a str,
    pub(super) completion_tokens: u64,
}

impl Typed<'_> {
    pub(super) fn responses_opening(&self) -> Vec<Event> {
        let response = self.response(&json!([]), "in_progress");
        let part = json!({"annotations": [], "text": "", "type": "output_text", "logprobs": []});
        vec![
            named("response.created", &json!({"response": response})),
            named("response.in_progress", &json!({"response": response})),
            named("response.output_item.added", &json!({"item": item(&json!([])), "output_index": 0})),
            named(
                "response.content_part.added",
                &json!({"content_index": 0, "item_id": "msg_0", "part": part}),
            ),
        ]
    }

    pub(super) fn responses_closing(&self, text: &str) -> Vec<Event> {
        let part = json!({"annotations": [], "text": text, "type": "output_text", "logprobs": null});
        let item = item(&json!([part]));
        let mut response = self.response(&json!([item]), "completed");
        response["usage"] = self.usage();
        vec![
            named(
                "response.output_text.done",
                &json!({"content_index": 0, "item_id": "msg_0", "text": text}),
            ),
            named(
                "response.content_part.done",
                &json!({"content_index": 0, "item_id": "msg_0", "part": part}),
            ),
            named("response.output_item.done", &json!({"item": item, "output_index": 0})),
            named("response.completed", &json!({"response": response})),
        ]
    }

    pub(super) fn responses_whole(&self, text: &str) -> Value {
        let part = json!({"annotations": [], "text": text, "type": "output_text", "logprobs": null});
        let output = if text.is_empty() { json!([]) } else { json!([item(&json!([part]))]) };
        let mut response = self.response(&output, "completed");
        response["usage"] = self.usage();
        response
    }

    pub(super) fn messages_opening(&self) -> Vec<Event> {
        let mut message = self.message("");
        message["usage"]["output_tokens"] = json!(0);
        message["stop_reason"] = Value::Null;
        let block = json!({"type": "text", "text": ""});
        vec![
            named("message_start", &json!({"message": message})),
            named("content_block_start", &json!({"content_block": block, "index": 0})),
        ]
    }

    pub(super) fn messages_closing(&self) -> Vec<Event> {
        let delta = json!({"stop_reason": self.finish, "stop_sequence": null});
        vec![
            named("content_block_stop", &json!({"index": 0})),
            named("message_delta", &json!({"delta": delta, "usage": self.usage()})),
            named("message_stop", &json!({})),
        ]
    }

    pub(super) fn messages_whole(&self, text: &str) -> Value {
        self.message(text)
    }

    fn response(&self, output: &Value, status: &str) -> Value {
        json!({
            "id": self.id, "created_at": 1_700_000_000, "model": self.ask.model, "object": "response",
            "output": output, "status": status, "text": null, "usage": null,
        })
    }

    fn message(&self, text: &str) -> Value {
        let content = if text.is_empty() { json!([]) } else { json!([{"type": "text", "text": text}]) };
        json!({
            "id": self.id, "type": "message", "role": "assistant", "content": content,
            "model": self.ask.model, "stop_reason": self.finish, "usage": self.usage(),
        })
    }

    fn usage(&self) -> Value {
        json!({"input_tokens": self.ask.prompt_tokens, "output_tokens": self.completion_tokens})
    }
}

pub(super) fn responses_delta(text: &str) -> Event {
    let kind = "response.output_text.delta";
    let delta = json!({"content_index": 0, "delta": text, "item_id": "msg_0", "logprobs": []});
    Event { delta: true, ..named(kind, &delta) }
}

pub(super) fn messages_delta(kind: Kind, text: &str) -> Event {
    let delta = match kind {
        Kind::Reasoning => json!({"type": "thinking_delta", "thinking": text}),
        Kind::Content => json!({"type": "text_delta", "text": text}),
        Kind::ToolCall => json!({"type": "input_json_delta", "partial_json": text}),
    };
    Event { delta: true, ..named("content_block_delta", &json!({"delta": delta, "index": 0})) }
}

fn item(content: &Value) -> Value {
    json!({"id": "msg_0", "content": content, "role": "assistant", "status": "completed", "type": "message"})
}

fn named(name: &str, value: &Value) -> Event {
    let mut value = value.clone();
    value["type"] = json!(name);
    Event { text: format!("event: {name}\ndata: {value}\n\n"), delta: false }
}
