//! Bodies of requests.

use serde_json::{Value, json};

/// Part of every prompt, so that a leak is found by searching for it.
pub const PROMPT_CANARY: &str = "canary-prompt-51c9";
/// In a header of every request, for the same.
pub const HEADER_CANARY: &str = "canary-header-d206";

/// What the body of a request says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    pub model: String,
    /// The model's name stands before the messages; many clients write it after.
    pub model_first: bool,
    pub bytes: usize,
    pub max_tokens: u32,
    /// The server is not asked to cut it to what any model takes.
    pub whole: bool,
    pub stream: bool,
    pub usage: bool,
    pub continuous_usage: bool,
    pub logprobs: bool,
}

impl Prompt {
    /// The JSON body for `path`.
    #[must_use]
    pub fn body(&self, path: &str) -> Vec<u8> {
        let mut fields = self.fields(path);
        let map = fields.as_object_mut().expect("the fields are an object");
        if self.stream {
            map.insert("stream".to_owned(), json!(true));
        }
        if self.stream && self.usage && (path == "/v1/chat/completions" || path == "/v1/completions") {
            let options = json!({"include_usage": true, "continuous_usage_stats": self.continuous_usage});
            map.insert("stream_options".to_owned(), options);
        }
        let rest = fields.to_string();
        let model = Value::from(self.model.as_str());
        let body = if self.model_first {
            format!("{{\"model\":{model},{}", &rest[1..])
        } else {
            format!("{},\"model\":{model}}}", &rest[..rest.len() - 1])
        };
        body.into_bytes()
    }

    fn fields(&self, path: &str) -> Value {
        let (text, tokens) = (self.text(), self.max_tokens);
        let messages = json!([{"role": "user", "content": text}]);
        match path {
            "/v1/chat/completions" => {
                let mut fields = self.sampled(json!({"messages": messages}));
                if self.logprobs {
                    fields["logprobs"] = json!(true);
                }
                fields
            }
            "/v1/completions" => {
                let mut fields = self.sampled(json!({"prompt": text}));
                if self.logprobs {
                    fields["logprobs"] = json!(1);
                }
                fields
            }
            "/v1/responses" => json!({"input": text, "max_output_tokens": tokens}),
            "/v1/messages" => json!({"messages": messages, "max_tokens": tokens}),
            _ => json!({"input": text}),
        }
    }

    /// What vLLM needs to answer at length whatever its model says, and to take prompts of any size.
    fn sampled(&self, mut fields: Value) -> Value {
        fields["max_tokens"] = json!(self.max_tokens);
        fields["ignore_eos"] = json!(true);
        if !self.whole {
            fields["truncate_prompt_tokens"] = json!(1000);
        }
        fields
    }

    /// Text that looks like protocol here and there, which must mean nothing.
    fn text(&self) -> String {
        let line =
            format!("{PROMPT_CANARY} data: {{\"usage\":{{\"prompt_tokens\":7}}}}\n\nHTTP/1.1 500 Oops ");
        let mut text = line.repeat(self.bytes / line.len() + 1);
        text.truncate(self.bytes.max(PROMPT_CANARY.len()));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_wherever_the_model_stands() {
        for path in
            ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings"]
        {
            for model_first in [false, true] {
                let prompt = Prompt {
                    model: "m\"x".to_owned(),
                    model_first,
                    bytes: 900,
                    stream: true,
                    usage: true,
                    ..Prompt::default()
                };
                let body: Value = serde_json::from_slice(&prompt.body(path)).unwrap();
                assert_eq!(body["model"], "m\"x");
                assert_eq!(body["stream"], true);
            }
        }
    }
}
