//! A verdict as the API shows it: plain data, seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{Cause, Held, Limit, Slow, Surroundings, Verdict};
use crate::clock::BootTime;
use crate::workload::Role;

/// The vector of a request, and what stands out in it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BlameView {
    /// By phase and cause; causes without time are left out. The causes of a phase sum to its time.
    pub phases: BTreeMap<&'static str, BTreeMap<&'static str, f64>>,
    /// Causes that took more than usual for the request's size, the most first.
    pub causes: Vec<CauseView>,
    /// What it counts for in `vllm_slow_requests_total`; `null` where it was not slow.
    pub slow: Option<&'static str>,
}

/// One cause.
#[derive(Clone, Debug, Serialize)]
pub struct CauseView {
    pub cause: &'static str,
    /// How much more than usual.
    pub excess_seconds: f64,
}

/// What only slow requests have.
#[derive(Clone, Debug, Serialize)]
pub struct SlowView {
    /// `objective` or `usual`.
    pub over: &'static str,
    /// The objective, or what is usual for its size.
    pub over_seconds: f64,
    pub in_flight_at_arrival: u64,
    pub prompt_tokens_in_flight_at_arrival: u64,
    pub neighbour: Option<NeighbourView>,
    /// From its arrival, seconds.
    pub first_read_seconds: f64,
    /// The longest stalls of the threads on its way.
    pub stalls: Vec<HeldView>,
}

/// A request with a long prompt beside a slow one.
#[derive(Clone, Debug, Serialize)]
pub struct NeighbourView {
    pub response_id: Option<Box<str>>,
    pub prompt_tokens: u64,
}

/// One stall. Times in seconds from the request's arrival.
#[derive(Clone, Debug, Serialize)]
pub struct HeldView {
    pub tid: u32,
    pub role: Option<&'static str>,
    pub cause: &'static str,
    pub start_seconds: f64,
    pub end_seconds: f64,
    /// Less than from start to end where it is the sum of short ones.
    pub stalled_seconds: f64,
}

impl BlameView {
    /// Of a verdict; `None` where there is none.
    #[must_use]
    pub fn of(verdict: &Verdict) -> Option<Self> {
        if verdict.phases.is_empty() {
            return None;
        }
        let phases = verdict.phases.iter().map(|(phase, vector)| {
            let causes = Cause::ALL.into_iter().map(|cause| (cause.label(), vector.of(cause)));
            let causes =
                causes.filter(|(_, time)| !time.is_zero()).map(|(label, time)| (label, time.as_secs_f64()));
            (phase.label(), causes.collect())
        });
        let causes = verdict
            .causes
            .iter()
            .map(|(cause, excess)| CauseView { cause: cause.label(), excess_seconds: excess.as_secs_f64() });
        Some(Self {
            phases: phases.collect(),
            causes: causes.collect(),
            slow: verdict.slow.as_ref().map(|slow| slow.reason.label()),
        })
    }
}

impl SlowView {
    /// Of a slow request that arrived at `arrival`.
    #[must_use]
    pub fn of(slow: &Slow, arrival: BootTime, first_read: BootTime) -> Self {
        let (over, limit) = match slow.limit {
            Limit::Objective(limit) => ("objective", limit),
            Limit::Usual(limit) => ("usual", limit),
        };
        let Surroundings { in_flight, prompt_tokens_in_flight, ref neighbour, .. } = slow.around;
        let neighbour = neighbour.as_ref().map(|neighbour| NeighbourView {
            response_id: neighbour.response_id.clone(),
            prompt_tokens: neighbour.prompt_tokens,
        });
        Self {
            over,
            over_seconds: limit.as_secs_f64(),
            in_flight_at_arrival: in_flight,
            prompt_tokens_in_flight_at_arrival: prompt_tokens_in_flight,
            neighbour,
            first_read_seconds: first_read.since(arrival).as_secs_f64(),
            stalls: slow.stalls.iter().map(|held| HeldView::of(held, arrival)).collect(),
        }
    }
}

impl HeldView {
    fn of(held: &Held, arrival: BootTime) -> Self {
        Self {
            tid: held.tid,
            role: held.role.map(Role::label),
            cause: held.cause.label(),
            start_seconds: seconds_from(arrival, held.start),
            end_seconds: seconds_from(arrival, held.end),
            stalled_seconds: held.stalled.as_secs_f64(),
        }
    }
}

/// Negative where it was before.
fn seconds_from(arrival: BootTime, time: BootTime) -> f64 {
    let ahead: Duration = time.since(arrival);
    if time >= arrival { ahead.as_secs_f64() } else { -arrival.since(time).as_secs_f64() }
}
