//! However a conversation is cut into reads and writes, its record is the same but for times.

use inferscope_common::socket::{FLAG_NO_BYTES, FLAG_PIECES, SocketKind};
use proptest::prelude::*;
use proptest::sample::Index;

use super::trace::{Trace, answer, chat, chat_event, chunk, post};
use crate::clock::BootTime;
use crate::request::record::RequestRecord;

/// Requests and their answers, in turn.
fn conversation() -> Vec<(String, String)> {
    let stream = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        .to_owned()
        + &chat_event(r#""delta":{"role":"assistant","content":""}"#)
        + &chunk(": ping\n\n")
        + &chat_event(r#""delta":{"content":"\u00e9 \"},{\\\"model\\\":\\\"x\\\""}"#)
        + &chat_event(r#""delta":{"content":"b"},"finish_reason":"stop""#)
        + &chunk("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\r\n\r\n")
        + "e;x=y\r\ndata: [DONE]\n\n\r\n0\r\ntrailer: 1\r\n\r\n";
    let chunked = "POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nx-request-id: r\r\n\r\n"
        .to_owned()
        + &chunk(r#"{"prompt":"\"model\":1","model"#)
        + &chunk(r#"":"tiny"}"#)
        + "0\r\n\r\n";
    vec![
        (chat(), stream),
        ("GET /health HTTP/1.1\r\nhost: h\r\n\r\n".into(), "HTTP/1.1 204 No Content\r\n\r\n".into()),
        (chunked, format!("HTTP/1.1 100 Continue\r\n\r\n{}", answer())),
        (post("/v1/completions", "{}"), "HTTP/1.1 429 Busy\r\ncontent-length: 3\r\n\r\nabc".into()),
    ]
}

/// `text` cut at `cuts`.
fn parts<'a>(text: &'a str, cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).filter(|part| !part.is_empty()).collect()
}

fn timeless(trace: &Trace) -> Vec<RequestRecord> {
    let timeless = |record: &RequestRecord| RequestRecord {
        arrival: BootTime(0),
        first_read: BootTime(0),
        end: BootTime(0),
        first_token: record.first_token.map(|_| BootTime(0)),
        ..record.clone()
    };
    trace.records().into_iter().map(timeless).collect()
}

fn run(cuts: &[Index], pipelined: bool) -> Vec<RequestRecord> {
    let mut trace = Trace::new();
    let (requests, answers): (Vec<_>, Vec<_>) = conversation().into_iter().unzip();
    let turns = if pipelined { vec![(requests.concat(), answers.concat())] } else { conversation() };
    for (request, answer) in turns {
        for part in parts(&request, cuts) {
            trace.at(100).read(part);
        }
        for part in parts(&answer, cuts) {
            trace.at(200).write(part);
        }
    }
    assert_eq!(trace.failures(), []);
    timeless(&trace)
}

proptest! {
    #[test]
    fn any_split_gives_the_same_records(cuts: Vec<Index>, pipelined: bool) {
        let whole = run(&[], false);
        prop_assert_eq!(whole.len(), 4);
        prop_assert_eq!(run(&cuts, pipelined), whole);
    }

    #[test]
    fn any_bytes_are_taken(calls: Vec<(u8, Vec<u8>, u8)>) {
        let mut trace = Trace::new();
        for (number, (choice, bytes, flags)) in calls.iter().enumerate() {
            trace.at(number as u64);
            let flags = flags & (FLAG_NO_BYTES | FLAG_PIECES) & flags.rotate_left(3);
            match choice % 10 {
                0 => trace.read(chat()),
                1 | 2 => trace.moved_with(SocketKind::Read, bytes, flags),
                3 => trace.write(answer()),
                4 => trace.write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"),
                5 | 6 => trace.moved_with(SocketKind::Write, bytes, flags),
                7 => trace.lose(if choice > &128 { SocketKind::Read } else { SocketKind::Write }, bytes.len()),
                8 => trace.state(SocketKind::PeerClosed),
                _ => trace.state(if choice > &200 { SocketKind::Closed } else { SocketKind::WriteBlocked }),
            };
        }
        let open = trace.open().len();
        trace.at(u64::MAX).tick();
        prop_assert!(trace.connections.is_empty() && trace.records().len() >= open);
    }
}

#[test]
fn byte_by_byte_gives_the_same_records() {
    let mut trace = Trace::new();
    for (request, answer) in conversation() {
        request.as_bytes().chunks(1).for_each(|byte| _ = trace.at(100).read(byte));
        answer.as_bytes().chunks(1).for_each(|byte| _ = trace.at(200).write(byte));
    }
    assert_eq!(timeless(&trace), run(&[], false));
}
