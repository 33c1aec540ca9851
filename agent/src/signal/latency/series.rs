//! The series of one model of one workload: what the pipeline counts and a scrape reads.
//!
//! In: records and ticks, from the one task of the pipeline. Out: atomics and histograms that the page
//! reads without waiting. All series of a pair are one struct, so they come and go together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::histogram::Histogram;

use super::bounds;
use super::distribution::{Distribution, Exemplar};
use crate::registry::OptionalGauge;
use crate::request::record::{Incomplete, Outcome, Stall};

/// Labels of every request family.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub struct PairLabels {
    pub model: Arc<str>,
    pub workload: Arc<str>,
}

/// Labels of what is known of a workload before any model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
pub struct WorkloadLabels {
    pub workload: Arc<str>,
}

/// What the series are built with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Thresholds of objectives on the request's duration, as [`bounds::check`] takes them: each is a bound of
    /// that histogram.
    pub duration_thresholds: Vec<Duration>,
    /// Likewise on the time to first token.
    pub ttft_thresholds: Vec<Duration>,
    /// Likewise.
    pub time_per_output_token_thresholds: Vec<Duration>,
    /// Keep native buckets beside the classic ones.
    pub native_histograms: bool,
    /// Export the OpenTelemetry names too.
    pub opentelemetry: bool,
}

/// Finish reasons, in the order of [`PairSeries::finished`]; `empty` is a silent failure.
pub const FINISH_REASONS: [&str; 6] = ["stop", "length", "tool_calls", "content_filter", "other", "empty"];
/// Phases of a start, in the order of [`PairSeries::cold_start`].
pub const START_PHASES: [&str; 3] = ["listening", "healthy", "first_response"];
/// Why records are kept out of histograms.
pub const INCOMPLETE: [Incomplete; 2] = [Incomplete::EventsLost, Incomplete::BorderMissed];

/// A counter shared with the scrape.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Every series of one model of one workload.
#[derive(Debug)]
pub struct PairSeries {
    pub requests: Count,
    pub errors: Count,
    pub outcomes: [Count; Outcome::ALL.len()],
    pub finished: [Count; FINISH_REASONS.len()],
    pub prompt_tokens: Count,
    pub generation_tokens: Count,
    pub requests_with_usage: Count,
    pub chunks: Count,
    pub in_flight: Count,
    pub stalled: [Count; Stall::ALL.len()],
    /// Seconds; absent without requests in the window.
    pub p95: OptionalGauge,
    /// Seconds; absent where the start was not seen.
    pub cold_start: [OptionalGauge; START_PHASES.len()],
    pub duration: Distribution,
    pub ttft: Distribution,
    pub inter_chunk: Distribution,
    pub time_per_output_token: Distribution,
    pub read_delay: Distribution,
    pub send_wait: Distribution,
    pub gen_ai: Option<GenAi>,
}

/// The OpenTelemetry names: the same values over other bounds.
#[derive(Debug)]
pub struct GenAi {
    pub request_duration: Histogram,
    pub time_to_first_token: Histogram,
    pub time_per_output_token: Histogram,
}

impl PairSeries {
    fn new(options: &Options) -> Self {
        let distribution = |bounds: &[f64]| Distribution::new(bounds, options.native_histograms);
        Self {
            requests: Count::default(),
            errors: Count::default(),
            outcomes: Default::default(),
            finished: Default::default(),
            prompt_tokens: Count::default(),
            generation_tokens: Count::default(),
            requests_with_usage: Count::default(),
            chunks: Count::default(),
            in_flight: Count::default(),
            stalled: Default::default(),
            p95: OptionalGauge::absent(),
            cold_start: std::array::from_fn(|_| OptionalGauge::absent()),
            duration: distribution(&bounds::with_thresholds(bounds::DURATION, &options.duration_thresholds)),
            ttft: distribution(&bounds::with_thresholds(bounds::TTFT, &options.ttft_thresholds)),
            inter_chunk: distribution(bounds::INTER_CHUNK),
            time_per_output_token: distribution(&bounds::with_thresholds(
                bounds::TIME_PER_OUTPUT_TOKEN,
                &options.time_per_output_token_thresholds,
            )),
            read_delay: distribution(bounds::READ_DELAY),
            send_wait: distribution(bounds::SEND_WAIT),
            gen_ai: options.opentelemetry.then(GenAi::new),
        }
    }

    /// Counts a duration.
    pub fn observe_duration(&self, value: Duration, exemplar: Option<&Exemplar>) {
        self.duration.observe(value, exemplar);
        if let Some(gen_ai) = &self.gen_ai {
            gen_ai.request_duration.observe(bounds::seconds(value));
        }
    }

    /// Counts a time to first token.
    pub fn observe_ttft(&self, value: Duration, exemplar: Option<&Exemplar>) {
        self.ttft.observe(value, exemplar);
        if let Some(gen_ai) = &self.gen_ai {
            gen_ai.time_to_first_token.observe(bounds::seconds(value));
        }
    }

    /// Counts a time per output token.
    pub fn observe_time_per_output_token(&self, value: Duration, exemplar: Option<&Exemplar>) {
        self.time_per_output_token.observe(value, exemplar);
        if let Some(gen_ai) = &self.gen_ai {
            gen_ai.time_per_output_token.observe(bounds::seconds(value));
        }
    }
}

impl GenAi {
    fn new() -> Self {
        let histogram = |bounds: &[f64]| Histogram::new(bounds.iter().copied());
        Self {
            request_duration: histogram(bounds::GEN_AI_REQUEST_DURATION),
            time_to_first_token: histogram(bounds::GEN_AI_TIME_TO_FIRST_TOKEN),
            time_per_output_token: histogram(bounds::GEN_AI_TIME_PER_OUTPUT_TOKEN),
        }
    }
}

/// Label `code` of a request that is counted only: the status while few differ, else its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Code {
    Exact(u16),
    Class(u8),
    /// No response head was written.
    None,
}

impl Code {
    /// Value of the label.
    #[must_use]
    pub fn label(self) -> String {
        match self {
            Self::Exact(status) => status.to_string(),
            Self::Class(hundreds) => format!("{hundreds}xx"),
            Self::None => "none".to_owned(),
        }
    }
}

/// Route and code pairs of one workload that keep their exact code; later ones share their class.
pub const EXACT_CODES_MAX: usize = 16;

/// The series of a workload that no model names.
#[derive(Debug, Default)]
pub struct WorkloadSeries {
    pub up: Count,
    http: Mutex<BTreeMap<(&'static str, Code), u64>>,
}

impl WorkloadSeries {
    /// Counts a request to a route that is not in latency.
    pub fn count_http(&self, route: &'static str, status: Option<u16>) {
        let mut http = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        let exact = status.map_or(Code::None, Code::Exact);
        let class = status.map_or(Code::None, |status| Code::Class((status / 100).min(9) as u8));
        let known = http.contains_key(&(route, exact)) || http.len() < EXACT_CODES_MAX;
        *http.entry((route, if known { exact } else { class })).or_default() += 1;
    }

    /// Requests by route and code so far.
    #[must_use]
    pub fn http(&self) -> Vec<((&'static str, Code), u64)> {
        let http = self.http.lock().unwrap_or_else(PoisonError::into_inner);
        http.iter().map(|(key, count)| (*key, *count)).collect()
    }
}

/// Pairs of model and workload at once, as a last bound: labels are bounded before they come here
/// (8 models, and `unknown` and `other` of each workload).
pub const PAIRS_MAX: usize = 64;
/// Workloads at once, likewise.
pub const WORKLOADS_MAX: usize = 32;

/// All series of this signal, shared by the pipeline that adds and the scrape that reads.
#[derive(Debug)]
pub struct Store {
    options: Options,
    pairs: RwLock<BTreeMap<PairLabels, Arc<PairSeries>>>,
    workloads: RwLock<BTreeMap<WorkloadLabels, Arc<WorkloadSeries>>>,
    /// Records that were kept out of histograms, in the order of [`INCOMPLETE`].
    pub incomplete: [Count; INCOMPLETE.len()],
    /// Records beyond [`PAIRS_MAX`] or [`WORKLOADS_MAX`].
    pub without_series: Count,
}

impl Store {
    /// Empty.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            pairs: RwLock::default(),
            workloads: RwLock::default(),
            incomplete: Default::default(),
            without_series: Count::default(),
        }
    }

    /// Makes the series of a pair, all at 0; `None` at the limit.
    pub fn add_pair(&self, labels: &PairLabels) -> Option<Arc<PairSeries>> {
        add(&self.pairs, labels, PAIRS_MAX, || PairSeries::new(&self.options))
    }

    /// Makes the series of a workload; `None` at the limit.
    pub fn add_workload(&self, labels: &WorkloadLabels) -> Option<Arc<WorkloadSeries>> {
        add(&self.workloads, labels, WORKLOADS_MAX, WorkloadSeries::default)
    }

    /// Removes every series of a pair at once.
    pub fn remove_pair(&self, labels: &PairLabels) {
        self.pairs.write().unwrap_or_else(PoisonError::into_inner).remove(labels);
    }

    /// Removes every series of a workload at once, its models included.
    pub fn remove_workload(&self, workload: &str) {
        let mut pairs = self.pairs.write().unwrap_or_else(PoisonError::into_inner);
        pairs.retain(|labels, _| &*labels.workload != workload);
        drop(pairs);
        let mut workloads = self.workloads.write().unwrap_or_else(PoisonError::into_inner);
        workloads.retain(|labels, _| &*labels.workload != workload);
    }

    /// The pairs as they are now, in the order of their labels: what one page shows.
    #[must_use]
    pub fn pairs(&self) -> Vec<(PairLabels, Arc<PairSeries>)> {
        snapshot(&self.pairs)
    }

    /// The workloads as they are now.
    #[must_use]
    pub fn workloads(&self) -> Vec<(WorkloadLabels, Arc<WorkloadSeries>)> {
        snapshot(&self.workloads)
    }

    /// Whether the OpenTelemetry names are kept.
    #[must_use]
    pub fn opentelemetry(&self) -> bool {
        self.options.opentelemetry
    }
}

fn add<L: Clone + Ord, S>(
    map: &RwLock<BTreeMap<L, Arc<S>>>,
    labels: &L,
    max: usize,
    new: impl FnOnce() -> S,
) -> Option<Arc<S>> {
    let mut map = map.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(series) = map.get(labels) {
        return Some(series.clone());
    }
    (map.len() < max).then(|| map.entry(labels.clone()).or_insert(Arc::new(new())).clone())
}

fn snapshot<L: Clone, S>(map: &RwLock<BTreeMap<L, Arc<S>>>) -> Vec<(L, Arc<S>)> {
    let map = map.read().unwrap_or_else(PoisonError::into_inner);
    map.iter().map(|(labels, series)| (labels.clone(), series.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_beyond_the_limit_share_their_class() {
        let series = WorkloadSeries::default();
        for status in 400..500 {
            series.count_http("other", Some(status));
        }
        for (status, times) in [(Some(401), 2), (Some(599), 1), (None, 3)] {
            for _ in 0..times {
                series.count_http("other", status);
            }
        }
        let counts: BTreeMap<String, u64> =
            series.http().into_iter().map(|((_, code), count)| (code.label(), count)).collect();
        assert_eq!(counts.len(), EXACT_CODES_MAX + 3);
        assert_eq!(counts["401"], 3);
        assert_eq!(counts["4xx"], 100 - EXACT_CODES_MAX as u64);
        assert_eq!((counts["5xx"], counts["none"]), (1, 3));
    }

    #[test]
    fn pairs_and_workloads_have_a_last_bound() {
        let store = Store::new(Options::default());
        let labels = |n: usize| PairLabels { model: format!("m{n}").into(), workload: "w".into() };
        let made = (0..PAIRS_MAX + 3).filter_map(|n| store.add_pair(&labels(n))).count();
        assert_eq!((made, store.pairs().len()), (PAIRS_MAX, PAIRS_MAX));
        assert!(store.add_pair(&labels(0)).is_some(), "one that is there is still found");
        let workload = |n: usize| WorkloadLabels { workload: format!("w{n}").into() };
        let made = (0..WORKLOADS_MAX + 3).filter_map(|n| store.add_workload(&workload(n))).count();
        assert_eq!(made, WORKLOADS_MAX);
    }
}
