//! What came of it, as a table.

use std::fmt;

use serde::Serialize;

/// One alert.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub alert: String,
    pub severity: String,
    pub fault: &'static str,
    /// From the fault to the alert, in seconds, and to a receiver.
    pub fired_after: Option<f64>,
    pub arrived_after: Option<f64>,
    /// The alert that was told in its place.
    pub held_by: Option<String>,
}

impl Row {
    /// It fired, and somebody heard of it or of what is worse.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.fired_after.is_some() && (self.arrived_after.is_some() || self.held_by.is_some())
    }
}

/// The closed loop of one server.
#[derive(Clone, Debug, Serialize)]
pub struct Loop {
    pub server: String,
    /// As the audit has it.
    pub result: String,
    pub expected: &'static str,
    /// Where it failed: whether that reached a receiver.
    pub told: Option<bool>,
}

impl Loop {
    #[must_use]
    pub fn holds(&self) -> bool {
        self.result.starts_with(self.expected) && self.told != Some(false)
    }
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub rows: Vec<Row>,
    /// Alerts that fired while nothing was wrong.
    pub false_alerts: Vec<String>,
    /// Names of alerts that no fault is known for.
    pub without_fault: Vec<String>,
    pub loops: Vec<Loop>,
    /// The agent's page while nothing was wrong, and after everything but the faults of the agent itself.
    #[serde(skip)]
    pub pages: (String, String),
}

impl Report {
    #[must_use]
    pub fn holds(&self) -> bool {
        self.rows.iter().all(Row::holds)
            && self.false_alerts.is_empty()
            && self.without_fault.is_empty()
            && self.loops.iter().all(Loop::holds)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.0} s"));
        writeln!(f, "{:<27} {:<9} {:>7} {:>8}  Fault", "Alert", "Severity", "Fires", "Arrives")?;
        for row in &self.rows {
            let arrives = match (&row.held_by, row.arrived_after) {
                (Some(by), None) => format!("held back by {by}; {}", row.fault),
                _ => row.fault.to_owned(),
            };
            let mark = if row.holds() { "" } else { "  <-- NOT RAISED" };
            let (fires, comes) = (seconds(row.fired_after), seconds(row.arrived_after));
            writeln!(f, "{:<27} {:<9} {fires:>7} {comes:>8}  {arrives}{mark}", row.alert, row.severity)?;
        }
        if !self.without_fault.is_empty() {
            writeln!(f, "Alerts without a fault: {}", self.without_fault.join(", "))?;
        }
        match self.false_alerts.as_slice() {
            [] => writeln!(f, "Before the first fault: no alert")?,
            names => writeln!(f, "Before the first fault: {}  <-- FALSE", names.join(", "))?,
        }
        for one in &self.loops {
            let mark = if one.holds() { "" } else { "  <-- WRONG" };
            let told = match one.told {
                None => "",
                Some(true) => "; RemediationFailed reached a receiver",
                Some(false) => "; nobody was told",
            };
            writeln!(f, "Remedy of the server `{}`: {}{told}{mark}", one.server, one.result)?;
        }
        Ok(())
    }
}
