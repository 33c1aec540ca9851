//! Servers that do what they should, and servers that do not.

use std::time::Instant;

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get as route;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const LIMITS: Limits = Limits { time: Duration::from_secs(20), bytes: 1000 };
const SHORT: Limits = Limits { time: Duration::from_millis(300), bytes: 1000 };

async fn listener() -> (TcpListener, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().into();
    (listener, address)
}

/// Serves `router`.
async fn server(router: Router) -> Server {
    let (listener, address) = listener().await;
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Answers whoever connects with these bytes, once asked, and then goes on as `then` says.
async fn raw(answer: &'static [u8], then: Then) -> Server {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // All that it is asked: closed with bytes unread, a connection is reset.
        assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
        stream.write_all(answer).await.unwrap();
        while then == Then::GoesOn && stream.write_all(&[b' '; 100]).await.is_ok() {}
        while then == Then::Waits && stream.read_u8().await.is_ok() {}
    });
    address
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Closes,
    Waits,
    GoesOn,
}

async fn failure(address: &Server, limits: Limits) -> String {
    get(address, &["/page"], "text/plain", limits).await.unwrap_err().to_string()
}

#[test]
fn addresses_are_understood_or_refused() {
    let check = |text: &str, expected: Option<(&str, u16, &str)>| {
        let address = Address::parse(text, 9940);
        match (&address, expected) {
            (Ok(address), Some((host, port, shown))) => {
                let found = (address.host.as_str(), address.port, address.to_string());
                assert_eq!(found, (host, port, shown.to_owned()), "{text}");
            }
            (Err(error), None) => assert!(!error.is_empty(), "{text}"),
            _ => panic!("{text} is {address:?}, not {expected:?}"),
        }
    };
    check("http://127.0.0.1:9940", Some(("127.0.0.1", 9940, "http://127.0.0.1:9940")));
    check("https://gpu-7", Some(("gpu-7", 9940, "https://gpu-7:9940")));
    check("http://gpu-7", Some(("gpu-7", 9940, "http://gpu-7:9940")));
    check("gpu-7:1234/", Some(("gpu-7", 1234, "http://gpu-7:1234")));
    check("http://[::1]:80", Some(("::1", 80, "http://[::1]:80")));
    check("http://proxy:80/nodes/gpu-7/", Some(("proxy", 80, "http://proxy:80/nodes/gpu-7")));
    for text in [
        "",
        "http://",
        "http://:9940",
        "ftp://gpu-7",
        "http://gpu-7:99999",
        "http://gpu-7:",
        "http://user@gpu-7:80",
        "http://gpu-7/?a=b",
        "gpu 7",
    ] {
        check(text, None);
    }
    for number in ["127.0.0.1:80", "[::1]:80"] {
        let address = Address::from(number.parse::<SocketAddr>().unwrap());
        assert_eq!(Ok(address), Address::parse(number, 1));
    }
}

#[tokio::test]
async fn pages_come_in_the_order_asked_for_over_one_connection() {
    let (listener, address) = listener().await;
    let connections = tokio::spawn(async move {
        let accepted = |headers: HeaderMap| async move { headers[ACCEPT].to_str().unwrap().to_owned() };
        let long = || async { "x".repeat(1000) };
        let router = Router::new().route("/n/a", route(accepted)).route("/n/b", route(long));
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper_util::service::TowerToHyperService::new(router);
        drop(listener);
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
    });
    let address = Server::from(Address { base: "/n".to_owned(), ..address.address });
    let answers = get(&address, &["/a", "/b"], "text/plain", LIMITS).await.unwrap();
    assert_eq!((answers[0].as_slice(), answers[1].len()), (b"text/plain".as_slice(), 1000));
    connections.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_answer_without_a_length_ends_with_its_connection() {
    let address = raw(b"HTTP/1.1 200 OK\r\n\r\nshort", Then::Closes).await;
    assert_eq!(get(&address, &["/page"], "text/plain", LIMITS).await.unwrap(), [b"short"]);
}

#[tokio::test]
async fn nobody_there_is_said() {
    let (listener, address) = listener().await;
    drop(listener);
    assert_eq!(failure(&address, LIMITS).await, format!("{address}: Connection refused (os error 111)"));
}

#[tokio::test]
async fn another_status_is_told_with_what_the_server_says() {
    let busy = || async { (StatusCode::SERVICE_UNAVAILABLE, "too many connections") };
    let address = server(Router::new().route("/page", route(busy))).await;
    let Failure { url, why } = get(&address, &["/page"], "text/plain", LIMITS).await.unwrap_err();
    assert_eq!(
        (url, why.to_string()),
        (format!("{address}/page"), "it answered 503 Service Unavailable".into())
    );
    assert!(matches!(why, Why::Status(_, said) if said == b"too many connections"));
    // One that has no end is no reason to wait for it.
    let address = raw(b"HTTP/1.1 500 Oh\r\n\r\n", Then::GoesOn).await;
    let said = failure(&address, LIMITS).await;
    assert!(said.ends_with("/page: it answered 500 Internal Server Error"), "{said}");
}

#[tokio::test]
async fn an_answer_is_bounded_in_size() {
    let long = || async { "x".repeat(1001) };
    let address = server(Router::new().route("/page", route(long))).await;
    let expected = "its answer is longer than 1000 bytes";
    let said = failure(&address, LIMITS).await;
    assert!(said.contains(expected), "{said}");
    let address = raw(b"HTTP/1.1 200 OK\r\n\r\n", Then::GoesOn).await;
    let said = failure(&address, LIMITS).await;
    assert!(said.contains(expected), "{said}");
    let address = raw(b"HTTP/1.1 200 OK\r\nx: ", Then::GoesOn).await;
    let said = failure(&address, LIMITS).await;
    assert!(said.contains("does not speak HTTP/1.1"), "{said}");
}

#[tokio::test]
async fn an_answer_is_bounded_in_time() {
    for answer in [b"".as_slice(), b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}"]
    {
        let address = raw(answer, Then::Waits).await;
        let began = Instant::now();
        let said = failure(&address, SHORT).await;
        assert!(began.elapsed() >= SHORT.time, "{:?}", began.elapsed());
        assert!(said.contains("no whole answer within 0.3 s"), "{said}");
    }
}

#[tokio::test]
async fn what_speaks_otherwise_or_leaves_is_told_apart() {
    for answer in [b"220 mail ready\r\n".as_slice(), b"SSH-2.0-OpenSSH\r\n"] {
        let said = failure(&raw(answer, Then::Waits).await, LIMITS).await;
        assert!(said.contains("what answers there does not speak HTTP/1.1"), "{said}");
    }
    for answer in [b"".as_slice(), b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}"] {
        let address = raw(answer, Then::Closes).await;
        let said = failure(&address, LIMITS).await;
        assert!(said.contains("closed before the answer was complete"), "{said}");
    }
}

#[tokio::test]
async fn a_question_carries_its_header_and_its_body() {
    let answer = |headers: HeaderMap, body: String| async move {
        let kind = headers["content-type"].to_str().unwrap().to_owned();
        format!("{kind} {} {body}", headers["x-request-id"].to_str().unwrap())
    };
    let address = server(Router::new().route("/v1/completions", axum::routing::post(answer))).await;
    let ask = |path: &'static str, limits| {
        let address = address.clone();
        async move { post(&address, path, &[("x-request-id", "own-1")], "{}".to_owned(), limits).await }
    };
    assert_eq!(ask("/v1/completions", LIMITS).await.unwrap(), b"application/json own-1 {}");
    let error = ask("/other", LIMITS).await.unwrap_err().to_string();
    assert!(error.ends_with("/other: it answered 404 Not Found"), "{error}");
    let error = ask("/v1/completions", Limits { bytes: 3, ..LIMITS }).await.unwrap_err().to_string();
    assert!(error.ends_with("longer than 3 bytes"), "{error}");
}
