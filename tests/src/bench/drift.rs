//! Ten million predictions against ten million, again and again, while requests are measured.
//!
//! In: the agent's binary, a server. Out: how long a score takes, what memory it takes and gives back, and which requests were
//! not measured meanwhile.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::client::Options;
use crate::harness::{AgentProcess, load_and_compare};
use crate::oracle::http_get;
use crate::socket::Endpoint;

use super::books::Books;
use super::process::memory_bytes;
use super::report::Figure;
use super::scene::{start_demo_server, wait_until_watched};

const PREDICTIONS: usize = 10_000_000;
const SCORED_SECONDS: f64 = 2.0;
const GIVEN_BACK_MIB: f64 = 200.0;
/// Between what the allocator keeps and what it does not.
const KEPT_MIB: f64 = 8.0;

const RATE: f64 = 100.0;
const LOAD_TIME: Duration = Duration::from_secs(20);
/// A version is seen within a second, twice, and shown at the next tick.
const SHOWN_MAX: Duration = Duration::from_secs(20);
/// What was freed is given back meanwhile.
const SETTLE: Duration = Duration::from_secs(3);
const MIB: f64 = 1_048_576.0;

pub(super) fn figures(agent: &Path, demo_server: &Path, folder: &Path) -> Result<Vec<Figure>> {
    let files = Files::write(folder)?;
    let scored = files.score_by_command(agent)?;
    let settings = format!(
        "workload = [{{ name = \"bench\", command_regex = 'demo-server --listen [^ ]+ --seed {}( |$)' }}]\n\
         [[drift.files]]\nmodel = \"m\"\nbaseline = {:?}\nrecent = {:?}\ninterval = \"1s\"\n",
        std::process::id(),
        files.baseline,
        files.recent,
    );
    let server = start_demo_server(demo_server, None)?;
    let agent = AgentProcess::start_with(agent, folder, &settings)?;
    wait_until_watched(agent.listen)?;
    let memory = |line: &str| Ok::<_, anyhow::Error>(memory_bytes(agent.tgid(), line)? as f64 / MIB);
    let (before, at_first) = (memory("RssAnon")?, memory("VmHWM")?);
    files.replace(0)?;
    files.wait_for(&agent, 0.0)?;
    let options = Options {
        requests: (RATE * LOAD_TIME.as_secs_f64()) as usize,
        rate: Some(RATE),
        concurrency: 64,
        time_max: 2 * LOAD_TIME,
        ..Options::new(server.endpoint.clone())
    };
    let over = AtomicBool::new(false);
    let (compared, versions) = std::thread::scope(|scope| {
        let replacing = scope.spawn(|| {
            let mut versions = 0;
            while !over.load(Ordering::Relaxed) {
                let newest = files.written(&agent)?;
                versions += 1;
                files.replace(versions)?;
                files.wait_for(&agent, newest)?;
            }
            Ok::<_, anyhow::Error>(versions)
        });
        let runtime = tokio::runtime::Runtime::new().context("start threads")?;
        let compared = runtime.block_on(load_and_compare(agent.listen, &options, folder));
        over.store(true, Ordering::Relaxed);
        let versions = replacing.join().map_err(|_panicked| anyhow::anyhow!("replace files"))??;
        Ok::<_, anyhow::Error>((compared?, versions))
    })?;
    std::thread::sleep(SETTLE);
    let (most, after) = (memory("VmHWM")?, memory("RssAnon")?);
    let lost = Books::settled(agent.listen)?.lost();
    agent.stop()?;
    server.stop()?;
    let wrong = compared.missing.len()
        + compared.doubled.len()
        + compared.unexpected.len()
        + compared.mismatches_total;
    Ok(vec![
        Figure::new("10 million predictions against as many, by `inferscope drift`", scored, "s")
            .within(SCORED_SECONDS),
        Figure::new("agent: versions of 10 million scored under load", versions as f64, ""),
        Figure::new("agent, at most meanwhile: resident memory", most, "MiB"),
        Figure::new("  more than before, and given back", most - at_first, "MiB").within(GIVEN_BACK_MIB),
        Figure::new("  anonymous memory afterwards, beyond before", after - before, "MiB").within(KEPT_MIB),
        Figure::new("requests meanwhile", compared.expected as f64, ""),
        Figure::new("  not measured, or not right", wrong as f64, "").within(0.0),
        Figure::new("  events lost", lost, "").within(0.0),
    ])
}

/// Two files of predictions, of which one is replaced.
struct Files {
    baseline: PathBuf,
    recent: PathBuf,
}

impl Files {
    fn write(folder: &Path) -> Result<Self> {
        let files = Self { baseline: folder.join("baseline.npy"), recent: folder.join("recent.npy") };
        write_numbers(&files.baseline, 0)?;
        files.replace(1)?;
        Ok(files)
    }

    /// As whoever writes them should: under another name first.
    fn replace(&self, version: u64) -> Result<()> {
        let unfinished = self.recent.with_extension("new");
        write_numbers(&unfinished, version + 1)?;
        fs::rename(&unfinished, &self.recent).context("replace the recent predictions")
    }

    /// How long the command takes, in seconds.
    fn score_by_command(&self, agent: &Path) -> Result<f64> {
        let mut command = Command::new(agent);
        command.arg("drift").arg(&self.baseline).arg(&self.recent).arg("--json");
        let began = Instant::now();
        let status = command.stdout(Stdio::null()).status().context("start `inferscope drift`")?;
        ensure!(status.success(), "`inferscope drift` ended with {status}");
        Ok(began.elapsed().as_secs_f64())
    }

    /// When the predictions that are scored were written; 0 where none are.
    fn written(&self, agent: &AgentProcess) -> Result<f64> {
        let page = http_get(&Endpoint::Tcp(agent.listen), "/api/v1/quality")?;
        let page: Value = serde_json::from_slice(&page).context("read the page of quality")?;
        let one = &page["predictions"][0];
        Ok(one["written_unix_seconds"].as_f64().unwrap_or(0.0))
    }

    fn wait_for(&self, agent: &AgentProcess, later_than: f64) -> Result<()> {
        let began = Instant::now();
        while self.written(agent)? <= later_than {
            ensure!(
                began.elapsed() < SHOWN_MAX,
                "predictions were not scored within {} s",
                SHOWN_MAX.as_secs()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// Numbers between 0 and 1 that look like chance, as `numpy.save` writes them.
fn write_numbers(path: &Path, seed: u64) -> Result<()> {
    let context = || format!("write {}", path.display());
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).with_context(context)?);
    let header = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': ({PREDICTIONS},), }}\n");
    file.write_all(b"\x93NUMPY\x01\0").with_context(context)?;
    file.write_all(&u16::try_from(header.len())?.to_le_bytes()).with_context(context)?;
    file.write_all(header.as_bytes()).with_context(context)?;
    let mut state = seed;
    for _ in 0..PREDICTIONS {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = (state >> 11) as f64 / (1_u64 << 53) as f64;
        file.write_all(&number.to_le_bytes()).with_context(context)?;
    }
    file.flush().with_context(context)
}
