//! The packet capture against the server's own log: the wire shows what was scripted.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::path::Path;
use std::time::Duration;

use inferscope_tests::client::{self, Options, SLOW_SUFFIX};
use inferscope_tests::fake_server::{self, Served, Server, every_kind};
use inferscope_tests::oracle::Source;
use inferscope_tests::transcript::{Exchange, Outcome};
use inferscope_tests::wire::{self, Capture};
use inferscope_tests::{harness, skip};

/// Between a packet and the return of the call that sent or received it, on a machine that is not idle.
const NEAR: u64 = 20_000_000;

fn start(listen: &str) -> Server {
    let options = fake_server::Options {
        listen: listen.parse().unwrap(),
        seed: 1,
        script: None,
        script_file: None,
        first_read_after: Duration::ZERO,
    };
    Server::start(options).unwrap()
}

/// Why this machine cannot capture.
fn incapable(folder: &Path) -> Option<String> {
    Capture::start(9, folder).err().map(|error| format!("{error:#}"))
}

fn options(server: &Server, mix: &str, scenarios: &[&str], requests: usize) -> Options {
    Options {
        requests,
        concurrency: 4,
        mix: mix.parse().unwrap(),
        scenarios: scenarios.iter().map(|name| (*name).to_owned()).collect(),
        ..Options::new(server.endpoint().clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_is_a_write() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(reason) = incapable(folder.path()) {
        skip(&reason);
        return;
    }
    let mut server = start("127.0.0.1:0");
    let port = server.endpoint().port().unwrap();
    let capture = Capture::start(port, folder.path()).unwrap();
    let scenarios = ["python", "rust", "burst", "cut", "comments", "merged-tokens"];
    let options = Options { concurrency: 1, ..options(&server, "chat-stream", &scenarios, 24) };
    client::run(&options, |_| ()).await.unwrap();
    let captured = capture.stop().unwrap();
    server.stop().await;
    let segments: Vec<u64> = wire::flows(&captured.path, port)
        .unwrap()
        .iter()
        .flat_map(|flow| flow.responses.parts().map(|(length, _)| length as u64))
        .collect();
    let writes: Vec<u64> =
        server.log().served().iter().flat_map(|served| &served.writes).map(|write| write.bytes).collect();
    assert_eq!(segments, writes);
}

fn check_times(exchange: &Exchange, served: &Served) {
    let id = exchange.request_id.as_deref().unwrap_or_default();
    let near = |wire: u64, server: u64, what: &str| {
        assert!(wire.abs_diff(server) < NEAR + wire / 20, "{what} of {id}: wire {wire}, server {server}");
    };
    let last = served.writes.last().expect("a whole response was written");
    near(exchange.ended_ns - exchange.started_ns, last.ended_ns - served.first_read_ns, "duration");
    let mut deltas = served.writes.iter().filter(|write| write.deltas > 0);
    if let (true, Some(first)) = (exchange.streamed, deltas.next()) {
        near(exchange.ttft_ns().unwrap(), first.ended_ns - served.first_read_ns, "ttft");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wire_client_and_server_tell_the_same() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(reason) = incapable(folder.path()) {
        skip(&reason);
        return;
    }
    for listen in ["127.0.0.1:0", "[::1]:0"] {
        let mut server = start(listen);
        let load = Options { scenarios: every_kind(), ..options(&server, "all", &[], 150) };
        let truth = harness::load(&load, folder.path()).await.unwrap();
        server.stop().await;
        let served = server.log().served();
        let (wire, client) = (truth.of(Source::Wire), truth.of(Source::Client));
        // What was sent to a server that had just closed is no request.
        assert!(client.len() - wire.len() <= 3, "{} of {} on the wire", wire.len(), client.len());
        for exchange in wire {
            let same = |other: &&Exchange| other.request_id == exchange.request_id;
            let seen = client.iter().find(same).expect("the client saw it too");
            assert_eq!(exchange.model, seen.model, "{exchange:?}");
            // A client that leaves while the last bytes come to it has not seen what the wire has.
            if seen.outcome == Outcome::ClientAbort {
                assert!(matches!(exchange.outcome, Outcome::ClientAbort | Outcome::Ok), "{exchange:?}");
                continue;
            }
            assert_eq!(exchange.outcome, seen.outcome, "{exchange:?}");
            let Some(served) = served.iter().find(|one| one.request_id == exchange.request_id) else {
                continue;
            };
            if exchange.outcome == Outcome::ClientAbort {
                continue;
            }
            assert_eq!(exchange.status, seen.status);
            assert_eq!(exchange.response_bytes, seen.response_bytes);
            assert_eq!(exchange.completion_tokens, seen.completion_tokens);
            assert_eq!(exchange.deltas_ns.len(), seen.deltas_ns.len());
            let id = exchange.request_id.as_deref().unwrap_or_default();
            if exchange.outcome == Outcome::Ok && !id.ends_with(SLOW_SUFFIX) {
                check_writes(exchange, served);
            }
        }
    }
}

/// Gaps on the wire are gaps between writes, however large the writes.
fn check_writes(exchange: &Exchange, served: &Served) {
    if exchange.streamed {
        assert_eq!(exchange.gaps_ns().len(), served.delta_writes().saturating_sub(1), "{exchange:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn times_on_the_wire_are_those_of_the_calls() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(reason) = incapable(folder.path()) {
        skip(&reason);
        return;
    }
    let mut server = start("127.0.0.1:0");
    let scenarios = ["python", "rust", "slow-token", "chunked-body"];
    let options = Options { concurrency: 1, ..options(&server, "chat-stream,chat-whole", &scenarios, 20) };
    let truth = harness::load(&options, folder.path()).await.unwrap();
    server.stop().await;
    let served = server.log().served();
    assert_eq!(truth.of(Source::Wire).len(), served.len());
    for (exchange, served) in std::iter::zip(truth.of(Source::Wire), &served) {
        check_times(exchange, served);
    }
}
