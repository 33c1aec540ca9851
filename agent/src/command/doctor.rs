//! `inferscope doctor`: what do this kernel and these permissions allow?
//!
//! In: a [`Node`], which is the files of `/proc` and `/sys`. Out: one finding per thing that the agent needs,
//! with what its absence costs and what to do, and the servers that it would follow, as text or JSON; the
//! exit status names the worst cause. Loads and attaches nothing, so it may run beside the agent, and needs
//! no rights to tell which are missing.

mod hooks;
mod inspect;
mod node;
mod servers;

use std::io::Write;

use anyhow::{Context as _, Result};
use serde::Serialize;

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
    Confidentiality = 16,
    NoProcessRead = 20,
    NoArrival = 21,
    NoSendTime = 22,
    NoConnectionEnd = 23,
    NoProcessEvents = 24,
    UntestedMachine = 25,
}

impl Cause {
    pub const ALL: [Self; 13] = [
        Self::NoBtf,
        Self::NoPermission,
        Self::KernelTooOld,
        Self::NoSocketHook,
        Self::PrivateProcessNumbers,
        Self::MemoryLock,
        Self::Confidentiality,
        Self::NoProcessRead,
        Self::NoArrival,
        Self::NoSendTime,
        Self::NoConnectionEnd,
        Self::NoProcessEvents,
        Self::UntestedMachine,
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
            Self::NoSocketHook => "the kernel has no tracepoints of what sockets read and write",
            Self::PrivateProcessNumbers => "not in the host's process namespace",
            Self::MemoryLock => "locked memory is limited, and this kernel charges maps to it",
            Self::Confidentiality => "lockdown is at `confidentiality`",
            Self::NoProcessRead => "other users' processes cannot be read",
            Self::NoArrival => "the arrival of data is not seen",
            Self::NoSendTime => "writes are timed by their return",
            Self::NoConnectionEnd => "the end of a connection is not seen at once",
            Self::NoProcessEvents => "start, fork and end of processes are not seen at once",
            Self::UntestedMachine => "this processor is untested",
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
}

impl Report {
    /// Looks at everything. Only reads files: 20 ms of a processor on a node with 100 processes (6.18).
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let found = servers::find(node);
        let mut findings = inspect::all(node);
        findings.push(servers::finding(&found));
        let worst = findings.iter().filter_map(|finding| finding.cause).min();
        Self { exit_code: worst.map_or(0, Cause::code), findings, servers: found.servers }
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
            text.push_str(&format!("{state:<10}{:<20}{}\n", finding.name, finding.found));
            for (label, line) in [("costs", finding.costs), ("do", finding.remedy)] {
                if let Some(line) = line {
                    text.push_str(&format!("{:<10}{:<20}{label}: {line}\n", "", ""));
                }
            }
        }
        text.push_str(&format!("\n{} (exit status {})\n", self.verdict(), self.exit_code));
        text
    }
}

/// Writes the report on `node` and returns the exit status.
///
/// # Errors
/// `out` cannot be written.
pub fn run(node: &Node, json: bool, out: &mut dyn Write) -> Result<u8> {
    let report = Report::of(node);
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
