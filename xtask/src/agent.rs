//! A measuring agent for the verbs that need one.
//!
//! In: a built agent and where it shall listen. Out: the running agent, once it says that it measures.

use crate::build::Profile;
use crate::child::{Running, StopRequest};
use crate::http;
use crate::place::Place;
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Loading the kernel programs takes about a second; an emulated machine takes twenty.
const READY_LIMIT: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Workloads {
    workloads: Vec<Workload>,
}

#[derive(Deserialize)]
struct Workload {
    workload: String,
    kind: String,
    up: bool,
}

/// How an agent shall be.
pub struct Setting<'a> {
    pub address: SocketAddr,
    /// Lines of its configuration, beside where it listens.
    pub lines: &'a str,
    pub environment: Option<(&'a str, &'a Path)>,
}

pub struct Agent {
    running: Running,
    pub address: SocketAddr,
    pub log: PathBuf,
}

impl Agent {
    /// Starts the release build and waits until it measures. `Ok(None)`: the user asked for the end meanwhile.
    ///
    /// # Errors
    /// When another agent is there, or this one ends or does not become ready; the error has its words.
    pub fn start(place: &Place, setting: &Setting<'_>, stop: &StopRequest) -> Result<Option<Self>> {
        let address = setting.address;
        if http::get(address, "/healthz").is_ok() {
            bail!(
                "something answers at {address} already, probably another agent: end it (`systemctl stop inferscope`)"
            );
        }
        let work = place.work("agent")?;
        let (settings, log) = (work.join("inferscope.toml"), work.join("agent.log"));
        fs::write(&settings, format!("[export]\nlisten = \"{address}\"\n\n{}", setting.lines))
            .with_context(|| format!("write {}", settings.display()))?;
        let mut command = Command::new(place.binary(Profile::Release.folder(), "inferscope"));
        command.arg("run").arg("--config").arg(&settings).envs(setting.environment);
        let running = Running::start("the agent", &mut command, &log)?;
        let mut agent = Self { running, address, log };
        Ok(agent.wait_until_ready(stop)?.then_some(agent))
    }

    /// The inference servers that run on this node, as `name (kind)`.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub fn workloads_up(&self) -> Result<Vec<String>> {
        let found: Workloads = http::get_json(self.address, "/api/v1/workloads")?;
        let up = found.workloads.iter().filter(|workload| workload.up);
        Ok(up.map(|found| format!("{} ({})", found.workload, found.kind)).collect())
    }

    /// # Errors
    /// When the agent has ended.
    pub fn expect_alive(&mut self) -> Result<()> {
        self.running.expect_alive()
    }

    /// # Errors
    /// When it does not end cleanly.
    pub fn stop(&mut self) -> Result<()> {
        self.running.stop()
    }

    fn wait_until_ready(&mut self, stop: &StopRequest) -> Result<bool> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            self.running.expect_alive()?;
            let answer = http::get(self.address, "/readyz");
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                let said = answer.map_or_else(|error| format!("{error:#}"), |answer| answer.body);
                bail!(
                    "the agent does not measure after {} s: {said}; `inferscope doctor` says what this machine \
                     lacks, its log is {}",
                    READY_LIMIT.as_secs(),
                    self.log.display()
                );
            }
            if stop.wait(Duration::from_millis(200)) {
                return Ok(false);
            }
        }
    }
}
