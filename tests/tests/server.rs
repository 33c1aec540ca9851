//! The scripted server and the load client against each other, without an agent.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use inferscope_tests::client::{self, Options};
use inferscope_tests::fake_server::{
    Ask, Ending, Framing, FrontEnd, SCENARIOS, Script, Served, Server, Step, every_kind, plan, scenario,
};
use inferscope_tests::socket::{Calls, Endpoint};
use inferscope_tests::transcript::{Outcome, Track, exchanges, request_head};

fn start(listen: &str) -> Server {
    let options = inferscope_tests::fake_server::Options {
        listen: listen.parse().unwrap(),
        seed: 1,
        script: None,
        script_file: None,
        first_read_after: Duration::ZERO,
    };
    Server::start(options).unwrap()
}

/// Sends a request with its own script and reads until the server closes.
fn answer(server: &Server, script: &Script, body: &str) -> (Vec<u8>, Vec<u8>) {
    let Endpoint::Tcp(address) = server.endpoint() else { panic!("not over TCP") };
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nx-request-id: r\r\nx-script: {}\r\ncontent-length: {}\r\n\r\n{body}",
        script.to_header(),
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    // A scripted reset ends the stream as an error.
    let _ = stream.read_to_end(&mut bytes);
    (request.into_bytes(), bytes)
}

/// What the server logged of its only request.
async fn logged(server: &mut Server) -> Served {
    server.stop().await;
    let served = server.log().served();
    assert_eq!(served.len(), 1);
    served.into_iter().next().unwrap()
}

/// Runs a script and checks bytes and writes against its plan.
async fn check(script: Script, stream: bool) {
    let script = Script { close: true, first_after_us: 2_000, gaps_us: vec![2_000], ..script };
    let mut server = start("127.0.0.1:0");
    let body = format!("{{\"model\":\"m\",\"stream\":{stream},\"messages\":[]}}");
    let (request, bytes) = tokio::task::block_in_place(|| answer(&server, &script, &body));
    let served = logged(&mut server).await;

    let (mut requests, mut responses) = (Track::default(), Track::default());
    requests.push(1, &request);
    responses.push(2, &bytes);
    let found = exchanges(&requests, &responses).unwrap();
    let id =
        found[0].response_id.as_deref().and_then(|id| u64::from_str_radix(id.rsplit('-').next()?, 16).ok());
    let head = request_head(&request).unwrap().unwrap();
    let plan = plan(&script, &Ask::new(&head, body.as_bytes(), id.unwrap_or_default()));
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&plan.bytes()), "{script:?}");

    let planned: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Write { pieces, deltas } => Some((
                pieces.iter().map(|piece| piece.len() as u64).sum::<u64>(),
                pieces.len() as u32,
                *deltas,
            )),
            _ => None,
        })
        .collect();
    let written: Vec<_> =
        served.writes.iter().map(|write| (write.bytes, write.pieces, write.deltas)).collect();
    assert_eq!(written, planned, "{script:?}");
    assert!(served.writes.iter().all(|write| write.calls == 1), "a write took several calls: {script:?}");
    let times = served.writes.iter().flat_map(|write| [write.began_ns, write.ended_ns]);
    assert!(times.collect::<Vec<_>>().is_sorted());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_and_every_write_is_as_scripted() {
    let calls = [Calls::ReadWrite, Calls::RecvSend, Calls::Message, Calls::Vector];
    for (index, front_end) in [FrontEnd::Python, FrontEnd::Rust].into_iter().enumerate() {
        for call in calls {
            check(Script { front_end, calls: call, ..Script::default() }, true).await;
        }
        let base = || Script { front_end, calls: calls[index], ..Script::default() };
        check(Script { content: 40, events_per_write: 16, ..base() }, true).await;
        check(Script { writes_per_group: 4, cut_us: 1_000, ..base() }, true).await;
        check(Script { comment_every: 2, reasoning: 3, tool_calls: 2, ..base() }, true).await;
        check(Script { ending: Ending::ErrorEvent, ..base() }, true).await;
        check(Script { ending: Ending::CloseAfter(2), ..base() }, true).await;
        check(Script { status: 429, ..base() }, true).await;
        for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
            for body_bytes in [1, 10_000] {
                check(Script { framing, body_bytes, body_writes: 3, ..base() }, false).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_ten_megabytes_comes_whole() {
    let mut server = start("127.0.0.1:0");
    let script = Script { body_bytes: 10_000_000, close: true, ..Script::default() };
    let (_, bytes) = tokio::task::block_in_place(|| answer(&server, &script, "{}"));
    assert!(bytes.len() > 10_000_000);
    let served = logged(&mut server).await;
    assert_eq!(served.outcome, Outcome::Ok);
}

/// Load of everything, on one kind of socket: client and server agree on every request.
async fn check_agreement(listen: &str) {
    let mut server = start(listen);
    let options = Options {
        requests: 150,
        concurrency: 8,
        mix: "all".parse().unwrap(),
        scenarios: every_kind(),
        ..Options::new(server.endpoint().clone())
    };
    let report = client::run(&options, |_| ()).await.unwrap();
    server.stop().await;
    assert_eq!(report.failures, Vec::<String>::new());
    assert_eq!(report.exchanges.len() + report.unsent, 150);
    let served = server.log().served();
    let mut compared = 0;
    for exchange in &report.exchanges {
        let Some(served) = served.iter().find(|served| served.request_id == exchange.request_id) else {
            // The second of a pair, when the first ended the connection.
            assert_eq!(exchange.outcome, Outcome::ServerReset, "{exchange:?}");
            continue;
        };
        // A client that leaves at the very end and a server that is just done may both be right.
        if [exchange.outcome, served.outcome].contains(&Outcome::ClientAbort) {
            continue;
        }
        compared += 1;
        assert_eq!(exchange.outcome, served.outcome, "{exchange:?}");
        if exchange.outcome != Outcome::ServerReset {
            assert_eq!(exchange.status, served.status);
            let events = if exchange.streamed { served.chunks() } else { 0 };
            assert_eq!(exchange.deltas_ns.len() as u64, events, "{:?}", exchange.request_id);
        }
        assert!(exchange.started_ns <= served.first_read_ns, "read before it was sent: {exchange:?}");
    }
    assert!(compared > 100, "only {compared} compared");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_and_server_agree_over_ipv4() {
    check_agreement("127.0.0.1:0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_and_server_agree_over_ipv6() {
    check_agreement("[::1]:0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_and_server_agree_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("demo.sock");
    check_agreement(&format!("unix:{}", path.display())).await;
    assert!(!path.exists(), "the socket file is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_makes_the_server_wait() {
    let mut server = start("127.0.0.1:0");
    let options = Options {
        requests: 1,
        mix: "slow-reader".parse().unwrap(),
        scenarios: vec!["small-send-buffer".to_owned()],
        ..Options::new(server.endpoint().clone())
    };
    client::run(&options, |_| ()).await.unwrap();
    let served = logged(&mut server).await;
    assert_eq!(served.outcome, Outcome::Ok);
    assert!(served.send_wait_ns > 50_000_000, "waited {} ns", served.send_wait_ns);
    assert!(served.writes.iter().any(|write| write.calls > 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_server_reads_late() {
    let mut server = start("127.0.0.1:0");
    let options = Options {
        requests: 3,
        concurrency: 1,
        mix: "chat-stream".parse().unwrap(),
        scenarios: vec!["reads-late".to_owned()],
        ..Options::new(server.endpoint().clone())
    };
    let report = client::run(&options, |_| ()).await.unwrap();
    server.stop().await;
    let served = server.log().served();
    let delays: Vec<_> = std::iter::zip(&report.exchanges, &served)
        .map(|(exchange, served)| served.first_read_ns - exchange.started_ns)
        .collect();
    assert!(delays[1..].iter().all(|delay| *delay >= 60_000_000), "{delays:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn load_is_bounded_in_time_and_count() {
    let mut server = start("127.0.0.1:0");
    let endpoint = server.endpoint().clone();
    let began = Instant::now();
    let options = Options {
        requests: 100_000,
        rate: Some(20.0),
        time_max: Duration::from_millis(1_500),
        ..Options::new(endpoint.clone())
    };
    let report = client::run(&options, |_| ()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "took {:?}", began.elapsed());
    assert!((5..=60).contains(&report.exchanges.len()), "{} requests", report.exchanges.len());
    assert_eq!(report.exchanges.len() + report.unsent, 100_000);
    let too_many = Options { requests: usize::MAX, ..Options::new(endpoint.clone()) };
    assert!(client::run(&too_many, |_| ()).await.is_err());
    let too_fast = Options { rate: Some(f64::INFINITY), ..Options::new(endpoint) };
    assert!(client::run(&too_fast, |_| ()).await.is_err());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_open_connections() {
    let mut server = start("127.0.0.1:0");
    let options = Options {
        requests: 4,
        mix: "chat-stream".parse().unwrap(),
        scenarios: vec!["slow-first".to_owned()],
        ..Options::new(server.endpoint().clone())
    };
    let load = tokio::spawn(async move { client::run(&options, |_| ()).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    server.stop().await;
    assert!(began.elapsed() < Duration::from_secs(1));
    let report = load.await.unwrap();
    assert!(report.exchanges.iter().all(|exchange| exchange.outcome == Outcome::ServerReset));
    assert_eq!(report.exchanges.len(), 4);
}

#[test]
fn the_same_seed_gives_the_same_script() {
    for (name, _) in SCENARIOS {
        assert_eq!(scenario(name, 3), scenario(name, 3), "{name}");
    }
    assert_ne!(scenario("python", 3), scenario("python", 4));
}
