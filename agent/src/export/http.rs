//! The HTTP server: connections within limits, and the pages that are no JSON interface.
//!
//! In: a listener, what is shown, who may see it, and the end. Out: answers. A client that is slow to ask, slow to read or
//! one too many is cut off; it takes nothing from the pipeline, because pages are encoded in a thread of
//! their own.

use std::convert::Infallible;
use std::future::Future;
use std::io::IoSlice;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::{set_socket_send_buffer_size, set_tcp_user_timeout};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::access::Access;
use super::answers::{Answers, Timed};
use super::negotiate::{Format, negotiate};
use super::places::Places;
use super::{Shared, api, tls};
use crate::clock::BootTime;
use crate::health::{Health, Unauthorized};

/// Connections at once; one more is answered 503 and closed. With the descriptors of programs and tables they
/// stay far below the 1,024 that a process usually may have.
pub const CONNECTIONS_MAX: usize = 64;
/// Of these, what one peer may have: two scrapers, scripts and a terminal need a handful.
const PEER_CONNECTIONS_MAX: usize = 32;
/// A request's head has to be whole within this, counted from the end of the answer before it.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that takes no byte for this long is cut off, in milliseconds.
const SEND_TIMEOUT_MS: u32 = 10_000;
/// What the kernel holds for a client that does not read yet. By itself it would hold megabytes.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// One that takes longer than this for a whole answer is, too: a scraper has given up long before.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header lines of a request.
const HEADERS_MAX: usize = 100;
/// Pages that are encoded at once: each is some hundred KiB and some milliseconds of a processor.
const SCRAPES_MAX: usize = 2;
/// Answers under way get this long when the agent ends.
const SHUTDOWN_MAX: Duration = Duration::from_secs(1);
/// Pause after a failed accept, which is mostly a want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a client may take; the rest of this file's limits are the same for every test.
#[derive(Clone, Copy, Debug)]
struct Limits {
    connections: usize,
    peer_connections: usize,
    handshake_timeout: Duration,
    header_timeout: Duration,
    send_timeout_ms: u32,
    answer_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX,
            peer_connections: PEER_CONNECTIONS_MAX,
            handshake_timeout: tls::HANDSHAKE_TIMEOUT,
            header_timeout: HEADER_TIMEOUT,
            send_timeout_ms: SEND_TIMEOUT_MS,
            answer_timeout: ANSWER_TIMEOUT,
        }
    }
}

const REFUSAL: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
                       content-length: 32\r\nconnection: close\r\n\r\n{\"error\":\"too many connections\"}";

/// What every node's own manager may ask without naming itself: how the agent is, and not why.
const OPEN_TO_ALL: [&str; 2] = ["/healthz", "/readyz"];

/// Serves until `shutdown` is ready, then lets answers under way finish.
///
/// # Errors
/// A listener whose address cannot be told.
pub async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    access: Access,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    Server::new(Limits::default(), shared, access).serve(listener, shutdown).await
}

struct Server {
    limits: Limits,
    shared: Arc<Shared>,
    access: Access,
    router: Router,
    places: Places,
}

impl Server {
    fn new(limits: Limits, shared: Arc<Shared>, access: Access) -> Self {
        let places = Places::new(limits.connections, limits.peer_connections);
        Self { limits, router: router(shared.clone(), access.clone()), shared, access, places }
    }

    async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
        let address = listener.local_addr().context("read the address of the http listener")?;
        tracing::info!(%address, "serving");
        let graceful = GracefulShutdown::new();
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        let mut follows = pin!(self.access.clone().follow());
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                () = &mut follows => {}
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.take(stream, peer.ip(), &graceful, &mut connections),
                    Err(error) => {
                        tracing::debug!(%error, "accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        // What has not finished by then is aborted with its set.
        let _ = tokio::time::timeout(SHUTDOWN_MAX, graceful.shutdown()).await;
        Ok(())
    }

    /// Serves a connection, or refuses it where there are too many.
    fn take(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        graceful: &GracefulShutdown,
        connections: &mut JoinSet<()>,
    ) {
        let acceptor = self.access.tls();
        let Some(place) = self.places.take(peer) else {
            self.shared.health.refuse_connection();
            // Where TLS is spoken these bytes would be none, and the end says enough.
            if acceptor.is_none() {
                // Into an empty send buffer this fits or the client is gone: nothing waits.
                let _ = stream.try_write_vectored(&[IoSlice::new(REFUSAL.as_bytes())]);
            }
            // A request that is here already and not read would take the answer back with a reset.
            let _ = stream.try_read(&mut [0; HEAD_BYTES_MAX]);
            return;
        };
        // A scrape is one small and one big write: neither waits for an acknowledgement of the other.
        let _ = stream.set_nodelay(true);
        let _ = set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES);
        // A kernel without it only loses this limit.
        let _ = set_tcp_user_timeout(&stream, self.limits.send_timeout_ms);
        let (answers, router) = (Answers::default(), TowerToHyperService::new(self.router.clone()));
        // Below TLS, which keeps what it was given to write until the client takes it.
        let stream = Timed::new(stream, answers.clone(), self.limits.answer_timeout);
        let service = service_fn(move |request| {
            answers.begin();
            router.call(request)
        });
        let (limits, health, watcher) = (self.limits, self.shared.health.clone(), graceful.watcher());
        connections.spawn(async move {
            match acceptor {
                None => run(limits, stream, service, watcher).await,
                Some(acceptor) => match tls::shake(&acceptor, stream, limits.handshake_timeout).await {
                    Ok(stream) => run(limits, stream, service, watcher).await,
                    Err(failure) => {
                        tracing::debug!(reason = failure.label(), "tls handshake");
                        health.fail_handshake(failure);
                    }
                },
            }
            drop(place);
        });
    }
}

/// Drives a connection to its end.
async fn run<S, V>(limits: Limits, stream: S, service: V, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    V: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
{
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "http connection");
    }
}

/// What the handlers share.
#[derive(Clone)]
pub(super) struct App {
    pub(super) shared: Arc<Shared>,
    scrapes: Arc<Semaphore>,
}

fn router(shared: Arc<Shared>, access: Access) -> Router {
    let door = Door { health: shared.health.clone(), access };
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .nest("/api/v1", api::router())
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "not found") })
        .method_not_allowed_fallback(|| async { refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD") })
        .layer(middleware::from_fn_with_state(door, refuse_strangers))
        .layer(middleware::from_fn(refuse_bodies))
        .with_state(App { shared, scrapes: Arc::new(Semaphore::new(SCRAPES_MAX)) })
}

/// An error as JSON.
pub(super) fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(serde_json::json!({ "error": error }))).into_response()
}

/// No page takes a body, so none is read: a request with one is refused and its connection closed.
async fn refuse_bodies(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let length = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if length || headers.contains_key(header::TRANSFER_ENCODING) {
        let mut response = refuse(StatusCode::PAYLOAD_TOO_LARGE, "no page takes a request body");
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    next.run(request).await
}

/// Who may ask, and who counts those that may not.
#[derive(Clone)]
struct Door {
    health: Health,
    access: Access,
}

/// A request that named nobody, at a page that is open to all.
#[derive(Clone, Copy)]
struct Stranger;

/// Where tokens or passwords are asked for, a request without goes no further than [`OPEN_TO_ALL`].
async fn refuse_strangers(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let Some(guard) = door.access.guard() else { return next.run(request).await };
    let Err(why) = guard.admit(request.headers()).await else { return next.run(request).await };
    if OPEN_TO_ALL.contains(&request.uri().path()) {
        request.extensions_mut().insert(Stranger);
        return next.run(request).await;
    }
    door.health.refuse_request(why);
    tracing::debug!(reason = why.label(), "request of a stranger");
    if why == Unauthorized::Busy {
        let mut response = refuse(StatusCode::TOO_MANY_REQUESTS, "too many passwords wait to be checked");
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        return response;
    }
    let mut response = refuse(StatusCode::UNAUTHORIZED, "a token or password that is known here is needed");
    for challenge in guard.challenges() {
        response.headers_mut().append(header::WWW_AUTHENTICATE, challenge.clone());
    }
    response
}

async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    // Several lines of one header are one list.
    let accept: Vec<_> =
        headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok()).collect();
    let format = negotiate(&accept.join(","), app.shared.registries.native.is_some());
    let Ok(_permit) = app.scrapes.acquire().await else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the agent ends");
    };
    let shared = app.shared.clone();
    let page = tokio::task::spawn_blocking(move || encode(&shared, format)).await;
    match page.context("encode the page").flatten() {
        Ok(page) => ([(header::CONTENT_TYPE, format.content_type())], page).into_response(),
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "encode the page");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be encoded")
        }
    }
}

fn encode(shared: &Shared, format: Format) -> Result<Vec<u8>> {
    let started = Instant::now();
    let registries = &shared.registries;
    let page = match format {
        Format::Text => registries.text()?,
        Format::OpenMetrics => registries.openmetrics()?,
        Format::Protobuf => registries.protobuf()?.context("protobuf is off")?,
    };
    shared.health.scraped(started.elapsed());
    Ok(page)
}

async fn healthz(State(app): State<App>, stranger: Option<Extension<Stranger>>) -> Response {
    let report = app.shared.health.report(BootTime::now());
    let status = if report.is_alive() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if stranger.is_some() {
        return (status, Json(serde_json::json!({ "status": report.status }))).into_response();
    }
    (status, Json(report)).into_response()
}

async fn readyz(State(app): State<App>) -> Response {
    let ready = app.shared.health.readiness();
    let status = if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ready)).into_response()
}

async fn index() -> Html<&'static str> {
    Html(concat!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>inferscope</title></head><body>",
        "<h1>inferscope ",
        env!("CARGO_PKG_VERSION"),
        "</h1><ul>",
        "<li><a href=\"/metrics\">/metrics</a>: for Prometheus</li>",
        "<li><a href=\"/healthz\">/healthz</a>: state of each signal and probe</li>",
        "<li><a href=\"/readyz\">/readyz</a>: whether it measures</li>",
        "<li><a href=\"/api/v1/latency\">/api/v1/latency</a>: rates and quantiles of each model</li>",
        "<li><a href=\"/api/v1/requests\">/api/v1/requests</a>: the newest finished requests</li>",
        "<li><a href=\"/api/v1/slow\">/api/v1/slow</a>: the newest slow requests, with what their time went to</li>",
        "<li><a href=\"/api/v1/stalls\">/api/v1/stalls</a>: what holds the servers' threads up</li>",
        "<li><a href=\"/api/v1/gpus\">/api/v1/gpus</a>: the GPUs of this node, and who uses them</li>",
        "<li><a href=\"/api/v1/quality\">/api/v1/quality</a>: whether the models are as good as they were</li>",
        "<li><a href=\"/api/v1/workloads\">/api/v1/workloads</a>: the inference servers of this node</li>",
        "<li><a href=\"/api/v1/agent\">/api/v1/agent</a>: what the agent itself costs, and what it lost</li>",
        "</ul></body></html>",
    ))
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod secured_tests;
#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::blame::Verdict;
    use crate::export::Settings;
    use crate::health::{ProbeState, SignalState};
    use crate::registry::Registries;
    use crate::request::record::RequestRecord;
    use crate::signal::Signal as _;
    use crate::signal::canary::view::CanaryView;
    use crate::signal::drift::view::PredictionsView;
    use crate::signal::gpu::view::GpusView;
    use crate::signal::latency::{LatencySignal, Options, tests::record};
    use crate::signal::live::view::ChangesView;
    use crate::signal::mmlu::view::EvaluationsView;
    use crate::signal::slow::SlowView;
    use crate::signal::stalls::view::StallsView;

    pub(super) const SHORT: Limits = Limits {
        connections: 2,
        peer_connections: 2,
        handshake_timeout: Duration::from_millis(300),
        header_timeout: Duration::from_millis(300),
        send_timeout_ms: 300,
        answer_timeout: Duration::from_millis(600),
    };
    /// Longer than any answer takes, short enough for a test that hangs.
    pub(super) const PATIENCE: Duration = Duration::from_secs(20);

    pub(super) struct Running {
        pub(super) address: std::net::SocketAddr,
        pub(super) health: Health,
        end: oneshot::Sender<()>,
        server: JoinHandle<Result<()>>,
    }

    pub(super) async fn start(limits: Limits, native: bool) -> Running {
        start_with_models(limits, native, 1).await
    }

    /// With a request of each of so many models.
    pub(super) async fn start_with_models(limits: Limits, native: bool, models: usize) -> Running {
        start_with(limits, shared(native, models), Access::load(&Settings::default()).unwrap()).await
    }

    /// With TLS and authentication as the settings say.
    pub(super) async fn start_secured(limits: Limits, settings: &Settings) -> Running {
        start_with_access(limits, Access::load(settings).unwrap()).await
    }

    pub(super) async fn start_with_access(limits: Limits, access: Access) -> Running {
        start_with(limits, shared(false, 1), access).await
    }

    fn shared(native: bool, models: usize) -> Shared {
        let mut registries = Registries::new(native);
        let health = Health::new(&mut registries.common);
        let options = Options { native_histograms: native, ..Options::default() };
        let mut signal = LatencySignal::new(options, &mut registries, BootTime::now());
        for number in 0..models {
            let model = if number == 0 { "m".into() } else { format!("m-{number}").into() };
            signal.on_request(&RequestRecord { model, ..record() }, &Verdict::default());
        }
        Shared {
            registries,
            health,
            latency: signal.view(),
            slow: SlowView::default(),
            stalls: StallsView::default(),
            gpus: GpusView::default(),
            predictions: PredictionsView::default(),
            evaluations: EvaluationsView::default(),
            canary: CanaryView::default(),
            changes: ChangesView::default(),
        }
    }

    async fn start_with(limits: Limits, shared: Shared, access: Access) -> Running {
        let health = shared.health.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel();
        let shutdown = async move { drop(ended.await) };
        let server = tokio::spawn(Server::new(limits, Arc::new(shared), access).serve(listener, shutdown));
        Running { address, health, end, server }
    }

    impl Running {
        /// Sends `request` as it is, and reads until the server closes.
        pub(super) async fn exchange(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            read_to_end(&mut stream).await
        }

        pub(super) async fn get(&self, path: &str, headers: &str) -> String {
            self.exchange(&format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n"))
                .await
        }
    }

    pub(super) async fn read_to_end(stream: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(super) fn starts(answer: &str, head: &str) {
        assert!(answer.starts_with(head), "{head} begins {answer}");
    }

    pub(super) fn contains(answer: &str, part: &str) {
        assert!(answer.contains(part), "{part} in {answer}");
    }

    #[tokio::test]
    async fn metrics_come_in_the_format_asked_for() {
        let server = start(SHORT, true).await;
        let answer = server.get("/metrics", "").await;
        starts(&answer, "HTTP/1.1 200 OK\r\n");
        contains(&answer, "content-type: text/plain; version=0.0.4; charset=utf-8\r\n");
        contains(&answer, "vllm_requests_total{model=\"m\",workload=\"w\"} 1\n");
        contains(&answer, "process_open_fds ");
        let answer = server.get("/metrics", "accept: application/openmetrics-text;version=1.0.0\r\n").await;
        contains(&answer, "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n");
        contains(&answer, "# EOF\n");
        contains(&answer, "inferscope_scrapes_total 1\n");
        let protobuf = Format::Protobuf.content_type();
        let answer = server.get("/metrics", &format!("accept: {protobuf}\r\n")).await;
        contains(&answer, &format!("content-type: {protobuf}\r\n"));
        // Several lines of the header are one list.
        let answer =
            server.get("/metrics", &format!("accept: text/plain\r\naccept: {protobuf};q=0.5\r\n")).await;
        contains(&answer, "content-type: text/plain");
    }

    #[tokio::test]
    async fn protobuf_is_not_offered_where_it_is_off() {
        let server = start(SHORT, false).await;
        let answer =
            server.get("/metrics", &format!("accept: {}\r\n", Format::Protobuf.content_type())).await;
        contains(&answer, "content-type: text/plain; version=0.0.4; charset=utf-8\r\n");
    }

    #[tokio::test]
    async fn what_is_not_there_and_what_is_not_allowed_is_said_as_json() {
        let server = start(SHORT, false).await;
        for (request, head, body) in [
            ("GET /nothing", "404 Not Found", "{\"error\":\"not found\"}"),
            ("GET /api/v1/nothing", "404 Not Found", "{\"error\":\"not found\"}"),
            ("DELETE /metrics", "405 Method Not Allowed", "{\"error\":\"only GET and HEAD\"}"),
            ("DELETE /api/v1/latency", "405 Method Not Allowed", "{\"error\":\"only GET and HEAD\"}"),
            ("GET /api/v1/requests?after=x", "400 Bad Request", "whole numbers"),
            ("GET /api/v1/requests?from=1", "400 Bad Request", "whole numbers"),
        ] {
            let answer =
                server.exchange(&format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")).await;
            starts(&answer, &format!("HTTP/1.1 {head}\r\n"));
            contains(&answer, "content-type: application/json\r\n");
            contains(&answer, body);
        }
    }

    #[tokio::test]
    async fn a_request_with_a_body_is_refused_and_its_connection_closed() {
        let server = start(SHORT, false).await;
        for framing in ["content-length: 1000000", "transfer-encoding: chunked"] {
            let answer =
                server.exchange(&format!("GET /metrics HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n")).await;
            starts(&answer, "HTTP/1.1 413 Payload Too Large\r\n");
            contains(&answer, "connection: close\r\n");
        }
    }

    #[tokio::test]
    async fn a_slow_head_and_an_idle_connection_are_cut_off() {
        let server = start(SHORT, false).await;
        let begun = Instant::now();
        let mut slow = TcpStream::connect(server.address).await.unwrap();
        slow.write_all(b"GET /metrics HTTP/1.1\r\nhost:").await.unwrap();
        read_to_end(&mut slow).await;
        let mut idle = TcpStream::connect(server.address).await.unwrap();
        idle.write_all(b"GET /readyz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let answer = read_to_end(&mut idle).await;
        starts(&answer, "HTTP/1.1 503");
        assert!(begun.elapsed() >= SHORT.header_timeout * 2, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused() {
        let server = start(SHORT, false).await;
        let answer = server.get("/metrics", &format!("x: {}\r\n", "y".repeat(HEAD_BYTES_MAX))).await;
        starts(&answer, "HTTP/1.1 431 ");
    }

    #[tokio::test]
    async fn one_connection_too_many_is_refused_and_counted() {
        let limits = Limits { header_timeout: PATIENCE, ..SHORT };
        let server = start(limits, false).await;
        let mut held = Vec::new();
        for _ in 0..limits.connections {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            // Answered, so it has its place.
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            stream.read_u8().await.unwrap();
            held.push(stream);
        }
        let mut refused = TcpStream::connect(server.address).await.unwrap();
        let answer = read_to_end(&mut refused).await;
        starts(&answer, "HTTP/1.1 503 Service Unavailable\r\n");
        contains(&answer, "content-length: 32\r\n");
        assert_eq!(answer.split("\r\n\r\n").nth(1).unwrap().len(), 32);
        held.pop();
        // The place is free as soon as the server has seen the end of the connection.
        let answer = loop {
            let answer = server.get("/metrics", "").await;
            if !answer.starts_with("HTTP/1.1 503") {
                break answer;
            }
        };
        contains(&answer, "inferscope_http_connections_refused_total ");
        assert!(!answer.contains("inferscope_http_connections_refused_total 0\n"), "{answer}");
    }

    #[tokio::test]
    async fn health_and_readiness_follow_the_agent() {
        let server = start(SHORT, false).await;
        let answer = server.get("/readyz", "").await;
        starts(&answer, "HTTP/1.1 503");
        contains(&answer, r#"{"ready":false,"waiting_for":["probes","first scan for workloads"]}"#);
        let (program, hook) = ("socket_write".to_owned(), Some("fexit/sock_sendmsg".to_owned()));
        server.health.set_probes(vec![ProbeState { program, hook, reason: None }]);
        server.health.set_scanned();
        server.health.set_signal("gpu", SignalState::Unsupported("no library".to_owned()));
        server.health.tick(BootTime::now());
        starts(&server.get("/readyz", "").await, "HTTP/1.1 200");
        let answer = server.get("/healthz", "").await;
        starts(&answer, "HTTP/1.1 200");
        contains(&answer, r#""status":"ok""#);
        contains(&answer, r#"{"signal":"gpu","state":"unsupported","reason":"no library"}"#);
        contains(&answer, r#"{"program":"socket_write","hook":"fexit/sock_sendmsg","reason":null}"#);
        server.health.tick(BootTime(1));
        let answer = server.get("/healthz", "").await;
        starts(&answer, "HTTP/1.1 503");
        contains(&answer, r#""status":"stuck""#);
    }

    #[tokio::test]
    async fn the_json_interface_lists_requests_and_models() {
        let server = start(SHORT, false).await;
        let answer = server.get("/api/v1/requests?after=0&limit=5", "").await;
        contains(&answer, r#""seq":1,"#);
        contains(&answer, r#""route":"/v1/chat/completions","status":200,"outcome":"ok","streamed":true,"#);
        contains(&answer, r#""duration_seconds":0.12,"ttft_seconds":0.04,"#);
        contains(&answer, r#""request_id":"req-1","response_id":null,"#);
        contains(&server.get("/api/v1/requests", "").await, r#""next":1,"missed":0"#);
        contains(&server.get("/api/v1/latency", "").await, r#"{"models":["#);
        contains(&server.get("/api/v1/workloads", "").await, r#"{"workloads":[]}"#);
        contains(&server.get("/api/v1/stalls", "").await, r#"{"workloads":[]}"#);
        contains(&server.get("/api/v1/gpus", "").await, r#","gpus":[]}"#);
        contains(
            &server.get("/api/v1/quality", "").await,
            r#"{"canary":null,"changes":[],"evaluations":[],"predictions":[]}"#,
        );
        contains(&server.get("/api/v1/slow", "").await, r#"{"total":0,"requests":[]}"#);
        contains(&server.get("/api/v1/agent", "").await, r#""events_lost":["#);
        contains(&server.get("/", "").await, "/api/v1/latency");
        let head = server.exchange("HEAD /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(head.ends_with("\r\n\r\n"), "{head}");
    }

    #[tokio::test]
    async fn the_end_waits_for_no_idle_connection() {
        let server = start(Limits { header_timeout: PATIENCE, ..SHORT }, false).await;
        let mut idle = TcpStream::connect(server.address).await.unwrap();
        idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        idle.read_u8().await.unwrap();
        server.end.send(()).unwrap();
        tokio::time::timeout(PATIENCE, server.server).await.unwrap().unwrap().unwrap();
        read_to_end(&mut idle).await;
        assert!(TcpStream::connect(server.address).await.is_err());
    }
}
