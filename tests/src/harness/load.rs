//! Load on a server, and what the agent made of it.
//!
//! In: what load, a folder. Out: what passed, by the wire where there is one, and the comparison with the agent's records.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::books::tick_over;
use crate::client;
use crate::fake_server::Served;
use crate::machine::{self, patient};
use crate::oracle::{
    AgentRecord, Comparison, Source, Truth, compare, fetch_records, http_get, newest_record,
};
use crate::skipped;
use crate::socket::Endpoint;
use crate::wire::{self, Capture};

/// The agent's records of the last requests may take this long.
const RECORDS_TIME_MAX: Duration = Duration::from_secs(10);
/// The agent's list of newest records is read so often while load is made.
const READ_EVERY: Duration = Duration::from_millis(500);
/// Requests of which all is told that is known.
const EVIDENCE_MAX: usize = 3;
const POLL: Duration = Duration::from_millis(100);

/// Makes load, by the wire's times where there is a wire, and compares with the agent's records. Both are
/// left in `folder`, as `truth.jsonl` and `records.json`.
///
/// # Errors
///
/// Where the load cannot be made, the capture lost packets, or the agent does not answer.
pub async fn load_and_compare(
    agent: SocketAddr,
    options: &client::Options,
    folder: &Path,
) -> Result<Comparison> {
    let mut options = options.clone();
    let mut loads = 0;
    loop {
        let comparison = load_once_and_compare(agent, &options, folder).await?;
        if comparison.passed || !comparison.is_exact() {
            return Ok(comparison);
        }
        loads += 1;
        let Some(requests) = machine::next_load(loads, options.requests) else { return Ok(comparison) };
        println!("only times are off; once more with {requests} requests\n{comparison}");
        options.requests = requests;
        options.seed += 1;
    }
}

async fn load_once_and_compare(
    agent: SocketAddr,
    options: &client::Options,
    folder: &Path,
) -> Result<Comparison> {
    let mut reader = RecordReader { agent, after: newest_record(agent)?, records: Vec::new() };
    let truth = {
        let load = load_scripted(options, folder);
        tokio::pin!(load);
        loop {
            tokio::select! {
                truth = &mut load => break truth?,
                // The agent keeps only its newest records.
                () = tokio::time::sleep(READ_EVERY) => reader.read()?,
            }
        }
    };
    let Some((source, exchanges)) = truth.best() else { bail!("no request was made") };
    truth.save(&folder.join("truth.jsonl"))?;
    reader.settle(exchanges.iter().filter(|exchange| exchange.is_inference()).count())?;
    let records = serde_json::to_vec_pretty(&reader.records).context("write records as JSON")?;
    std::fs::write(folder.join("records.json"), records).context("keep the records")?;
    let (mut exchanges, mut records) = (exchanges.to_vec(), reader.records);
    skipped::set_aside(agent, &mut exchanges, &mut records)?;
    let mut comparison = compare(&exchanges, &records, machine::bounds(source));
    if !comparison.passed {
        tick_over(agent)?;
        comparison.told = unseen(agent)?;
    }
    Ok(comparison)
}

/// What an agent says that it did not see or understand, so far.
fn unseen(agent: SocketAddr) -> Result<Vec<String>> {
    const FAMILIES: [&str; 3] = [
        "inferscope_events_lost_total",
        "inferscope_parse_failures_total",
        "inferscope_records_incomplete_total",
    ];
    let page = http_get(&Endpoint::Tcp(agent), "/metrics")?;
    let page = String::from_utf8(page).context("read the agent's page")?;
    let some = |line: &&str| FAMILIES.iter().any(|name| line.starts_with(name)) && !line.ends_with(" 0");
    Ok(page.lines().filter(some).map(str::to_owned).collect())
}

/// What the sources and the agent say of the first requests that differ, from the files that a comparison leaves: of an
/// emulated machine nothing else is left.
///
/// # Errors
///
/// Where the files cannot be read.
pub fn evidence(comparison: &Comparison, folder: &Path) -> Result<String> {
    let truth = std::fs::read_to_string(folder.join("truth.jsonl")).context("read what passed")?;
    let records = std::fs::read(folder.join("records.json")).context("read the records")?;
    let records: Vec<AgentRecord> = serde_json::from_slice(&records).context("read the records")?;
    let mut ids: Vec<&str> = comparison.mismatches.iter().map(|one| one.request_id.as_str()).collect();
    ids.dedup();
    let mut text = String::new();
    for id in ids.into_iter().take(EVIDENCE_MAX) {
        text.extend(truth.lines().filter(|line| line.contains(id)).map(|line| format!("{line}\n")));
        for record in records.iter().filter(|record| record.request_id.as_deref() == Some(id)) {
            text += &format!("record: {}\n", serde_json::to_string(record)?);
        }
    }
    Ok(text)
}

/// As [`load`], with what the server has logged, where it follows scripts.
///
/// # Errors
///
/// As [`load`].
pub async fn load_scripted(options: &client::Options, folder: &Path) -> Result<Truth> {
    let mut truth = load(options, folder).await?;
    if !options.scenarios.is_empty() {
        truth.add_served(&fetch_served(&options.endpoint)?);
    }
    Ok(truth)
}

/// What a server that follows scripts has logged.
fn fetch_served(server: &Endpoint) -> Result<Vec<Served>> {
    let body = http_get(server, "/__script/log")?;
    let lines = serde_json::Deserializer::from_slice(&body).into_iter();
    lines.collect::<Result<_, _>>().context("read the server's log")
}

/// Takes the agent's records as they come.
struct RecordReader {
    agent: SocketAddr,
    after: u64,
    records: Vec<AgentRecord>,
}

impl RecordReader {
    fn read(&mut self) -> Result<()> {
        let new = fetch_records(self.agent, self.after)?;
        self.after = new.last().map_or(self.after, |record| record.seq);
        self.records.extend(new);
        Ok(())
    }

    /// Reads until there are enough, and a little longer: one too many would come late.
    fn settle(&mut self, expected: usize) -> Result<()> {
        let began = Instant::now();
        self.read()?;
        while self.records.len() < expected && began.elapsed() < patient(RECORDS_TIME_MAX) {
            std::thread::sleep(POLL);
            self.read()?;
        }
        std::thread::sleep(POLL);
        self.read()
    }
}

/// Makes load and says what passed.
///
/// # Errors
///
/// Where the load cannot be made or the capture lost packets.
pub async fn load(options: &client::Options, folder: &Path) -> Result<Truth> {
    let port = options.endpoint.port();
    let capture = port.map(|port| Capture::start(port, folder)).transpose()?;
    let report = client::run(options, |_| ()).await?;
    if let Some(failure) = report.failures.first() {
        bail!("{failure} ({} failures)", report.failures.len());
    }
    let mut truth = Truth::new(Source::Client, report.exchanges);
    if let (Some(capture), Some(port)) = (capture, port) {
        truth.add(Source::Wire, wire::read(&capture.stop()?.path, port)?);
        check_capture(&truth)?;
    }
    Ok(truth)
}

/// Whatever the client saw must be in the capture; what it sent to a server just closing may not.
fn check_capture(truth: &Truth) -> Result<()> {
    let captured: HashSet<_> = truth.of(Source::Wire).iter().map(|one| &one.request_id).collect();
    let seen = truth.of(Source::Client).iter().filter(|one| one.status.is_some());
    match seen.map(|one| &one.request_id).find(|id| !captured.contains(id)) {
        Some(id) => bail!("the capture misses request {}", id.as_deref().unwrap_or("without id")),
        None => Ok(()),
    }
}
