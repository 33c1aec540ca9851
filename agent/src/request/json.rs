//! A scanner of JSON that arrives in pieces: it tracks depth and strings, and keeps no text.
//!
//! In: the bytes of one document, split anywhere. Out: each value with the path of keys that leads to
//! it. A document that is not all there is continued from its end by [`super::tail`]. No general
//! parser: numbers and words are told apart by their first byte.
//!
//! Own code, because what is needed is in no parser library at once: fed piece by piece, no buffer
//! for a string of a megabyte, and a stack that can be handed on across a hole.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::key::Key;

/// Levels whose keys are known; what lies deeper is skipped.
pub const PATH_MAX: usize = 8;
/// Deepest nesting that is followed; one bit each.
const DEPTH_MAX: usize = 128;
/// Longest key or text that is handed on whole: a model name in which each character is escaped.
const TOKEN_BYTES_MAX: usize = 1024;

/// A value as the scanner meets it; of objects and arrays their beginning.
pub enum Token<'a> {
    Object,
    Array,
    Text(Text<'a>),
    /// Empty where it is too long.
    Number(&'a [u8]),
    Bool,
    Null,
}

/// A text value, still escaped.
pub struct Text<'a> {
    raw: &'a [u8],
    /// `raw` is all of it.
    whole: bool,
}

impl<'a> Text<'a> {
    /// It is exactly `expected`, which needs no escapes.
    pub fn is(&self, expected: &str) -> bool {
        if self.is_escaped() {
            return self.decode().is_some_and(|text| text == expected);
        }
        self.whole && self.raw == expected.as_bytes()
    }

    fn is_escaped(&self) -> bool {
        memchr(b'\\', self.raw).is_some()
    }

    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The text without escapes; `None` when it is too long, cut or no UTF-8.
    pub fn decode(&self) -> Option<Cow<'a, str>> {
        if !self.whole {
            return None;
        }
        let raw = std::str::from_utf8(self.raw).ok()?;
        if !self.is_escaped() {
            return Some(Cow::Borrowed(raw));
        }
        serde_json::from_str::<String>(&format!("\"{raw}\"")).ok().map(Cow::Owned)
    }
}

/// Where in the grammar the next byte stands.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Value,
    FirstItem,
    FirstKey,
    NextKey,
    Key,
    Colon,
    Next,
    Text,
    Word,
    Done,
    Broken,
}

/// One document under way.
#[derive(Default)]
pub struct Scanner {
    state: State,
    /// The last byte of the text so far was a backslash that escapes the next one.
    escaped: bool,
    depth: usize,
    /// Bit n: level n is an array.
    arrays: u128,
    keys: [Key; PATH_MAX],
    /// First bytes of a key, text or word that was split.
    token: Vec<u8>,
    token_bytes: usize,
}

impl Scanner {
    pub fn new() -> Self {
        Self::default()
    }

    /// Ready for another document.
    pub fn reset(&mut self) {
        let mut token = std::mem::take(&mut self.token);
        token.clear();
        *self = Self { token, ..Self::new() };
    }

    /// One that stands behind a comma, inside the `depth` containers of `arrays`. The keys on the way are
    /// those of `self`, the scanner before the hole, as far as both are inside the same kinds of container.
    pub fn resumed(&self, depth: usize, arrays: u128) -> Self {
        let mut next = Self { depth, arrays, ..Self::new() };
        for level in 0..depth.min(PATH_MAX) {
            next.keys[level] = if next.is_array(level) { Key::Item } else { Key::Unknown };
        }
        let shared = depth.min(self.depth).min(PATH_MAX);
        for level in 0..shared.saturating_sub(1) {
            let same = |at| self.is_array(at) == next.is_array(at);
            if !same(level) || !same(level + 1) {
                break;
            }
            next.keys[level] = self.keys[level];
        }
        next.state = if next.is_array(depth - 1) { State::Value } else { State::NextKey };
        next
    }

    /// Memory it holds, in bytes.
    pub fn held(&self) -> usize {
        self.token.capacity()
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Nothing but white space so far.
    pub fn is_empty(&self) -> bool {
        self.state == State::Value && self.depth == 0
    }

    /// Takes the next bytes of the document and hands each value to `visit` with its path.
    pub fn feed(&mut self, bytes: &[u8], visit: &mut impl FnMut(&[Key], Token<'_>)) {
        let mut at = 0;
        while at < bytes.len() {
            at = match self.state {
                State::Key | State::Text => self.string(bytes, at, visit),
                State::Word => self.word(bytes, at, visit),
                State::Broken => return,
                _ => at + self.structure(bytes[at], visit),
            };
        }
    }

    /// The next bytes were not copied: hands on the text under way, which is known not to be empty.
    pub fn cut(&mut self, visit: &mut impl FnMut(&[Key], Token<'_>)) {
        if self.state == State::Text && self.token_bytes > 0 && self.depth <= PATH_MAX {
            visit(&self.keys[..self.depth], Token::Text(Text { raw: &self.token, whole: false }));
        }
    }

    fn is_array(&self, level: usize) -> bool {
        self.arrays >> level & 1 == 1
    }

    fn in_array(&self) -> bool {
        self.is_array(self.depth - 1)
    }

    /// One byte outside keys, texts and words; returns how many bytes it used.
    fn structure(&mut self, byte: u8, visit: &mut impl FnMut(&[Key], Token<'_>)) -> usize {
        match (self.state, byte) {
            (_, b' ' | b'\n' | b'\r' | b'\t') => {}
            (State::Value | State::FirstItem, b'{') => self.open(false, visit),
            (State::Value | State::FirstItem, b'[') => self.open(true, visit),
            (State::Value | State::FirstItem, b'"') => self.begin(State::Text),
            (State::FirstItem, b']') | (State::FirstKey, b'}') => self.close(),
            (State::Value | State::FirstItem, _) if is_word(byte) => {
                self.begin(State::Word);
                return 0;
            }
            (State::FirstKey | State::NextKey, b'"') => self.begin(State::Key),
            (State::Colon, b':') => self.state = State::Value,
            (State::Next, b',') => {
                self.state = if self.in_array() { State::Value } else { State::NextKey };
            }
            (State::Next, b'}') if !self.in_array() => self.close(),
            (State::Next, b']') if self.in_array() => self.close(),
            _ => self.state = State::Broken,
        }
        1
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.escaped = false;
        self.token.clear();
        self.token_bytes = 0;
    }

    fn open(&mut self, array: bool, visit: &mut impl FnMut(&[Key], Token<'_>)) {
        if self.depth <= PATH_MAX {
            visit(&self.keys[..self.depth], if array { Token::Array } else { Token::Object });
        }
        if self.depth == DEPTH_MAX {
            self.state = State::Broken;
            return;
        }
        self.arrays = self.arrays & !(1 << self.depth) | u128::from(array) << self.depth;
        if let Some(key) = self.keys.get_mut(self.depth) {
            *key = if array { Key::Item } else { Key::Unknown };
        }
        self.depth += 1;
        self.state = if array { State::FirstItem } else { State::FirstKey };
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.after_value();
    }

    fn after_value(&mut self) {
        self.state = if self.depth == 0 { State::Done } else { State::Next };
    }

    /// Bytes of a key or text from `at`; returns where to go on.
    fn string(&mut self, bytes: &[u8], at: usize, visit: &mut impl FnMut(&[Key], Token<'_>)) -> usize {
        let mut end = at;
        loop {
            if self.escaped && end < bytes.len() {
                self.escaped = false;
                end += 1;
            }
            match memchr2(b'"', b'\\', &bytes[end..]) {
                Some(found) if bytes[end + found] == b'\\' => {
                    self.escaped = true;
                    end += found + 1;
                }
                Some(found) => {
                    end += found;
                    self.token_ends(&bytes[at..end], visit);
                    return end + 1;
                }
                None => {
                    self.keep(&bytes[at..]);
                    return bytes.len();
                }
            }
        }
    }

    /// Bytes of a number or word from `at`; returns where to go on.
    fn word(&mut self, bytes: &[u8], at: usize, visit: &mut impl FnMut(&[Key], Token<'_>)) -> usize {
        let Some(len) = bytes[at..].iter().position(|byte| !is_word(*byte)) else {
            self.keep(&bytes[at..]);
            return bytes.len();
        };
        self.token_ends(&bytes[at..at + len], visit);
        at + len
    }

    fn keep(&mut self, part: &[u8]) {
        let room = TOKEN_BYTES_MAX.saturating_sub(self.token.len());
        self.token.extend_from_slice(&part[..part.len().min(room)]);
        self.token_bytes = self.token_bytes.saturating_add(part.len());
    }

    /// A key, text or word is complete, `last` being its last part.
    fn token_ends(&mut self, last: &[u8], visit: &mut impl FnMut(&[Key], Token<'_>)) {
        let split = self.token_bytes > 0;
        if split {
            self.keep(last);
        }
        let token = std::mem::take(&mut self.token);
        let raw = if split { &token[..] } else { last };
        let whole = if split { self.token_bytes } else { last.len() } <= TOKEN_BYTES_MAX;
        self.token_means(raw, whole, visit);
        self.token = token;
    }

    fn token_means(&mut self, raw: &[u8], whole: bool, visit: &mut impl FnMut(&[Key], Token<'_>)) {
        let token = match self.state {
            State::Key => {
                if let Some(key) = self.keys.get_mut(self.depth - 1) {
                    *key = name(&Text { raw, whole });
                }
                self.state = State::Colon;
                return;
            }
            State::Text => Token::Text(Text { raw, whole }),
            _ => match raw {
                b"null" => Token::Null,
                b"true" | b"false" => Token::Bool,
                // Python writes these two for numbers that JSON cannot.
                // One that is too long is cut, if it was split: no number at all is better than another.
                [b'-' | b'0'..=b'9', ..] if !whole => Token::Number(b""),
                [b'-' | b'0'..=b'9', ..] | b"NaN" | b"Infinity" => Token::Number(raw),
                _ => {
                    self.state = State::Broken;
                    return;
                }
            },
        };
        if self.depth <= PATH_MAX {
            visit(&self.keys[..self.depth], token);
        }
        self.after_value();
    }
}

/// Names are compared as they stand, for hardly any are escaped.
fn name(text: &Text<'_>) -> Key {
    match Key::of(text.raw) {
        Key::Unknown if text.is_escaped() => {
            text.decode().map_or(Key::Unknown, |name| Key::of(name.as_bytes()))
        }
        key => key,
    }
}

/// Bytes of numbers, `true`, `false`, `null`.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value with its path, one a line; unknown names as `?`.
    pub(crate) fn values(pieces: &[&[u8]]) -> Vec<String> {
        let mut scanner = Scanner::new();
        let mut values = Vec::new();
        for piece in pieces {
            scanner.feed(piece, &mut |path, token| values.push(line(path, &token)));
        }
        if !scanner.is_done() {
            values.push("broken".into());
        }
        values
    }

    fn line(path: &[Key], token: &Token<'_>) -> String {
        let path: Vec<_> = path.iter().map(|key| format!("{key:?}")).collect();
        let value = match token {
            Token::Object => "{".into(),
            Token::Array => "[".into(),
            Token::Text(text) => format!("'{}'", text.decode().unwrap_or("too long".into())),
            Token::Number(digits) => String::from_utf8_lossy(digits).into_owned(),
            Token::Bool => "bool".into(),
            Token::Null => "null".into(),
        };
        format!("{}={value}", path.join("."))
    }

    fn check(json: &str, expected: &[&str]) {
        assert_eq!(values(&[json.as_bytes()]), expected, "{json}");
        for at in 0..json.len() {
            let (left, right) = json.as_bytes().split_at(at);
            assert_eq!(values(&[left, right]), expected, "{json} split at {at}");
        }
        let bytes: Vec<&[u8]> = json.as_bytes().chunks(1).collect();
        assert_eq!(values(&bytes), expected, "{json} byte by byte");
    }

    #[test]
    fn values_come_with_their_path() {
        check(
            r#"{"model":"a", "choices":[{"delta":{"content":""},"x":[1.5e3,true]},null]}"#,
            &[
                "={",
                "Model='a'",
                "Choices=[",
                "Choices.Item={",
                "Choices.Item.Delta={",
                "Choices.Item.Delta.Content=''",
                "Choices.Item.Unknown=[",
                "Choices.Item.Unknown.Item=1.5e3",
                "Choices.Item.Unknown.Item=bool",
                "Choices.Item=null",
            ],
        );
    }

    #[test]
    fn a_text_that_looks_like_json_is_a_text() {
        check(
            r#"{"text":"\",\"model\":\"b\\\"","id":"\u0041"}"#,
            &["={", r#"Text='","model":"b\"'"#, "Id='A'"],
        );
    }

    #[test]
    fn keys_may_be_escaped() {
        check(r#"{"mod\u0065l":"a"}"#, &["={", "Model='a'"]);
    }

    #[test]
    fn what_is_no_json_breaks() {
        check("[DONE]", &["=[", "broken"]);
        check(r#"{"id" 1}"#, &["={", "broken"]);
        check(r#"{"id":1]"#, &["={", "Id=1", "broken"]);
        check(r#"{"id":1}}"#, &["={", "Id=1", "broken"]);
        check(r#"{"id":tru}"#, &["={", "broken"]);
        check("[1,", &["=[", "Item=1", "broken"]);
        check("", &["broken"]);
    }

    #[test]
    fn deep_nesting_is_skipped_then_refused() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let broken = |json: String| values(&[json.as_bytes()]).last().is_some_and(|last| last == "broken");
        assert_eq!(values(&[nested(20).as_bytes()]).len(), PATH_MAX + 1);
        assert!(!broken(nested(DEPTH_MAX)));
        assert!(broken(nested(DEPTH_MAX + 1)));
    }

    #[test]
    fn a_text_longer_than_the_token_is_not_decoded() {
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        check(&format!(r#"{{"model":"{long}"}}"#), &["={", "Model='too long'"]);
    }

    #[test]
    fn a_number_longer_than_the_token_is_none() {
        let long = "1".repeat(TOKEN_BYTES_MAX + 1);
        check(&format!("[{long},{}]", &long[1..]), &["=[", "Item=", &format!("Item={}", &long[1..])]);
    }
}
