//! The agent, and two servers that it follows by rules: `alpha` on TCP, `beta` on a Unix socket.
//!
//! In: the folder of the binaries. Out: servers that start, end, are killed and move; what each phase needs of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fastrand::Rng;
use tokio::runtime::Runtime;

use crate::harness::{AgentProcess, ServerProcess};
use crate::socket::Endpoint;
use crate::stage::until;

/// A server is followed in this time.
const FOLLOWED_MAX: Duration = Duration::from_secs(15);
/// The agent says by the log that it has read its settings in this time.
const RELOADED_MAX: Duration = Duration::from_secs(10);

/// One of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Alpha,
    Beta,
}

impl Name {
    pub(super) const ALL: [Self; 2] = [Self::Alpha, Self::Beta];

    /// Its label, and what tells its command line from others.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Alpha => "alpha",
            Self::Beta => "beta",
        }
    }
}

pub(super) struct Scene {
    pub(super) agent: AgentProcess,
    pub(super) folder: PathBuf,
    pub(super) runtime: Runtime,
    pub(super) rng: Rng,
    /// Phases played, so that no two make the same requests.
    pub(super) played: u64,
    /// Model names made so far.
    pub(super) models: u32,
    server: PathBuf,
    alpha: Option<ServerProcess>,
    beta: Option<ServerProcess>,
    /// Starts of each server since the agent runs.
    starts: [usize; 2],
    reloads: usize,
}

impl Scene {
    pub(super) fn start(programs: &Path, folder: &Path, rng: Rng) -> Result<Self> {
        let settings = settings(folder, "10s");
        let agent = AgentProcess::start_with(&programs.join("inferscope"), folder, &settings)?;
        let mut scene = Self {
            agent,
            folder: folder.to_owned(),
            runtime: Runtime::new().context("start threads")?,
            rng,
            played: 0,
            models: 0,
            server: programs.join("inferscope-demo-server"),
            alpha: None,
            beta: None,
            starts: [0; 2],
            reloads: 0,
        };
        for name in Name::ALL {
            let anywhere = scene.anywhere(name)?;
            scene.start_server(name, &anywhere)?;
        }
        Ok(scene)
    }

    /// Ends all of it; how long the agent took.
    pub(super) fn stop(mut self) -> Result<Duration> {
        for server in [self.alpha.take(), self.beta.take()].into_iter().flatten() {
            server.stop()?;
        }
        self.agent.stop()
    }

    pub(super) fn endpoint(&self, name: Name) -> Result<Endpoint> {
        let server = if name == Name::Alpha { &self.alpha } else { &self.beta };
        let server = server.as_ref().with_context(|| format!("{} does not run", name.label()))?;
        Ok(server.endpoint.clone())
    }

    fn anywhere(&self, name: Name) -> Result<Endpoint> {
        match name {
            Name::Alpha => "127.0.0.1:0".parse(),
            Name::Beta => Ok(Endpoint::Unix(self.folder.join("beta.sock"))),
        }
    }

    fn place(&mut self, name: Name) -> &mut Option<ServerProcess> {
        if name == Name::Alpha { &mut self.alpha } else { &mut self.beta }
    }

    /// Starts a server and waits until it is followed.
    fn start_server(&mut self, name: Name, listen: &Endpoint) -> Result<()> {
        let log = self.folder.join(format!("{}.jsonl", name.label())).display().to_string();
        let seed = self.rng.u32(..).to_string();
        let server = ServerProcess::start(&self.server, listen, &["--log", &log, "--seed", &seed])?;
        *self.place(name) = Some(server);
        self.starts[name as usize] += 1;
        let (starts, said) = (self.starts[name as usize], format!(": following workload={} ", name.label()));
        let followed = || Some(self.agent.read_log().ok()?.matches(&said).count() >= starts);
        if until(FOLLOWED_MAX, || followed().filter(|followed| *followed)).is_none() {
            bail!("a server that started is not followed");
        }
        Ok(())
    }

    /// Ends a server and starts another where it was.
    pub(super) fn restart(&mut self, name: Name) -> Result<()> {
        let listen = self.endpoint(name)?;
        self.place(name).take().context("a server to end")?.stop()?;
        self.start_server(name, &listen)
    }

    /// Kills a server and starts another where it was.
    pub(super) fn kill(&mut self, name: Name) -> Result<()> {
        let listen = self.endpoint(name)?;
        // Dropped, it is killed.
        *self.place(name) = None;
        self.start_server(name, &listen)
    }

    /// Ends a server and starts another at a port of its own.
    pub(super) fn move_away(&mut self, name: Name) -> Result<()> {
        self.place(name).take().context("a server to end")?.stop()?;
        let anywhere = self.anywhere(name)?;
        self.start_server(name, &anywhere)
    }

    /// Has the agent read other settings.
    pub(super) fn reload(&mut self) -> Result<()> {
        let stalled_after = ["10s", "2s", "30s"][self.rng.usize(..3)];
        self.agent.reload(&settings(&self.folder, stalled_after))?;
        self.reloads += 1;
        let read = || Some(self.agent.read_log().ok()?.matches("configuration read again").count());
        if until(RELOADED_MAX, || read().filter(|count| *count >= self.reloads)).is_none() {
            bail!("the agent does not read its settings");
        }
        Ok(())
    }
}

fn settings(folder: &Path, stalled_after: &str) -> String {
    let rule = |name: Name| {
        let (label, folder) = (name.label(), folder.display());
        format!(
            "[[workload]]\nname = \"{label}\"\ncommand_regex = \"demo-server .*{folder}/{label}.jsonl\"\n"
        )
    };
    format!("[request]\nstalled_after = \"{stalled_after}\"\n{}{}", rule(Name::Alpha), rule(Name::Beta))
}
