//! Servers that do what they should, and servers that do not.

use std::time::Instant;

use axum::Router;
use axum::http::header;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const LIMITS: Limits = Limits { time: Duration::from_secs(20), bytes: 1000 };
const SHORT: Limits = Limits { time: Duration::from_millis(300), bytes: 1000 };

async fn listener() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    (listener, address)
}

/// Serves `router`.
async fn server(router: Router) -> Address {
    let (listener, address) = listener().await;
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Answers whoever connects with these bytes, once asked, and then goes on as `then` says.
async fn raw(answer: &'static [u8], then: Then) -> Address {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
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

async fn failure(address: &Address, limits: Limits) -> String {
    ask(address, &["/page"], limits).await.unwrap_err().to_string()
}

#[test]
fn addresses_are_understood_or_refused_with_an_example() {
    let check = |text: &str, expected: Option<(&str, u16, &str)>| {
        let address: Result<Address, String> = text.parse();
        match (&address, expected) {
            (Ok(address), Some((host, port, shown))) => {
                let found = (address.host.as_str(), address.port, address.to_string());
                assert_eq!(found, (host, port, shown.to_owned()), "{text}");
            }
            (Err(error), None) => assert!(error.contains("http://127.0.0.1:9940"), "{text}: {error}"),
            _ => panic!("{text} is {address:?}, not {expected:?}"),
        }
    };
    check("http://127.0.0.1:9940", Some(("127.0.0.1", 9940, "http://127.0.0.1:9940")));
    check("http://gpu-7", Some(("gpu-7", 9940, "http://gpu-7:9940")));
    check("gpu-7:1234/", Some(("gpu-7", 1234, "http://gpu-7:1234")));
    check("http://[::1]:80", Some(("::1", 80, "http://[::1]:80")));
    check("http://proxy:80/nodes/gpu-7/", Some(("proxy", 80, "http://proxy:80/nodes/gpu-7")));
    for text in [
        "",
        "http://",
        "http://:9940",
        "https://gpu-7",
        "ftp://gpu-7",
        "http://gpu-7:99999",
        "http://gpu-7:",
        "http://user@gpu-7:80",
        "http://gpu-7/?a=b",
        "gpu 7",
    ] {
        check(text, None);
    }
}

#[tokio::test]
async fn pages_come_in_the_order_asked_for_over_one_connection() {
    let (listener, address) = listener().await;
    let connections = tokio::spawn(async move {
        let router = Router::new().route("/n/a", get("1")).route("/n/b", get(|| async { "x".repeat(1000) }));
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper_util::service::TowerToHyperService::new(router);
        drop(listener);
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
    });
    let address = Address { base: "/n".to_owned(), ..address };
    let answers = ask(&address, &["/a", "/b"], LIMITS).await.unwrap();
    assert_eq!((answers[0].as_slice(), answers[1].len()), (b"1".as_slice(), 1000));
    connections.await.unwrap().unwrap();
}

#[tokio::test]
async fn nobody_there_is_said_in_one_sentence() {
    let (listener, address) = listener().await;
    drop(listener);
    let said = failure(&address, LIMITS).await;
    let expected = format!(
        "no answer of an agent from {address}: Connection refused (os error 111); start the agent there \
         (`inferscope run`), or name the address that it listens on (`export.listen`)"
    );
    assert_eq!(said, expected);
}

#[tokio::test]
async fn another_status_is_told_with_what_the_server_says() {
    let json = [(header::CONTENT_TYPE, "application/json")];
    let busy = move || async move {
        (StatusCode::SERVICE_UNAVAILABLE, json, "{\"error\":\"too many connections\"}")
    };
    let address = server(Router::new().route("/page", get(busy))).await;
    let said = failure(&address, LIMITS).await;
    assert!(said.contains("/page: it answered 503 Service Unavailable (too many connections); "), "{said}");
    let address = server(Router::new()).await;
    let said = failure(&address, LIMITS).await;
    assert!(
        said.contains("/page: it answered 404 Not Found; name an inferscope agent that is at least"),
        "{said}"
    );
    // One that has no end is no reason to wait for it.
    let address = raw(b"HTTP/1.1 500 Oh\r\n\r\n", Then::GoesOn).await;
    let said = failure(&address, LIMITS).await;
    assert!(said.contains("it answered 500 Internal Server Error; "), "{said}");
}

#[tokio::test]
async fn an_answer_is_bounded_in_size() {
    let long = || async { "x".repeat(1001) };
    let address = server(Router::new().route("/page", get(long))).await;
    let expected = "its answer is longer than 1000 bytes; ";
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
        assert!(said.contains("no whole answer within 0.3 s; "), "{said}");
    }
}

#[tokio::test]
async fn what_speaks_otherwise_or_leaves_is_told_apart() {
    let address = raw(b"220 mail ready\r\n", Then::Waits).await;
    let said = failure(&address, LIMITS).await;
    assert!(said.contains("what answers there does not speak HTTP/1.1; "), "{said}");
    for answer in [b"".as_slice(), b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{}"] {
        let address = raw(answer, Then::Closes).await;
        let said = failure(&address, LIMITS).await;
        // A server that leaves without having read all that it was asked resets the connection.
        let gone = ["closed before the answer was complete; ", "Connection reset by peer"];
        assert!(gone.iter().any(|gone| said.contains(gone)), "{said}");
    }
}
