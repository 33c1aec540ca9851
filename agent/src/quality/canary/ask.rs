//! What is sent for a question: one token of an answer, with the alternatives to it.
//!
//! In: a question. Out: a route and a body. The prompt is MMLU's, without examples.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::questions::{Question, letter};
use super::settings::Settings;

/// Routes that can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    Completions,
    Chat,
}

impl Route {
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Completions => "/v1/completions",
            Self::Chat => "/v1/chat/completions",
        }
    }
}

/// The text of a question, to be answered by a letter.
#[must_use]
pub fn prompt(question: &Question) -> String {
    let mut text =
        format!("The following are multiple choice questions (with answers).\n\n{}\n", question.text.trim());
    for (index, choice) in question.choices.iter().enumerate() {
        // Writing to a text does not fail.
        let _ = writeln!(text, "{}. {}", letter(index), choice.trim());
    }
    text + "Answer:"
}

/// The request's body.
#[must_use]
pub fn body(question: &Question, model: &str, settings: &Settings) -> String {
    let (prompt, seed, logprobs) = (prompt(question), settings.seed, settings.logprobs);
    let body = match settings.route {
        Route::Completions => json!({
            "model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "seed": seed,
            "logprobs": logprobs, "stream": false,
        }),
        Route::Chat => json!({
            "model": model, "messages": [{ "role": "user", "content": prompt }], "max_tokens": 1,
            "temperature": 0, "seed": seed, "logprobs": true, "top_logprobs": logprobs, "stream": false,
        }),
    };
    body.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_asked_for_one_token_with_its_alternatives() {
        let question =
            Question { text: " 1 + 1? ".to_owned(), choices: vec!["1".to_owned(), "2".to_owned()], right: 1 };
        let prompt =
            "The following are multiple choice questions (with answers).\n\n1 + 1?\nA. 1\nB. 2\nAnswer:";
        for (route, place) in [(Route::Completions, "/prompt"), (Route::Chat, "/messages/0/content")] {
            let settings = Settings { route, ..Settings::default() };
            let body: serde_json::Value = serde_json::from_str(&body(&question, "m", &settings)).unwrap();
            assert_eq!(body.pointer(place).unwrap(), prompt);
            assert_eq!(
                (&body["max_tokens"], &body["temperature"], &body["stream"]),
                (&1.into(), &0.into(), &false.into())
            );
        }
    }
}
