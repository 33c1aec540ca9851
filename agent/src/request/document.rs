//! One JSON document of any size, with or without a hole: the body of a request or an answer, or the
//! data of one event.
//!
//! In: its bytes, split anywhere, and how many were not copied. Out: its values, by the scanner from its
//! start up to the first hole, and from the last hole on once its end is known.

use super::json::{Scanner, Token};
use super::key::Key;
use super::tail;

/// Bytes kept from the last hole on: the tail of a write, and as much again.
const WINDOW_BYTES_MAX: usize = 8192;

/// How a document ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// No byte but white space.
    Empty,
    Whole,
    /// Part of it was not seen.
    Holed,
    /// No JSON, or it ended too early.
    Broken,
}

/// A document under way.
#[derive(Default)]
pub struct Document {
    scanner: Scanner,
    holed: bool,
    /// The last bytes since the last hole.
    window: Vec<u8>,
}

impl Document {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn feed(&mut self, bytes: &[u8], visit: &mut impl FnMut(&[Key], Token<'_>)) {
        if !self.holed {
            self.scanner.feed(bytes, visit);
            return;
        }
        let kept = &bytes[bytes.len().saturating_sub(WINDOW_BYTES_MAX)..];
        let excess = (self.window.len() + kept.len()).saturating_sub(WINDOW_BYTES_MAX);
        self.window.drain(..excess);
        self.window.extend_from_slice(kept);
    }

    /// The next bytes were not copied.
    pub fn hole(&mut self, visit: &mut impl FnMut(&[Key], Token<'_>)) {
        if !self.holed {
            self.scanner.cut(visit);
            self.holed = true;
        }
        self.window.clear();
    }

    /// The document is over; the next bytes begin another.
    pub fn end(&mut self, visit: &mut impl FnMut(&[Key], Token<'_>)) -> Ended {
        let ended = if self.holed {
            if let Some((at, mut scanner)) = tail::resume(&self.window, &self.scanner) {
                scanner.feed(&self.window[at..], visit);
            }
            self.window = Vec::new();
            self.holed = false;
            Ended::Holed
        } else if self.scanner.is_empty() {
            Ended::Empty
        } else if self.scanner.is_done() {
            Ended::Whole
        } else {
            Ended::Broken
        };
        self.scanner.reset();
        ended
    }

    /// Memory it holds, in bytes.
    pub fn held(&self) -> usize {
        self.window.capacity() + self.scanner.held()
    }

    /// It is complete as it stands: what follows may only be white space.
    pub fn is_done(&self) -> bool {
        !self.holed && self.scanner.is_done()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Models and prompt tokens at their places, of a document whose bytes `hole` are not seen.
    fn facts(json: &str, hole: std::ops::Range<usize>) -> (Vec<String>, Ended) {
        let mut document = Document::new();
        let mut facts = Vec::new();
        let mut see = |path: &[Key], token: Token<'_>| {
            let value = match token {
                Token::Text(text) => text.decode().map_or_else(|| "cut".into(), std::borrow::Cow::into_owned),
                Token::Number(digits) => String::from_utf8_lossy(digits).into_owned(),
                _ => return,
            };
            if let [Key::Model]
            | [Key::Usage, Key::PromptTokens]
            | [Key::Choices, Key::Item, Key::FinishReason] = path
            {
                facts.push(value);
            }
        };
        document.feed(&json.as_bytes()[..hole.start], &mut see);
        if !hole.is_empty() {
            document.hole(&mut see);
        }
        document.feed(&json.as_bytes()[hole.end..], &mut see);
        let ended = document.end(&mut see);
        (facts, ended)
    }

    /// The part `~` of `json` is not seen.
    fn check(json: &str, expected: &[&str]) {
        let start = json.find('~').unwrap_or(json.len());
        let end = json.rfind('~').map_or(json.len(), |at| at + 1);
        assert_eq!(facts(json, start..end).0, expected, "{json}");
    }

    #[test]
    fn a_model_behind_a_long_prompt_is_found() {
        check(r#"{"messages":[{"content":"aaaa~aaa"}],"stream":true,"model":"tiny"}"#, &["tiny"]);
        check(r#"{"messages":[{"content":"aaaa~aaa"}],"model":"tiny","tools":[{"model":1}]} "#, &["tiny"]);
        check(r#"{"model":"tiny","messages":[{"content":"aaaa~aaa"}]}"#, &["tiny"]);
    }

    #[test]
    fn a_prompt_cannot_forge_a_member() {
        for forged in [
            r#"aa~aa\"}],\"model\":\"forged\",\"x\":[{\"a\":\"b"#,
            r#"aa~aa\\\"}],\\\"model\\\":\\\"forged\\\",\\"#,
            r#"aa~,\"model\":\"forged\","#,
            r#"\",\"model\":\"forged\"~"#,
        ] {
            check(&format!(r#"{{"messages":[{{"content":"{forged}"}}],"n":1,"model":"true"}}"#), &["true"]);
            check(&format!(r#"{{"messages":[{{"content":"{forged}"}}]}}"#), &[]);
        }
    }

    #[test]
    fn a_member_of_a_nested_object_is_not_the_documents() {
        check(r#"{"messages":[{"content":"aaaa~aaa","model":"nested","x":1}]}"#, &[]);
        check(r#"{"a":~,"model":"nested"},"b":1}"#, &[]);
    }

    #[test]
    fn usage_and_finish_reason_behind_a_long_answer_are_found() {
        check(
            r#"{"model":"m","choices":[{"message":{"content":"aa~aa"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"x":1}}"#,
            &["m", "stop", "7"],
        );
    }

    #[test]
    fn an_array_that_began_in_the_hole_has_no_name() {
        check(r#"{"choices":1,"~[{"a":1,"finish_reason":"stop"}],"usage":{"prompt_tokens":7}}"#, &["7"]);
    }

    #[test]
    fn an_end_that_is_no_json_gives_nothing() {
        check(r#"{"a":"~","model":"x""#, &[]);
        check(r#"{"a":"~}]},"b":[1},"model":"x"}"#, &[]);
        check(r#"{"a":"~","b":[1},"model":"x"]"#, &[]);
        check("~", &[]);
    }

    proptest! {
        #[test]
        fn any_hole_gives_no_fact_that_the_whole_lacks(
            content in r#"([a-z\\",:{}\[\]]|"model":"f"|"usage":\{"prompt_tokens":9\},){0,40}"#,
            start in 0_usize..200,
            len in 1_usize..100,
        ) {
            let json = serde_json::json!({
                "model": "m", "messages": [{"content": content, "x": [content]}], "usage": {"prompt_tokens": 7}
            }).to_string();
            let start = start.min(json.len());
            let end = (start + len).min(json.len());
            let (whole, _) = facts(&json, 0..0);
            let (holed, _) = facts(&json, start..end);
            prop_assert!(holed.iter().all(|fact| fact == "cut" || whole.contains(fact)), "{holed:?} of {json}");
        }

        #[test]
        fn any_bytes_are_scanned(bytes: Vec<u8>, more: Vec<u8>) {
            let mut document = Document::new();
            document.feed(&bytes, &mut |_, _| {});
            document.hole(&mut |_, _| {});
            document.feed(&more, &mut |_, _| {});
            document.end(&mut |_, _| {});
        }
    }
}
