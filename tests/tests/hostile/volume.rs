//! Much of something: connections, bytes, connections in a short time.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use inferscope_tests::skip;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use super::scene::{Scene, ask, connect, hear, hear_all};

const GIB: u64 = 1 << 30;

/// Lets this process and the servers that it starts have as many descriptors as it may.
fn allow_descriptors(needed: u64) -> bool {
    let own = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: own.maximum, maximum: own.maximum }).unwrap();
    let enough = own.maximum.is_none_or(|most| most >= needed);
    if !enough {
        skip(&format!("{needed} descriptors are needed, and {:?} allowed", own.maximum));
    }
    enough
}

const HEALTH: &[u8] = b"GET /health?answer=health HTTP/1.1\r\nhost: a\r\n\r\n";
const HEALTHY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

#[test]
fn ten_thousand_connections_at_rest_and_thousands_in_a_head_are_held() {
    const AT_REST: usize = 10_000;
    const IN_HEAD: usize = 3_000;
    const PARTS: usize = 4;
    const PART_BYTES: usize = 3_900;
    if !allow_descriptors((AT_REST + IN_HEAD) as u64 + 1_000) {
        return;
    }
    let Some(scene) = Scene::set() else { return };
    let mut kept = Vec::with_capacity(AT_REST + IN_HEAD);
    scene.answer("health", HEALTHY);
    for _ in 0..AT_REST {
        let mut stream = connect(scene.puppet_address());
        ask(&mut stream, HEALTH, HEALTHY.len() as u64);
        kept.push(stream);
    }
    // What each begins does not end, and would take 16 KiB of the agent each if it kept it all. In parts, since
    // of a long read only the ends are copied.
    for _ in 0..IN_HEAD {
        let mut stream = connect(scene.puppet_address());
        stream.write_all(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\nx-pad: ").unwrap();
        kept.push(stream);
    }
    for _ in 0..PARTS {
        for stream in &mut kept[AT_REST..] {
            stream.write_all(&[b'p'; PART_BYTES]).unwrap();
        }
        thread::sleep(Duration::from_millis(200));
    }
    thread::sleep(Duration::from_secs(3));
    let health = scene.metric("inferscope_http_requests_total", &[("route", "/health"), ("code", "200")]);
    assert_eq!(health, AT_REST as f64);
    let evicted =
        scene.metric("inferscope_events_lost_total", &[("stage", "connection"), ("reason", "evicted")]);
    assert!(evicted > 0.0, "all of it is held");
    scene.check_agent();
    // Those that were not evicted go on.
    for stream in kept.iter_mut().skip(AT_REST - 100).take(100) {
        ask(stream, HEALTH, HEALTHY.len() as u64);
    }
    kept.truncate(AT_REST);
    scene.settle();
    let health = scene.metric("inferscope_http_requests_total", &[("route", "/health"), ("code", "200")]);
    assert_eq!(health, (AT_REST + 100) as f64);
    scene.aftermath();
    drop(kept);
}

#[test]
fn bodies_of_a_gigabyte_pass_by() {
    const PART: u64 = 1 << 20;
    let Some(scene) = Scene::set() else { return };
    let usage = r#"","finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":4}}"#;
    let start = r#"{"id":"c","model":"huge","choices":[{"text":""#;
    let body = start.len() as u64 + GIB + usage.len() as u64;
    let head =
        |framing: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{framing}\r\n\r\n");
    scene.answer("small", head("content-length: 2") + "{}");
    scene.answer("huge-start", head(&format!("content-length: {body}")) + start);
    scene.answer("part", "a".repeat(PART as usize));
    scene.answer("huge-end", usage);

    // The request is huge.
    let prompt_start = r#"{"messages":[{"content":""#;
    let prompt_end = r#""}],"model":"huge"}"#;
    let length = prompt_start.len() as u64 + GIB + prompt_end.len() as u64;
    let request = format!(
        "POST /v1/completions?answer=small&after={length} HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{prompt_start}"
    );
    let part = vec![b'a'; PART as usize];
    let mut stream = connect(scene.puppet_address());
    stream.write_all(request.as_bytes()).unwrap();
    for _ in 0..GIB / PART {
        stream.write_all(&part).unwrap();
    }
    ask(&mut stream, prompt_end.as_bytes(), scene.answer_len("small"));
    // So is the answer, on the same connection. The puppet counts the rest of the first request to the second.
    hear_all(stream);
    let mut stream = connect(scene.puppet_address());
    let answer = format!("huge-start.part*{}.huge-end", GIB / PART);
    let request = format!("POST /v1/completions?answer={answer} HTTP/1.1\r\ncontent-length: 2\r\n\r\n{{}}");
    ask(&mut stream, request.as_bytes(), scene.answer_len("huge-start") + GIB + usage.len() as u64);

    scene.settle();
    let records = scene.records();
    assert_eq!(records.len(), 2, "{records:?}");
    assert!(
        records.iter().all(|record| record.outcome.as_deref() == Some("ok") && record.incomplete.is_none())
    );
    assert_eq!(records[1].model.as_deref(), Some("huge"), "{records:?}");
    assert_eq!((records[1].prompt_tokens, records[1].completion_tokens), (Some(9), Some(4)), "{records:?}");
    scene.aftermath();
}

#[test]
fn connections_that_come_and_go_on_the_same_ports_are_each_counted() {
    const CLIENTS: u32 = 4;
    const RATE_EACH: u32 = 500;
    const SECONDS: u32 = 4;
    let Some(scene) = Scene::set() else { return };
    scene.answer("health", HEALTHY);
    let server = scene.puppet_address();
    let began = Instant::now();
    let client = |number: u32| {
        thread::spawn(move || {
            (0..RATE_EACH * SECONDS).map(|turn| come_and_go(server, number, turn, RATE_EACH)).sum::<u32>()
        })
    };
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    let asked: u32 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    println!("{} connections in {:?}", CLIENTS * RATE_EACH * SECONDS, began.elapsed());
    scene.settle();
    let health = scene.metric("inferscope_http_requests_total", &[("route", "/health"), ("code", "200")]);
    assert_eq!(health, f64::from(asked));
    assert_eq!(scene.metric("vllm_requests_total", &[]), 0.0);
    scene.aftermath();
}

/// One connection of a client that makes `rate` a second, from one of its few ports; how many requests it made.
fn come_and_go(server: SocketAddr, client: u32, turn: u32, rate: u32) -> u32 {
    const PORTS: u32 = 16;
    thread::sleep(Duration::from_secs(1) / rate / 2);
    // Below those that the kernel gives out.
    let port = 23_000 + client * PORTS + turn % PORTS;
    let mut stream = connect_from(u16::try_from(port).unwrap(), server);
    // Every fourth goes without a word, every fourth in the middle of one.
    match turn % 4 {
        0 => 0,
        1 => {
            stream.write_all(&HEALTH[..10]).unwrap();
            0
        }
        _ => {
            ask(&mut stream, HEALTH, HEALTHY.len() as u64);
            1
        }
    }
}

/// A connection from a port that the one before it may just have left: it ends by a reset, so that no port rests.
fn connect_from(port: u16, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

#[test]
fn a_stream_whose_line_does_not_end_is_not_kept() {
    const MIB: u64 = 192;
    let Some(scene) = Scene::set() else { return };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let event = "data: {\"model\":\"m\",\"choices\":[{\"text\":\"a\"}]}\n\n";
    scene.answer("start", format!("{head}{event}data: {{\"text\":\""));
    scene.answer("part", "a".repeat(1 << 20));
    scene.answer("comment", format!("{head}{event}: "));
    scene.answer("blank", format!("{head}{event}"));
    scene.answer("blanks", "\n".repeat(1 << 20));
    scene.answer("end", format!("\n\n{event}"));
    for answer in ["start.part*{}.end", "comment.part*{}.end", "blank.blanks*{}.end"] {
        let answer = answer.replace("{}", &MIB.to_string());
        let bytes: u64 = answer
            .split('.')
            .map(|part| {
                let (name, times) = part.split_once('*').unwrap_or((part, "1"));
                scene.answer_len(name) * times.parse::<u64>().unwrap()
            })
            .sum();
        let mut stream = connect(scene.puppet_address());
        let request =
            format!("POST /v1/completions?answer={answer} HTTP/1.1\r\ncontent-length: 2\r\n\r\n{{}}");
        stream.write_all(request.as_bytes()).unwrap();
        hear(&mut stream, bytes / 2);
        scene.check_agent();
        hear(&mut stream, bytes - bytes / 2);
        hear_all(stream);
    }
    scene.settle();
    assert_eq!(scene.metric("vllm_requests_total", &[]), 3.0);
    scene.aftermath();
}
