//! Makes the planned requests at their times, on as few connections as it takes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use fastrand::Rng;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::socket::Endpoint;
use crate::transcript::Exchange;

use super::connection::Connection;
use super::plan::{Mix, Planned, REQUESTS_MAX, Source, planned};

/// Requests under way at most.
const CONCURRENCY_MAX: usize = 2048;
/// Longest run.
const TIME_MAX: Duration = Duration::from_secs(6 * 3600);
/// Highest rate, per second.
const RATE_MAX: f64 = 50_000.0;

/// What load is made.
#[derive(Clone, Debug)]
pub struct Options {
    pub endpoint: Endpoint,
    pub seed: u64,
    pub requests: usize,
    /// Requests per second, sent whether or not earlier ones are answered; without it each of
    /// `concurrency` clients sends its next when it has its answer.
    pub rate: Option<f64>,
    /// Requests under way at most.
    pub concurrency: usize,
    pub time_max: Duration,
    /// A request that takes longer is given up.
    pub request_time_max: Duration,
    pub mix: Mix,
    pub scenarios: Vec<String>,
    pub models: Vec<String>,
    pub max_tokens: u32,
    pub prompt_bytes: usize,
    /// Every prompt and every answer is as large as it may be, and no server is asked to cut one.
    pub exact: bool,
}

impl Options {
    /// A small run of the demonstration mix.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            seed: 1,
            requests: 100,
            rate: None,
            concurrency: 4,
            time_max: Duration::from_secs(60),
            request_time_max: Duration::from_secs(60),
            mix: "demo".parse().expect("the mix is a known one"),
            scenarios: Vec::new(),
            models: vec!["demo".to_owned()],
            max_tokens: 16,
            prompt_bytes: 400,
            exact: false,
        }
    }

    fn check(&self) -> Result<()> {
        if self.requests > REQUESTS_MAX || self.time_max > TIME_MAX {
            bail!("at most {REQUESTS_MAX} requests in {} s", TIME_MAX.as_secs());
        }
        if self.concurrency == 0 || self.concurrency > CONCURRENCY_MAX {
            bail!("concurrency is from 1 to {CONCURRENCY_MAX}");
        }
        if let Some(rate) = self.rate
            && !(rate > 0.0 && rate <= RATE_MAX)
        {
            bail!("rate is above 0 and at most {RATE_MAX} per second");
        }
        if let Some(name) = self.scenarios.iter().find(|name| crate::fake_server::scenario(name, 0).is_none())
        {
            bail!("no scenario is called {name}");
        }
        Ok(())
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub done: usize,
    pub total: usize,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One per request that was sent, in the order of their starts.
    pub exchanges: Vec<Exchange>,
    /// Planned, but no server saw it: the time was over, or the server had just closed the connection.
    pub unsent: usize,
    /// The server was not there, or what passed is no HTTP.
    pub failures: Vec<String>,
    /// A rate was asked for, and the client fell behind by so much at worst.
    pub late_max: Duration,
}

/// Makes the load; ends by itself at the last request or `time_max`.
///
/// # Errors
///
/// Where the options are out of their bounds.
pub async fn run(options: &Options, progress: impl Fn(Progress)) -> Result<Report> {
    options.check()?;
    let plans = planned(&Source {
        seed: options.seed,
        requests: options.requests,
        mix: options.mix.clone(),
        models: options.models.clone(),
        max_tokens: options.max_tokens,
        prompt_bytes: options.prompt_bytes,
        exact: options.exact,
        scenarios: options.scenarios.clone(),
    });
    let total = plans.len();
    let shared = Arc::new(Shared::new(options));
    let mut schedule = Schedule::new(options);
    let places = Arc::new(Semaphore::new(options.concurrency));
    let mut tasks = JoinSet::new();
    let end = Instant::now() + options.time_max;
    let mut report = Report::default();
    let mut sent = 0;
    for group in groups(plans) {
        let due = schedule.next(group.len());
        let place = async {
            sleep_until(due).await;
            Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed")
        };
        let Ok(place) = tokio::time::timeout_at(end, place).await else { break };
        report.late_max = report.late_max.max(schedule.lateness(due));
        sent += group.len();
        let shared = Arc::clone(&shared);
        tasks.spawn(async move {
            shared.perform(&group).await;
            drop(place);
        });
        while tasks.try_join_next().is_some() {}
        progress(Progress { done: shared_done(&tasks, sent), total });
    }
    while tasks.join_next().await.is_some() {
        progress(Progress { done: shared_done(&tasks, sent), total });
    }
    shared.finish(&mut report);
    report.unsent = total - report.exchanges.len();
    Ok(report)
}

fn shared_done<T>(tasks: &JoinSet<T>, sent: usize) -> usize {
    sent.saturating_sub(tasks.len())
}

/// Requests that are sent together.
fn groups(plans: Vec<Planned>) -> impl Iterator<Item = Vec<Planned>> {
    let mut plans = plans.into_iter();
    std::iter::from_fn(move || {
        let first = plans.next()?;
        let second = if first.manner.with_next { plans.next() } else { None };
        Some(std::iter::once(first).chain(second).collect())
    })
}

/// When requests are due: at random with a steady mean, or at once.
struct Schedule {
    rng: Rng,
    rate: Option<f64>,
    due: Instant,
}

impl Schedule {
    fn new(options: &Options) -> Self {
        Self { rng: Rng::with_seed(!options.seed), rate: options.rate, due: Instant::now() }
    }

    fn next(&mut self, requests: usize) -> Instant {
        if let Some(rate) = self.rate {
            let wait = -(1.0 - self.rng.f64()).ln() / rate * requests as f64;
            self.due += Duration::from_secs_f64(wait);
        }
        self.due
    }

    fn lateness(&self, due: Instant) -> Duration {
        if self.rate.is_some() { due.elapsed() } else { Duration::ZERO }
    }
}

struct Shared {
    endpoint: Endpoint,
    request_time_max: Duration,
    idle: Mutex<Vec<Connection>>,
    found: Mutex<(Vec<Exchange>, Vec<String>)>,
    /// Connections that are over, read when the load is: reading takes the processor from the load.
    over: Mutex<Vec<Connection>>,
    over_bytes: AtomicUsize,
}

/// Bytes of connections kept to be read at the end.
const OVER_BYTES_MAX: usize = 512 << 20;
/// Failures that are told one by one.
const FAILURES_MAX: usize = 20;

impl Shared {
    fn new(options: &Options) -> Self {
        Self {
            endpoint: options.endpoint.clone(),
            request_time_max: options.request_time_max,
            idle: Mutex::default(),
            found: Mutex::default(),
            over: Mutex::default(),
            over_bytes: AtomicUsize::new(0),
        }
    }

    async fn perform(&self, group: &[Planned]) {
        let manner = group[0].manner;
        let rested = if manner.own_connection { None } else { self.take_idle() };
        let connection = match rested {
            Some(connection) => Ok(connection),
            None => Connection::open(&self.endpoint, !manner.looks_away.is_zero()).await,
        };
        let mut connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                return self.fail(format!("connect to {}: {error}", self.endpoint));
            }
        };
        connection.perform(group, self.request_time_max).await;
        if connection.is_usable() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        } else {
            self.retire(connection);
        }
    }

    fn take_idle(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if connection.is_usable() {
                return Some(connection);
            }
            self.retire(connection);
        }
    }

    fn retire(&self, mut connection: Connection) {
        connection.close();
        let bytes = connection.bytes();
        if self.over_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= OVER_BYTES_MAX {
            self.over.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        } else {
            self.read(connection);
        }
    }

    fn read(&self, connection: Connection) {
        match connection.finish() {
            Ok(found) => self.found.lock().unwrap_or_else(PoisonError::into_inner).0.extend(found),
            Err(error) => self.fail(format!("read what passed: {error:#}")),
        }
    }

    fn fail(&self, what: String) {
        let failures = &mut self.found.lock().unwrap_or_else(PoisonError::into_inner).1;
        if failures.len() < FAILURES_MAX {
            failures.push(what);
        }
    }

    fn finish(&self, report: &mut Report) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        let over = std::mem::take(&mut *self.over.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in idle.into_iter().chain(over) {
            self.read(connection);
        }
        let found = &mut *self.found.lock().unwrap_or_else(PoisonError::into_inner);
        report.exchanges = std::mem::take(&mut found.0);
        report.exchanges.sort_by_key(|exchange| exchange.started_ns);
        report.failures = std::mem::take(&mut found.1);
    }
}
