//! A stream of events: in pieces the same as whole, and no less than a slow reader finds.
//!
//! Input: where it is cut, then the stream.

use inferscope::request::readers::{Answer, Events, Tally};
use serde_json::Value;

use crate::input::{Cuts, Input};
use crate::memory::held;

/// What a stream of any length holds: an event's first bytes, and the names in it.
const HELD_MAX: usize = 8 << 10;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let cuts = input.cuts();
    let stream = input.rest();
    let whole = read(stream, &Cuts::default());
    assert_eq!(read(stream, &cuts), whole);
    assert_eq!(read(stream, &Cuts::every_byte()), whole);
    check_least(&whole.tally, &expect(stream));
    an_event_behind_a_border_counts(stream);
}

/// Everything that a stream said.
#[derive(Debug, PartialEq)]
struct Said {
    tally: Tally,
    at_border: bool,
    facts: String,
}

fn read(stream: &[u8], cuts: &Cuts) -> Said {
    let before = held();
    let mut events = Events::new();
    let mut answer = Answer::default();
    for part in cuts.parts(stream) {
        events.feed(part, &mut answer);
    }
    let more = held().saturating_sub(before);
    assert!(more <= HELD_MAX, "{more} bytes held");
    let tally = events.take_tally();
    let Tally { events: all, deltas, errors, broken, .. } = tally;
    assert!(deltas <= all && errors <= all && broken <= all, "{tally:?}");
    Said { tally, at_border: events.at_border(), facts: facts(&answer) }
}

fn facts(answer: &Answer) -> String {
    let confidence = answer.confidence();
    assert!(confidence.is_none_or(|share| (0.0..=1.0).contains(&share)), "{confidence:?}");
    let (usage, empty) = (answer.usage(), answer.is_empty());
    format!("{:?} {:?} {:?} {usage:?} {empty} {confidence:?}", answer.id, answer.model, answer.finish)
}

/// What a slow reader is sure of.
#[derive(Debug, Default)]
struct Least {
    events: u32,
    /// Events of which it knows that they have a delta.
    deltas: u32,
    /// Events whose data is JSON.
    right: u32,
    done: bool,
}

fn check_least(tally: &Tally, least: &Least) {
    assert_eq!((tally.events, tally.done), (least.events, least.done), "{least:?}");
    assert!(tally.deltas >= least.deltas, "{tally:?} {least:?}");
    assert!(tally.broken <= least.events - least.right, "{tally:?} {least:?}");
}

/// Line by line. Lines end with LF or CRLF; the last one counts when it is complete.
fn expect(stream: &[u8]) -> Least {
    let mut least = Least::default();
    let mut data = Vec::new();
    for line in stream.split_inclusive(|byte| *byte == b'\n') {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        if matches!(line, b"" | b"\r") {
            event(&std::mem::take(&mut data), &mut least);
        } else if let Some(value) =
            [&b"data:"[..], b"error:"].iter().find_map(|name| line.strip_prefix(*name))
        {
            data.extend_from_slice(value);
            data.push(b'\n');
        }
    }
    least
}

fn event(data: &[u8], least: &mut Least) {
    let text = trimmed(data);
    if text.is_empty() {
        return;
    }
    least.events += 1;
    if text == b"[DONE]" {
        least.done = true;
        least.right += 1;
        return;
    }
    let Ok(json) = serde_json::from_slice::<Value>(text) else { return };
    least.right += 1;
    let says = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let choices = json["choices"].as_array().into_iter().flatten();
    let has_delta =
        choices.into_iter().any(|choice| says(&choice["delta"]["content"]) || says(&choice["text"]));
    least.deltas += u32::from(has_delta);
}

/// Without the blanks of JSON at both ends; a form feed is none of them.
fn trimmed(data: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let from = data.iter().position(|byte| !blank(byte)).unwrap_or(data.len());
    let until = data.iter().rposition(|byte| !blank(byte)).map_or(from, |last| last + 1);
    &data[from..until]
}

/// Whatever stands before a missed border, the events behind it count.
fn an_event_behind_a_border_counts(stream: &[u8]) {
    let mut events = Events::new();
    let mut answer = Answer::default();
    events.feed(stream, &mut answer);
    events.hole(&mut answer);
    assert!(!events.at_border());
    events.feed(stream, &mut answer);
    events.restart(&mut answer);
    assert!(events.at_border() && !answer.is_empty());
    events.take_tally();
    events.feed(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n", &mut answer);
    let expected = Tally { events: 1, deltas: 1, ..Tally::default() };
    assert_eq!(events.take_tally(), expected);
}
