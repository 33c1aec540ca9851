//! What hostile clients and broken servers do to the agent: nothing that lasts.
//!
//! Each test does one thing to a followed server, then demands of the agent that it lives within its budget of
//! memory, that its counters tell what came, and that ordinary load right after is measured exactly.
//!
//! Needs root, tcpdump and the agent's binary.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

mod names;
mod scene;
mod text;
mod unseen;
mod volume;

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use scene::{Scene, connect, hear, hear_all, post};

/// Any bytes: some begin like what the agent knows.
fn any_bytes(seed: u64) -> Vec<u8> {
    const BEGINNINGS: [&[u8]; 9] = [
        b"",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04",
        b"POST /v1/chat/completions HTTP/1.1\r\n",
        b"GET ",
        b"POST /v1/completions HTTP/1.1\r\ncontent-length: 18446744073709551616\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"CONNECT \x00",
        b"\r\n\r\n\r\n",
    ];
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bytes = rng.choice(BEGINNINGS).unwrap().to_vec();
    bytes.extend(std::iter::repeat_with(|| rng.u8(..)).take(seed as usize % 3000));
    bytes
}

#[test]
fn arbitrary_bytes_are_counted_and_nothing_more() {
    const CONNECTIONS: u64 = 400;
    let Some(scene) = Scene::set() else { return };
    for seed in 0..CONNECTIONS {
        let mut stream = connect(scene.puppet_address());
        // A puppet that reads half of it and ends would be as good.
        stream.write_all(&any_bytes(seed)).unwrap();
    }
    scene.settle();
    for reason in ["request_head", "tls", "http2"] {
        let count = scene.metric("inferscope_parse_failures_total", &[("reason", reason)]);
        assert!(count > CONNECTIONS as f64 / 50.0, "{count} failures of {reason}");
    }
    assert_eq!(scene.metric("vllm_requests_total", &[]), 0.0);
    scene.aftermath();
}

#[test]
fn broken_chunks_of_either_side_are_counted() {
    const EACH: usize = 20;
    let Some(scene) = Scene::set() else { return };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let event = "1f\r\ndata: {\"choices\":[{\"text\":\"a\"}]}\n\n\r\n";
    let broken = ["xyz\r\n", "5\r\nabcdefgh\r\n", "ffffffffffffffff\r\n", "-1\r\n", "0x5\r\nabcde\r\n"];
    for (number, tail) in broken.iter().enumerate() {
        scene.answer(&format!("broken-{number}"), format!("{head}{event}{tail}"));
    }
    scene.answer("fine", "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}");
    for number in 0..EACH {
        let answer = format!("broken-{}", number % broken.len());
        let (mut stream, expected) = (connect(scene.puppet_address()), scene.answer_len(&answer));
        let request = post("/v1/completions", &answer, "", "{}");
        stream.write_all(request.as_bytes()).unwrap();
        hear(&mut stream, expected);
    }
    for number in 0..EACH {
        let tail = broken[number % broken.len()];
        let head =
            "POST /v1/completions?answer=fine HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut stream = connect(scene.puppet_address());
        stream.write_all(format!("{head}2\r\n{{}}\r\n{tail}").as_bytes()).unwrap();
        hear(&mut stream, scene.answer_len("fine"));
    }
    scene.settle();
    let failures = scene.metric("inferscope_parse_failures_total", &[("reason", "chunk")]);
    assert_eq!(failures, 2.0 * EACH as f64);
    assert_eq!(scene.metric("vllm_requests_total", &[]), 2.0 * EACH as f64);
    assert_eq!(scene.outcomes("client_error"), EACH as f64);
    // Where a broken answer ends nobody can tell; that it began is told.
    assert_eq!(scene.metric("inferscope_records_incomplete_total", &[]), EACH as f64);
    scene.aftermath();
}

#[test]
fn a_head_that_does_not_end_is_no_burden() {
    const EACH: usize = 12;
    let Some(scene) = Scene::set() else { return };
    scene.answer("too-large", "HTTP/1.1 431 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let start = |after: usize| format!("POST /v1/completions?answer=too-large&after={after} HTTP/1.1\r\n");
    let one_line = format!("x-bomb: {}", "a".repeat(1 << 20));
    let many_lines = "x-bomb: aaaaaaaa\r\n".repeat(10_000);
    for number in 0..EACH {
        let bomb = if number % 2 == 0 { &one_line } else { &many_lines };
        let mut stream = connect(scene.puppet_address());
        stream.write_all((start(bomb.len()) + bomb).as_bytes()).unwrap();
        hear(&mut stream, scene.answer_len("too-large"));
    }
    scene.settle();
    let failures = scene.metric("inferscope_parse_failures_total", &[("reason", "request_head")]);
    assert_eq!(failures, EACH as f64);
    // A first line of which the rest was not copied says what was asked; a head of too many lines is none.
    assert_eq!(scene.metric("vllm_requests_total", &[]), EACH as f64 / 2.0);
    assert_eq!(scene.outcomes("client_error"), EACH as f64 / 2.0);
    scene.aftermath();
}

#[test]
fn a_client_that_sends_byte_by_byte_is_measured_from_its_first() {
    const CLIENTS: usize = 16;
    const PACE: Duration = Duration::from_millis(20);
    const HEAD_BYTES: usize = 200;
    let Some(scene) = Scene::set() else { return };
    scene.answer("whole", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let (address, expected) = (scene.puppet_address(), scene.answer_len("whole"));
        clients.push(thread::spawn(move || {
            let head = |pad: usize| {
                let query = format!("?answer=whole&after={}", HEAD_BYTES + 2);
                let pad = "p".repeat(pad);
                format!("POST /v1/completions{query} HTTP/1.1\r\nx-pad: {pad}\r\ncontent-length: 2\r\n\r\n")
            };
            let bytes = head(HEAD_BYTES - head(0).len()) + "{}";
            let mut stream = connect(address);
            let began = Instant::now();
            for byte in bytes.as_bytes() {
                stream.write_all(&[*byte]).unwrap();
                thread::sleep(PACE);
            }
            hear(&mut stream, expected);
            began.elapsed()
        }));
    }
    let took: Vec<Duration> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let least = PACE * HEAD_BYTES as u32;
    scene.settle();
    let records = scene.records();
    assert_eq!(records.len(), CLIENTS, "{records:?}");
    for record in &records {
        assert_eq!((record.outcome.as_deref(), &record.incomplete), (Some("ok"), &None), "{record:?}");
        let seconds = record.duration_seconds;
        let most = took.iter().max().unwrap().as_secs_f64();
        assert!((least.as_secs_f64()..=most).contains(&seconds), "{seconds} s, at most {most}");
    }
    scene.aftermath();
}

#[test]
fn a_server_that_answers_what_nobody_asked_is_counted() {
    const CONNECTIONS: usize = 20;
    let Some(scene) = Scene::set() else { return };
    let twice = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".repeat(2);
    scene.answer("twice", &twice);
    scene.answer("garbage", "\u{1}\u{2}\u{3}no answer at all\r\n\r\n");
    for number in 0..CONNECTIONS {
        let answer = if number % 2 == 0 { "twice" } else { "garbage" };
        let mut stream = connect(scene.puppet_address());
        stream.write_all(post("/v1/completions", answer, "", "{}").as_bytes()).unwrap();
        hear(&mut stream, scene.answer_len(answer));
        hear_all(stream);
    }
    scene.settle();
    let half = CONNECTIONS as f64 / 2.0;
    for reason in ["unexpected_response", "response_head"] {
        assert_eq!(scene.metric("inferscope_parse_failures_total", &[("reason", reason)]), half, "{reason}");
    }
    assert_eq!(scene.metric("vllm_requests_total", &[]), CONNECTIONS as f64);
    scene.aftermath();
}
