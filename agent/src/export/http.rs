//! The HTTP server: connections within limits, and the pages that are no JSON interface.
//!
//! In: a listener, what is shown, and the end. Out: answers. A client that is slow to ask, slow to read or
//! one too many is cut off; it takes nothing from the pipeline, because pages are encoded in a thread of
//! their own.

use std::future::Future;
use std::io::IoSlice;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::negotiate::{Format, negotiate};
use super::{Shared, api};
use crate::clock::BootTime;

/// Connections at once; one more is answered 503 and closed.
pub const CONNECTIONS_MAX: usize = 64;
/// A request's head has to be whole within this, counted from the end of the answer before it.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that takes no byte for this long is cut off, in milliseconds.
const SEND_TIMEOUT_MS: u32 = 10_000;
/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Pages that are encoded at once: each is some hundred KiB and some milliseconds of a processor.
const SCRAPES_MAX: usize = 2;
/// Answers under way get this long when the agent ends.
const SHUTDOWN_MAX: Duration = Duration::from_secs(1);
/// Pause after a failed accept, which is mostly a want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const REFUSAL: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
                       content-length: 32\r\nconnection: close\r\n\r\n{\"error\":\"too many connections\"}";

/// Serves until `shutdown` is ready, then lets answers under way finish.
///
/// # Errors
/// A listener whose address cannot be told.
pub async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    let address = listener.local_addr().context("read the address of the http listener")?;
    tracing::info!(%address, "serving");
    let server = Server::new(shared);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => server.take(stream, &graceful, &mut connections),
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

struct Server {
    shared: Arc<Shared>,
    router: Router,
    permits: Arc<Semaphore>,
}

impl Server {
    fn new(shared: Arc<Shared>) -> Self {
        Self { router: router(shared.clone()), shared, permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }

    /// Serves a connection, or refuses it where there are too many.
    fn take(&self, stream: TcpStream, graceful: &GracefulShutdown, connections: &mut JoinSet<()>) {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            self.shared.health.refuse_connection();
            // Into an empty send buffer this fits or the client is gone: nothing waits.
            let _ = stream.try_write_vectored(&[IoSlice::new(REFUSAL.as_bytes())]);
            return;
        };
        // An old kernel or a Unix relay without it only loses this limit.
        let _ = set_tcp_user_timeout(&stream, SEND_TIMEOUT_MS);
        let service = TowerToHyperService::new(self.router.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        connections.spawn(run(graceful.watch(connection), permit));
    }
}

/// Drives a connection to its end, holding its place among [`CONNECTIONS_MAX`].
async fn run(connection: impl Future<Output = hyper::Result<()>>, permit: OwnedSemaphorePermit) {
    if let Err(error) = connection.await {
        tracing::debug!(%error, "http connection");
    }
    drop(permit);
}

/// What the handlers share.
#[derive(Clone)]
pub(super) struct App {
    pub(super) shared: Arc<Shared>,
    scrapes: Arc<Semaphore>,
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .nest("/api/v1", api::router())
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "not found") })
        .method_not_allowed_fallback(|| async { refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD") })
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

async fn healthz(State(app): State<App>) -> Response {
    let report = app.shared.health.report(BootTime::now());
    let status = if report.is_alive() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
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
        "<li><a href=\"/api/v1/workloads\">/api/v1/workloads</a>: the inference servers of this node</li>",
        "</ul></body></html>",
    ))
}
