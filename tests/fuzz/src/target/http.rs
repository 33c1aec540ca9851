//! Heads of both directions, whole and in parts.
//!
//! Input: which direction, where it is cut, then the bytes.

use inferscope::request::readers::{
    HEAD_BYTES_MAX, HeadBuffer, Parsed, RequestHead, ResponseHead, request, request_line, response,
};
use inferscope::request::record::{IDENTITY_BYTES_MAX, ParseFailure};

use crate::input::{Cuts, Input};
use crate::memory::held;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let is_response = input.byte() & 1 == 1;
    let cuts = input.cuts();
    if is_response {
        check(response, response_facts, &cuts, input.rest());
    } else {
        check(request, request_facts, &cuts, input.rest());
        check_request_line(input.rest());
    }
}

/// Everything a head says, to be compared.
fn request_facts(head: &RequestHead) -> String {
    let RequestHead { route, head_only, connect, framing, media, encoded, request_id, trace_id } = head;
    check_identity(request_id.as_deref());
    check_identity(trace_id.as_deref());
    format!("{route:?} {head_only} {connect} {framing:?} {media:?} {encoded} {request_id:?} {trace_id:?}")
}

fn response_facts(head: &ResponseHead) -> String {
    let ResponseHead { status, framing, media, encoded, to_http2, request_id } = head;
    check_identity(request_id.as_deref());
    format!("{status} {framing:?} {media:?} {encoded} {to_http2} {request_id:?}")
}

fn check_identity(text: Option<&str>) {
    let Some(text) = text else { return };
    assert!((1..=IDENTITY_BYTES_MAX).contains(&text.len()), "{text}");
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
}

fn check<T>(parse: fn(&[u8]) -> Parsed<T>, facts: fn(&T) -> String, cuts: &Cuts, bytes: &[u8]) {
    let said = |parsed: Parsed<T>| parsed.map(|found| found.map(|(head, len)| (facts(&head), len)));
    let whole = said(parse(bytes));
    if let Ok(Some((_, len))) = &whole {
        let len = *len;
        assert!((1..=bytes.len()).contains(&len));
        // What is behind the head is none of it, and nothing of it may be missing.
        assert_eq!(said(parse(&bytes[..len])), whole);
        assert_eq!(said(parse(&bytes[..len - 1])), Ok(None));
    }
    if bytes.len() <= HEAD_BYTES_MAX {
        for cuts in [cuts, &Cuts::every_byte()] {
            check_parts(&whole, &|bytes| said(parse(bytes)), cuts, bytes);
        }
    } else if matches!(whole, Ok(None)) {
        assert!(HeadBuffer::default().feed(bytes, parse, ParseFailure::Chunk).is_err());
    }
}

type Said = Result<Option<(String, usize)>, ParseFailure>;

/// In parts it says the same, but that it may be found out later to be none.
fn check_parts(whole: &Said, parse: &impl Fn(&[u8]) -> Said, cuts: &Cuts, bytes: &[u8]) {
    let parts = cuts.parts(bytes);
    let before = held();
    let mut buffer = HeadBuffer::default();
    let mut used = 0;
    for part in parts {
        match buffer.feed(part, parse, ParseFailure::Chunk) {
            Ok(Some((facts, len))) => {
                assert!(len <= part.len());
                assert_eq!(&Ok(Some((facts, used + len))), whole);
                return;
            }
            Ok(None) => used += part.len(),
            Err(reason) => return assert_eq!(whole.as_ref().err(), Some(&reason)),
        }
        let more = held().saturating_sub(before);
        assert!(more <= 2 * HEAD_BYTES_MAX, "{more} bytes held");
    }
    assert!(!matches!(whole, Ok(Some(_))), "in parts it is no head: {whole:?}");
}

/// The first line alone leads to the same route.
fn check_request_line(bytes: &[u8]) {
    let Ok(Some((head, _))) = request(bytes) else { return };
    let start = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let line = request_line(&bytes[start..]);
    let route = line.map(|line| (line.route, line.head_only, line.connect));
    assert_eq!(route, Some((head.route, head.head_only, head.connect)));
}
