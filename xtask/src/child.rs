//! Programs that run beside this one, and their end.
//!
//! In: a `Command`. Out: a [`Running`] that is ended by SIGTERM and waited for, at the latest when it is dropped.
//! Each has a process group of its own: Ctrl-C in the terminal reaches this program alone, which then ends the
//! others in order.

use crate::shell;
use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A program gets this long to end by itself; the agent needs at most 2 s.
const END_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A program that was started here.
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a program that writes into `log`.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("open log {}", log.display()))?;
        let errors = output.try_clone().context("open log twice")?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    pub fn tgid(&self) -> u32 {
        self.child.id()
    }

    /// # Errors
    /// When it has ended, with the last lines it wrote.
    pub fn expect_alive(&mut self) -> Result<()> {
        let Some(status) = self.ended()? else { return Ok(()) };
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        bail!(
            "{} ended with {status}: {} (its log: {})",
            self.name,
            shell::last_lines(&text),
            self.log.display()
        )
    }

    /// Asks it to end and waits; past the limit its whole group is killed.
    ///
    /// # Errors
    /// When it had to be killed, or cannot be waited for.
    pub fn stop(&mut self) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        let pid = self.pid()?;
        kill_process(pid, Signal::TERM).with_context(|| format!("ask {} to end", self.name))?;
        let deadline = Instant::now() + END_LIMIT;
        while Instant::now() < deadline {
            if self.ended()?.is_some() {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        kill_process_group(pid, Signal::KILL).with_context(|| format!("kill {}", self.name))?;
        self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        bail!("{} did not end within {} s and was killed", self.name, END_LIMIT.as_secs())
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("look after {}", self.name))
    }

    fn pid(&self) -> Result<Pid> {
        let raw = i32::try_from(self.child.id()).context("read a process number")?;
        Pid::from_raw(raw).context("read a process number")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{error:#}");
        }
    }
}

/// Set once the user asked for the end, by Ctrl-C, SIGTERM or closing the terminal.
#[derive(Clone)]
pub struct StopRequest(Arc<AtomicBool>);

impl StopRequest {
    /// # Errors
    /// When the signals cannot be had.
    pub fn listen() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&asked)).context("listen to Ctrl-C")?;
        }
        Ok(Self(asked))
    }

    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps, but for at most a poll longer than until the request; true if it came.
    pub fn wait(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while !self.asked() && Instant::now() < until {
            thread::sleep(POLL.min(until.saturating_duration_since(Instant::now())));
        }
        self.asked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str, name: &str) -> Running {
        let log = std::env::temp_dir().join(format!("xtask-child-{}-{name}.log", std::process::id()));
        Running::start(name, Command::new("sh").args(["-c", script]), &log).unwrap()
    }

    #[test]
    fn a_program_is_ended_by_a_signal_it_can_catch() {
        let mut running = start("trap 'echo asked; exit 0' TERM; while :; do sleep 0.05; done", "catches");
        thread::sleep(Duration::from_millis(200));
        running.stop().unwrap();
        assert_eq!(fs::read_to_string(&running.log).unwrap(), "asked\n");
        fs::remove_file(&running.log).unwrap();
    }

    #[test]
    fn the_end_of_a_program_is_told_with_its_last_words() {
        let mut running = start("echo no such kernel; exit 7", "ends");
        while running.ended().unwrap().is_none() {
            thread::sleep(POLL);
        }
        let said = running.expect_alive().expect_err("it ended").to_string();
        assert!(said.contains("no such kernel") && said.contains('7'), "{said}");
        fs::remove_file(&running.log).unwrap();
    }
}
