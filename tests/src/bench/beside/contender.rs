//! Who can be attached to a server: the agent, and what one would take instead.
//!
//! In: the server's process. Out: an observer that observes, and at its end what it counted; or why this machine
//! cannot have it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::AgentProcess;

use super::super::books::Books;
use super::super::process::program_count;
use super::super::scene::{start_agent, wait_until_watched};

const SCRIPT: &str = include_str!("request_latency.bt");
const WITH_TRACEFS: &str = include_str!("with_tracefs");
const SCRIPT_NAME: &str = "request_latency.bt";
const WITH_TRACEFS_NAME: &str = "with_tracefs";

/// A tool that compiles its programs takes seconds on a busy machine.
const ATTACHED_MAX: Duration = Duration::from_secs(20);
/// Programs of a tool that attaches one after the other come within this of each other.
const ATTACHED_PAUSE: Duration = Duration::from_millis(300);
const POLL: Duration = Duration::from_millis(20);
/// Maps are printed at the end.
const END_MAX: Duration = Duration::from_secs(20);
/// Of what a tool said when it failed.
const REASON_CHARACTERS_MAX: usize = 160;
/// What tools say of the failure itself, in contrast to where in them it happened.
const TELLING: [&str; 5] =
    ["kernel headers", "No such file", "not available", "Operation not permitted", "failed to"];

/// A tool, and its question to the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tool {
    pub(super) name: &'static str,
    /// Its names, by the package that has it.
    programs: &'static [&'static str],
    /// `TGID` stands for the server.
    arguments: &'static [&'static str],
    pub(super) answers: &'static str,
}

pub(super) const TOOLS: [Tool; 6] = [
    Tool {
        name: "bpftrace script",
        programs: &["bpftrace"],
        arguments: &[SCRIPT_NAME, "TGID"],
        answers: "the same question: histograms to the first bytes, between writes, to the last (request_latency.bt)",
    },
    Tool {
        name: "bcc trace",
        programs: &["trace-bpfcc", "/usr/share/bcc/tools/trace"],
        arguments: &["-p", "TGID", "t:syscalls:sys_enter_read", "t:syscalls:sys_enter_write"],
        answers: "a line for each read and write, to be joined to requests by the reader",
    },
    Tool {
        name: "syscount -L",
        programs: &["/usr/sbin/syscount", "syscount-bpfcc", "/usr/share/bcc/tools/syscount"],
        arguments: &["-L", "-p", "TGID"],
        answers: "time in each system call, no requests",
    },
    Tool {
        name: "tcplife",
        programs: &["/usr/sbin/tcplife", "tcplife-bpfcc", "/usr/share/bcc/tools/tcplife"],
        arguments: &["-p", "TGID"],
        answers: "how long connections live: of requests only where each has its own",
    },
    Tool {
        name: "tcprtt",
        programs: &["/usr/sbin/tcprtt", "tcprtt-bpfcc", "/usr/share/bcc/tools/tcprtt"],
        arguments: &["-i", "1"],
        answers: "round trips of the network, no requests",
    },
    Tool {
        name: "funclatency tcp_sendmsg",
        programs: &["/usr/sbin/funclatency", "funclatency-bpfcc", "/usr/share/bcc/tools/funclatency"],
        arguments: &["-p", "TGID", "tcp_sendmsg"],
        answers: "time in the kernel's sending function, no requests",
    },
];

/// Who can be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contender {
    Agent,
    Tool(&'static Tool),
}

impl Contender {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Agent => "inferscope",
            Self::Tool(tool) => tool.name,
        }
    }

    pub(super) fn answers(self) -> &'static str {
        match self {
            Self::Agent => {
                "latency of every request by workload, model and route, outcomes, tokens, what was lost"
            }
            Self::Tool(tool) => tool.answers,
        }
    }

    /// Starts it, and waits until it observes.
    ///
    /// # Errors
    ///
    /// Where this machine cannot have it; the text is the reason.
    pub(super) fn start(self, place: &Place<'_>, server: u32) -> Result<Observer> {
        match self {
            Self::Agent => {
                let agent = start_agent(place.agent, place.folder)?;
                wait_until_watched(agent.listen)?;
                std::thread::sleep(ATTACHED_PAUSE);
                Ok(Observer::Agent(agent))
            }
            Self::Tool(tool) => ToolProcess::start(tool, place.folder, server).map(Observer::Tool),
        }
    }
}

/// What contenders are started from.
pub(super) struct Place<'a> {
    pub(super) agent: &'a Path,
    pub(super) folder: &'a Path,
}

/// What an observer took for itself, and said at its end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// Requests that it counted; `None` where it counts something else.
    pub(super) requests: Option<f64>,
    pub(super) lost: Option<f64>,
}

/// A contender that observes.
pub(super) enum Observer {
    Agent(AgentProcess),
    Tool(ToolProcess),
}

impl Observer {
    /// Its process.
    pub(super) fn tgid(&self) -> u32 {
        match self {
            Self::Agent(agent) => agent.tgid(),
            Self::Tool(tool) => tool.child.id(),
        }
    }

    pub(super) fn stop(self) -> Result<Told> {
        match self {
            Self::Agent(agent) => {
                let books = read_books(agent.listen)?;
                agent.stop()?;
                Ok(Told { requests: Some(books.requests()), lost: Some(books.lost()) })
            }
            Self::Tool(tool) => tool.stop(),
        }
    }
}

fn read_books(agent: SocketAddr) -> Result<Books> {
    Books::settled(agent).context("read what the agent counted")
}

/// A tool that runs, in a mount namespace of its own.
pub(super) struct ToolProcess {
    tool: &'static Tool,
    child: Child,
    log: PathBuf,
}

impl ToolProcess {
    fn start(tool: &'static Tool, folder: &Path, server: u32) -> Result<Self> {
        let program = tool.programs.iter().find_map(|name| find(name));
        let program = program.with_context(|| format!("not installed ({})", tool.programs[0]))?;
        for (name, text) in [(SCRIPT_NAME, SCRIPT), (WITH_TRACEFS_NAME, WITH_TRACEFS)] {
            fs::write(folder.join(name), text).with_context(|| format!("write {name}"))?;
        }
        let log = folder.join("tool.log");
        let output = File::create(&log).context("open a log")?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", WITH_TRACEFS_NAME]).arg(program).current_dir(folder);
        let own = server.to_string();
        command.args(tool.arguments.iter().map(|word| if *word == "TGID" { own.as_str() } else { word }));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().context("start unshare")?;
        let mut process = Self { tool, child, log };
        process.wait_until_attached()?;
        Ok(process)
    }

    /// Its programs are there, and no more of them come.
    fn wait_until_attached(&mut self) -> Result<()> {
        let (began, mut count, mut since) = (Instant::now(), 0, Instant::now());
        while began.elapsed() < ATTACHED_MAX {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ({status})", reason(&self.said()));
            }
            let now = program_count(self.child.id()).unwrap_or(0);
            if now != count {
                (count, since) = (now, Instant::now());
            }
            if count > 0 && since.elapsed() > ATTACHED_PAUSE {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        bail!("no kernel program is attached after {} s: {}", ATTACHED_MAX.as_secs(), reason(&self.said()))
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn stop(mut self) -> Result<Told> {
        // These tools end by Ctrl-C, and then say what they know.
        kill_process(Pid::from_child(&self.child), Signal::INT).context("ask a tool to end")?;
        let asked = Instant::now();
        while self.child.try_wait()?.is_none() {
            if asked.elapsed() > END_MAX {
                bail!("{} does not end", self.tool.name);
            }
            std::thread::sleep(POLL);
        }
        Ok(Told { requests: counted(&self.said()), lost: None })
    }
}

impl Drop for ToolProcess {
    fn drop(&mut self) {
        // Ended already where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of a program, by its path or its name.
fn find(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut paths = std::env::split_paths(&paths).map(|folder| folder.join(program));
    paths.find(|path| path.is_file())
}

/// What a bpftrace script has in `@requests`.
fn counted(said: &str) -> Option<f64> {
    said.lines().find_map(|line| line.strip_prefix("@requests: "))?.trim().parse().ok()
}

/// Why a tool failed, by what it said: the line that tells, else the last.
fn reason(said: &str) -> String {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling = lines.clone().find(|line| TELLING.iter().any(|words| line.contains(words)));
    let line = telling.or_else(|| lines.next_back()).unwrap_or("it says nothing");
    line.chars().take(REASON_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_line_that_tells() {
        let check = |said: &str, expected: &str| assert_eq!(reason(said), expected);
        check(
            "modprobe: not found\nUnable to find kernel headers.\nchdir(x)\nException: x\n",
            "Unable to find kernel headers.",
        );
        check("first\nlast\n\n", "last");
        check("", "it says nothing");
    }

    #[test]
    fn requests_of_the_script_are_read_from_its_last_words() {
        assert_eq!(counted("Attaching 8 probes...\n\n@requests: 812\n@x: 3\n"), Some(812.0));
        assert_eq!(counted("Tracing system calls\n"), None);
        assert!(SCRIPT.contains("@requests = count()"));
    }

    #[test]
    fn a_program_is_found_by_name_and_by_path() {
        assert!(find("sh").is_some());
        assert!(find("/bin/sh").is_some());
        assert!(find("no-such-program").is_none());
    }
}
