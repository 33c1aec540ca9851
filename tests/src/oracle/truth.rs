//! What really passed, by source, as a file of lines.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::fake_server::Served;
use crate::transcript::{Exchange, Outcome};

/// Who saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The client, when its socket calls returned.
    Client,
    /// The client when it sent, and the server when its writes began: for sockets without packets.
    Server,
    /// The packets, when the kernel passed them on.
    Wire,
}

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub source: Source,
    #[serde(flatten)]
    pub exchange: Exchange,
}

/// All requests of a run, as each source saw them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truth {
    by_source: BTreeMap<Source, Vec<Exchange>>,
}

impl Truth {
    #[must_use]
    pub fn new(source: Source, exchanges: Vec<Exchange>) -> Self {
        let mut truth = Self::default();
        truth.add(source, exchanges);
        truth
    }

    /// Adds what another source saw.
    pub fn add(&mut self, source: Source, exchanges: Vec<Exchange>) {
        self.by_source.entry(source).or_default().extend(exchanges);
    }

    /// Makes what the client saw more exact by what the server logged: a client that waits for a processor
    /// stamps late what it reads.
    pub fn add_served(&mut self, served: &[Served]) {
        let by_id: HashMap<_, _> = served.iter().map(|one| (&one.request_id, one)).collect();
        let refined = self.of(Source::Client).iter().map(|exchange| match by_id.get(&exchange.request_id) {
            Some(served) => refine(exchange.clone(), served),
            // Sent behind a request after which the server closed, as it says in that one's answer: the client
            // closes too, and which was first only the wire could tell.
            None => Exchange { undecided: exchange.outcome == Outcome::ClientAbort, ..exchange.clone() },
        });
        let refined = refined.collect();
        self.add(Source::Server, refined);
    }

    /// The best source there is, and what it saw.
    #[must_use]
    pub fn best(&self) -> Option<(Source, &[Exchange])> {
        self.by_source.last_key_value().map(|(source, exchanges)| (*source, exchanges.as_slice()))
    }

    /// What one source saw.
    #[must_use]
    pub fn of(&self, source: Source) -> &[Exchange] {
        self.by_source.get(&source).map_or(&[], Vec::as_slice)
    }

    /// Takes out what was asked under an id that begins so; how many the best source saw of it.
    pub fn take_out(&mut self, prefix: &str) -> usize {
        let taken =
            |exchange: &Exchange| exchange.request_id.as_ref().is_some_and(|id| id.starts_with(prefix));
        let count = self.best().map_or(0, |(_, seen)| seen.iter().filter(|exchange| taken(exchange)).count());
        self.by_source.values_mut().for_each(|seen| seen.retain(|exchange| !taken(exchange)));
        count
    }

    /// Counts and times of each source, for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (source, exchanges) in &self.by_source {
            let mut counts: BTreeMap<_, usize> = BTreeMap::new();
            for exchange in exchanges {
                *counts.entry(exchange.outcome).or_default() += 1;
            }
            let _ = writeln!(text, "{source:?}: {} requests {counts:?}", exchanges.len());
            let inference = || exchanges.iter().filter(|exchange| exchange.is_inference());
            let durations = inference().map(Exchange::duration_ns).collect();
            let ttfts = inference().filter_map(Exchange::ttft_ns).collect();
            let gaps = inference().flat_map(Exchange::gaps_ns).collect();
            for (name, values) in [("duration", durations), ("ttft", ttfts), ("gap", gaps)] {
                let _ = writeln!(text, "  {name}: {}", quantiles(values));
            }
        }
        text
    }

    /// Writes one JSON object a line.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let context = || format!("write {}", path.display());
        let mut file = BufWriter::new(File::create(path).with_context(context)?);
        for (source, exchanges) in &self.by_source {
            for exchange in exchanges {
                let line = Line { source: *source, exchange: exchange.clone() };
                serde_json::to_writer(&mut file, &line).with_context(context)?;
                file.write_all(b"\n").with_context(context)?;
            }
        }
        file.flush().with_context(context)
    }

    /// Reads what [`Truth::save`] wrote.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or is something else.
    pub fn load(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut truth = Self::default();
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let line: Line = serde_json::from_str(&line?)
                .with_context(|| format!("read line {} of {}", number + 1, path.display()))?;
            truth.add(line.source, vec![line.exchange]);
        }
        Ok(truth)
    }
}

fn refine(mut exchange: Exchange, served: &Served) -> Exchange {
    let aborted = served.outcome == Outcome::ClientAbort;
    // Whole for the server, and the client had gone.
    exchange.undecided = !aborted && exchange.outcome == Outcome::ClientAbort;
    exchange.outcome = served.outcome;
    exchange.first_read_ns = Some(served.first_read_ns);
    exchange.noticed_ns = aborted.then_some(served.ended_ns);
    let deltas = served.writes.iter().filter(|_| exchange.streamed);
    exchange.deltas_ns =
        deltas.flat_map(|write| std::iter::repeat_n(write.passed_ns(), write.deltas as usize)).collect();
    match (served.outcome, served.writes.last()) {
        (Outcome::ClientAbort, _) => exchange.deltas_ns.retain(|at| *at <= exchange.ended_ns),
        (Outcome::ServerReset, _) | (_, None) => exchange.ended_ns = served.ended_ns,
        (_, Some(last)) => exchange.ended_ns = last.passed_ns(),
    }
    exchange
}

fn quantiles(mut values: Vec<u64>) -> String {
    if values.is_empty() {
        return "none".to_owned();
    }
    values.sort_unstable();
    let at = |quantile: f64| values[((values.len() - 1) as f64 * quantile).round() as usize] as f64 / 1e6;
    let (p50, p95, p99) = (at(0.5), at(0.95), at(0.99));
    format!("p50 {p50:.3} ms, p95 {p95:.3} ms, p99 {p99:.3} ms of {}", values.len())
}
