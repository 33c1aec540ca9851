//! Load on a real server: requests of one size at a steady pace, and others on top of them all at once.
//!
//! In: sizes, pace and time. Out: the ids of all requests that were made, by which the agent's records of them are found.

use std::collections::HashSet;
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::run::panicked;
use crate::client::{self, Report};
use crate::socket::Endpoint;

/// Requests that should take about as long as each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub prompt_bytes: usize,
    pub max_tokens: u32,
}

/// Requests that come together, or nearly so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    pub requests: usize,
    pub size: Size,
    /// From one burst to the next; the first comes after a half of it.
    pub every: Duration,
    /// Requests a second within it; all at once without.
    pub rate: Option<f64>,
}

/// All that comes to a server.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Requests a second.
    pub rate: f64,
    pub size: Size,
    pub burst: Option<Burst>,
}

impl Traffic {
    /// Makes it for so long, in a thread. `seed`: another one for each load on a server, so that no id comes twice.
    pub fn start(
        self,
        endpoint: &Endpoint,
        time: Duration,
        seed: u64,
    ) -> JoinHandle<Result<HashSet<String>>> {
        let endpoint = endpoint.clone();
        spawn(move || {
            let steady = self.options(&endpoint, time, seed)?;
            let steady = spawn(move || make(&steady));
            let mut bursts = Vec::new();
            let end = Instant::now() + time;
            let mut next = Instant::now() + self.burst.map_or(time, |burst| burst.every / 2);
            while let Some(burst) = self.burst.filter(|_| next < end) {
                sleep(next.saturating_duration_since(Instant::now()));
                let options = burst.options(&endpoint, time, seed + 1 + bursts.len() as u64)?;
                bursts.push(spawn(move || make(&options)));
                next += burst.every;
            }
            let mut ids = HashSet::new();
            for load in bursts.into_iter().chain([steady]) {
                let report = load.join().map_err(panicked)??;
                if let Some(failure) = report.failures.first() {
                    bail!("a request failed: {failure}");
                }
                if let Some(bad) = report.exchanges.iter().find(|exchange| exchange.status != Some(200)) {
                    bail!("the server answers {:?} to a request of {} bytes", bad.status, bad.request_bytes);
                }
                ids.extend(report.exchanges.into_iter().filter_map(|exchange| exchange.request_id));
            }
            Ok(ids)
        })
    }

    fn options(&self, endpoint: &Endpoint, time: Duration, seed: u64) -> Result<client::Options> {
        let requests = (self.rate * time.as_secs_f64()) as usize;
        Ok(client::Options { rate: Some(self.rate), requests, ..self.size.options(endpoint, time, seed)? })
    }
}

impl Burst {
    fn options(&self, endpoint: &Endpoint, time: Duration, seed: u64) -> Result<client::Options> {
        Ok(client::Options {
            requests: self.requests,
            rate: self.rate,
            ..self.size.options(endpoint, time, seed)?
        })
    }
}

impl Size {
    fn options(self, endpoint: &Endpoint, time: Duration, seed: u64) -> Result<client::Options> {
        Ok(client::Options {
            seed,
            concurrency: 256,
            mix: "chat-stream-usage".parse()?,
            models: vec!["tiny".to_owned()],
            time_max: time * 4,
            max_tokens: self.max_tokens,
            prompt_bytes: self.prompt_bytes,
            exact: true,
            ..client::Options::new(endpoint.clone())
        })
    }
}

fn make(options: &client::Options) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(client::run(options, |_| ()))
}
