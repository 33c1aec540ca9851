//! What the agent says of itself: its page, as numbers.
//!
//! In: where it listens. Out: sums of its families.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::books::tick_over;
use crate::oracle::http_get;
use crate::page::{self, Family, Format, Sample};
use crate::socket::Endpoint;

/// What waits in the ring is taken in this time.
const TAKEN_MAX: Duration = Duration::from_secs(15);

/// One page.
pub(super) struct Books(BTreeMap<String, Family>);

impl Books {
    pub(super) fn read(agent: SocketAddr) -> Result<Self> {
        let page = http_get(&Endpoint::Tcp(agent), "/metrics")?;
        let page = String::from_utf8(page).context("read the agent's page")?;
        Ok(Self(page::read(&page, Format::Text)?))
    }

    /// Once everything that has happened is in it.
    pub(super) fn settled(agent: SocketAddr) -> Result<Self> {
        let began = Instant::now();
        loop {
            tick_over(agent)?;
            let books = Self::read(agent)?;
            let waits = books.event("socket_sent") > books.event("socket_taken");
            if !waits || began.elapsed() > TAKEN_MAX {
                return Ok(books);
            }
        }
    }

    /// Sum of a family over the series with these labels; 0 of one that is not there.
    pub(super) fn sum(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        let Some(family) = self.0.get(family) else { return 0.0 };
        let has = |sample: &&Sample| {
            labels.iter().all(|(name, value)| sample.labels.get(*name).is_some_and(|found| found == value))
        };
        family.samples.iter().filter(has).map(|one| one.value).sum()
    }

    /// Events that reached a stage.
    pub(super) fn event(&self, stage: &str) -> f64 {
        self.sum("inferscope_events_total", &[("stage", stage)])
    }

    /// Requests that were measured to their end. No sum of series: those of a server that has gone go, too.
    pub(super) fn requests(&self) -> f64 {
        self.event("request_finished")
    }

    /// Events lost for whatever reason.
    pub(super) fn lost(&self) -> f64 {
        self.sum("inferscope_events_lost_total", &[])
    }

    /// Runs of programs that the kernel skipped.
    pub(super) fn skipped(&self) -> f64 {
        self.sum("inferscope_events_lost_total", &[("stage", "program"), ("reason", "recursion")])
    }

    /// Lines with a value.
    pub(super) fn series(&self) -> usize {
        self.0.values().map(|family| family.samples.len()).sum()
    }
}
