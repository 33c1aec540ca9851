//! What a test of the running agent needs: root, the binaries, a folder, and that no other test's agent runs.
//!
//! In: the demonstration server's path, as cargo tells it to a test. Out: a [`Stage`] that starts both, or a
//! skip that says why.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use tempfile::TempDir;

use crate::harness::{AgentProcess, ServerProcess};
use crate::oracle::{AgentRecord, fetch_records};
use crate::skip;
use crate::socket::Endpoint;

/// A node has one agent.
static ONE_AGENT: Mutex<()> = Mutex::new(());

/// Pace of whoever waits for something.
const POLL: Duration = Duration::from_millis(50);

/// The place of one test; its folder goes with it.
#[derive(Debug)]
pub struct Stage {
    pub folder: TempDir,
    /// The agent's binary: built beside the server, or named by `XTASK_AGENT`.
    pub agent: PathBuf,
    pub server: PathBuf,
    _one_agent: MutexGuard<'static, ()>,
}

impl Stage {
    /// Waits for its turn. `None` where this machine cannot run the agent; the skip has been told.
    ///
    /// # Errors
    ///
    /// Where no folder can be made.
    pub fn set(server: &str) -> Result<Option<Self>> {
        let one_agent = ONE_AGENT.lock().unwrap_or_else(PoisonError::into_inner);
        if !rustix::process::geteuid().is_root() {
            skip("kernel programs need root");
            return Ok(None);
        }
        let Some(agent) = agent_binary(server) else { return Ok(None) };
        let server = PathBuf::from(server);
        Ok(Some(Self { folder: tempfile::tempdir()?, agent, server, _one_agent: one_agent }))
    }

    /// Starts the agent with these settings.
    ///
    /// # Errors
    ///
    /// As [`AgentProcess::start_with`].
    pub fn start_agent(&self, settings: &str) -> Result<AgentProcess> {
        AgentProcess::start_with(&self.agent, self.folder.path(), settings)
    }

    /// Starts a server on a free port of loopback.
    ///
    /// # Errors
    ///
    /// As [`ServerProcess::start`].
    pub fn start_server(&self, more: &[&str]) -> Result<ServerProcess> {
        self.start_server_at(&"127.0.0.1:0".parse()?, more)
    }

    /// Starts a server.
    ///
    /// # Errors
    ///
    /// As [`ServerProcess::start`].
    pub fn start_server_at(&self, listen: &Endpoint, more: &[&str]) -> Result<ServerProcess> {
        let log = self.path().join("served.jsonl").display().to_string();
        ServerProcess::start(&self.server, listen, &[&["--log", &log], more].concat())
    }

    /// Matches the command lines of this stage's servers, and none of another's.
    #[must_use]
    pub fn servers_regex(&self) -> String {
        format!("demo-server .*{}/served", self.path().display())
    }

    /// A rule that makes this stage's servers one workload, `demo`.
    #[must_use]
    pub fn rule(&self) -> String {
        format!("workload = [{{ name = \"demo\", command_regex = \"{}\" }}]\n", self.servers_regex())
    }

    /// As [`tool`].
    #[must_use]
    pub fn tool(&self, path: &str) -> Option<PathBuf> {
        tool(&self.server, path)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// The agent's binary: named by `XTASK_AGENT`, else built beside `server`. `None` where there is none; the skip has been told.
#[must_use]
pub fn agent_binary(server: &str) -> Option<PathBuf> {
    let built = || Path::new(server).with_file_name("inferscope");
    let agent = std::env::var_os("XTASK_AGENT").map_or_else(built, PathBuf::from);
    if !agent.exists() {
        skip(&format!("the agent is not built: {}", agent.display()));
        return None;
    }
    Some(agent)
}

/// A program that only tests need: below `XTASK_TOOLS`, else in the folder in which `server` was built. `None` where it is not
/// there; the skip has been told.
#[must_use]
pub fn tool(server: &Path, path: &str) -> Option<PathBuf> {
    let built = || server.ancestors().nth(2).map(|build| build.join("tools"));
    let tools = std::env::var_os("XTASK_TOOLS").map(PathBuf::from).or_else(built)?;
    let tool = tools.join(path);
    if !tool.is_file() {
        skip(&format!("the test tool {path} is not in {}", tools.display()));
        return None;
    }
    Some(tool)
}

/// Asks until there is an answer; `None` where there is none in time.
pub fn until<T>(time_max: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        let answer = ask();
        if answer.is_some() || began.elapsed() > time_max {
            return answer;
        }
        std::thread::sleep(POLL);
    }
}

/// The agent's records, as soon as they are what is waited for; else those that there are.
///
/// # Errors
///
/// Where the agent does not answer.
pub fn records_when(
    agent: &AgentProcess,
    time_max: Duration,
    enough: impl Fn(&[AgentRecord]) -> bool,
) -> Result<Vec<AgentRecord>> {
    let found = until(time_max, || fetch_records(agent.listen, 0).ok().filter(|records| enough(records)));
    found.map_or_else(|| fetch_records(agent.listen, 0), Ok)
}

/// The agent's page of metrics as text.
///
/// # Errors
///
/// Where the agent does not answer.
pub fn metrics_text(agent: &AgentProcess) -> Result<String> {
    let page = crate::oracle::http_get(&Endpoint::Tcp(agent.listen), "/metrics")?;
    Ok(String::from_utf8(page)?)
}
