//! One fault after the other: a server of its own for each, a clean stretch of load, one with the fault, and what the
//! agent says of each request.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::blamed::{Blamed, fetch};
use super::fault::{Fault, Victim, inject};
use super::group::Group;
use super::matrix::{Matrix, Row};
use crate::client::{self, Report};
use crate::harness::{AgentProcess, ServerProcess};
use crate::oracle::http_get;
use crate::socket::Endpoint;
use crate::stage::until;

/// Requests a second, of 16 tokens in 10 ms each.
pub const RATE: f64 = 10.0;
/// Load without and with the fault.
const CLEAN: Duration = Duration::from_secs(8);
const FAULTED: Duration = Duration::from_secs(12);
/// The agent finds a server, and lists a request, within this time.
const PATIENCE: Duration = Duration::from_secs(20);
/// Larger than what a page cache of a small group holds.
const FILE_BYTES: usize = 256 << 20;
/// Of a client that reads slowly: what the kernel may hold for it.
const SEND_BUFFER: &str = "4608";

/// What a laboratory needs.
#[derive(Clone, Debug)]
pub struct Lab {
    /// The folder of the agent's binary and of the server's.
    pub programs: PathBuf,
    /// For the agent's settings, and for a large file: on a disk.
    pub folder: PathBuf,
    /// Requests a second.
    pub rate: f64,
    /// Where to leave what the agent says of each request.
    pub keep: Option<PathBuf>,
}

impl Lab {
    /// Does each fault; one that this machine cannot do is a row that says why.
    ///
    /// # Errors
    ///
    /// Where the agent cannot be run at all.
    pub fn run(&self, faults: &[Fault]) -> Result<Matrix> {
        let file = self.folder.join("large");
        if faults.iter().any(|fault| fault.needs_file()) {
            make_file(&file)?;
        }
        let rows = faults.iter().map(|fault| {
            eprintln!("faults: {}", fault.name());
            self.row(*fault, &file).unwrap_or_else(|error| Row::refused(*fault, format!("{error:#}")))
        });
        Ok(Matrix { rows: rows.collect() })
    }

    fn row(&self, fault: Fault, file: &Path) -> Result<Row> {
        let name = format!("inferscope-lab-{}-{fault:?}", std::process::id());
        let group = fault.needs_group().then(|| Group::make(&name)).transpose()?;
        let row = self.measure(fault, file, &name, group.as_ref());
        if let Some(group) = group {
            group.remove();
        }
        row
    }

    fn measure(&self, fault: Fault, file: &Path, name: &str, group: Option<&Group>) -> Result<Row> {
        let settings = format!(
            "workload = [{{ name = \"lab\", command_regex = 'lab-server serve .*--name {name}' }}]\n"
        );
        let agent = AgentProcess::start_with(&self.programs.join("inferscope"), &self.folder, &settings)?;
        let mut command = Command::new(self.programs.join("inferscope-lab-server"));
        command.args(["serve", "--name", name]);
        command.args(fault.work(file).iter().flat_map(|work| ["--work", work]));
        if fault == Fault::SlowClient {
            command.args(["--send-buffer", SEND_BUFFER, "--text-bytes", "20000"]);
        }
        let server = ServerProcess::start_command(&mut command)?;
        let found = || agent.read_log().ok()?.contains(": following ").then_some(());
        until(PATIENCE, found).with_context(|| format!("not followed: {:?}", agent.read_log()))?;
        let victim = Victim::find(server.tgid(), group, file)?;
        victim.enter_group()?;
        if let Some(group) = group.filter(|_| fault.needs_file()) {
            group.prepare_disk(file)?;
        }
        let clean = self.load(&server.endpoint, "chat-stream-usage", CLEAN).join().map_err(panicked)??;
        let mix = if fault == Fault::SlowClient { "slow-reader" } else { "chat-stream-usage" };
        let faulted = self.load(&server.endpoint, mix, FAULTED);
        let stretches = inject(fault, &victim, FAULTED.saturating_sub(Duration::from_secs(2)));
        let faulted = faulted.join().map_err(panicked)??;
        let count = clean.exchanges.len() + faulted.exchanges.len();
        let enough = || fetch(agent.listen).ok().filter(|requests| requests.len() >= count);
        let Some(requests) = until(PATIENCE, enough) else {
            bail!("the agent lists {} of {count} requests", fetch(agent.listen)?.len());
        };
        if let Some(folder) = &self.keep {
            keep(agent.listen, folder, fault)?;
        }
        agent.stop()?;
        server.stop()?;
        let (before, after): (&[Blamed], &[Blamed]) = requests.split_at(clean.exchanges.len());
        Ok(Row::of(fault, before, after, &stretches?))
    }

    fn load(&self, endpoint: &Endpoint, mix: &str, time: Duration) -> JoinHandle<Result<Report>> {
        let rate = self.rate;
        let mix = mix.parse();
        let endpoint = endpoint.clone();
        std::thread::spawn(move || {
            let options = client::Options {
                rate: Some(rate),
                requests: (rate * time.as_secs_f64()) as usize,
                concurrency: 256,
                mix: mix?,
                models: vec!["lab".to_owned()],
                time_max: time * 4,
                ..client::Options::new(endpoint)
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(client::run(&options, |_| ()))
        })
    }
}

pub(super) fn panicked<T>(_: T) -> anyhow::Error {
    anyhow::anyhow!("the load client panicked")
}

/// Leaves the agent's pages of requests in a folder.
///
/// # Errors
///
/// Where the agent does not answer, or they cannot be written.
pub(super) fn keep(agent: SocketAddr, folder: &Path, fault: Fault) -> Result<()> {
    for name in ["requests", "slow"] {
        let page = http_get(&Endpoint::Tcp(agent), &format!("/api/v1/{name}?limit=1000"))?;
        let path = folder.join(format!("{fault:?}-{name}.json").to_lowercase());
        std::fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Of bytes that no disk makes less of.
fn make_file(path: &Path) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("make {}", path.display()))?;
    let mut block = vec![0_u8; 1 << 20];
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..FILE_BYTES >> 20 {
        random.fill(&mut block);
        file.write_all(&block).with_context(|| format!("write {}", path.display()))?;
    }
    file.sync_all().context("write the file to its disk")
}
