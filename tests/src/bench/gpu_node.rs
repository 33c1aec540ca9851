//! The same comparison on a node with a real inference server: throughput and latencies with and without the agent.
//!
//! In: a server on loopback that serves a model, the agent's binary. Out: what the load client saw in interleaved
//! pairs, as medians of ratios with confidence intervals. Starts no server and asks for no GPU: whether one is behind
//! the server is written down.
//!
//! Both halves of a pair get the same requests. Which half comes first turns, so that what the server keeps of a
//! prompt is to the advantage of each as often.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use crate::client;
use crate::harness::AgentProcess;
use crate::socket::Endpoint;

use super::beside::check_pairs;
use super::books::Books;
use super::interval::{Interval, median};
use super::node::Node;
use super::say;
use super::scene::wait_until_watched;

const SEED: u64 = 20_240_607;
/// One half of a pair.
const HALF_MAX: Duration = Duration::from_secs(900);
const REQUEST_MAX: Duration = Duration::from_secs(300);
/// From the agent's finding the server to steady counters.
const SETTLE: Duration = Duration::from_secs(1);
/// Where the driver lists what it drives.
const GPUS: &str = "/proc/driver/nvidia/gpus";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub agent: PathBuf,
    pub endpoint: Endpoint,
    pub model: String,
    /// Finds the server where its command line is not vLLM's.
    pub command_regex: Option<String>,
    pub pairs: usize,
    /// Of each half of a pair.
    pub requests: usize,
    pub concurrency: usize,
    pub max_tokens: u32,
    pub prompt_bytes: usize,
}

/// What the client saw of one half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Half {
    pub tokens_per_second: f64,
    pub requests_per_second: f64,
    pub ttft_p50_ms: f64,
    pub ttft_p99_ms: f64,
    pub inter_token_p50_ms: f64,
    pub inter_token_p99_ms: f64,
}

/// Name, unit and place of each quantity.
type Quantity = (&'static str, &'static str, fn(&Half) -> f64);
const QUANTITIES: [Quantity; 6] = [
    ("tokens", "/s", |half| half.tokens_per_second),
    ("requests", "/s", |half| half.requests_per_second),
    ("first token, p50", "ms", |half| half.ttft_p50_ms),
    ("first token, p99", "ms", |half| half.ttft_p99_ms),
    ("between tokens, p50", "ms", |half| half.inter_token_p50_ms),
    ("between tokens, p99", "ms", |half| half.inter_token_p99_ms),
];

/// One quantity in all pairs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    pub what: &'static str,
    pub unit: &'static str,
    /// Medians.
    pub without: f64,
    pub with: f64,
    pub ratio: Interval,
}

/// The comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub node: Node,
    /// As the driver names them; none: the server computes on the processor.
    pub gpus: Vec<String>,
    pub model: String,
    pub requests: usize,
    pub concurrency: usize,
    pub rows: Vec<Row>,
    /// Requests made while the agent ran, and those that it measured.
    pub made: u64,
    pub measured: f64,
    pub lost_and_told: f64,
    /// Both halves of each pair: without the agent, with it.
    pub pairs: Vec<(Half, Half)>,
}

/// Makes the pairs; what goes on is said on standard error.
///
/// # Errors
///
/// Where the server does not answer every request, or the agent does not find the server.
pub fn compare(wish: &Wish) -> Result<Report> {
    check_pairs(wish.pairs)?;
    let folder = tempfile::tempdir().context("make a folder for logs")?;
    let runtime = tokio::runtime::Runtime::new().context("start threads")?;
    let load = |seed| runtime.block_on(half(wish, seed));
    say("the server once, to warm it up");
    load(SEED)?;
    let mut report = Report {
        node: Node::read(),
        gpus: gpus(Path::new(GPUS)),
        model: wish.model.clone(),
        requests: wish.requests,
        concurrency: wish.concurrency,
        rows: Vec::new(),
        made: 0,
        measured: 0.0,
        lost_and_told: 0.0,
        pairs: Vec::new(),
    };
    for pair in 0..wish.pairs {
        say(&format!("pair {} of {}", pair + 1, wish.pairs));
        let seed = SEED + 1 + pair as u64;
        let agent_first = pair % 2 == 1;
        let mut without = None;
        if !agent_first {
            without = Some(load(seed)?);
        }
        let with = with_agent(wish, folder.path(), &mut report, || load(seed))?;
        let without = without.map_or_else(|| load(seed), Ok)?;
        report.pairs.push((without, with));
    }
    report.rows = rows(&report.pairs);
    Ok(report)
}

fn with_agent(
    wish: &Wish,
    folder: &Path,
    report: &mut Report,
    load: impl FnOnce() -> Result<Half>,
) -> Result<Half> {
    let rule = wish.command_regex.as_ref().map_or_else(String::new, |regex| {
        format!("[[workload]]\nname = \"server\"\ncommand_regex = '{regex}'\n")
    });
    let agent = AgentProcess::start_with(&wish.agent, folder, &rule)?;
    wait_until_watched(agent.listen).with_context(|| {
        format!(
            "{}: where its command line is not vLLM's, say how to find it (--command-regex)",
            wish.endpoint
        )
    })?;
    std::thread::sleep(SETTLE);
    let before = Books::read(agent.listen)?;
    let half = load()?;
    let after = Books::settled(agent.listen)?;
    agent.stop()?;
    report.made += wish.requests as u64;
    report.measured += after.requests() - before.requests();
    report.lost_and_told += after.lost() - before.lost();
    Ok(half)
}

/// Makes every request of one half and waits for every answer.
async fn half(wish: &Wish, seed: u64) -> Result<Half> {
    let options = client::Options {
        seed,
        requests: wish.requests,
        concurrency: wish.concurrency,
        time_max: HALF_MAX,
        request_time_max: REQUEST_MAX,
        // Usage says how many tokens there were: a delta may have several.
        mix: "chat-stream-usage=1".parse()?,
        models: vec![wish.model.clone()],
        max_tokens: wish.max_tokens,
        prompt_bytes: wish.prompt_bytes,
        ..client::Options::new(wish.endpoint.clone())
    };
    let report = client::run(&options, |_| ()).await?;
    if let Some(failure) = report.failures.first() {
        bail!("{failure} ({} failures)", report.failures.len());
    }
    let bad = report.exchanges.iter().find(|one| one.status != Some(200));
    if let Some(bad) = bad {
        bail!("{} answered {} with status {:?}", wish.endpoint, bad.path, bad.status);
    }
    ensure!(report.unsent == 0, "{} requests were not made within {} s", report.unsent, HALF_MAX.as_secs());
    let began = report.exchanges.iter().map(|one| one.started_ns).min().unwrap_or(0);
    let ended = report.exchanges.iter().map(|one| one.ended_ns).max().unwrap_or(0);
    let seconds = ended.saturating_sub(began) as f64 / 1e9;
    let tokens =
        |one: &crate::transcript::Exchange| one.completion_tokens.unwrap_or(one.deltas_ns.len() as u64);
    let ttft = report.exchanges.iter().filter_map(crate::transcript::Exchange::ttft_ns).collect();
    let gaps = report.exchanges.iter().flat_map(crate::transcript::Exchange::gaps_ns).collect();
    let ([ttft_p50_ms, ttft_p99_ms], [inter_token_p50_ms, inter_token_p99_ms]) =
        (quantiles(ttft), quantiles(gaps));
    Ok(Half {
        tokens_per_second: report.exchanges.iter().map(tokens).sum::<u64>() as f64 / seconds,
        requests_per_second: report.exchanges.len() as f64 / seconds,
        ttft_p50_ms,
        ttft_p99_ms,
        inter_token_p50_ms,
        inter_token_p99_ms,
    })
}

/// Median and 99th percentile in milliseconds; of nothing, no number.
fn quantiles(mut times_ns: Vec<u64>) -> [f64; 2] {
    times_ns.sort_unstable();
    [0.5, 0.99].map(|share| {
        let place = (times_ns.len().saturating_sub(1) as f64 * share) as usize;
        times_ns.get(place).map_or(f64::NAN, |ns| *ns as f64 / 1e6)
    })
}

fn rows(pairs: &[(Half, Half)]) -> Vec<Row> {
    let rows = QUANTITIES.iter().filter_map(|&(what, unit, of)| {
        let middle = |values: Vec<f64>| {
            let mut values = values;
            values.sort_by(f64::total_cmp);
            median(&values)
        };
        let ratios: Vec<f64> = pairs.iter().map(|(without, with)| of(with) / of(without)).collect();
        Some(Row {
            what,
            unit,
            without: middle(pairs.iter().map(|(without, _)| of(without)).collect())?,
            with: middle(pairs.iter().map(|(_, with)| of(with)).collect())?,
            ratio: Interval::of(&ratios)?,
        })
    });
    rows.collect()
}

fn gpus(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let model =
        |text: String| Some(text.lines().find_map(|line| line.strip_prefix("Model:"))?.trim().to_owned());
    let found = entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("information")).ok().and_then(model));
    found.collect()
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gpus = if self.gpus.is_empty() {
            "no GPU: the server computes on the processor".to_owned()
        } else {
            self.gpus.join(", ")
        };
        writeln!(out, "{}; {gpus}", self.node)?;
        let Self { model, requests, concurrency, .. } = self;
        writeln!(
            out,
            "model {model}, {} pairs of {requests} streamed chats, {concurrency} at a time; ratio with / without the \
             agent [95 % confidence]\n",
            self.pairs.len()
        )?;
        writeln!(out, "{:<22} {:>14} {:>14} {:>22}", "at the client", "without", "with", "ratio")?;
        for Row { what, unit, without, with, ratio } in &self.rows {
            let cell = |value: f64| format!("{value:.2} {unit}");
            writeln!(out, "{what:<22} {:>14} {:>14} {:>22}", cell(*without), cell(*with), ratio.to_string())?;
        }
        writeln!(
            out,
            "\nmeasured by the agent: {:.0} of {} requests; events lost and told: {:.0}",
            self.measured, self.made, self.lost_and_told
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slower_half_shows_in_every_row() {
        let fast = Half {
            tokens_per_second: 200.0,
            requests_per_second: 10.0,
            ttft_p50_ms: 10.0,
            ttft_p99_ms: 20.0,
            inter_token_p50_ms: 5.0,
            inter_token_p99_ms: 8.0,
        };
        let slow = Half { tokens_per_second: 190.0, ttft_p99_ms: 22.0, ..fast };
        let rows = rows(&[(fast, slow); 6]);
        let ratio = |what: &str| rows.iter().find(|row| row.what == what).unwrap().ratio.median;
        assert!((ratio("tokens") - 0.95).abs() < 1e-9);
        assert!((ratio("first token, p99") - 1.1).abs() < 1e-9);
        assert!((ratio("requests") - 1.0).abs() < 1e-9);
    }

    #[test]
    fn quantiles_are_times_that_were_measured() {
        assert_eq!(quantiles((1..=100).map(|ms| ms * 1_000_000).collect()), [50.0, 99.0]);
        assert!(quantiles(Vec::new())[0].is_nan());
    }

    #[test]
    fn gpus_are_read_from_the_driver() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = folder.path().join("0000:01:00.0");
        fs::create_dir(&gpu).unwrap();
        fs::write(gpu.join("information"), "Model: \t NVIDIA H100\nIRQ: 9\n").unwrap();
        assert_eq!(gpus(folder.path()), ["NVIDIA H100"]);
        assert!(gpus(&folder.path().join("nothing")).is_empty());
    }
}
