//! Which choice did the server pick, and how sure was it?
//!
//! In: the body of an answer. Out: an [`Answer`]. The probabilities of all tokens that are a choice's letter are summed; the
//! choice that has most is picked, and its confidence is its part of what all choices have. Where an answer has no
//! alternatives, the text is the choice. Where no letter is among them it is unanswered.

use serde::Deserialize;
use std::collections::BTreeMap;

use super::questions::letter;

/// Longest answer: thousands of alternatives of one token.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// Index of the choice; `None` where it was none.
    pub picked: Option<usize>,
    /// 0 to 1, where alternatives were told.
    pub confidence: Option<f64>,
    /// Of question and answer, as the server counts them.
    pub tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Body {
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: u64,
}

#[derive(Deserialize)]
struct Choice {
    text: Option<String>,
    message: Option<Message>,
    logprobs: Option<Logprobs>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Logprobs {
    /// Of completions: by token.
    top_logprobs: Option<Vec<Option<BTreeMap<String, f64>>>>,
    /// Of chats.
    content: Option<Vec<Token>>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    top_logprobs: Vec<Alternative>,
}

#[derive(Deserialize)]
struct Alternative {
    token: String,
    logprob: f64,
}

/// Reads the answer to a question with so many choices.
///
/// # Errors
/// It is no answer of such a server.
pub fn read(bytes: &[u8], choices: usize) -> Result<Answer, String> {
    let body: Body = serde_json::from_slice(bytes).map_err(|error| format!("it is no answer: {error}"))?;
    let tokens = body.usage.map(|usage| usage.total_tokens);
    let Some(choice) = body.choices.into_iter().next() else { return Err("it has no choice".to_owned()) };
    let mut mass = vec![0.0; choices];
    let mut told = false;
    for (token, logprob) in alternatives(choice.logprobs) {
        told = true;
        if let Some(choice) = choice_of(&token, choices) {
            mass[choice] += logprob.exp().clamp(0.0, 1.0);
        }
    }
    if told {
        let all: f64 = mass.iter().sum();
        let picked = (0..choices).max_by(|a, b| mass[*a].total_cmp(&mass[*b]).then(b.cmp(a)));
        let picked = picked.filter(|picked| mass[*picked] > 0.0);
        return Ok(Answer { picked, confidence: picked.map(|picked| mass[picked] / all), tokens });
    }
    let text = choice.text.or(choice.message.and_then(|message| message.content)).unwrap_or_default();
    Ok(Answer { picked: choice_of(&text, choices), confidence: None, tokens })
}

fn alternatives(logprobs: Option<Logprobs>) -> Vec<(String, f64)> {
    let Some(logprobs) = logprobs else { return Vec::new() };
    let of_chat = logprobs.content.and_then(|tokens| tokens.into_iter().next());
    let of_chat =
        of_chat.map(|token| token.top_logprobs.into_iter().map(|one| (one.token, one.logprob)).collect());
    let of_completion = || logprobs.top_logprobs?.into_iter().next()??.into_iter().collect::<Vec<_>>().into();
    of_chat.or_else(of_completion).unwrap_or_default()
}

/// The choice whose letter a token is, whatever marks its tokenizer puts before a word.
fn choice_of(token: &str, choices: usize) -> Option<usize> {
    let bare = token.trim_start_matches(['▁', 'Ġ', ' ', '\n', '(']).trim_end();
    (0..choices).find(|choice| bare.len() == 1 && bare.starts_with(letter(*choice)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(body: &str, picked: Option<usize>, confidence: Option<f64>, tokens: Option<u64>) {
        let answer = read(body.as_bytes(), 4).unwrap();
        assert_eq!((answer.picked, answer.tokens), (picked, tokens), "{body}");
        match (answer.confidence, confidence) {
            (Some(found), Some(expected)) => assert!((found - expected).abs() < 1e-9, "{body}: {found}"),
            (found, expected) => assert_eq!(found, expected, "{body}"),
        }
    }

    #[test]
    fn the_likeliest_letter_is_picked_over_all_its_tokens() {
        let (half, quarter, eighth) = (0.5_f64.ln(), 0.25_f64.ln(), 0.125_f64.ln());
        // By single tokens A is likeliest.
        let body = format!(
            r#"{{"choices":[{{"text":" A","logprobs":{{"top_logprobs":[{{" A":{quarter},"B":{eighth}," B":{eighth},"▁B":{eighth},"x":{half}}}]}}}}],"usage":{{"total_tokens":31}}}}"#
        );
        check(&body, Some(1), Some(0.6), Some(31));
        let body = format!(
            r#"{{"choices":[{{"message":{{"content":"C"}},"logprobs":{{"content":[{{"token":"C","top_logprobs":[{{"token":"C","logprob":{half}}},{{"token":"D","logprob":{eighth}}}]}}]}}}}]}}"#
        );
        check(&body, Some(2), Some(0.8), None);
    }

    #[test]
    fn without_alternatives_the_text_is_the_answer_and_without_a_letter_there_is_none() {
        check(r#"{"choices":[{"text":" D"}]}"#, Some(3), None, None);
        check(r#"{"choices":[{"text":" Dog"}]}"#, None, None, None);
        check(r#"{"choices":[{"text":" E","logprobs":null}]}"#, None, None, None);
        check(r#"{"choices":[{"text":" A","logprobs":{"top_logprobs":[{" x":-0.1}]}}]}"#, None, None, None);
        assert!(read(b"{\"choices\":[]}", 4).unwrap_err().contains("no choice"));
        assert!(read(b"<html>", 4).unwrap_err().contains("no answer"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, 4);
        }
    }
}
