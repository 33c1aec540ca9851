//! Server, agent and load together: starts them as processes, makes load, compares.
//!
//! In: paths of the binaries. Out: processes; of [`load`] a comparison. Everything started is ended when its guard is
//! dropped, whatever the test did.

mod load;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::{HEADER_CANARY, PROMPT_CANARY};
use crate::fake_server::COMPLETION_CANARY;
use crate::machine::{self, patient};
use crate::oracle::http_get;
use crate::rights::Rights;
use crate::socket::Endpoint;

pub use load::{evidence, load, load_and_compare, load_scripted};

/// The agent may take this long until it is ready.
const READY_TIME_MAX: Duration = Duration::from_secs(30);
/// A process that was asked to end may take this long.
const END_TIME_MAX: Duration = Duration::from_secs(10);
/// What the agent says where another one runs.
const NODE_BUSY: &str = "another inferscope";
/// Another test run's agent is waited for so long; an agent that stays is the caller's to stop.
const NODE_BUSY_MAX: Duration = Duration::from_secs(120);
const NODE_BUSY_POLL: Duration = Duration::from_secs(1);
/// Finer: the time until the agent is ready is measured.
const READY_POLL: Duration = Duration::from_millis(10);

/// A child that does not outlive its test.
#[derive(Debug)]
pub(crate) struct Guard(pub(crate) Child);

impl Guard {
    /// Asks it to end, and waits.
    pub(crate) fn end(&mut self) -> Result<(ExitStatus, Duration)> {
        let asked = Instant::now();
        kill_process(Pid::from_child(&self.0), Signal::TERM).context("ask a process to end")?;
        while asked.elapsed() < patient(END_TIME_MAX) {
            if let Some(status) = self.0.try_wait()? {
                return Ok((status, asked.elapsed()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("process {} does not end", self.0.id());
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Ended already in a test that went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The demonstration server as a process.
#[derive(Debug)]
pub struct ServerProcess {
    guard: Guard,
    pub endpoint: Endpoint,
    said: BufReader<ChildStdout>,
}

impl ServerProcess {
    /// Starts the binary and waits until it listens.
    ///
    /// # Errors
    ///
    /// Where it does not.
    pub fn start(binary: &Path, listen: &Endpoint, more: &[&str]) -> Result<Self> {
        Self::start_command(Command::new(binary).args(["--listen", &listen.to_string()]).args(more))
    }

    /// Starts a command that says, like the demonstration server, where it listens.
    ///
    /// # Errors
    ///
    /// Where it does not.
    pub fn start_command(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {}", command.get_program().display()))?;
        let mut said = BufReader::new(child.stdout.take().context("server without standard output")?);
        let guard = Guard(child);
        let mut line = String::new();
        said.read_line(&mut line).context("read what the server says")?;
        let address = line.trim().strip_prefix("listening at ");
        let endpoint = address.with_context(|| format!("the server says {line:?}"))?.parse()?;
        Ok(Self { guard, endpoint, said })
    }

    /// Its process id.
    #[must_use]
    pub fn tgid(&self) -> u32 {
        self.guard.0.id()
    }

    /// Ends it; what it said last.
    ///
    /// # Errors
    ///
    /// Where it does not end, or not well.
    pub fn stop(mut self) -> Result<String> {
        let (status, _) = self.guard.end()?;
        let mut said = String::new();
        self.said.read_to_string(&mut said).context("read what the server says")?;
        if !status.success() {
            bail!("the server ended with {status}");
        }
        Ok(said)
    }
}

/// How the agent is started.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    pub binary: PathBuf,
    /// Name and regular expression of the workload.
    pub workload: (String, String),
    /// For its configuration and log.
    pub folder: PathBuf,
}

/// The agent as a process.
#[derive(Debug)]
pub struct AgentProcess {
    guard: Guard,
    pub listen: SocketAddr,
    /// From its start to its answer that it measures.
    pub ready_after: Duration,
    config: PathBuf,
    log: PathBuf,
}

impl AgentProcess {
    /// Starts `inferscope run` and waits until it is ready.
    ///
    /// # Errors
    ///
    /// Where it ends or does not become ready; the text has its log.
    pub fn start(options: &AgentOptions) -> Result<Self> {
        let (name, regex) = &options.workload;
        let settings = format!("workload = [{{ name = \"{name}\", command_regex = '{regex}' }}]\n");
        Self::start_with(&options.binary, &options.folder, &settings)
    }

    /// Starts it with these settings and an address of its own, and waits until it is ready (one that speaks TLS: until
    /// it says that it serves). Its log follows that of an earlier one in the same folder.
    ///
    /// # Errors
    ///
    /// Where it ends or does not become ready; the text has its log.
    pub fn start_with(binary: &Path, folder: &Path, settings: &str) -> Result<Self> {
        Self::start_as(Rights::of_environment()?, binary, folder, settings)
    }

    /// The same, with these rights.
    ///
    /// # Errors
    ///
    /// Where it ends or does not become ready; the text has its log.
    pub fn start_as(rights: Rights, binary: &Path, folder: &Path, settings: &str) -> Result<Self> {
        Self::start_at(rights, binary, folder, settings, free_address()?)
    }

    /// The same, at this address.
    ///
    /// # Errors
    ///
    /// Where it ends or does not become ready; the text has its log.
    pub fn start_at(
        rights: Rights,
        binary: &Path,
        folder: &Path,
        settings: &str,
        listen: SocketAddr,
    ) -> Result<Self> {
        let binary = rights.reach(folder, binary)?;
        let began = Instant::now();
        loop {
            match Self::try_start(rights, &binary, folder, settings, listen) {
                Err(error) if began.elapsed() < NODE_BUSY_MAX && format!("{error:#}").contains(NODE_BUSY) => {
                    std::thread::sleep(NODE_BUSY_POLL);
                }
                started => return started,
            }
        }
    }

    fn try_start(
        rights: Rights,
        binary: &Path,
        folder: &Path,
        settings: &str,
        listen: SocketAddr,
    ) -> Result<Self> {
        let (config, log) = (folder.join("inferscope.toml"), folder.join("agent.log"));
        std::fs::write(&config, machine::agent_settings(settings))
            .with_context(|| format!("write {}", config.display()))?;
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("open {}", log.display()))?;
        let mut command = agent_command(binary);
        command.arg("run").arg("--config").arg(&config);
        command.args(["--listen", &listen.to_string()]).current_dir(folder);
        let began = Instant::now();
        let child = rights.spawn(command.stdout(file.try_clone()?).stderr(file))?;
        let mut agent = Self { guard: Guard(child), listen, ready_after: Duration::ZERO, config, log };
        agent.wait_until_ready(settings.contains("tls_certificate"))?;
        agent.ready_after = began.elapsed();
        Ok(agent)
    }

    /// Changes its settings and asks it to read them.
    ///
    /// # Errors
    ///
    /// Where they cannot be written or it is gone.
    pub fn reload(&self, settings: &str) -> Result<()> {
        std::fs::write(&self.config, machine::agent_settings(settings))
            .with_context(|| format!("write {}", self.config.display()))?;
        self.signal(Signal::HUP)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// Where it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.guard.0), signal).context("signal the agent")
    }

    /// Sends it a signal that ends it, as a crash does; how it ended.
    ///
    /// # Errors
    ///
    /// Where it does not end.
    pub fn crash(mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal)?;
        self.guard.0.wait().context("wait for the agent")
    }

    /// `secure`: it speaks TLS, of which this harness knows nothing, and says that it serves.
    fn wait_until_ready(&mut self, secure: bool) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < patient(READY_TIME_MAX) {
            if let Some(status) = self.guard.0.try_wait()? {
                bail!("the agent ended with {status}: {}", self.read_log()?);
            }
            let serves =
                || self.read_log().is_ok_and(|log| log.contains(&format!("https://{}/", self.listen)));
            let is_ready = || http_get(&Endpoint::Tcp(self.listen), "/readyz").is_ok();
            if (secure && serves()) || (!secure && is_ready()) {
                return Ok(());
            }
            std::thread::sleep(READY_POLL);
        }
        bail!("the agent is not ready after {} s: {}", began.elapsed().as_secs(), self.read_log()?);
    }

    /// Its process id, for measurements of what it costs.
    #[must_use]
    pub fn tgid(&self) -> u32 {
        self.guard.0.id()
    }

    /// What it has logged.
    ///
    /// # Errors
    ///
    /// Where the log cannot be read.
    pub fn read_log(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }

    /// Places where a piece of prompt, completion or header shows; none in an agent that keeps its word.
    ///
    /// # Errors
    ///
    /// Where a page or the log cannot be read.
    pub fn leaks(&self) -> Result<Vec<String>> {
        let mut pages = vec![("log".to_owned(), self.read_log()?)];
        for path in ["/metrics", "/healthz", "/readyz", "/", "/api/v1/requests?after=0&limit=10000"] {
            let body = http_get(&Endpoint::Tcp(self.listen), path)?;
            pages.push((path.to_owned(), String::from_utf8_lossy(&body).into_owned()));
        }
        let canaries = [PROMPT_CANARY, COMPLETION_CANARY, HEADER_CANARY];
        let leaks = pages.iter().flat_map(|(place, text)| {
            let found = canaries.iter().filter(|canary| text.contains(**canary));
            found.map(move |canary| format!("{canary} in {place}"))
        });
        Ok(leaks.collect())
    }

    /// Ends it; how long that took.
    ///
    /// # Errors
    ///
    /// Where it does not end, or not well.
    pub fn stop(mut self) -> Result<Duration> {
        let (status, took) = self.guard.end()?;
        if !status.success() {
            bail!("the agent ended with {status}: {}", self.read_log()?);
        }
        Ok(took)
    }
}

/// The agent's binary, to be run without the variables that are meant for the tests: they would be refused as
/// settings.
#[must_use]
pub fn agent_command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"INFERSCOPE_") {
            command.env_remove(name);
        }
    }
    command
}

/// A port of loopback that nobody has now.
///
/// # Errors
///
/// Where there is none.
pub fn free_address() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr()?)
}
