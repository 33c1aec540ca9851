//! What vLLM's two front ends write, call by call, as strace showed it.

use std::time::Duration;

use inferscope_common::socket::SocketKind;

use super::trace::{Trace, chat, chat_event, chunk, post};
use crate::request::record::{Outcome, Route, Usage};

const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ndate: x\r\nserver: uvicorn\r\n\
    content-type: text/event-stream; charset=utf-8\r\nvary: Origin\r\ntransfer-encoding: chunked\r\n\r\n";
const USAGE: &str = "data: {\"id\":\"chatcmpl-b8\",\"model\":\"tiny\",\"choices\":[],\
    \"usage\":{\"prompt_tokens\":9,\"total_tokens\":13,\"completion_tokens\":4}}\n\n";

fn python_stream(trace: &mut Trace) {
    trace.at(200).write(STREAM_HEAD);
    trace.at(300).write(chat_event(r#""delta":{"role":"assistant","content":""},"finish_reason":null"#));
    trace.at(310).write(chat_event(r#""delta":{"content":" TEXT"},"finish_reason":null"#));
    trace
        .at(350)
        .write(chat_event(r#""delta":{"content":"TEXT"},"finish_reason":"length","stop_reason":null"#));
    trace.at(355).write(chunk(USAGE));
    trace.at(360).write("e\r\ndata: [DONE]\n\n\r\n");
    trace.at(370).write("0\r\n\r\n");
}

#[test]
fn python_stream_is_measured_to_its_last_write() {
    let mut trace = Trace::new();
    trace.at(100).read_arrived(90, chat());
    python_stream(&mut trace);
    let record = trace.record();
    assert_eq!(record.route, Route::ChatCompletions);
    assert_eq!((&*record.model, record.status, record.outcome), ("tiny", Some(200), Outcome::Ok));
    assert_eq!((record.arrival.0, record.first_read.0, record.end.0), (90, 100, 370));
    assert_eq!(record.read_delay, Some(Duration::from_nanos(10)));
    assert_eq!(record.first_token.map(|time| time.0), Some(310));
    assert_eq!((record.chunks, record.finish.length, record.empty), (2, 1, false));
    assert_eq!(record.usage, Some(Usage { prompt_tokens: 9, completion_tokens: 4 }));
    assert_eq!(record.identity.response_id.as_deref(), Some("chatcmpl-b8"));
    assert_eq!((record.socket, record.tgid, record.tid), (7, 10, 11));
    assert_eq!(record.request_bytes, chat().len() as u64);
    assert!(record.streamed && record.incomplete.is_none());
    assert_eq!(trace.gaps_ns(), [40]);
    assert_eq!(trace.progress().iter().map(|progress| progress.chunks).sum::<u64>(), 2);
    assert_eq!(trace.failures(), []);
}

#[test]
fn rust_stream_with_several_events_in_a_write_has_one_gap_a_write() {
    let mut trace = Trace::new();
    let event = |text: &str| chat_event(&format!(r#""delta":{{"content":"{text}"}}"#));
    trace.at(100).read(chat()).at(110).write(STREAM_HEAD);
    trace.at(200).write(chat_event(r#""delta":{"role":"assistant"}"#) + &event("a"));
    trace.at(250).write((0..16).map(|_| event("b")).collect::<String>());
    let last = event("c") + &chat_event(r#""delta":{},"finish_reason":"stop""#) + &chunk(USAGE);
    trace.at(300).write(last + "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    let record = trace.record();
    assert_eq!((record.first_token.map(|time| time.0), record.end.0), (Some(200), 300));
    assert_eq!((record.chunks, record.finish.stop), (18, 1));
    assert_eq!(record.read_delay, None);
    assert_eq!(trace.gaps_ns(), [50, 50]);
}

#[test]
fn a_long_stream_sends_its_gaps_while_it_runs() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write(STREAM_HEAD);
    for token in 0..200 {
        trace.at(200 + token).write(chat_event(r#""delta":{"content":"a"}"#));
    }
    assert!(trace.records().is_empty());
    assert_eq!(trace.gaps_ns().len(), 192);
    trace.write("0\r\n\r\n");
    assert_eq!(trace.gaps_ns().len(), 199);
    assert_eq!(trace.progress().iter().map(|progress| progress.chunks).sum::<u64>(), 200);
    assert!(trace.progress().iter().all(|progress| &*progress.model == "tiny"));
}

fn check_whole(writes: &[&str]) {
    let mut trace = Trace::new();
    trace.at(100).read(chat());
    for (number, bytes) in writes.iter().enumerate() {
        trace.at(200 + number as u64).write(bytes);
    }
    let record = trace.record();
    assert_eq!(record.end.0, 200 + writes.len() as u64 - 1);
    assert_eq!(record.usage, Some(Usage { prompt_tokens: 9, completion_tokens: 4 }));
    assert_eq!((record.first_token, record.streamed, record.empty), (None, false, false));
    assert_eq!((&*record.model, record.finish.stop), ("tiny", 1));
    assert!(trace.progress().is_empty());
}

#[test]
fn a_whole_answer_comes_in_two_writes_or_one() {
    let body = r#"{"id":"chatcmpl-1","model":"tiny","choices":[{"message":{"content":"TEXT"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":4}}"#;
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    check_whole(&[&head, body]);
    check_whole(&[&(head + body)]);
}

#[test]
fn a_whole_answer_of_any_size_has_its_usage_at_its_end() {
    let text = "x\\\"},\\n".repeat(50_000);
    let body = format!(
        r#"{{"id":"chatcmpl-1","model":"tiny","choices":[{{"message":{{"content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":4}}}}"#
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    check_whole(&[&head, &body]);
    check_whole(&[&head, &body[..200_000], &body[200_000..]]);
    check_whole(&[&format!("{head}{body}")]);
}

fn check_error(status: &str, expected: Outcome) {
    let mut trace = Trace::new();
    trace.at(100).read(chat());
    trace
        .at(200)
        .write(format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n"));
    trace.at(210).write(r#"{"error":{"code":1}}"#);
    let record = trace.record();
    assert_eq!((record.outcome, record.end.0, record.streamed), (expected, 210, false));
    assert!(!record.empty);
}

#[test]
fn errors_have_their_outcome_by_status() {
    check_error("400 Bad Request", Outcome::ClientError);
    check_error("404 Not Found", Outcome::ClientError);
    check_error("429 Too Many Requests", Outcome::Rejected);
    check_error("500 Internal Server Error", Outcome::ServerError);
    check_error("503 Service Unavailable", Outcome::ServerError);
}

#[test]
fn an_error_event_in_a_stream_is_a_server_error() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write(STREAM_HEAD).write(chat_event(r#""delta":{"content":"a"}"#));
    trace.write(
        chunk("data: {\"error\":{\"message\":\"m\",\"code\":500}}\n\n")
            + "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n",
    );
    assert_eq!(trace.record().outcome, Outcome::ServerError);
}

#[test]
fn a_client_that_closes_mid_stream_aborts_at_its_close() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write(STREAM_HEAD);
    trace.at(200).write(chat_event(r#""delta":{"content":"a"}"#));
    trace.at(300).state(SocketKind::PeerClosed);
    assert!(trace.records().is_empty());
    trace.at(310).state(SocketKind::Closed);
    let record = trace.record();
    assert_eq!((record.outcome, record.end.0, record.chunks), (Outcome::ClientAbort, 300, 1));
    assert!(record.first_token.is_some() && !record.empty);
    assert!(trace.connections.is_empty());
}

#[test]
fn a_client_that_closes_before_the_answer_aborts_too() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).at(300).state(SocketKind::PeerClosed).at(310).state(SocketKind::Closed);
    let record = trace.record();
    assert_eq!((record.outcome, record.status, record.end.0), (Outcome::ClientAbort, None, 300));
}

#[test]
fn a_reset_is_an_abort_at_its_time() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).at(300).state(SocketKind::Reset);
    assert_eq!((trace.record().outcome, trace.record().end.0), (Outcome::ClientAbort, 300));
}

#[test]
fn a_token_written_after_the_client_went_is_no_first_token() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write(STREAM_HEAD).at(150).state(SocketKind::PeerClosed);
    trace.at(200).write(chat_event(r#""delta":{"content":"a"}"#)).at(300).state(SocketKind::Closed);
    let record = trace.record();
    assert_eq!((record.outcome, record.end.0, record.first_token), (Outcome::ClientAbort, 150, None));
}

#[test]
fn a_half_close_that_is_answered_in_full_is_ok() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).at(150).state(SocketKind::PeerClosed);
    python_stream(&mut trace);
    trace.at(400).state(SocketKind::Closed);
    assert_eq!((trace.record().outcome, trace.record().end.0), (Outcome::Ok, 370));
}

#[test]
fn a_server_that_closes_first_resets() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write(STREAM_HEAD).at(300).state(SocketKind::Closed);
    assert_eq!((trace.record().outcome, trace.record().end.0), (Outcome::ServerReset, 300));
}

#[test]
fn a_process_that_ends_resets_what_it_read_last() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).at(300).process_exit(99);
    assert!(trace.records().is_empty());
    trace.process_exit(10);
    assert_eq!((trace.record().outcome, trace.record().end.0), (Outcome::ServerReset, 300));
    assert!(trace.open().is_empty());
}

fn long_prompt(model_first: bool) -> String {
    let prompt = r#"{\"model\":\"forged\"},{\"role\":\"user\"}\n"#.repeat(8000);
    let messages = format!(r#""messages":[{{"role":"user","content":"{prompt}"}}]"#);
    let body = if model_first {
        format!(r#"{{"model":"tiny",{messages},"stream":true}}"#)
    } else {
        format!(r#"{{{messages},"stream":true,"model":"tiny"}}"#)
    };
    post("/v1/chat/completions", &body)
}

fn check_long_prompt(request: &str, reads: &[usize]) {
    let mut trace = Trace::new();
    let mut rest = request.as_bytes();
    for (number, len) in reads.iter().enumerate() {
        let (part, after) = rest.split_at(rest.len().min(*len));
        rest = after;
        trace.at(100 + number as u64).read(part);
    }
    trace.at(150).read(rest);
    trace.at(200).write("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n");
    let record = trace.record();
    assert_eq!((record.arrival.0, record.end.0, record.outcome), (100, 200, Outcome::ServerError));
    assert_eq!(record.request_bytes, request.len() as u64);
    assert!(record.incomplete.is_none());
    assert_eq!(trace.failures(), []);
}

#[test]
fn a_prompt_of_300_kilobytes_takes_several_reads() {
    for model_first in [true, false] {
        let request = long_prompt(model_first);
        check_long_prompt(&request, &[127_973, 110_974]);
        check_long_prompt(&request, &[219_264]);
        check_long_prompt(&request, &[8192, 16_384, 32_768, 65_536, 72_677]);
    }
}

#[test]
fn the_model_behind_a_long_prompt_is_the_requests() {
    let mut trace = Trace::new();
    trace.at(100).read(chat());
    python_stream(&mut trace);
    trace.at(400).read(long_prompt(false));
    assert_eq!(&*trace.open()[0].model, "tiny");
}

#[test]
fn expect_continue_is_no_answer() {
    let mut trace = Trace::new();
    let request = chat();
    let (head, body) = request.split_at(request.find("\r\n\r\n").unwrap() + 4);
    trace.at(100).read(head).at(110).write("HTTP/1.1 100 Continue\r\n\r\n").at(120).read(body);
    python_stream(&mut trace);
    assert_eq!((trace.record().status, trace.record().arrival.0), (Some(200), 100));
}

#[test]
fn a_connection_kept_alive_serves_one_request_after_another() {
    let mut trace = Trace::new();
    for round in 0..3 {
        trace.at(1000 * round + 100).read_arrived(1000 * round + 90, chat());
        python_stream(&mut trace);
    }
    let records = trace.records();
    assert_eq!(records.iter().map(|record| record.arrival.0).collect::<Vec<_>>(), [90, 1090, 2090]);
    assert!(records.iter().all(|record| record.outcome == Outcome::Ok && record.chunks == 2));
}

#[test]
fn pipelined_requests_arrive_with_the_read_that_brought_them() {
    let mut trace = Trace::new();
    let health = "GET /health HTTP/1.1\r\n\r\n";
    trace.at(100).read_arrived(90, chat() + health + &chat()[..20]);
    trace.at(120).read_arrived(110, &chat()[20..]);
    trace.at(140).read_arrived(130, chat());
    python_stream(&mut trace);
    trace.at(400).write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    python_stream(&mut trace);
    python_stream(&mut trace);
    let seen: Vec<_> = trace
        .records()
        .iter()
        .map(|record| (record.route.is_inference(), record.arrival.0, record.first_read.0))
        .collect();
    assert_eq!(seen, [(true, 90, 100), (false, 90, 100), (true, 90, 100), (true, 130, 140)]);
}

#[test]
fn confidence_comes_from_a_stream_with_logprobs() {
    let mut trace = Trace::new();
    let event = |logprob: f64| {
        chunk(&format!(
            "data: {{\"model\":\"tiny\",\"choices\":[{{\"delta\":{{\"content\":\"a\"}},\
             \"logprobs\":{{\"content\":[{{\"token\":\"a\",\"logprob\":{logprob}}}]}}}}]}}\n\n"
        ))
    };
    trace.at(100).read(chat()).write(STREAM_HEAD);
    trace.write(event(0.5_f64.ln())).write(event(0.125_f64.ln())).write("0\r\n\r\n");
    assert!((trace.record().confidence.unwrap() - 0.25).abs() < 1e-9);
}

#[test]
fn a_stream_without_any_text_is_empty() {
    let mut trace = Trace::new();
    trace.at(100).read(chat()).write(STREAM_HEAD);
    trace.write(chat_event(r#""delta":{"content":""},"finish_reason":"stop""#)).write("0\r\n\r\n");
    let record = trace.record();
    assert_eq!((record.empty, record.first_token, record.chunks), (true, None, 0));
}
