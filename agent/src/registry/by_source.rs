//! Families that several signals feed, each under a source of its own.

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

/// A value of models, by `model` and `source`.
#[derive(Clone, Debug, Default)]
pub struct BySource(Family<Labels, Gauge<f64, AtomicU64>>);

impl BySource {
    pub(super) fn registered(registry: &mut Registry, name: &str, help: &str) -> Self {
        let values = Self::default();
        registry.register(name, help, values.0.clone());
        values
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
