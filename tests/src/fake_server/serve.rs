//! Listens, accepts, and holds what all connections share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::socket::{Endpoint, Listener};
use crate::transcript::RequestHead;

use super::connection::Connection;
use super::plan::{Plan, at_once};
use super::scenario::ordinary;
use super::{Log, Route, Script, scenario};

/// Connections served at the same time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;

/// How the server is set up.
#[derive(Clone, Debug)]
pub struct Options {
    pub listen: Endpoint,
    /// What is not scripted is drawn from it.
    pub seed: u64,
    /// For requests that neither bring a script nor name one; drawn from the seed where absent.
    pub script: Option<Script>,
    /// The same in a file, as JSON: read for each such request, so that the server can change its mind. One that cannot be read
    /// is as if there were none.
    pub script_file: Option<PathBuf>,
    /// Before the first read of every connection.
    pub first_read_after: Duration,
}

/// A running server; its end is [`Server::stop`].
#[derive(Debug)]
pub struct Server {
    endpoint: Endpoint,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) log: Log,
    options: Options,
    responses: AtomicU64,
    pub(super) first_tokens: FirstTokens,
}

/// First tokens so far and the time to them, as an engine counts them: before they are sent.
#[derive(Debug, Default)]
pub(super) struct FirstTokens(Mutex<(u64, u64)>);

impl FirstTokens {
    pub(super) fn note(&self, ns: u64) {
        let mut sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *sum = (sum.0 + 1, sum.1 + ns);
    }

    /// As vLLM's own page has them.
    fn page(&self) -> String {
        let (count, ns) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = "vllm:time_to_first_token_seconds";
        format!("# TYPE {name} histogram\n{name}_count {count}\n{name}_sum {}\n", ns as f64 / 1e9)
    }
}

impl Server {
    /// Listens and serves on tasks of the present runtime.
    ///
    /// # Errors
    ///
    /// Where the endpoint is taken.
    pub fn start(options: Options) -> Result<Self> {
        let listener = Listener::bind(&options.listen)?;
        let endpoint = listener.endpoint()?;
        let first = options.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let shared = Arc::new(Shared {
            log: Log::default(),
            options,
            responses: AtomicU64::new(first),
            first_tokens: FirstTokens::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept(listener, Arc::clone(&shared), stopped));
        Ok(Self { endpoint, shared, stop, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What it did so far.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Closes the listener and every connection, and waits until they are gone.
    pub async fn stop(&mut self) {
        self.stop.send_replace(true);
        // A panic of the accepting task has been printed already.
        let _ = (&mut self.task).await;
        if let Endpoint::Unix(path) = &self.endpoint {
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn accept(listener: Listener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    for number in 0.. {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let stream = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            stream = listener.accept() => stream,
        };
        // Refused ones (too many open files) are the client's to notice.
        let Ok(stream) = stream else { continue };
        while connections.try_join_next().is_some() {}
        let connection = Connection::new(stream, number, Arc::clone(&shared));
        let first_read_after = shared.options.first_read_after;
        connections.spawn(async move {
            // A connection that breaks is in the log by what it had served.
            let _ = connection.serve(first_read_after).await;
            drop(place);
        });
    }
    connections.shutdown().await;
}

impl Shared {
    pub(super) fn next_response_number(&self) -> u64 {
        self.responses.fetch_add(1, Ordering::Relaxed)
    }

    /// What the file says now.
    fn script_now(&self) -> Option<Script> {
        let text = std::fs::read(self.options.script_file.as_ref()?).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The script that the request brings or names, else the server's, else one drawn for its place.
    pub(super) fn script_for(&self, head: &RequestHead, connection: u64, nth: u32) -> Script {
        let place = connection.wrapping_mul(0x1_0001).wrapping_add(u64::from(nth));
        let seed = self.options.seed ^ place;
        let brought = head.header("x-script").and_then(|text| serde_json::from_str::<Script>(text).ok());
        let named = || scenario(head.header("x-scenario")?, seed);
        let script =
            brought.or_else(named).or_else(|| self.script_now()).or_else(|| self.options.script.clone());
        script.unwrap_or_else(|| ordinary(seed)).bounded()
    }

    pub(super) fn plain_answer(&self, route: Route) -> Plan {
        match route {
            Route::Health => at_once(200, "text/plain", Vec::new()),
            Route::Metrics => {
                at_once(200, "text/plain; version=0.0.4", self.first_tokens.page().into_bytes())
            }
            Route::Models => at_once(
                200,
                "application/json",
                br#"{"object":"list","data":[{"id":"demo","object":"model"}]}"#.to_vec(),
            ),
            Route::Log => at_once(200, "application/jsonl", self.log.to_lines()),
            _ => at_once(404, "application/json", br#"{"detail":"Not Found"}"#.to_vec()),
        }
    }
}
