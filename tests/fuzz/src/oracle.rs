//! A slow reader of JSON that has all of it at hand: the oracle of the targets that read JSON in pieces.
//!
//! In: any bytes. Out: their values in order, each with its keys, if they are one JSON document; serde_json says
//! whether they are.

use inferscope::request::readers::Key;
use serde::de::IgnoredAny;

/// A value, or the beginning of an object or array.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Object,
    Array,
    /// Without escapes; none where it is no UTF-8 or no characters.
    Text(Option<String>, usize),
    Number(String),
    Bool,
    Null,
}

/// One value of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub path: Vec<Key>,
    pub value: Value,
    /// Of its first byte.
    pub at: usize,
}

/// The values of a document in order; `None` where it is none.
#[must_use]
pub fn places(bytes: &[u8]) -> Option<Vec<Place>> {
    serde_json::from_slice::<IgnoredAny>(bytes).ok()?;
    let mut walk = Walk { bytes, at: 0, path: Vec::new(), places: Vec::new() };
    walk.value();
    Some(walk.places)
}

/// A document is right, so what its next byte is says everything.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    path: Vec<Key>,
    places: Vec<Place>,
}

impl<'a> Walk<'a> {
    fn peek(&mut self) -> u8 {
        while matches!(self.bytes[self.at], b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
        self.bytes[self.at]
    }

    fn found(&mut self, at: usize, value: Value) {
        self.places.push(Place { path: self.path.clone(), value, at });
    }

    /// Containers that are open are in a list of their own: a document may be deeper than the stack.
    fn value(&mut self) {
        let mut open = Vec::new();
        loop {
            if self.begin(&mut open) && self.end(&mut open) {
                return;
            }
        }
    }

    /// One value, or the beginning of a container; true when a value is complete.
    fn begin(&mut self, open: &mut Vec<bool>) -> bool {
        let byte = self.peek();
        let at = self.at;
        match byte {
            b'{' | b'[' => {
                let array = byte == b'[';
                self.found(at, if array { Value::Array } else { Value::Object });
                self.at += 1;
                if matches!(self.peek(), b'}' | b']') {
                    self.at += 1;
                    return true;
                }
                open.push(array);
                self.path.push(Key::Item);
                if !array {
                    self.key();
                }
                false
            }
            b'"' => {
                let raw = self.string();
                let (text, len) = (decode(raw), raw.len());
                self.found(at, Value::Text(text, len));
                true
            }
            _ => {
                let rest = &self.bytes[at..];
                let ends = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t');
                let word = &rest[..rest.iter().position(ends).unwrap_or(rest.len())];
                self.at += word.len();
                self.found(
                    at,
                    match byte {
                        b't' | b'f' => Value::Bool,
                        b'n' => Value::Null,
                        _ => Value::Number(String::from_utf8_lossy(word).into_owned()),
                    },
                );
                true
            }
        }
    }

    /// Behind a value: closes what ends here; true at the end of the document.
    fn end(&mut self, open: &mut Vec<bool>) -> bool {
        while let Some(array) = open.last() {
            let array = *array;
            let byte = self.peek();
            self.at += 1;
            if byte == b',' {
                if !array {
                    self.key();
                }
                return false;
            }
            open.pop();
            self.path.pop();
        }
        true
    }

    fn key(&mut self) {
        self.peek();
        let raw = self.string();
        let key = match Key::of(raw) {
            Key::Unknown => decode(raw).map_or(Key::Unknown, |name| Key::of(name.as_bytes())),
            key => key,
        };
        if let Some(last) = self.path.last_mut() {
            *last = key;
        }
        self.peek();
        self.at += 1;
    }

    /// What is between the quotes.
    fn string(&mut self) -> &'a [u8] {
        let start = self.at + 1;
        let mut end = start;
        while self.bytes[end] != b'"' {
            end += if self.bytes[end] == b'\\' { 2 } else { 1 };
        }
        self.at = end + 1;
        &self.bytes[start..end]
    }
}

fn decode(raw: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(raw).ok()?;
    serde_json::from_str(&format!("\"{text}\"")).ok()
}
