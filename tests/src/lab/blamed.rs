//! What the agent says of single requests: how long they took, and what that went to.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::oracle::http_get;
use crate::socket::Endpoint;

/// Seconds of a cause that are shown.
const SHOWN_MIN: f64 = 0.001;

/// One request with its vector.
#[derive(Clone, Debug, Deserialize)]
pub struct Blamed {
    pub seq: u64,
    pub ended_unix_seconds: f64,
    pub duration_seconds: f64,
    pub ttft_seconds: Option<f64>,
    pub request_id: Option<String>,
    pub blame: Option<Vector>,
}

/// Seconds by phase and cause, and what stands out.
#[derive(Clone, Debug, Deserialize)]
pub struct Vector {
    pub phases: BTreeMap<String, BTreeMap<String, f64>>,
    pub causes: Vec<Excess>,
    pub slow: Option<String>,
}

/// A cause that took more than usual.
#[derive(Clone, Debug, Deserialize)]
pub struct Excess {
    pub cause: String,
    pub excess_seconds: f64,
}

#[derive(Deserialize)]
struct Page {
    requests: Vec<Blamed>,
}

impl Blamed {
    /// Seconds of a cause in all phases.
    #[must_use]
    pub fn seconds(&self, cause: &str) -> f64 {
        let phases = self.blame.iter().flat_map(|blame| blame.phases.values());
        phases.filter_map(|causes| causes.get(cause)).sum()
    }

    /// All of its causes together.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.blame.iter().flat_map(|blame| blame.phases.values()).flat_map(BTreeMap::values).sum()
    }

    /// Wall time of its arrival.
    #[must_use]
    pub fn began(&self) -> f64 {
        self.ended_unix_seconds - self.duration_seconds
    }

    /// It arrived between two wall times.
    #[must_use]
    pub fn arrived_in(&self, (from, to): (f64, f64)) -> bool {
        (from..=to).contains(&self.began())
    }

    /// How much of it lies between two wall times.
    #[must_use]
    pub fn overlap(&self, (from, to): (f64, f64)) -> f64 {
        (self.ended_unix_seconds.min(to) - self.began().max(from)).max(0.0)
    }

    /// What it counts for, where it was slow.
    #[must_use]
    pub fn slow(&self) -> Option<&str> {
        self.blame.as_ref()?.slow.as_deref()
    }

    /// Its causes, the one with most excess first.
    #[must_use]
    pub fn causes(&self) -> Vec<&str> {
        self.blame.iter().flat_map(|blame| &blame.causes).map(|excess| excess.cause.as_str()).collect()
    }
}

impl fmt::Display for Blamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request {}, {:.3} s:", self.seq, self.duration_seconds)?;
        for (phase, causes) in self.blame.iter().flat_map(|blame| &blame.phases) {
            write!(f, " {phase}")?;
            let causes = causes.iter().filter(|(_, seconds)| **seconds >= SHOWN_MIN);
            causes.into_iter().try_for_each(|(cause, seconds)| write!(f, " {cause} {seconds:.3}"))?;
        }
        let excess = self.blame.iter().flat_map(|blame| &blame.causes);
        let excess: Vec<_> =
            excess.map(|excess| format!("{} {:.3}", excess.cause, excess.excess_seconds)).collect();
        write!(f, "; more than usual: {}", excess.join(", "))
    }
}

/// The newest 1,000 requests that the agent lists, the oldest of them first.
///
/// # Errors
///
/// Where the agent does not answer, or not with requests.
pub fn fetch(agent: SocketAddr) -> Result<Vec<Blamed>> {
    let body = http_get(&Endpoint::Tcp(agent), "/api/v1/requests?limit=1000")?;
    Ok(serde_json::from_slice::<Page>(&body).context("read the agent's requests")?.requests)
}

/// Seconds since 1970.
#[must_use]
pub fn wall() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
