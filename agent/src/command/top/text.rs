//! Text that others wrote, made fit for a terminal.
//!
//! In: what came over the wire. Out: a [`Text`] that is short and moves no cursor: names of models and ids are what
//! clients and servers say they are.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Deserializer};

/// Longest text, in characters; the rest is cut off.
pub const TEXT_MAX: usize = 256;
/// Stands for a character that is not shown.
const HIDDEN: char = '?';
/// Stands for what was cut off.
pub const CUT: char = '~';

/// Letters and digits of any script, and printable ASCII.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(String);

impl Text {
    /// `text`, without what could harm a terminal or a reader.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(clean(text, TEXT_MAX))
    }
}

/// At most `max` characters of `text`. Control characters, those that turn the direction of writing and those that cannot
/// be seen become question marks; so does all else that is neither a letter nor a digit nor ASCII.
#[must_use]
pub fn clean(text: &str, max: usize) -> String {
    let shown = |letter: char| letter == ' ' || letter.is_ascii_graphic() || letter.is_alphanumeric();
    let mut letters = text.chars().map(|letter| if shown(letter) { letter } else { HIDDEN });
    let mut clean: String = letters.by_ref().take(max).collect();
    if letters.next().is_some() {
        clean.pop();
        clean.push(CUT);
    }
    clean
}

/// The JSON text `page` with every character that a terminal could obey written as JSON writes such: the same values.
#[must_use]
pub fn escape_json(page: &str) -> String {
    let mut escaped = String::with_capacity(page.len());
    for letter in page.chars() {
        match letter {
            // JSON allows these between its values only, where any blank will do.
            '\t' | '\n' | '\r' => escaped.push(' '),
            letter if letter.is_control() || is_format(letter) => {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    escaped.push_str(&format!("\\u{unit:04x}"));
                }
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// Marks that turn the direction of writing, part lines or cannot be seen.
fn is_format(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::new(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_could_obey_is_not_shown() {
        for (text, expected) in [
            ("meta-llama/Llama-3.1 8B", "meta-llama/Llama-3.1 8B"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}", "?[2J?]0;title?"),
            ("a\r\nb\tc\u{0}", "a??b?c?"),
            ("\u{9b}31mred\u{7f}", "?31mred?"),
            ("abc\u{202e}fed\u{200b}\u{feff}", "abc?fed??"),
            ("模型-ü-β", "模型-ü-β"),
            ("🦙", "?"),
        ] {
            assert_eq!(&*Text::new(text), expected);
            let json = serde_json::to_string(text).unwrap();
            assert_eq!(&*serde_json::from_str::<Text>(&json).unwrap(), expected);
        }
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(clean("abcdef", 6), "abcdef");
        assert_eq!(clean("abcdefg", 6), "abcde~");
        assert_eq!(Text::new(&"x".repeat(100_000)).chars().count(), TEXT_MAX);
    }

    #[test]
    fn escaped_json_has_the_same_values_and_nothing_to_obey() {
        let value =
            serde_json::json!({"a\u{7f}": "\u{1b}[2J\n\u{9b}31m\u{202e}\u{200b}\u{e0041}", "b": [1.5, "ü"]});
        for page in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            let escaped = escape_json(&page);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
            assert!(!escaped.chars().any(|letter| letter.is_control() || is_format(letter)), "{escaped:?}");
            assert!(escaped.contains('ü'));
        }
    }
}
