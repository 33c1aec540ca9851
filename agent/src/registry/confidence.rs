//! How sure models are: the one family that several signals feed, each under a source of its own.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    model: Arc<str>,
    source: Arc<str>,
}

/// `prediction_confidence`, 0 to 1.
#[derive(Clone, Debug, Default)]
pub struct Confidence(Family<Labels, Gauge<f64, AtomicU64>>);

impl Confidence {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Mean confidence: of answers of the last 5 minutes, their geometric mean token probability; \
                    of files, the newest predictions";
        registry.register("prediction_confidence", help, self.0.clone());
    }

    /// Sets or removes the value of a model.
    pub fn set(&self, model: &Arc<str>, source: &Arc<str>, value: Option<f64>) {
        let labels = Labels { model: model.clone(), source: source.clone() };
        match value {
            Some(value) => drop(self.0.get_or_create(&labels).set(value)),
            None => drop(self.0.remove(&labels)),
        }
    }
}
