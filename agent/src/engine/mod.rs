//! What does a server say of itself? Reads its metrics page beside the pipeline, where the operator allows it.
//!
//! In: where the followed servers listen. Out: for any stretch of time whether requests waited and whether work was
//! given up meanwhile; and each look at a server's page, with the times between which the page was made.
//!
//! Off unless `engine.metrics` is set: it is the one thing for which the agent connects to anybody.

mod page;

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

pub use self::page::Reading;
use crate::clock::BootTime;
use crate::http_client::{self, Limits, Server};

/// Faster would cost the server, slower would miss what it should explain.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// What a page may take: vLLM's has some 100 KiB for each engine.
const LIMITS: Limits = Limits { time: Duration::from_secs(2), bytes: 8 << 20 };
/// Readings of one server that are kept: ten minutes at the default pace.
const READINGS_MAX: usize = 1200;

/// Section `engine` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Read the servers' own `/metrics`.
    pub metrics: bool,
    /// How often.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { metrics: false, interval: Duration::from_millis(500) }
    }
}

impl Settings {
    /// # Errors
    /// A value that helps nobody; the error names its key.
    pub fn check(&self) -> Result<()> {
        ensure!(
            INTERVAL.contains(&self.interval),
            "`engine.interval` is {:?}, outside {:?} to {:?}",
            self.interval,
            INTERVAL.start(),
            INTERVAL.end()
        );
        Ok(())
    }
}

/// One look at a server's page, which it made between two times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    pub asked: BootTime,
    pub answered: BootTime,
    pub reading: Reading,
}

/// What the servers said of themselves.
#[derive(Debug, Default)]
pub struct Engines {
    desk: Arc<Mutex<Desk>>,
    /// Of each server, the oldest first.
    said: HashMap<Arc<str>, VecDeque<Look>>,
}

/// Between the pipeline and the reader.
#[derive(Debug, Default)]
struct Desk {
    servers: Vec<(Arc<str>, u16)>,
    /// Not yet taken.
    looks: Vec<(Arc<str>, Look)>,
    failures: HashMap<Arc<str>, String>,
}

impl Engines {
    /// Reads from now on, in a task of the present runtime, until this is dropped.
    pub fn start(&self, settings: &Settings) {
        if settings.metrics {
            tokio::spawn(run(Arc::downgrade(&self.desk), settings.interval));
        }
    }

    /// From now on these servers, each by its label and its port.
    pub fn follow(&mut self, servers: Vec<(Arc<str>, u16)>) {
        self.said.retain(|label, _| servers.iter().any(|(other, _)| other == label));
        let mut desk = lock(&self.desk);
        desk.failures.retain(|label, _| servers.iter().any(|(other, _)| other == label));
        desk.servers = servers;
    }

    /// Takes what was read since.
    pub fn take(&mut self) {
        let looks = std::mem::take(&mut lock(&self.desk).looks);
        for (label, look) in looks {
            let said = self.said.entry(label).or_default();
            if said.len() >= READINGS_MAX {
                said.pop_front();
            }
            said.push_back(look);
        }
    }

    /// Why the page of a server cannot be read; the first of several by label.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let desk = lock(&self.desk);
        let first = desk.failures.iter().min_by_key(|(label, _)| (*label).clone())?;
        Some(format!("{}: {}", first.0, first.1))
    }

    /// A server said between two times that requests waited.
    #[must_use]
    pub fn waited(&self, workload: &str, from: BootTime, to: BootTime) -> bool {
        let said = self.said.get(workload).into_iter().flatten();
        let mut between = said.filter(|look| from <= look.asked && look.asked <= to);
        between.any(|look| look.reading.waiting.is_some_and(|waiting| waiting > 0.0))
    }

    /// A server gave up work of requests between two times, as far as two readings tell that are around them.
    #[must_use]
    pub fn preempted(&self, workload: &str, from: BootTime, to: BootTime) -> bool {
        let Some(said) = self.said.get(workload) else { return false };
        let mut counts = said.iter().filter_map(|look| Some((look.asked, look.reading.preemptions?)));
        let before = counts.clone().take_while(|(time, _)| *time <= from).last();
        // The next one after its end may not be there yet.
        let after = counts.clone().find(|(time, _)| *time >= to).or_else(|| counts.next_back());
        matches!((before, after), (Some((_, before)), Some((_, after))) if after > before)
    }

    /// The newest reading of a server.
    #[must_use]
    pub fn newest(&self, workload: &str) -> Option<Reading> {
        self.said.get(workload)?.back().map(|look| look.reading)
    }

    /// The looks at a server's page that were begun after a time, the oldest first.
    pub fn after(&self, workload: &str, time: BootTime) -> impl Iterator<Item = &Look> {
        let said = self.said.get(workload);
        let from = said.map_or(0, |said| said.partition_point(|look| look.asked <= time));
        said.into_iter().flat_map(move |said| said.range(from..))
    }

    /// As if these looks had been made.
    #[cfg(test)]
    pub fn of(workload: &str, looks: impl IntoIterator<Item = Look>) -> Self {
        Self { said: HashMap::from([(workload.into(), looks.into_iter().collect())]), ..Self::default() }
    }
}

fn lock(desk: &Mutex<Desk>) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn run(desk: Weak<Mutex<Desk>>, interval: Duration) {
    let mut pace = tokio::time::interval(interval);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let Some(servers) = desk.upgrade().map(|desk| lock(&desk).servers.clone()) else { return };
        // A server that does not answer must not keep the others waiting.
        let mut reads = tokio::task::JoinSet::new();
        for (label, port) in servers {
            reads.spawn(async move {
                let asked = BootTime::now();
                let page = page(port).await;
                (label, asked, BootTime::now(), page)
            });
        }
        while let Some(read) = reads.join_next().await {
            let (Ok((label, asked, answered, page)), Some(desk)) = (read, desk.upgrade()) else { continue };
            let mut desk = lock(&desk);
            match page.map(|page| page::read(&page)) {
                Ok(Some(reading)) => {
                    desk.failures.remove(&label);
                    desk.looks.push((label, Look { asked, answered, reading }));
                }
                Ok(None) => {
                    desk.failures.insert(label, "its page has no series that is known".to_owned());
                }
                Err(error) => {
                    desk.failures.insert(label, format!("{error:#}"));
                }
            }
        }
    }
}

async fn page(port: u16) -> Result<String> {
    let server = Server::from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let answers = http_client::get(&server, &["/metrics"], "text/plain", LIMITS).await;
    String::from_utf8(answers.context("read the page")?.concat()).context("the page is no UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engines(readings: &[(u64, f64, f64)]) -> Engines {
        let mut engines = Engines::default();
        for (time, waiting, preemptions) in readings {
            let reading =
                Reading { waiting: Some(*waiting), preemptions: Some(*preemptions), ..Reading::default() };
            let look = Look { asked: BootTime(*time), answered: BootTime(*time), reading };
            lock(&engines.desk).looks.push(("w".into(), look));
        }
        engines.take();
        engines
    }

    #[test]
    fn who_waited_and_what_was_given_up_is_found_by_time() {
        let engines = engines(&[(10, 0.0, 0.0), (20, 3.0, 0.0), (30, 0.0, 1.0), (40, 0.0, 1.0)]);
        let between = |from, to| {
            let (from, to) = (BootTime(from), BootTime(to));
            (engines.waited("w", from, to), engines.preempted("w", from, to))
        };
        assert_eq!(between(10, 15), (false, false));
        assert_eq!(between(12, 25), (true, true));
        assert_eq!(between(25, 28), (false, true), "between the same two readings");
        assert_eq!(between(32, 99), (false, false));
        assert_eq!(between(1, 50), (true, false), "no reading before it");
        assert!(!engines.waited("other", BootTime(0), BootTime(99)));
        assert_eq!(engines.newest("w").unwrap().preemptions, Some(1.0));
        let after = |time| engines.after("w", BootTime(time)).map(|look| look.asked.0).collect::<Vec<_>>();
        assert_eq!((after(0), after(20), after(40)), (vec![10, 20, 30, 40], vec![30, 40], vec![]));
    }

    #[test]
    fn readings_are_bounded_and_go_with_their_server() {
        let many: Vec<_> = (0..2 * READINGS_MAX as u64).map(|time| (time, 0.0, 0.0)).collect();
        let mut engines = engines(&many);
        assert_eq!(engines.said["w"].len(), READINGS_MAX);
        engines.follow(vec![("v".into(), 1)]);
        assert!(engines.newest("w").is_none());
    }

    /// A server whose page is `page`; its port.
    async fn server(page: impl axum::response::IntoResponse + Clone + Send + Sync + 'static) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = move || async move { page.clone() };
        let app = axum::Router::new().route("/metrics", axum::routing::get(answer));
        tokio::spawn(async move { axum::serve(listener, app).await });
        port
    }

    #[tokio::test]
    async fn a_page_is_text() {
        let error = page(server([0xff_u8].as_slice()).await).await.unwrap_err();
        assert_eq!(error.to_string(), "the page is no UTF-8");
        assert_eq!(page(server("µ").await).await.unwrap(), "µ");
    }

    #[tokio::test]
    async fn servers_are_read_while_they_are_followed_and_a_failure_is_told() {
        let port = server("vllm:num_requests_waiting 2\n").await;
        let mut engines = Engines::default();
        engines.follow(vec![("w".into(), port), ("broken".into(), 1)]);
        engines.start(&Settings { metrics: true, interval: Duration::from_millis(20) });
        for _ in 0..500 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            engines.take();
            if engines.newest("w").is_some() && engines.failure().is_some() {
                break;
            }
        }
        assert_eq!(engines.newest("w").unwrap().waiting, Some(2.0));
        assert!(
            engines.failure().unwrap().starts_with("broken: read the page: http://127.0.0.1:1"),
            "{:?}",
            engines.failure()
        );
    }
}
