//! How long single stalls took, as a histogram whose counts come ready from the kernel's side.
//!
//! In: counts by length. Out: a classic histogram for each series.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::Labels;
use crate::blame::{LENGTHS_NS, Sum};
use crate::registry::Registries;

/// Shared with the scrape.
#[derive(Clone, Debug, Default)]
pub(super) struct Lengths(Arc<Mutex<BTreeMap<Key, Sum>>>);

/// Workload, role and cause.
type Key = (Arc<str>, &'static str, &'static str);

impl Lengths {
    pub(super) fn register(&self, registries: &mut Registries) {
        registries.common.register_collector(Box::new(self.clone()));
    }

    pub(super) fn set(&self, labels: &Labels, sum: &Sum) {
        let key = (labels.workload.clone(), labels.role, labels.cause);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, *sum);
    }

    pub(super) fn remove(&self, labels: &Labels) {
        let key = (labels.workload.clone(), labels.role, labels.cause);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

impl Collector for Lengths {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let sums = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if sums.is_empty() {
            return Ok(());
        }
        let help = "Single stalls that are over, of threads of a workload.";
        let mut family =
            encoder.encode_descriptor("stall_duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
        let bounds = LENGTHS_NS.iter().map(|bound| *bound as f64 / 1e9).chain([f64::INFINITY]);
        let bounds: Vec<f64> = bounds.collect();
        for ((workload, role, cause), sum) in sums {
            let labels = Labels { workload, role, cause };
            let buckets: Vec<(f64, u64)> = bounds.iter().copied().zip(sum.lengths).collect();
            let count = sum.lengths.iter().sum();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                sum.over_ns as f64 / 1e9,
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}
