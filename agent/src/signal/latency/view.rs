//! What the API and the terminal view may see of this signal: plain data, made once a second.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::bounds::seconds;
use super::recent::{RecentPage, RecentRequests};
use super::window::{SHORT, SlidingHistogram, SlidingRate, WINDOW};

/// Shared by the pipeline that writes once a second and whoever reads. Its locks are held for the time of
/// a pointer's copy, or of a page's worth of pointers.
#[derive(Clone, Debug, Default)]
pub struct LatencyView {
    snapshot: Arc<Mutex<Arc<LatencySnapshot>>>,
    recent: Arc<Mutex<RecentRequests>>,
}

/// All models of all workloads, as of the newest tick.
#[derive(Debug, Default, Serialize)]
pub struct LatencySnapshot {
    pub models: Vec<ModelLatency>,
}

/// One model of one workload. Quantiles are over the last 5 min, in seconds.
#[derive(Debug, Serialize)]
pub struct ModelLatency {
    pub workload: Arc<str>,
    pub model: Arc<str>,
    pub in_flight: u64,
    pub stalled: u64,
    pub requests_per_second: Rates,
    pub errors_per_second: Rates,
    pub chunks_per_second: Rates,
    /// By the `usage` on the wire, which comes with the end of an answer.
    pub prompt_tokens_per_second: Rates,
    pub completion_tokens_per_second: Rates,
    pub duration_seconds: Quantiles,
    pub ttft_seconds: Quantiles,
    pub inter_chunk_seconds: Quantiles,
    pub time_per_output_token_seconds: Quantiles,
}

/// Events per second.
#[derive(Debug, Serialize)]
pub struct Rates {
    pub last_10s: f64,
    pub last_5m: f64,
}

impl Rates {
    /// Of `rate`, whose events were watched for `watched`.
    #[must_use]
    pub fn of(rate: &SlidingRate, watched: std::time::Duration) -> Self {
        Self { last_10s: rate.per_second(SHORT, watched), last_5m: rate.per_second(WINDOW, watched) }
    }
}

/// Quantiles of one distribution; `null` without values.
#[derive(Debug, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
}

impl Quantiles {
    /// Of the values in `window`.
    #[must_use]
    pub fn of(window: &SlidingHistogram) -> Self {
        let quantile = |share| window.quantile(share).map(seconds);
        Self {
            count: window.count(),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p95: quantile(0.95),
            p99: quantile(0.99),
        }
    }
}

impl LatencyView {
    /// The newest snapshot.
    #[must_use]
    pub fn latest(&self) -> Arc<LatencySnapshot> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Finished inference requests after number `after`, else the newest; at most `limit`.
    #[must_use]
    pub fn requests(&self, after: Option<u64>, limit: usize) -> RecentPage {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).page(after, limit)
    }

    pub(super) fn publish(&self, snapshot: LatencySnapshot) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    pub(super) fn with_recent(&self, change: impl FnOnce(&mut RecentRequests)) {
        change(&mut self.recent.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
