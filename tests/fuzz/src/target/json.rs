//! The scanner of JSON in pieces, against a reader that has all of it.
//!
//! Input: where it is cut, then the document.

use inferscope::request::readers::{Key, PATH_MAX, Scanner, Token};

use crate::input::{Cuts, Input};
use crate::memory::held;
use crate::oracle::{self, Place, Value};

/// Deepest nesting that is followed.
const DEPTH_MAX: usize = 128;
/// Longest text or number that is handed on.
const TEXT_BYTES_MAX: usize = 1024;
/// What a scanner holds of a document of any size.
const HELD_MAX: usize = 8 << 10;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let cuts = input.cuts();
    // A number at the top ends where the next byte says so.
    let document = [input.rest(), b"\n"].concat();
    let whole = scan(&document, &Cuts::default());
    assert_eq!(scan(&document, &cuts), whole);
    assert_eq!(scan(&document, &Cuts::every_byte()), whole);
    let Some(places) = oracle::places(&document) else { return };
    if depth(&document) > DEPTH_MAX {
        return assert!(!whole.1, "deeper than what is followed");
    }
    assert!(whole.1, "a document that is right is broken");
    let expected: Vec<_> = places.iter().filter(|place| place.path.len() <= PATH_MAX).map(shown).collect();
    assert_eq!(whole.0, expected);
}

/// A value as both readers can tell it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub path: Vec<Key>,
    pub value: Value,
}

/// The values, and whether the document is complete.
fn scan(document: &[u8], cuts: &Cuts) -> (Vec<Seen>, bool) {
    let before = held();
    let mut scanner = Scanner::new();
    let mut values = Vec::new();
    for part in cuts.parts(document) {
        scanner.feed(part, &mut |path, token| values.push(seen(path, &token)));
    }
    let own = held().saturating_sub(before).saturating_sub(values.iter().map(size_of_seen).sum());
    // The list of values grows by doubling.
    let list = values.capacity() * size_of::<Seen>();
    assert!(own.saturating_sub(list) <= HELD_MAX, "{own} bytes held");
    (values, scanner.is_done())
}

fn size_of_seen(seen: &Seen) -> usize {
    let text = match &seen.value {
        Value::Text(Some(text), _) | Value::Number(text) => text.capacity(),
        _ => 0,
    };
    seen.path.capacity() * size_of::<Key>() + text
}

#[must_use]
pub fn seen(path: &[Key], token: &Token<'_>) -> Seen {
    let value = match token {
        Token::Object => Value::Object,
        Token::Array => Value::Array,
        Token::Text(text) => Value::Text(text.decode().map(std::borrow::Cow::into_owned), 0),
        Token::Number(digits) => Value::Number(String::from_utf8_lossy(digits).into_owned()),
        Token::Bool => Value::Bool,
        Token::Null => Value::Null,
    };
    Seen { path: path.to_vec(), value }
}

/// A value of the oracle, with as much of it as the scanner hands on.
#[must_use]
pub fn shown(place: &Place) -> Seen {
    let value = match &place.value {
        Value::Text(text, len) => Value::Text(text.clone().filter(|_| *len <= TEXT_BYTES_MAX), 0),
        Value::Number(digits) if digits.len() > TEXT_BYTES_MAX => Value::Number(String::new()),
        value => value.clone(),
    };
    Seen { path: place.path.clone(), value }
}

/// Containers around the deepest place of a document that is right.
#[must_use]
pub fn depth(document: &[u8]) -> usize {
    let (mut depth, mut most, mut text, mut escaped) = (0_usize, 0, false, false);
    for byte in document {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => text = !text,
            b'{' | b'[' if !text => depth += 1,
            b'}' | b']' if !text => depth -= 1,
            _ => {}
        }
        most = most.max(depth);
    }
    most
}
