//! Questions that the agent asks a server itself, from time to time: is it still right, and does it still say the same?
//!
//! In: a file of questions, which servers there are and how busy they are. Out: a [`Standing`]. Off by default. The agent's
//! requests carry an id that nobody can guess, by which `request/` keeps them out of all that is measured.

pub mod answer;
pub mod ask;
pub mod asker;
pub mod outcome;
pub mod questions;
pub mod run;
pub mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use outcome::Outcome;
use run::Waits;

/// What is known of the runs.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    pub model: Arc<str>,
    /// Of the newest run that came to its end.
    pub outcome: Option<Outcome>,
    pub ended: Option<SystemTime>,
    /// Questions done, and all, of a run under way.
    pub progress: Option<(usize, usize)>,
    /// What it waits for.
    pub waits: Option<Waits>,
    /// For how long it did, over all runs.
    pub waited: BTreeMap<Waits, Duration>,
    /// Runs that came to their end.
    pub runs: u64,
    /// Spent so far.
    pub tokens: u64,
    /// Questions and runs that failed, by reason.
    pub failures: BTreeMap<&'static str, u64>,
    /// What went wrong last; `None` once a run came to its end with an answer.
    pub failure: Option<String>,
}

/// Why questions and runs fail: the keys of [`Standing::failures`].
pub const FAILURES: [&str; 6] = ["connect", "late", "status", "answer", "files", "given_up"];

/// A server as the pipeline sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub label: Arc<str>,
    /// On loopback.
    pub port: u16,
    /// Requests of others under way.
    pub open: usize,
    /// Changes with its arguments, its program and the files of its model.
    pub identity: u64,
}
