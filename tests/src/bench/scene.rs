//! The agent and the server it watches, as processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::harness::{AgentOptions, AgentProcess, ServerProcess};
use crate::oracle::http_get;
use crate::page::{self, Format, Sample};
use crate::socket::Endpoint;

use super::report::Figure;

/// Matches this program as a server, and the demonstration server; not this program as the bench, which is
/// the unwatched process.
const RULE: (&str, &str) = ("bench", "inferscope-(bench serve|demo-server --listen)");
const FOUND_TIME_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
/// The agent's own counters are at most this old, and a little.
const TICK: Duration = Duration::from_millis(1200);

/// One agent, one watched server.
pub(super) struct Scene {
    pub(super) agent: AgentProcess,
    /// Where the watched server listens.
    pub(super) server: SocketAddr,
    /// From the start of the agent to the answer that it measures.
    pub(super) ready_after: Duration,
    _server: ServerProcess,
}

#[derive(Deserialize)]
struct Workloads {
    workloads: Vec<Workload>,
}

#[derive(Deserialize)]
struct Workload {
    up: bool,
}

impl Scene {
    /// Starts the server, then the agent, and waits until it knows the server.
    pub(super) fn start(agent: &Path, folder: &Path) -> Result<Self> {
        let own = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(own);
        let server = ServerProcess::start_command(command.arg("serve"))?;
        let Endpoint::Tcp(address) = server.endpoint else { bail!("the server listens on TCP") };
        let options = AgentOptions {
            binary: PathBuf::from(agent),
            workload: (RULE.0.to_owned(), RULE.1.to_owned()),
            folder: folder.to_owned(),
        };
        let began = Instant::now();
        let agent = AgentProcess::start(&options)?;
        let scene = Self { ready_after: began.elapsed(), agent, server: address, _server: server };
        scene.wait_until_watched()?;
        Ok(scene)
    }

    fn wait_until_watched(&self) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < FOUND_TIME_MAX {
            let page = http_get(&Endpoint::Tcp(self.agent.listen), "/api/v1/workloads")?;
            let found: Workloads = serde_json::from_slice(&page).context("read the list of workloads")?;
            if found.workloads.iter().any(|workload| workload.up) {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        bail!("the agent does not find the server");
    }

    /// Samples of one of the agent's counters, which it brings up to date once a second.
    fn samples(&self, family: &str) -> Result<Vec<Sample>> {
        std::thread::sleep(TICK);
        let page = http_get(&Endpoint::Tcp(self.agent.listen), "/metrics")?;
        let page = String::from_utf8(page).context("read the agent's page")?;
        let mut families = page::read(&page, Format::Text)?;
        let family = families.remove(family).with_context(|| format!("the agent has no {family}"))?;
        Ok(family.samples)
    }

    /// Socket events the kernel programs saw so far.
    pub(super) fn events_seen(&self) -> Result<f64> {
        let samples = self.samples("inferscope_events_total")?;
        let seen =
            samples.iter().find(|one| one.labels.get("stage").is_some_and(|stage| stage == "socket_seen"));
        Ok(seen.context("the agent does not tell how many events there were")?.value)
    }

    /// Events lost for whatever reason: where there are some, the kernel's figures flatter.
    pub(super) fn lost_figure(&self) -> Result<Figure> {
        let lost = self.samples("inferscope_events_lost_total")?;
        Ok(Figure::new("events lost in all of it", lost.iter().map(|one| one.value).sum(), "").within(0.0))
    }

    pub(super) fn stop(self) -> Result<()> {
        self.agent.stop().map(drop)
    }
}
