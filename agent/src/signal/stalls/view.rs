//! What the API and the terminal view may see of this signal: how much was stalled lately, by workload, role and cause.
//!
//! In: growth of each sum at each tick. Out: a snapshot of rates, made once a second.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Labels;
use crate::clock::BootTime;
use crate::registry::latest::Latest;

/// Span of the rates.
pub const SPAN: Duration = Duration::from_secs(10);
/// Ticks that are kept, whatever the clock does: one more than come in [`SPAN`], and some that come early.
const TICKS_MAX: usize = 16;

/// The newest snapshot.
pub type StallsView = Latest<StallsSnapshot>;

/// All workloads and roles, as of the newest tick, in the order of their names.
#[derive(Debug, Default, Serialize)]
pub struct StallsSnapshot {
    pub workloads: Vec<RoleStalls>,
}

/// Threads of one role of one workload.
#[derive(Debug, Serialize)]
pub struct RoleStalls {
    pub workload: Arc<str>,
    /// `api`, `engine`, `worker`, or `other`: helpers of the server, which serve no request.
    pub role: &'static str,
    /// By cause, thread seconds per wall second over the last 10 s: 0 where nothing was stalled, above 1 where several
    /// threads were at once.
    pub seconds_per_second: BTreeMap<&'static str, f64>,
}

/// Growth of the sums over the last ticks.
#[derive(Debug, Default)]
pub(super) struct Recent {
    ticks: VecDeque<Growth>,
    /// The tick before the oldest.
    since: Option<BootTime>,
}

#[derive(Debug)]
struct Growth {
    until: BootTime,
    /// Nanoseconds; those that did not grow are left out.
    of: HashMap<Labels, u64>,
}

impl Recent {
    /// Adds what grew until `now`. Over which time the growth of the first tick was is not known, so it is left out.
    pub(super) fn push(&mut self, now: BootTime, of: HashMap<Labels, u64>) {
        if self.since.is_none() {
            self.since = Some(now);
            return;
        }
        self.ticks.push_back(Growth { until: now, of });
        while let Some(oldest) = self.ticks.front()
            && (now.since(oldest.until) >= SPAN || self.ticks.len() > TICKS_MAX)
        {
            self.since = Some(oldest.until);
            self.ticks.pop_front();
        }
    }

    /// Rates of these sums.
    pub(super) fn snapshot<'a>(&self, sums: impl Iterator<Item = &'a Labels>) -> StallsSnapshot {
        let span = match (self.since, self.ticks.back()) {
            (Some(since), Some(newest)) => newest.until.since(since).as_secs_f64(),
            _ => 0.0,
        };
        let mut roles: BTreeMap<(Arc<str>, &'static str), BTreeMap<&'static str, f64>> = BTreeMap::new();
        for labels in sums {
            let ns: u64 = self.ticks.iter().filter_map(|growth| growth.of.get(labels)).sum();
            let rate = if span > 0.0 { ns as f64 / 1e9 / span } else { 0.0 };
            roles.entry((labels.workload.clone(), labels.role)).or_default().insert(labels.cause, rate);
        }
        let workloads = roles.into_iter().map(|((workload, role), seconds_per_second)| RoleStalls {
            workload,
            role,
            seconds_per_second,
        });
        StallsSnapshot { workloads: workloads.collect() }
    }
}
