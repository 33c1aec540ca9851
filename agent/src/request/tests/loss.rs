//! Bytes and events that did not arrive, and connections whose start was not seen.

use std::time::Duration;

use inferscope_common::socket::{FAMILY_UNIX, FLAG_FIRST, FLAG_NO_BYTES, SocketKind};

use super::trace::{SECOND, Trace, answer, chat, chat_event, chunk};
use crate::request::Follow;
use crate::request::record::{Incomplete, Outcome, ParseFailure, Stall};

const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn token() -> String {
    chat_event(r#""delta":{"content":"a"}"#)
}

fn check_after(trace: &mut Trace) {
    trace.out.clear();
    trace.at(5000).read(chat()).at(5100).write(answer());
    let record = trace.record();
    assert_eq!((record.arrival.0, record.end.0, record.outcome), (5000, 5100, Outcome::Ok));
    assert_eq!(record.incomplete, None);
}

#[test]
fn a_lost_write_in_a_stream_marks_it_and_leaves_the_gap_out() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write(STREAM_HEAD).at(200).write(token()).at(210).write(token());
    trace.lose(SocketKind::Write, token().len());
    trace.at(300).write(token()).at(310).write(token()).at(320).write("0\r\n\r\n");
    let record = trace.record();
    assert_eq!((record.incomplete, record.outcome), (Some(Incomplete::EventsLost), Outcome::Ok));
    assert_eq!(record.end.0, 320);
    assert_eq!(trace.gaps_ns(), [10, 10]);
    assert_eq!(trace.connections.counts().events_missed, 1);
    assert_eq!(trace.connections.counts().incompletes().map(|(_, count)| count).sum::<u64>(), 1);
    check_after(&mut trace);
}

#[test]
fn a_lost_end_is_over_when_the_next_request_comes() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write(STREAM_HEAD).at(200).write(token());
    trace.lose(SocketKind::Write, 500).lose(SocketKind::Write, 5);
    trace.at(1000).read(chat());
    trace.at(1100).write(answer());
    let records = trace.records();
    assert_eq!(records.len(), 2, "{records:?}");
    assert_eq!((records[0].incomplete, records[0].outcome), (Some(Incomplete::EventsLost), Outcome::Ok));
    assert_eq!((records[1].incomplete, records[1].arrival.0, records[1].end.0), (None, 1000, 1100));
    check_after(&mut trace);
}

#[test]
fn a_lost_request_leaves_its_answer_without_a_record() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write(answer());
    trace.lose(SocketKind::Read, chat().len());
    trace.at(300).write(answer());
    assert_eq!(trace.records().len(), 1);
    assert_eq!(trace.failures(), []);
    check_after(&mut trace);
}

#[test]
fn a_lost_end_before_a_close_is_no_abort() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write(STREAM_HEAD).write(token()).lose(SocketKind::Write, 5);
    trace.at(200).state(SocketKind::PeerClosed).at(300).state(SocketKind::Closed);
    let record = trace.record();
    assert_eq!((record.outcome, record.incomplete), (Outcome::Ok, Some(Incomplete::EventsLost)));
}

#[test]
fn a_write_of_many_large_events_misses_borders_and_finds_the_next() {
    let mut trace = Trace::new();
    let events: String = (0..60).map(|_| token()).collect();
    assert!(events.len() > 10_000);
    trace.at(100).read(chat()).write(STREAM_HEAD).at(200).write(&events).at(300).write(token());
    trace.at(400).write("0\r\n\r\n");
    let record = trace.record();
    assert_eq!((record.incomplete, record.outcome), (Some(Incomplete::BorderMissed), Outcome::Ok));
    assert_eq!((record.first_token.map(|time| time.0), record.end.0), (Some(200), 400));
    assert!(record.chunks < 61 && record.chunks > 30, "{}", record.chunks);
    check_after(&mut trace);
}

#[test]
fn one_large_event_in_one_chunk_misses_nothing() {
    let mut trace = Trace::new();
    let text = "a".repeat(20_000);
    trace.at(100).read(chat()).write(STREAM_HEAD);
    trace.at(200).write(chat_event(&format!(r#""delta":{{"content":"{text}"}}"#)));
    let completed = format!(
        "event: response.completed\ndata: {{\"response\":{{\"status\":\"completed\",\"output\":[{{\"content\":\
         [{{\"text\":\"{text}\"}}]}}],\"usage\":{{\"input_tokens\":9,\"output_tokens\":4}},\"user\":null}},\
         \"type\":\"response.completed\"}}\n\n"
    );
    trace.at(300).write(chunk(&completed)).at(400).write("0\r\n\r\n");
    let record = trace.record();
    assert_eq!((record.incomplete, record.chunks), (None, 1));
    assert_eq!(record.usage.map(|usage| usage.completion_tokens), Some(4));
    assert_eq!(trace.failures(), []);
}

fn check_unseen_start(prelude: impl Fn(&mut Trace)) {
    let mut trace = Trace::new();
    trace.at(50);
    prelude(&mut trace);
    assert!(trace.records().is_empty());
    assert_eq!(trace.follow, Follow::Keep);
    check_after(&mut trace);
    assert_eq!(trace.failures(), []);
}

#[test]
fn a_connection_older_than_the_agent_is_measured_from_its_next_request() {
    check_unseen_start(|_| {});
    check_unseen_start(|trace| {
        trace.write(token()).write("0\r\n\r\n");
    });
    check_unseen_start(|trace| {
        trace.read("rest of a prompt\"}").write(answer());
    });
    check_unseen_start(|trace| {
        trace.state(SocketKind::WriteBlocked).write(token());
    });
}

#[test]
fn a_prompt_that_looks_like_a_request_at_the_start_of_a_read_is_a_prompt() {
    let mut trace = Trace::new();
    trace.at(50).read(r#"xx "#).read(r#"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n\r\n"}]}"#);
    trace.write(answer());
    assert!(trace.records().is_empty());
    check_after(&mut trace);
}

#[test]
fn a_kernel_that_forgot_the_socket_begins_again() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write(STREAM_HEAD).write(token());
    trace.restart_numbers();
    trace.event.flags = FLAG_FIRST;
    trace.at(200).write(token());
    check_after_open(&mut trace);
}

fn check_after_open(trace: &mut Trace) {
    trace.at(5000).read(chat()).at(5100).write(answer());
    let records = trace.records();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].incomplete, Some(Incomplete::EventsLost));
    assert_eq!((records[1].arrival.0, records[1].end.0, records[1].incomplete), (5000, 5100, None));
}

#[test]
fn bytes_that_could_not_be_copied_are_counted() {
    let mut trace = Trace::new();
    let event = token();
    trace.at(100).read(chat()).write(STREAM_HEAD).write(&event);
    trace.moved_with(SocketKind::Write, &event, FLAG_NO_BYTES).write(&event).write("0\r\n\r\n");
    assert_eq!(trace.failures(), [(ParseFailure::NoBytes, 1)]);
    assert_eq!(trace.record().incomplete, Some(Incomplete::BorderMissed));
    check_after(&mut trace);
}

#[test]
fn a_connection_without_any_bytes_is_given_up() {
    let mut trace = Trace::new();
    for _ in 0..8 {
        assert_eq!(trace.follow, Follow::Keep);
        trace.at(100).moved_with(SocketKind::Read, "GET / HTTP/1.1\r\n\r\n", FLAG_NO_BYTES);
    }
    assert_eq!(trace.follow, Follow::Ignore);
}

#[test]
fn a_request_head_cut_by_a_hole_keeps_its_route() {
    let mut trace = Trace::new();
    let cookie = format!("POST /v1/chat/completions HTTP/1.1\r\ncookie: {}\r\n", "c".repeat(10_000));
    trace
        .at(100)
        .read(chat().replacen("POST /v1/chat/completions HTTP/1.1\r\n", &cookie, 1))
        .at(200)
        .write(answer());
    let record = trace.record();
    assert_eq!((record.incomplete, record.route.is_inference()), (Some(Incomplete::BorderMissed), true));
    assert_eq!((record.arrival.0, record.end.0), (100, 200));
    assert_eq!(trace.failures(), [(ParseFailure::RequestHead, 1)]);
    check_after(&mut trace);
}

#[test]
fn a_peer_that_leaves_a_unix_socket_aborts_after_a_grace() {
    let mut trace = Trace::new();
    trace.event.family = FAMILY_UNIX;
    trace.at(SECOND).read(chat()).at(2 * SECOND).state(SocketKind::PeerClosed);
    trace.at(2 * SECOND + SECOND / 2).tick();
    assert!(trace.records().is_empty());
    trace.at(3 * SECOND).tick();
    let record = trace.record();
    assert_eq!((record.outcome, record.end.0), (Outcome::ClientAbort, 2 * SECOND));
    assert!(trace.connections.is_empty());
}

#[test]
fn a_half_close_of_a_unix_socket_that_is_answered_is_ok() {
    let mut trace = Trace::new();
    trace.event.family = FAMILY_UNIX;
    trace.at(SECOND).read(chat()).state(SocketKind::PeerClosed).write(answer()).at(9 * SECOND).tick();
    assert_eq!(trace.record().outcome, Outcome::Ok);
}

#[test]
fn idle_connections_are_forgotten_and_still_measured_later() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write(answer()).at(700 * SECOND).tick();
    assert!(trace.connections.is_empty());
    trace.out.clear();
    trace.at(701 * SECOND).read(chat()).write(answer());
    assert_eq!((trace.record().outcome, trace.record().incomplete), (Outcome::Ok, None));
}

#[test]
fn a_request_without_events_for_an_hour_is_given_up() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).at(700 * SECOND).tick();
    assert_eq!(trace.open().len(), 1);
    trace.at(3700 * SECOND).tick();
    let record = trace.record();
    assert_eq!((record.incomplete.is_some(), record.end.0), (true, 100));
}

#[test]
fn a_request_whose_socket_is_gone_without_a_word_is_incomplete() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write(STREAM_HEAD).at(SECOND).write(token());
    trace.at(SECOND + SECOND / 2).vanish();
    assert_eq!(trace.open().len(), 1, "it may only be quiet");
    trace.at(3 * SECOND).vanish();
    let record = trace.record();
    assert_eq!((record.incomplete, record.end.0), (Some(Incomplete::EventsLost), SECOND));
    assert!(trace.connections.is_empty());
    assert_eq!(trace.connections.counts().connections_vanished, 1);
}

#[test]
fn an_idle_connection_and_a_unix_socket_do_not_vanish() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write(answer()).at(3 * SECOND).vanish();
    assert_eq!(trace.connections.len(), 1);
    let mut trace = Trace::new();
    trace.event.family = FAMILY_UNIX;
    trace.at(100).read(chat()).at(3 * SECOND).vanish();
    assert_eq!(trace.connections.len(), 1);
}

#[test]
fn every_event_and_every_request_is_in_one_count() {
    let mut trace = Trace::new();
    trace.at(100).state(SocketKind::PeerClosed);
    trace.read(chat()).write(STREAM_HEAD).lose(SocketKind::Write, 9).write(token()).write("0\r\n\r\n");
    trace.read("GET /x HTTP/1.1 nonsense\r\n\r\n").read(chat()).write("HTTP/1.1 101 Upgrade\r\n\r\n");
    trace.read("ignored").write("ignored").state(SocketKind::Closed).state(SocketKind::Closed);
    trace.restart_numbers().read("POST /v1/chat").state(SocketKind::Closed);
    trace.restart_numbers().read(chat()).write(STREAM_HEAD).restart_numbers().write(token());
    let counts = trace.connections.counts();
    let events = [counts.events_followed, counts.events_ignored, counts.events_idle, counts.events_unclaimed];
    assert_eq!((counts.events, events), (17, [12, 3, 2, 0]));
    assert_eq!((counts.events_missed, counts.connections_forgotten), (1, 1));
    let ended = [counts.requests_finished, counts.requests_void, counts.requests_unfinished];
    assert_eq!((counts.requests_begun, ended), (5, [2, 1, 1]), "one is open");
}

#[test]
fn a_blocked_send_waits_until_bytes_are_taken() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write(STREAM_HEAD);
    trace.at(200).state(SocketKind::WriteBlocked).at(210).state(SocketKind::WriteBlocked);
    let event = token();
    trace.at(250).write_short(&event[..10]).at(280).write(&event[10..]).at(290).write("0\r\n\r\n");
    assert_eq!(trace.record().send_wait, Duration::from_nanos(80));
}

fn check_stall(trace: &mut Trace, expected: Stall) {
    trace.at(5 * SECOND);
    assert_eq!(trace.open()[0].stalled, None);
    trace.at(60 * SECOND);
    assert_eq!(trace.open()[0].stalled, Some(expected));
}

#[test]
fn a_request_without_a_byte_for_long_is_stalled() {
    let mut trace = Trace::new();
    trace.at(100).read(&chat()[..chat().len() - 1]);
    check_stall(&mut trace, Stall::RequestUnfinished);
    trace.at(100).read(&chat()[chat().len() - 1..]);
    check_stall(&mut trace, Stall::NoResponse);
    trace.at(100).write("HTTP/1.1 100 Continue\r\n\r\n");
    check_stall(&mut trace, Stall::NoResponse);
    trace.at(100).write(STREAM_HEAD);
    check_stall(&mut trace, Stall::ResponseStopped);
    trace.at(100).state(SocketKind::WriteBlocked);
    check_stall(&mut trace, Stall::ClientNotReading);
}

#[test]
fn an_end_that_overtakes_the_write_before_it_takes_its_place() {
    for end in [SocketKind::Reset, SocketKind::PeerClosed, SocketKind::Closed] {
        let mut trace = Trace::new();
        trace.at(100).read(chat()).at(200).overtaken_write(answer(), end, 210);
        let record = trace.record();
        assert_eq!((record.outcome, record.end.0, record.incomplete), (Outcome::Ok, 200, None), "{end:?}");
        trace.all_taken(SECOND);
        assert_eq!(trace.records().len(), 1, "{end:?}");
        assert_eq!(trace.connections.counts().events_missed, 0, "{end:?}");
    }
}

#[test]
fn an_end_in_the_middle_is_an_abort_once_nothing_can_come_before_it() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).at(200).overtaken_write(STREAM_HEAD, SocketKind::Reset, 210);
    trace.all_taken(0);
    assert!(trace.records().is_empty());
    trace.all_taken(SECOND);
    let record = trace.record();
    assert_eq!((record.outcome, record.end.0, record.incomplete), (Outcome::ClientAbort, 210, None));
}

#[test]
fn an_end_is_in_its_place_when_its_process_ends() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).at(200).overtaken_write(STREAM_HEAD, SocketKind::Reset, 210);
    let tgid = trace.event.tgid;
    trace.at(300).process_exit(tgid);
    assert_eq!((trace.record().outcome, trace.record().end.0), (Outcome::ClientAbort, 210));
}

#[test]
fn numbers_taken_in_another_order_than_the_times_are_no_loss() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).at(210).end_by_itself(SocketKind::PeerClosed);
    trace.at(200).write(answer()).all_taken(SECOND);
    let record = trace.record();
    assert_eq!((record.outcome, record.end.0, record.incomplete), (Outcome::Ok, 200, None));
    assert_eq!(trace.connections.counts().events_missed, 0);
}

#[test]
fn a_loss_beside_an_end_that_is_held_is_counted_once() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).lose(SocketKind::Write, 10);
    trace.at(300).end_by_itself(SocketKind::PeerClosed).at(250).write(token()).all_taken(SECOND);
    assert_eq!(trace.connections.counts().events_missed, 1);
}

#[test]
fn a_number_that_two_processors_took_is_no_loss() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).at(200).write(STREAM_HEAD).repeat_number().write(token());
    trace.at(300).write("0\r\n\r\n");
    let record = trace.record();
    assert_eq!((record.outcome, record.incomplete), (Outcome::Ok, None));
    assert_eq!(trace.connections.counts().connections_forgotten, 0);
}
