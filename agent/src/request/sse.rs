//! Server-sent events: the framing of a streamed answer.
//!
//! In: the bytes of the body, split anywhere, and how many were not copied. Out: how many events with a
//! delta were completed, and of what else the stream was made; the facts go to the [`Answer`]. Lines end
//! with LF or CRLF; a lone CR, which the standard allows and no server writes, ends none.

use memchr::memchr;

use super::answer::Answer;
use super::document::{Document, Ended};

/// Longest field name that means something: `data`, `event`, `error`.
const FIELD_BYTES_MAX: usize = 8;
/// What OpenAI's streams end with in place of JSON.
const DONE: &[u8] = b"[DONE]";

/// A stream under way.
#[derive(Default)]
pub struct Events {
    line: Line,
    field: Start,
    document: Document,
    /// First bytes of the data, by which `[DONE]` is told from JSON.
    data: Start,
    /// The event is an error by its name.
    error: bool,
    tally: Tally,
}

/// What was completed since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events, whatever they held.
    pub events: u32,
    /// Those with a delta.
    pub deltas: u32,
    pub errors: u32,
    /// Those whose data is neither JSON nor `[DONE]`.
    pub broken: u32,
    /// The stream said that it is over.
    pub done: bool,
}

/// What the present line is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Line {
    /// Its field name is not complete.
    #[default]
    Field,
    Data,
    Event,
    /// A comment, or a field without meaning here.
    Skipped,
}

/// The first bytes of something, and how many there were.
#[derive(Clone, Copy, Default)]
struct Start {
    bytes: [u8; FIELD_BYTES_MAX],
    len: usize,
    /// White space behind them, which is part of it only if more follows.
    white: usize,
}

impl Start {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
        }
        self.len = self.len.saturating_add(1);
    }

    /// Adds text: white space at its start and at its end, in however many pieces, is none of it.
    fn extend_trimmed(&mut self, text: &[u8]) {
        let first = || text.iter().position(|byte| !is_white(*byte)).unwrap_or(text.len());
        let text = &text[if self.len == 0 { first() } else { 0 }..];
        let kept = &text[..text.iter().rposition(|byte| !is_white(*byte)).map_or(0, |last| last + 1)];
        if kept.is_empty() {
            self.white = self.white.saturating_add(text.len());
            return;
        }
        // Which white space it is makes no word of another.
        let white = std::mem::replace(&mut self.white, text.len() - kept.len());
        self.extend(&[b' '; FIELD_BYTES_MAX][..white.min(FIELD_BYTES_MAX)]);
        self.extend(kept);
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = FIELD_BYTES_MAX.saturating_sub(self.len);
        bytes.iter().take(room).for_each(|byte| self.push(*byte));
        self.len = self.len.saturating_add(bytes.len().saturating_sub(room));
    }

    fn is(&self, expected: &[u8]) -> bool {
        self.bytes.get(..self.len) == Some(expected)
    }
}

/// White space as JSON has it.
fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

impl Events {
    pub fn new() -> Self {
        Self::default()
    }

    /// What was completed since the last call.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Memory it holds, in bytes.
    pub fn held(&self) -> usize {
        self.document.held()
    }

    /// No event is under way.
    pub fn at_border(&self) -> bool {
        self.line == Line::Field && self.field.len == 0 && self.data.len == 0
    }

    pub fn feed(&mut self, mut bytes: &[u8], answer: &mut Answer) {
        while !bytes.is_empty() {
            bytes = match self.line {
                Line::Field => self.field(bytes, answer),
                _ => self.value(bytes, answer),
            };
        }
    }

    /// The next bytes were not copied: what follows is taken for the same line.
    pub fn hole(&mut self, answer: &mut Answer) {
        self.document.hole(&mut |path, token| answer.see(path, token));
        self.line = Line::Data;
        // More than `[DONE]`: an event under way, whose start may not have been seen.
        self.data.len = FIELD_BYTES_MAX + 1;
    }

    /// A border was missed: what follows begins an event.
    pub fn restart(&mut self, answer: &mut Answer) {
        answer.document_lost();
        self.document.end(&mut |_, _| {});
        let tally = self.tally;
        *self = Self { tally, ..Self::new() };
    }

    /// Bytes of a line whose field name is not complete; returns the rest.
    fn field<'a>(&mut self, bytes: &'a [u8], answer: &mut Answer) -> &'a [u8] {
        if self.field.len == 0
            && let Some(value) = bytes.strip_prefix(b"data:")
        {
            self.line = Line::Data;
            return value;
        }
        match bytes[0] {
            b'\n' => self.line_without_value(answer),
            b':' => {
                self.line = if self.field.is(b"data") {
                    Line::Data
                } else if self.field.is(b"event") {
                    Line::Event
                } else if self.field.is(b"error") {
                    // llama.cpp once sent errors as a field of their own.
                    self.error = true;
                    Line::Data
                } else {
                    Line::Skipped
                };
                self.field = Start::default();
            }
            byte => self.field.push(byte),
        }
        &bytes[1..]
    }

    /// A line end while the field name was awaited: a blank line completes the event.
    fn line_without_value(&mut self, answer: &mut Answer) {
        if self.field.len == 0 || self.field.is(b"\r") {
            self.event_ends(answer);
        }
        self.field = Start::default();
    }

    /// Bytes behind the colon; returns what follows the line.
    fn value<'a>(&mut self, bytes: &'a [u8], answer: &mut Answer) -> &'a [u8] {
        let end = memchr(b'\n', bytes);
        let used = end.map_or(bytes.len(), |end| end + 1);
        let (value, rest) = bytes.split_at(used);
        match self.line {
            Line::Data => self.data(value, answer),
            Line::Event => self.field.extend_trimmed(value),
            Line::Field | Line::Skipped => {}
        }
        if end.is_some() {
            self.error |= self.line == Line::Event && self.field.is(b"error");
            self.field = Start::default();
            self.line = Line::Field;
        }
        rest
    }

    /// Data, its line end included: that is white space to JSON.
    fn data(&mut self, value: &[u8], answer: &mut Answer) {
        self.data.extend_trimmed(value);
        self.document.feed(value, &mut |path, token| answer.see(path, token));
    }

    fn event_ends(&mut self, answer: &mut Answer) {
        let data = std::mem::take(&mut self.data);
        let named_error = std::mem::take(&mut self.error);
        let ended = self.document.end(&mut |path, token| answer.see(path, token));
        if data.len == 0 {
            return;
        }
        self.tally.events += 1;
        if data.is(DONE) {
            self.tally.done = true;
            return;
        }
        let meaning = answer.document_ends(ended);
        self.tally.deltas += u32::from(meaning.delta);
        self.tally.errors += u32::from(meaning.error || named_error);
        self.tally.broken += u32::from(ended == Ended::Broken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(pieces: &[&[u8]]) -> Tally {
        let mut events = Events::new();
        let mut answer = Answer::default();
        pieces.iter().for_each(|piece| events.feed(piece, &mut answer));
        events.take_tally()
    }

    fn check(stream: &str, expected: Tally) {
        let bytes = stream.as_bytes();
        assert_eq!(tally(&[bytes]), expected, "{stream:?}");
        for at in 0..bytes.len() {
            assert_eq!(tally(&[&bytes[..at], &bytes[at..]]), expected, "{stream:?} split at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(tally(&single), expected, "{stream:?} byte by byte");
    }

    const DELTA: Tally = Tally { events: 1, deltas: 1, errors: 0, broken: 0, done: false };
    const NO_DELTA: Tally = Tally { deltas: 0, ..DELTA };

    #[test]
    fn lines_end_with_lf_or_crlf() {
        check("data: {\"text\":\"a\"}\n\n", DELTA);
        check("data: {\"text\":\"a\"}\r\n\r\n", DELTA);
        check("data:{\"text\":\"a\"}\n\r\n", DELTA);
    }

    #[test]
    fn what_an_event_said_before_its_end_was_missed_is_not_the_next_ones() {
        let mut events = Events::new();
        let mut answer = Answer::default();
        events.feed(b"data: {\"error\":{\"code\":1", &mut answer);
        events.hole(&mut answer);
        events.restart(&mut answer);
        events.take_tally();
        events.feed(b"data: {\"text\":\"a\"}\n\n", &mut answer);
        assert_eq!(events.take_tally(), DELTA);
    }

    #[test]
    fn white_space_inside_a_word_makes_another_word() {
        let other = Tally { broken: 1, ..NO_DELTA };
        check("data: [DO NE]\n\n", other);
        check("data: [DONE\ndata: ]\n\n", other);
        check("data:  [DONE]      \r\n\r\n", Tally { done: true, ..NO_DELTA });
        check("data:\u{c}\n\n", other);
        check("data: {}\u{c}\n\n", other);
        check("event: er ror\ndata: {}\n\n", NO_DELTA);
        check("event:  error    \ndata: {}\n\n", Tally { errors: 1, ..NO_DELTA });
    }

    #[test]
    fn an_event_counts_when_its_blank_line_is_complete() {
        check("data: {\"text\":\"a\"}\n", Tally::default());
        check("data: {\"text\":\"a\"}\r\n\r", Tally::default());
    }

    #[test]
    fn data_of_several_lines_is_one_document() {
        check("data: {\"text\":\ndata: \"a\"}\n\n", DELTA);
    }

    #[test]
    fn comments_and_other_fields_change_nothing() {
        check(": ping\n\n", Tally::default());
        check("\n\n\n", Tally::default());
        check(
            "id: 1\nevent: x\n: c\nretry: 5\nlonger-than-any: v\nno-colon\ndata: {\"text\":\"a\"}\n\n",
            DELTA,
        );
        check("data:\n\n", Tally::default());
    }

    #[test]
    fn done_is_no_broken_json() {
        check("data: [DONE]\n\n", Tally { done: true, ..NO_DELTA });
        check("data: [DONE]\r\n\r\n", Tally { done: true, ..NO_DELTA });
        check("data: [DONE]x\n\n", Tally { broken: 1, ..NO_DELTA });
    }

    #[test]
    fn errors_are_seen_by_field_by_name_and_by_member() {
        check("event: error\ndata: {}\n\n", Tally { errors: 1, ..NO_DELTA });
        check("error: {\"code\":500}\n\n", Tally { errors: 1, ..NO_DELTA });
        check("data: {\"error\":{\"code\":500}}\n\n", Tally { errors: 1, ..NO_DELTA });
        check("event: errors\ndata: {\"error\":null}\n\n", NO_DELTA);
    }

    #[test]
    fn text_that_looks_like_events_is_text() {
        check("data: {\"id\":\"\\n\\ndata: {\\\"text\\\":\\\"a\\\"}\\n\\n\"}\n\n", NO_DELTA);
    }

    #[test]
    fn a_hole_inside_an_event_leaves_its_border() {
        let mut events = Events::new();
        let mut answer = Answer::default();
        events.feed(b"data: {\"text\":\"aaa", &mut answer);
        events.hole(&mut answer);
        events.feed(b"aaa\"}\n\ndata: {\"text\":\"b\"}\n\n", &mut answer);
        assert_eq!(events.take_tally(), Tally { events: 2, deltas: 2, ..Tally::default() });
        assert!(events.at_border());
    }
}
