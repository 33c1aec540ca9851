//! The agent's own numbers, and whether they add up: what came into a stage left it, or is counted as lost there.
//!
//! In: its page of metrics. Out: sums over series, and the faults in them. Knows the stages by their names only.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::harness::AgentProcess;
use crate::oracle::http_get;
use crate::page::{self, Family, Format, Sample};
use crate::socket::Endpoint;
use crate::stage::{metrics_text, until};

/// A tick is a second; a machine that has much else to do may take longer.
const TICK_MAX: Duration = Duration::from_secs(30);
/// Between two looks for it.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What waits in the ring is taken in this time, or not at all.
const SETTLED_MAX: Duration = Duration::from_secs(30);

const EVENTS: &str = "inferscope_events_total";
const LOST: &str = "inferscope_events_lost_total";

/// What must never happen, whatever passes: by stage and reason.
const NEVER_LOST: [(&str, &str); 8] = [
    ("socket_ring", "undecodable"),
    ("process_ring", "undecodable"),
    ("process_ring", "full"),
    ("socket_table", "full"),
    ("socket_table", "refused"),
    ("connection", "unclaimed"),
    ("connection", "evicted"),
    ("connection", "forgotten"),
];

/// One page.
#[derive(Clone, Debug)]
pub struct Books(pub BTreeMap<String, Family>);

/// Waits until the agent has looked at everything that happened before this call, and said so on its page.
///
/// # Errors
///
/// Where the agent does not answer, or has stopped looking.
pub fn tick_over(agent: SocketAddr) -> Result<()> {
    let ticks = || {
        let page = http_get(&Endpoint::Tcp(agent), "/metrics")?;
        let page = String::from_utf8(page).context("read the agent's page")?;
        let books = Books(page::read(&page, Format::Text)?);
        Ok::<_, anyhow::Error>(books.sum("inferscope_ticks_total", &[]))
    };
    // One tick is under way; the one after it sees everything.
    let awaited = ticks()? + 2;
    let began = Instant::now();
    while ticks()? < awaited {
        ensure!(began.elapsed() < TICK_MAX, "the agent has not looked at anything for {TICK_MAX:?}");
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

impl Books {
    /// # Errors
    ///
    /// Where the agent does not answer, or with a page that breaks the rules of its format.
    pub fn read(agent: &AgentProcess) -> Result<Self> {
        Ok(Self(page::read(&metrics_text(agent)?, Format::Text)?))
    }

    /// The page once nothing waits in the ring any more, and a tick has told so.
    ///
    /// # Errors
    ///
    /// As [`Books::read`], or where something still waits after half a minute.
    pub fn settled(agent: &AgentProcess) -> Result<Self> {
        let mut before = Self::read(agent)?;
        let settled = until(SETTLED_MAX, || {
            let now = match tick_over(agent.listen).and_then(|()| Self::read(agent)) {
                Ok(now) => now,
                Err(error) => return Some(Err(error)),
            };
            let same = now.event("socket_seen") == before.event("socket_seen");
            before = now;
            (same && before.nothing_waits()).then(|| Ok(before.clone()))
        });
        settled.unwrap_or_else(|| bail!("the ring is not taken empty: {before}"))
    }

    fn nothing_waits(&self) -> bool {
        self.event("socket_sent") == self.event("socket_taken") + self.lost("socket_ring", "undecodable")
    }

    /// Sum of a family over the series with these labels.
    #[must_use]
    pub fn sum(&self, family: &str, labels: &[(&str, &str)]) -> u64 {
        let Some(family) = self.0.get(family) else { return 0 };
        let has = |sample: &&Sample| {
            labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|own| own == value))
        };
        let of = family.samples.iter().filter(has);
        of.map(|sample| sample.value as u64).sum()
    }

    /// Events that passed a stage.
    #[must_use]
    pub fn event(&self, stage: &str) -> u64 {
        self.sum(EVENTS, &[("stage", stage)])
    }

    /// Events that a stage lost.
    #[must_use]
    pub fn lost(&self, stage: &str, reason: &str) -> u64 {
        self.sum(LOST, &[("stage", stage), ("reason", reason)])
    }

    /// Inference requests under way.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.sum("vllm_requests_in_flight", &[])
    }

    /// Where the books do not add up; they do at rest, when no request to another route is under way.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let sum = |stages: &[&str]| -> u64 { stages.iter().map(|stage| self.event(stage)).sum() };
        let lost = |stage, reason| self.lost(stage, reason);
        let counted = self.sum("vllm_requests_total", &[]) + self.sum("inferscope_http_requests_total", &[]);
        let taken = sum(&["connection_followed", "connection_ignored", "connection_idle"]);
        let ended = sum(&["request_finished", "request_void"]) + lost("request", "unfinished");
        let balances = [
            ("socket_seen", sum(&["socket_sent"]) + lost("socket_ring", "full")),
            ("socket_sent", sum(&["socket_taken"]) + lost("socket_ring", "undecodable")),
            ("socket_taken", taken + lost("connection", "unclaimed")),
            ("request_begun", ended + self.open()),
            ("request_finished", counted),
        ];
        let mut faults = Vec::new();
        for (stage, parts) in balances.into_iter().filter(|(stage, parts)| self.event(stage) != *parts) {
            faults.push(format!("{stage} is {}, its parts {parts}", self.event(stage)));
        }
        // Programs start all the time: some may have come since the ring was looked at.
        if sum(&["process_taken"]) + lost("process_ring", "undecodable") > self.event("process_sent") {
            faults.push("more process events were taken than sent".to_owned());
        }
        if self.event("connection_missed") > lost("socket_ring", "full") {
            faults.push("more events are missed than were lost".to_owned());
        }
        let lost = NEVER_LOST.iter().filter(|(stage, reason)| lost(stage, reason) > 0);
        faults.extend(lost.map(|(stage, reason)| format!("lost at {stage}: {reason}")));
        faults
    }
}

/// The stages and what they lost; the rest of the page is long.
impl fmt::Display for Books {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for family in [EVENTS, LOST] {
            let samples = self.0.get(family).map(|family| family.samples.as_slice()).unwrap_or_default();
            for sample in samples.iter().filter(|sample| sample.value > 0.0) {
                let labels: Vec<_> = sample.labels.values().map(String::as_str).collect();
                write!(out, "{family} {}: {}; ", labels.join(" "), sample.value)?;
            }
        }
        write!(out, "open: {}", self.open())
    }
}
