//! Recording rules and alerts for Prometheus, rendered from the objectives.
//!
//! In: section `slo` of the configuration. Out: [`Group`]s, and their text as a rule file. Pure: nothing is asked of an agent.
//! Budgets of requests are read from the agents themselves (`slo_objective_ratio`), so that one file is right for nodes whose
//! objectives differ; the levels of the founding table are written in.
//!
//! | Severity | Means |
//! |---|---|
//! | `critical` | wake somebody: users are hurt now, or hardware is |
//! | `warning` | look at it today |
//! | `info` | on a dashboard; wakes nobody |

mod agent;
mod founding;
mod gpu;
mod objectives;
mod quality;
mod serving;
#[cfg(test)]
mod tests;
mod text;

pub use text::render;

use crate::slo::Settings;

/// Where runbooks are read, one file an alert.
pub const RUNBOOKS: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/deploy/runbooks");

/// How much an alert matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

impl Severity {
    /// Value of the label `severity`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A series that Prometheus records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub expression: String,
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub name: &'static str,
    pub severity: Severity,
    pub expression: String,
    /// How long it has to hold, as Prometheus has durations.
    pub holds: &'static str,
    /// One line, with the labels.
    pub summary: &'static str,
    /// What it means, with the value.
    pub description: String,
}

/// What is evaluated together, the records first: what they record is there for the alerts at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: &'static str,
    pub records: Vec<Record>,
    pub alerts: Vec<Alert>,
}

/// All of them.
#[must_use]
pub fn groups(slo: &Settings) -> Vec<Group> {
    vec![
        objectives::group(slo),
        founding::group(slo),
        serving::group(),
        gpu::group(),
        quality::group(),
        agent::group(),
    ]
}
