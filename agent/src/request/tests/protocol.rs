//! HTTP's other cases, other protocols, broken input, and limits.

use inferscope_common::socket::SocketKind;

use super::trace::{Trace, answer, chat, chat_event, chunk, post};
use crate::request::record::{OtherRoute, Outcome, ParseFailure, Route};
use crate::request::{Follow, HELD_BYTES_MAX};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

fn check_after(trace: &mut Trace) {
    trace.out.clear();
    trace.at(5000).read(chat()).at(5100).write(answer());
    let records = trace.records();
    let last = records.last().unwrap();
    assert_eq!((last.arrival.0, last.end.0, last.incomplete), (5000, 5100, None));
}

#[test]
fn other_requests_are_records_with_their_route() {
    let mut trace = Trace::new();
    trace.at(100).read("GET /health HTTP/1.1\r\n\r\n").write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    trace
        .read("GET /v1/chat/completions HTTP/1.1\r\n\r\n")
        .write("HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n");
    trace.read(post("/tokenize", "{}")).write(OK);
    let seen: Vec<_> =
        trace.records().iter().map(|record| (record.route, record.status.unwrap(), &*record.model)).collect();
    assert_eq!(
        seen,
        [
            (Route::Other(OtherRoute::Health), 200, "unknown"),
            (Route::Other(OtherRoute::Rest), 405, "unknown"),
            (Route::Other(OtherRoute::Tokenize), 200, "unknown"),
        ]
    );
    assert!(trace.open().is_empty());
}

#[test]
fn requests_of_the_agent_itself_are_counted_and_leave_nothing_else() {
    let mut trace = Trace::new();
    trace.connections.set_own("inferscope-canary-5eed-".into());
    let ask = |id: &str| {
        let body = r#"{"model":"secret"}"#;
        let head = "POST /v1/completions HTTP/1.1\r\ncontent-type: application/json";
        format!("{head}\r\nx-request-id: {id}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    trace.at(100).read(ask("inferscope-canary-5eed-1"));
    assert!(trace.open().is_empty());
    trace.write(answer());
    assert!(trace.out.is_empty(), "{:?}", trace.out);
    // Nearly so is somebody else's.
    trace.read(ask("inferscope-canary-5eef-1"));
    assert_eq!(trace.open().len(), 1);
    trace.write(answer());
    assert_eq!(trace.records().len(), 1);
    let counts = trace.connections.counts();
    assert_eq!((counts.requests_finished, counts.requests_own), (2, 1));
}

fn check_bodiless(method: &str, head: &str) {
    let mut trace = Trace::new();
    trace.at(100).read(format!("{method} / HTTP/1.1\r\n\r\n")).at(200).write(head);
    assert_eq!(trace.record().end.0, 200, "{head}");
    check_after(&mut trace);
}

#[test]
fn some_answers_have_no_body_whatever_they_say() {
    check_bodiless("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n");
    check_bodiless("GET", "HTTP/1.1 204 No Content\r\n\r\n");
    check_bodiless("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\n\r\n");
    check_bodiless("GET", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n");
}

#[test]
fn a_chunked_request_names_its_model() {
    let mut trace = Trace::new();
    let head = "POST /v1/completions HTTP/1.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    trace.at(100).read(head).read(chunk(r#"{"model":"ti"#) + &chunk(r#"ny"}"#) + "0\r\nx: y\r\n\r\n");
    trace.write(answer()).read(head).read(chunk(r#"{"model":"ti"#) + &chunk(r#"ny"}"#) + "0\r\n\r\n");
    assert_eq!(&*trace.open()[0].model, "tiny");
}

#[test]
fn a_body_that_ends_with_the_connection_ends_at_its_last_write() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
    trace.at(200).write("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n");
    trace.at(300).write("data: [DONE]\n\n").at(400).state(SocketKind::Closed);
    let record = trace.record();
    assert_eq!((record.outcome, record.end.0, record.chunks), (Outcome::Ok, 300, 1));
}

#[test]
fn a_body_that_ends_with_the_connection_and_has_no_end_is_aborted_by_its_peer() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{\"id\":");
    trace.at(200).state(SocketKind::PeerClosed).at(300).state(SocketKind::Closed);
    assert_eq!((trace.record().outcome, trace.record().end.0), (Outcome::ClientAbort, 200));
}

#[test]
fn an_answer_before_the_end_of_its_request_ends_it() {
    let mut trace = Trace::new();
    let request = chat();
    trace.at(100).read(&request[..request.len() - 5]);
    trace.at(200).write("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n");
    assert_eq!((trace.record().outcome, trace.record().end.0), (Outcome::ClientError, 200));
    trace.read(&request[request.len() - 5..]);
    check_after(&mut trace);
}

#[test]
fn a_compressed_answer_keeps_its_times() {
    let mut trace = Trace::new();
    trace.at(100).read(chat());
    trace.at(200).write(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x08\0\0",
    );
    assert_eq!((trace.record().end.0, trace.record().empty), (200, false));
    assert_eq!(trace.failures(), [(ParseFailure::ContentEncoding, 1)]);
}

fn check_ignored(bytes: &[u8], reason: ParseFailure) {
    let mut trace = Trace::new();
    trace.at(100).read(bytes);
    assert_eq!((trace.follow, trace.failures()), (Follow::Ignore, vec![(reason, 1)]));
    trace.write(bytes).read(bytes);
    assert_eq!((trace.follow, trace.failures()), (Follow::Ignore, vec![(reason, 1)]));
    trace.state(SocketKind::Closed);
    assert!(trace.connections.is_empty() && trace.records().is_empty());
}

#[test]
fn other_protocols_are_counted_once_and_ignored() {
    check_ignored(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ParseFailure::Http2);
    check_ignored(b"\x16\x03\x01\x02\0\x01\0\x01\xfc", ParseFailure::Tls);
}

fn check_upgrade(protocol: &str, reason: ParseFailure) {
    let mut trace = Trace::new();
    trace.at(100).read(format!("GET /ws HTTP/1.1\r\nupgrade: {protocol}\r\nconnection: upgrade\r\n\r\n"));
    trace.at(200).write(format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: {protocol}\r\n\r\n\x01\x02"));
    assert_eq!((trace.follow, trace.failures()), (Follow::Ignore, vec![(reason, 1)]));
    assert_eq!((trace.record().status, trace.record().end.0), (Some(101), 200));
}

#[test]
fn an_upgrade_ends_what_is_followed() {
    check_upgrade("websocket", ParseFailure::Upgrade);
    check_upgrade("h2c", ParseFailure::Http2);
}

#[test]
fn an_upgrade_that_is_not_taken_changes_nothing() {
    let mut trace = Trace::new();
    trace.at(100).read("GET / HTTP/1.1\r\nupgrade: h2c\r\n\r\n").write(OK);
    assert_eq!((trace.record().status, trace.follow), (Some(200), Follow::Keep));
}

fn check_broken(expected: ParseFailure, prelude: impl Fn(&mut Trace)) {
    let mut trace = Trace::new();
    trace.at(50);
    prelude(&mut trace);
    assert_eq!(trace.failures(), [(expected, 1)]);
    assert_eq!(trace.follow, Follow::Keep);
    check_after(&mut trace);
}

#[test]
fn broken_input_is_counted_and_the_next_request_is_measured() {
    check_broken(ParseFailure::RequestHead, |trace| {
        trace
            .read("POST \x01 HTTP/1.1\r\n\r\n")
            .write("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    });
    check_broken(ParseFailure::RequestHead, |trace| {
        trace.read(chat()).write(answer()).read("garbage").write("HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    check_broken(ParseFailure::ResponseHead, |trace| {
        trace.read(chat()).write("garbage\r\n\r\n");
    });
    check_broken(ParseFailure::Chunk, |trace| {
        trace.read(chat()).write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n");
    });
    check_broken(ParseFailure::UnexpectedResponse, |trace| {
        trace.read(chat()).write(answer()).write("HTTP/1.1 408 Timeout\r\ncontent-length: 0\r\n\r\n");
    });
    check_broken(ParseFailure::Json, |trace| {
        trace
            .read(chat())
            .write("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n{\"a");
    });
    check_broken(ParseFailure::Json, |trace| {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        trace.read(chat()).write(head).write(chunk("data: {broken\n\n")).write("0\r\n\r\n");
    });
}

#[test]
fn a_connection_that_stays_broken_is_given_up() {
    let mut trace = Trace::new();
    let mut reads = 0;
    while trace.follow == Follow::Keep {
        trace.at(100).read("POST \x01 HTTP/1.1\r\n\r\n");
        reads += 1;
        assert!(reads <= 8);
    }
    assert_eq!(trace.failures(), [(ParseFailure::RequestHead, reads)]);
}

#[test]
fn more_pipelined_requests_than_are_followed_are_refused_and_counted() {
    let mut trace = Trace::new();
    for _ in 0..100 {
        trace.at(100).read("GET / HTTP/1.1\r\n\r\n");
    }
    for _ in 0..100 {
        trace.at(200).write(OK);
    }
    assert_eq!(trace.records().len(), 64);
    assert!(trace.connections.counts().requests_refused > 0);
    check_after(&mut trace);
}

#[test]
fn the_oldest_idle_connection_makes_room() {
    let mut trace = Trace::with_connections_max(16);
    for socket in 0..40 {
        trace.event.socket = socket;
        trace.restart_numbers();
        trace.at(100 + socket).read(chat());
        if socket != 3 {
            trace.write(answer());
        }
    }
    assert!(trace.connections.len() <= 16);
    assert!(trace.connections.counts().connections_evicted >= 24);
    assert_eq!(trace.open().len(), 1, "the open request is still followed");
}

#[test]
fn heads_that_do_not_end_are_held_up_to_a_limit() {
    let mut trace = Trace::new();
    let part = "p".repeat(4000);
    for socket in 0..2000 {
        trace.event.socket = socket;
        trace.restart_numbers();
        trace.at(100 + socket).read("POST /v1/completions HTTP/1.1\r\nx-pad: ");
        for _ in 0..4 {
            trace.read(&part);
            assert!(trace.connections.held <= HELD_BYTES_MAX);
        }
    }
    let (evicted, len) = (trace.connections.counts().connections_evicted, trace.connections.len() as u64);
    assert!(evicted > 0 && evicted + len == 2000, "{evicted} evicted, {len} followed");
    assert_eq!(trace.connections.counts().requests_unfinished, evicted);
    // Those that were held longest went.
    trace.read("\r\ncontent-length: 0\r\n\r\n").at(9000).write(answer());
    assert_eq!(trace.record().end.0, 9000);
    trace.at(u64::MAX).tick();
    assert_eq!((trace.connections.held, trace.connections.len()), (0, 0));
}

#[test]
fn ten_thousand_streams_are_within_the_limit() {
    const STREAMS: u64 = 1000;
    let mut trace = Trace::new();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    for socket in 0..STREAMS {
        trace.event.socket = socket;
        trace.restart_numbers();
        trace.at(100).read(chat()).write(head);
        // Just before its gaps go out with a progress.
        for time in 0..64 {
            trace.at(200 + time).write(chat_event(r#""delta":{"content":"a"}"#));
        }
    }
    assert_eq!(trace.open().len() as u64, STREAMS);
    let each = trace.connections.held as u64 / STREAMS;
    assert!(each * 10_000 <= HELD_BYTES_MAX as u64, "{each} bytes each");
}

#[test]
fn an_answer_to_half_a_head_is_a_failure_of_the_head() {
    let mut trace = Trace::new();
    trace.at(100).read("POST /v1/completions HTTP/1.1\r\nx-pad: p").write(OK);
    assert_eq!(trace.failures(), [(ParseFailure::RequestHead, 1)]);
    trace.read("more of it\r\n\r\n");
    check_after(&mut trace);
}

#[test]
fn a_name_takes_a_slot_only_when_an_answer_carries_it() {
    let mut trace = Trace::new();
    trace.at(100).read(post("/v1/completions", r#"{"model":"nope"}"#));
    trace.write("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    trace.read(post("/v1/completions", r#"{"model":"alias"}"#)).write(answer());
    trace.read("POST /v1/completions HTTP/1.1\r\ncontent-length: 0\r\n\r\n").write(OK);
    let models: Vec<_> = trace.records().iter().map(|record| record.model.to_string()).collect();
    assert_eq!(models, ["other", "tiny", "unknown"]);
}

#[test]
fn nothing_of_the_content_is_in_what_comes_out() {
    const CANARY: &str = "canary-7f3a";
    let mut trace = Trace::new();
    let body = format!(r#"{{"messages":[{{"content":"{CANARY}"}}],"model":"tiny","user":"{CANARY}"}}"#);
    trace.at(100).read(
        post(&format!("/v1/chat/completions?key={CANARY}"), &body)
            .replace("host: h", &format!("authorization: {CANARY}")),
    );
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    trace.write(head).write(chat_event(&format!(r#""delta":{{"content":"{CANARY}"}}"#)));
    let open = format!("{:?} {:?}", trace.open(), trace.connections);
    trace.write(format!("{CANARY}\r\n")).at(9).state(SocketKind::Closed);
    trace.read(format!("POST {CANARY}")).state(SocketKind::Closed);
    let said = format!("{open} {:?} {:?} {:?}", trace.out, trace.connections, trace.connections.counts());
    assert_eq!(trace.records().len(), 1);
    assert!(!said.contains(CANARY), "{said}");
}
