//! What clients send that mean no good, or know no better, and whether others are still served.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::tests::{PATIENCE, Running, SHORT, contains, read_to_end, start, start_with_models, starts};
use super::*;

/// Enough that its page is several times what the kernel takes for a client that does not read.
const MODELS_MANY: usize = 60;
const ROOMY: Limits = Limits { connections: 8, peer_connections: 8, ..SHORT };

/// What comes until the server closes, however it does, and how long that took.
async fn outcome(stream: &mut TcpStream) -> (String, Duration) {
    let (began, mut answer, mut buffer) = (Instant::now(), Vec::new(), vec![0; 64 << 10]);
    loop {
        match tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap() {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            // It closed before it had read all of what was sent.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
    (String::from_utf8_lossy(&answer).into_owned(), began.elapsed())
}

/// Sends bytes as they are; what comes back.
async fn send(server: &Running, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // A server that has had enough closes meanwhile.
    let _ = stream.write_all(bytes).await;
    outcome(&mut stream).await.0
}

async fn check_serves(server: &Running) {
    starts(&server.get("/healthz", "").await, "HTTP/1.1 200 OK\r\n");
}

#[tokio::test]
async fn a_body_is_refused_whatever_its_length() {
    let server = start(ROOMY, false).await;
    for framing in ["content-length: 1000000000", "content-length: 1", "transfer-encoding: chunked"] {
        let head = format!("GET /metrics HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n");
        let answer = send(&server, head.as_bytes()).await;
        starts(&answer, "HTTP/1.1 413 Payload Too Large\r\n");
        // With some of the body, which nobody reads.
        let body = [head.as_bytes(), &vec![b'1'; 1 << 20]].concat();
        let answer = send(&server, &body).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }
    for framing in ["content-length: -1", "content-length: 1\r\ncontent-length: 2"] {
        let head = format!("GET /metrics HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n");
        starts(&send(&server, head.as_bytes()).await, "HTTP/1.1 400 Bad Request\r\n");
    }
    check_serves(&server).await;
}

#[tokio::test]
async fn heads_that_are_too_much_are_refused() {
    let server = start(ROOMY, false).await;
    let many = "x: y\r\n".repeat(10_000);
    for (path, headers) in [
        ("/metrics".to_owned(), "x: ".to_owned() + &"y".repeat(HEAD_BYTES_MAX) + "\r\n"),
        ("/metrics".to_owned(), many.clone()),
        ("/metrics".to_owned(), many[..6 * (HEADERS_MAX + 1)].to_owned()),
        ("/".to_owned() + &"p".repeat(HEAD_BYTES_MAX), String::new()),
    ] {
        let head = format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
        let answer = send(&server, head.as_bytes()).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431 ") || answer.starts_with("HTTP/1.1 414 "),
            "{answer}"
        );
    }
    let long = format!("/{}", "p".repeat(HEAD_BYTES_MAX / 2));
    starts(&server.get(&long, "").await, "HTTP/1.1 404 Not Found\r\n");
    check_serves(&server).await;
}

#[tokio::test]
async fn one_byte_now_and_then_does_not_hold_a_connection() {
    let server = start(ROOMY, false).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let began = Instant::now();
    for byte in b"GET /metrics HTTP/1.1\r\nhost: a\r\nx: ".iter().chain(std::iter::repeat(&b'y')) {
        if stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "still open");
        tokio::time::sleep(SHORT.header_timeout / 10).await;
    }
    assert!(began.elapsed() >= SHORT.header_timeout, "{:?}", began.elapsed());
    check_serves(&server).await;
}

/// Asks for the page with a small window.
async fn ask_with_small_window(server: &Running) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    stream
}

/// No limit but that of connections runs out.
fn only_place() -> Limits {
    let long = PATIENCE * 2;
    Limits {
        connections: 1,
        peer_connections: 1,
        handshake_timeout: long,
        header_timeout: long,
        send_timeout_ms: 40_000,
        answer_timeout: long,
    }
}

/// Waits until the only place is free again.
async fn wait_for_place(server: &Running) {
    let began = Instant::now();
    let request = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    while !send(server, request).await.starts_with("HTTP/1.1 200 ") {
        assert!(began.elapsed() < PATIENCE, "the place is still taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_loses_its_place() {
    let limits = Limits { send_timeout_ms: SHORT.send_timeout_ms, ..only_place() };
    let server = start_with_models(limits, false, MODELS_MANY).await;
    let stream = ask_with_small_window(&server).await;
    wait_for_place(&server).await;
    drop(stream);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_a_little_now_and_then_loses_its_place() {
    let limits = Limits { answer_timeout: SHORT.answer_timeout, ..only_place() };
    let server = start_with_models(limits, false, MODELS_MANY).await;
    let mut stream = ask_with_small_window(&server).await;
    let reader = tokio::spawn(async move {
        let mut buffer = [0; 1024];
        while matches!(stream.read(&mut buffer).await, Ok(1..)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    wait_for_place(&server).await;
    reader.abort();
}

#[tokio::test]
async fn a_flood_is_refused_and_who_is_connected_is_served() {
    let server = start(Limits { header_timeout: PATIENCE, ..ROOMY }, false).await;
    let mut scraper = TcpStream::connect(server.address).await.unwrap();
    let mut scrape = async || {
        scraper.write_all(b"GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut buffer = [0; 4096];
        let length = scraper.read(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    contains(&scrape().await, "waiting_for");
    let mut flood = Vec::new();
    for _ in 0..ROOMY.connections * 20 {
        flood.push(TcpStream::connect(server.address).await.unwrap());
        contains(&scrape().await, "waiting_for");
    }
    let refused = flood.split_off(ROOMY.connections - 1);
    let count = refused.len();
    for mut stream in refused {
        starts(&read_to_end(&mut stream).await, "HTTP/1.1 503 Service Unavailable\r\n");
    }
    drop(flood);
    let answer = loop {
        let answer = server.get("/metrics", "").await;
        if !answer.starts_with("HTTP/1.1 503") {
            break answer;
        }
        contains(&scrape().await, "waiting_for");
    };
    let total =
        answer.lines().find_map(|line| line.strip_prefix("inferscope_http_connections_refused_total "));
    assert!(total.unwrap().parse::<usize>().unwrap() >= count, "{total:?}");
}

#[tokio::test]
async fn other_protocols_are_told_no_or_nothing() {
    let server = start(ROOMY, false).await;
    let garbage: Vec<u8> = (0..4096_u32).map(|number| (number * 167 % 251) as u8).collect();
    for bytes in [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".iter().copied().chain(vec![7; 600]).collect(),
        garbage,
        b"\0".repeat(100),
        b"\r\n\r\n\r\n\r\nnothing\r\n\r\n".to_vec(),
        b"GET /metrics HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /metrics\r\n\r\n".to_vec(),
    ] {
        let answer = send(&server, &bytes).await;
        let refused = answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 505 ");
        assert!(answer.is_empty() || refused, "{answer} to {:?}", String::from_utf8_lossy(&bytes));
    }
    check_serves(&server).await;
}

#[tokio::test]
async fn requests_in_one_piece_are_answered_in_their_order() {
    let server = start(ROOMY, false).await;
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let paths = ["/healthz", "/nothing", "/api/v1/latency"];
    let answer = server.exchange(&paths.map(request).concat()).await;
    let heads: Vec<&str> = answer.matches("HTTP/1.1 200 OK").collect();
    assert_eq!(heads.len(), 2, "{answer}");
    let places = ["\"version\"", "not found", "\"models\""].map(|part| answer.find(part).unwrap());
    assert!(places.is_sorted(), "{answer}");
}

#[tokio::test]
async fn targets_of_every_form_are_understood() {
    let server = start(ROOMY, false).await;
    for (request, head) in [
        ("GET http://a/healthz HTTP/1.1\r\nhost: b", "HTTP/1.1 200 "),
        ("GET /healthz HTTP/1.0", "HTTP/1.0 200 "),
        ("GET /healthz?a=b HTTP/1.1\r\nhost: a", "HTTP/1.1 200 "),
        ("HEAD /healthz HTTP/1.1\r\nhost: a", "HTTP/1.1 200 "),
        ("GET /../healthz HTTP/1.1\r\nhost: a", "HTTP/1.1 404 "),
        ("GET /%2e%2e/etc/passwd HTTP/1.1\r\nhost: a", "HTTP/1.1 404 "),
        ("OPTIONS * HTTP/1.1\r\nhost: a", "HTTP/1.1 404 "),
        ("CONNECT a:443 HTTP/1.1\r\nhost: a", "HTTP/1.1 404 "),
        ("TRACE /healthz HTTP/1.1\r\nhost: a", "HTTP/1.1 405 "),
    ] {
        let answer = server.exchange(&format!("{request}\r\nconnection: close\r\n\r\n")).await;
        starts(&answer, head);
    }
}
