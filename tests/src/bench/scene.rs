//! The agent and the servers it watches, as processes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::harness::{AgentProcess, ServerProcess};
use crate::oracle::http_get;
use crate::socket::Endpoint;

use super::books::Books;
use super::report::Figure;

const FOUND_TIME_MAX: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
/// What the agent logs of each server that it finds.
const FOUND: &str = ": following ";

/// Tells the servers of this run from others of the node.
fn mark() -> String {
    std::process::id().to_string()
}

/// Models that the agent tells apart: as many as make the 4,000 series at which it may take so much, which the
/// default of its limits does on a node of many servers only.
pub(super) const MODELS: usize = 34;

/// The agent, with the rule by which it finds the servers of this run; not this program as the bench, which is the
/// unwatched process.
pub(super) fn start_agent(binary: &Path, folder: &Path) -> Result<AgentProcess> {
    let mark = mark();
    let servers =
        format!("bench serve|demo-server --listen [^ ]+ --seed {mark}( |$)|flood-server --name {mark}");
    let settings = format!(
        "workload = [{{ name = \"bench\", command_regex = 'inferscope-({servers})' }}]\n\
         [limits]\nmodels = {MODELS}\n"
    );
    AgentProcess::start_with(binary, folder, &settings)
}

/// Its process is there before the agent or comes later; the agent finds it.
pub(super) fn start_demo_server(binary: &Path, script: Option<&str>) -> Result<ServerProcess> {
    let mark = mark();
    let mut more = vec!["--seed", &mark];
    more.extend(script.into_iter().flat_map(|script| ["--script", script]));
    ServerProcess::start(binary, &"127.0.0.1:0".parse()?, &more)
}

pub(super) fn start_flood_server(binary: &Path) -> Result<ServerProcess> {
    ServerProcess::start_command(Command::new(binary).arg("--name").arg(mark()))
}

pub(super) fn address_of(server: &ServerProcess) -> Result<SocketAddr> {
    let Endpoint::Tcp(address) = server.endpoint else { bail!("the server listens on TCP") };
    Ok(address)
}

#[derive(Deserialize)]
struct Workloads {
    workloads: Vec<Workload>,
}

#[derive(Deserialize)]
struct Workload {
    up: bool,
}

/// Waits until the agent knows a server.
pub(super) fn wait_until_watched(agent: SocketAddr) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < FOUND_TIME_MAX {
        let page = http_get(&Endpoint::Tcp(agent), "/api/v1/workloads")?;
        let found: Workloads = serde_json::from_slice(&page).context("read the list of workloads")?;
        if found.workloads.iter().any(|workload| workload.up) {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
    bail!("the agent does not find the server");
}

/// One agent, one watched server.
pub(super) struct Scene {
    pub(super) agent: AgentProcess,
    /// Where the watched server listens.
    pub(super) server: SocketAddr,
    _server: ServerProcess,
}

impl Scene {
    /// Starts the server, then the agent, and waits until it knows the server.
    pub(super) fn start(agent: &Path, folder: &Path) -> Result<Self> {
        let own = std::env::current_exe().context("find this program")?;
        let server = ServerProcess::start_command(Command::new(own).arg("serve"))?;
        let address = address_of(&server)?;
        let agent = start_agent(agent, folder)?;
        let scene = Self { agent, server: address, _server: server };
        wait_until_watched(scene.agent.listen)?;
        Ok(scene)
    }

    /// What `start` starts, once the agent follows it.
    pub(super) fn with_server(&self, start: impl FnOnce() -> Result<ServerProcess>) -> Result<ServerProcess> {
        let found = || Ok::<_, anyhow::Error>(self.agent.read_log()?.matches(FOUND).count());
        let before = found()?;
        let server = start()?;
        let began = Instant::now();
        while found()? == before {
            if began.elapsed() > FOUND_TIME_MAX {
                bail!("the agent does not find the server at {}", server.endpoint);
            }
            std::thread::sleep(POLL);
        }
        Ok(server)
    }

    /// Events lost for whatever reason: where there are some, the kernel's figures flatter.
    pub(super) fn lost_figure(&self) -> Result<Figure> {
        let lost = Books::settled(self.agent.listen)?.lost();
        Ok(Figure::new("events lost in all of it", lost, "").within(0.0))
    }

    pub(super) fn stop(self) -> Result<()> {
        self.agent.stop().map(drop)
    }
}
