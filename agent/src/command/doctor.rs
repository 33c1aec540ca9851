//! `inferscope doctor`: what do this kernel and these permissions allow?
//!
//! In: a [`Node`], which is the files of `/proc` and `/sys`, and the library of its GPUs. Out: one finding per thing that the agent needs,
//! with what its absence costs and what to do, and the servers that it would follow, as text or JSON; the
//! exit status names the worst cause. Needs no rights to tell which are missing; where it has them and is asked
//! to, it loads and attaches every program for a moment. It may run beside the agent.

mod gpus;
mod hooks;
mod inspect;
mod node;
mod servers;

use std::io::Write;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::gpu::nvml::Nvml;
use crate::probe::attach::Outcome;
use crate::probe::trial::{self, ProgramTrial};

pub use gpus::{Card, Gpus};
pub use node::Node;
pub use servers::Server;

/// The first status with which the agent runs.
const RUNS_FROM: u8 = 20;

/// Why the agent cannot do all of its work. The smaller the status, the worse: below [`RUNS_FROM`] it refuses
/// to start or would measure nothing; from there on it runs, and what is lost is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    NoBtf = 10,
    NoPermission = 11,
    KernelTooOld = 12,
    NoSocketHook = 13,
    PrivateProcessNumbers = 14,
    MemoryLock = 15,
    NoProcessRead = 20,
    NoArrival = 21,
    NoSendTime = 22,
    NoConnectionEnd = 23,
    NoProcessEvents = 24,
    UntestedMachine = 25,
    CostlySocketHook = 26,
    NoStalls = 27,
}

impl Cause {
    pub const ALL: [Self; 14] = [
        Self::NoBtf,
        Self::NoPermission,
        Self::KernelTooOld,
        Self::NoSocketHook,
        Self::PrivateProcessNumbers,
        Self::MemoryLock,
        Self::NoProcessRead,
        Self::NoArrival,
        Self::NoSendTime,
        Self::NoConnectionEnd,
        Self::NoProcessEvents,
        Self::UntestedMachine,
        Self::CostlySocketHook,
        Self::NoStalls,
    ];

    /// The exit status.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    fn stops_the_agent(self) -> bool {
        self.code() < RUNS_FROM
    }

    /// Half a sentence for the table of exit statuses.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::NoBtf => "the kernel has no type information (BTF)",
            Self::NoPermission => "permission to load kernel programs is missing",
            Self::KernelTooOld => "the kernel is older than 5.10",
            Self::NoSocketHook => "the kernel takes no program at what sockets read and write",
            Self::PrivateProcessNumbers => "not in the host's process namespace",
            Self::MemoryLock => "locked memory is limited, and this kernel charges maps to it",
            Self::NoProcessRead => "other users' processes cannot be read",
            Self::NoArrival => "the arrival of data is not seen",
            Self::NoSendTime => "writes are timed by their return",
            Self::NoConnectionEnd => "the end of a connection is not seen at once",
            Self::NoProcessEvents => "start, fork and end of processes are not seen at once",
            Self::UntestedMachine => "this processor is untested",
            Self::CostlySocketHook => "what sockets read and write is seen at every system call of the node",
            Self::NoStalls => "stalls of the servers' threads are not seen, or not all of them",
        }
    }

    /// Table of exit statuses for `--help`.
    #[must_use]
    pub fn table() -> String {
        let mut table =
            String::from("Exit status, the worst cause:\n   0  all that this version needs is here\n");
        let line = |cause: Self| format!("  {}  {}\n", cause.code(), cause.meaning());
        table.extend(Self::ALL.into_iter().filter(|cause| cause.stops_the_agent()).map(line));
        table.push_str(&format!("From {RUNS_FROM} on the agent runs, with the loss that is named:\n"));
        table.extend(Self::ALL.into_iter().filter(|cause| !cause.stops_the_agent()).map(line));
        table
    }
}

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Ok,
    Degraded,
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    pub name: &'static str,
    pub state: State,
    /// What is there.
    pub found: String,
    /// What its state costs the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub costs: Option<&'static str>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<&'static str>,
    /// Part in the exit status.
    #[serde(rename = "exit_code", skip_serializing_if = "Option::is_none", serialize_with = "code")]
    pub cause: Option<Cause>,
}

/// What a thing's absence means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    pub(crate) costs: &'static str,
    pub(crate) remedy: &'static str,
    /// `None`: nothing that this version measures suffers.
    pub(crate) cause: Option<Cause>,
}

impl Finding {
    pub(crate) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: found.into(), costs: None, remedy: None, cause: None }
    }

    pub(crate) fn lost(name: &'static str, state: State, found: impl Into<String>, loss: Loss) -> Self {
        let Loss { costs, remedy, cause } = loss;
        Self { name, state, found: found.into(), costs: Some(costs), remedy: Some(remedy), cause }
    }
}

/// All findings of a node.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub exit_code: u8,
    pub findings: Vec<Finding>,
    /// Inference servers that run now, as the agent would label them.
    pub servers: Vec<Server>,
    pub gpus: Gpus,
    /// Every kernel program there is, where they were tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<Vec<ProgramTrial>>,
}

impl Report {
    /// Looks at everything. Reads files, 30 ms of a processor on a node with 100 processes (6.18), and asks the GPUs
    /// once, where there is a library.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        Self::with(node, None)
    }

    /// The same, but with what a start gets here, tried: half a second of a processor more.
    ///
    /// # Errors
    /// No program can be loaded at all.
    pub fn tried(node: &Node) -> Result<Self> {
        let outcomes = trial::start().context("try the kernel programs")?;
        let programs = trial::every_program(&outcomes).context("try the kernel programs")?;
        Ok(Self { programs: Some(programs), ..Self::with(node, Some(&outcomes)) })
    }

    fn with(node: &Node, tried: Option<&[Outcome]>) -> Self {
        let found = servers::find(node);
        let mut findings = inspect::all(node, tried);
        findings.push(servers::finding(&found));
        let gpus = gpus::look(Nvml::new(node.gpus.clone()));
        findings.extend(gpus::findings(&gpus));
        let worst = findings.iter().filter_map(|finding| finding.cause).min();
        let exit_code = worst.map_or(0, Cause::code);
        Self { exit_code, findings, servers: found.servers, gpus, programs: None }
    }

    fn verdict(&self) -> String {
        match Cause::ALL.into_iter().find(|cause| cause.code() == self.exit_code) {
            Some(cause) if cause.stops_the_agent() => format!("cannot run: {}", cause.meaning()),
            Some(cause) => format!("runs with a loss: {}", cause.meaning()),
            None => "all that this version needs is here".to_owned(),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let state = match finding.state {
                State::Ok => "ok",
                State::Degraded => "degraded",
                State::Missing => "missing",
            };
            text.push_str(&format!("{state:<10}{:<22}{}\n", finding.name, finding.found));
            for (label, line) in [("costs", finding.costs), ("do", finding.remedy)] {
                if let Some(line) = line {
                    text.push_str(&format!("{:<10}{:<22}{label}: {line}\n", "", ""));
                }
            }
        }
        self.programs.iter().flatten().for_each(|program| text.push_str(&line(program)));
        text.push_str(&format!("\n{} (exit status {})\n", self.verdict(), self.exit_code));
        text
    }
}

/// A kernel program in a line of the text.
fn line(trial: &ProgramTrial) -> String {
    let ProgramTrial { program, hook, in_use, absent, verified_instructions, .. } = trial;
    let state = match (in_use, absent) {
        (true, _) => "in use",
        (false, None) => "spare",
        (false, Some(_)) => "refused",
    };
    let more = match (absent, verified_instructions) {
        (Some(reason), _) => reason.clone(),
        (None, Some(count)) => format!("{count} instructions verified"),
        (None, None) => "instructions not told by this kernel".to_owned(),
    };
    format!("{state:<10}{program:<22}{hook}: {more}\n")
}

/// Writes the report on `node` and returns the exit status; `load`: with what a start gets here, tried.
///
/// # Errors
/// `out` cannot be written, or no program can be loaded.
pub fn run(node: &Node, json: bool, load: bool, out: &mut dyn Write) -> Result<u8> {
    let report = if load { Report::tried(node)? } else { Report::of(node) };
    let text = if json {
        let page = serde_json::to_string_pretty(&report).context("render the report")?;
        format!("{page}\n")
    } else {
        report.text()
    };
    out.write_all(text.as_bytes()).context("write the report")?;
    Ok(report.exit_code)
}

#[allow(clippy::ref_option, reason = "the signature is serde's")]
fn code<S: serde::Serializer>(cause: &Option<Cause>, serializer: S) -> Result<S::Ok, S::Error> {
    cause.map(Cause::code).serialize(serializer)
}

#[cfg(test)]
mod tests;
