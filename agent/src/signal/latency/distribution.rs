//! A distribution as it is exported: classic buckets with exemplars, and native buckets where asked for.
//!
//! In: exact durations. Out: metrics of the library, each behind its own short lock, which a scrape takes
//! for the time of copying a few counters.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::{EncodeLabel as _, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::histogram::{Histogram, NativeHistogramConfig};

use super::bounds::seconds;
use crate::blame::Verdict;
use crate::request::record::{Identity, RequestRecord};

/// OpenMetrics: names and values of an exemplar's labels together, in characters.
pub const EXEMPLAR_CHARACTERS_MAX: usize = 128;
/// Growth of native buckets: 1.1 puts quantiles within 5 % of the truth.
const NATIVE_FACTOR: f64 = 1.1;
/// Native buckets of one series at most; the library then halves its resolution.
const NATIVE_BUCKETS_MAX: usize = 160;

/// What leads from a bucket to one request that fell into it.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    labels: ExemplarLabels,
    at: SystemTime,
}

/// Labels of an exemplar; shared by the histograms of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct ExemplarLabels(Arc<[(&'static str, Box<str>)]>);

impl Exemplar {
    /// Of a slow request its cause, then the request's identity, as much of it as fits, whole values only: half an
    /// identity finds nothing.
    #[must_use]
    pub fn of(record: &RequestRecord, verdict: &Verdict) -> Option<Self> {
        let cause = verdict.slow.as_ref().map(|slow| slow.reason.label());
        let labels = labels(cause, &record.identity);
        (!labels.is_empty()).then(|| Self { labels: ExemplarLabels(labels.into()), at: record.end.to_wall() })
    }
}

fn labels(cause: Option<&str>, identity: &Identity) -> Vec<(&'static str, Box<str>)> {
    let mut room = EXEMPLAR_CHARACTERS_MAX;
    let mut labels = Vec::new();
    // The trace id before the others: it is the one that another tool opens by a click.
    for (name, value) in [
        ("cause", cause),
        ("trace_id", identity.trace_id.as_deref()),
        ("request_id", identity.request_id.as_deref()),
        ("response_id", identity.response_id.as_deref()),
    ] {
        let Some(value) = value else { continue };
        let characters = name.len() + value.chars().count();
        if characters <= room {
            room -= characters;
            labels.push((name, value.into()));
        }
    }
    labels
}

impl EncodeLabelSet for ExemplarLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, value) in self.0.iter() {
            (*name, &**value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

/// One histogram series.
#[derive(Debug)]
pub struct Distribution {
    pub classic: HistogramWithExemplars<ExemplarLabels>,
    pub native: Option<Histogram>,
}

impl Distribution {
    /// With these upper bounds, in seconds; native buckets too where `native` is set.
    #[must_use]
    pub fn new(bounds: &[f64], native: bool) -> Self {
        let config = NativeHistogramConfig::new(NATIVE_FACTOR).max_buckets(NATIVE_BUCKETS_MAX);
        Self {
            classic: HistogramWithExemplars::new(bounds.iter().copied()),
            native: native.then(|| Histogram::new_classic_and_native(bounds.iter().copied(), config)),
        }
    }

    /// Counts one value.
    pub fn observe(&self, value: Duration, exemplar: Option<&Exemplar>) {
        let value = seconds(value);
        let labels = exemplar.map(|exemplar| exemplar.labels.clone());
        self.classic.observe(value, labels, exemplar.map(|exemplar| exemplar.at));
        if let Some(native) = &self.native {
            native.observe(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::signal::latency::bounds::{DURATION, with_thresholds};

    fn check(cause: Option<&str>, identity: [Option<&str>; 3], expected: &[(&'static str, &str)]) {
        let [trace_id, request_id, response_id] = identity.map(|id| id.map(Box::from));
        let labels = labels(cause, &Identity { response_id, request_id, trace_id });
        let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, &**value)).collect();
        assert_eq!(labels, expected);
        let characters: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(characters <= EXEMPLAR_CHARACTERS_MAX);
    }

    #[test]
    fn exemplars_carry_whole_identities_within_the_limit() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let long = "r".repeat(EXEMPLAR_CHARACTERS_MAX);
        check(None, [None, None, None], &[]);
        check(Some("stopped"), [Some(trace), None, None], &[("cause", "stopped"), ("trace_id", trace)]);
        check(
            None,
            [Some(trace), Some("r-1"), Some("chatcmpl-1")],
            &[("trace_id", trace), ("request_id", "r-1"), ("response_id", "chatcmpl-1")],
        );
        check(
            None,
            [Some(trace), Some(&long), Some("chatcmpl-1")],
            &[("trace_id", trace), ("response_id", "chatcmpl-1")],
        );
        check(None, [None, Some(&long), None], &[]);
    }

    proptest! {
        #[test]
        fn bucket_counts_equal_the_naive_count(
            // Milliseconds, so that many values are exactly a bound.
            values in prop::collection::vec(0u64..400, 0..200),
            threshold_ms in 1u64..400,
        ) {
            let bounds = with_thresholds(DURATION, &[Duration::from_millis(threshold_ms)]);
            let distribution = Distribution::new(&bounds, true);
            for value in &values {
                distribution.observe(Duration::from_millis(*value), None);
            }
            for page in [page_of(distribution.classic.clone()), page_of(distribution.native.clone().unwrap())] {
                for bound in &bounds {
                    let naive = values.iter().filter(|ms| **ms as f64 / 1e3 <= *bound).count();
                    let line = format!("d_bucket{{le=\"{bound:?}\"}} {naive}\n");
                    prop_assert!(page.contains(&line), "{line} in {page}");
                }
                let line = format!("d_count {}\n", values.len());
                prop_assert!(page.contains(&line));
            }
        }
    }

    fn page_of(histogram: impl prometheus_client::registry::Metric) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("d", "distribution", histogram);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        page
    }
}
