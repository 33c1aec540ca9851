//! The series of changes, and how a state becomes their values.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::quality::change::State;
use crate::quality::change::cause::Coincidence;
use crate::quality::change::pair::Of;

/// One model of one server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub model: Arc<str>,
    pub workload: Arc<str>,
}

impl Key {
    pub fn new(model: &str, workload: &str) -> Self {
        Self { model: model.into(), workload: workload.into() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    model: Arc<str>,
    workload: Arc<str>,
    of: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlarmLabels {
    model: Arc<str>,
    workload: Arc<str>,
    of: &'static str,
    coincides: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

type Values = Family<Labels, Gauge<f64, AtomicU64>>;

#[derive(Debug, Default)]
pub(super) struct Families {
    reference: Values,
    statistic: Values,
    ratio: Values,
    difference: Values,
    last_change: Values,
    alarm: Family<AlarmLabels, Gauge>,
    uncompared: Family<ReasonLabels, Counter>,
}

impl Families {
    pub fn register(&self, registry: &mut Registry) {
        let help = "Part of the reference that has been learnt; absent once it is whole";
        registry.register("drift_reference_ratio", help, self.reference.clone());
        let help = "What speaks for a change, as a share of the threshold that raises an alarm";
        registry.register("drift_statistic", help, self.statistic.clone());
        let help = "Values since a change to those of the reference; absent without an alarm";
        registry.register("drift_change_ratio", help, self.ratio.clone());
        let help = "Share since a change less that of the reference; absent without an alarm";
        registry.register("drift_change_difference", help, self.difference.clone());
        let help = "When the last change began that raised an alarm, in seconds since 1970";
        registry.register_with_unit(
            "drift_last_change_timestamp",
            help,
            Unit::Seconds,
            self.last_change.clone(),
        );
        let help = "1 while what requests show has changed, with the weightiest of what else changed then";
        registry.register("drift_alarm", help, self.alarm.clone());
        let help = "Requests that are compared with no reference";
        registry.register("drift_requests_uncompared", help, self.uncompared.clone());
    }

    pub fn uncompared(&self, reason: &'static str) {
        self.uncompared.get_or_create(&ReasonLabels { reason }).inc();
    }

    pub fn show(&self, key: &Key, of: Of, state: &State, coincides: &[Coincidence]) {
        let labels = labels(key, of);
        match state {
            State::Learning(part) => {
                self.forget(key, of);
                self.reference.get_or_create(&labels).set(*part);
            }
            State::Watching(statistic) => {
                self.reference.remove(&labels);
                self.statistic.get_or_create(&labels).set(statistic.value);
                let alarm = statistic.alarm;
                let foremost = coincides.first().map_or("none", |what| what.label());
                self.set_alarm(&labels, foremost, alarm.is_some());
                let changed = if of.is_share() { &self.difference } else { &self.ratio };
                match alarm {
                    Some(alarm) => {
                        changed.get_or_create(&labels).set(alarm.effect);
                        self.last_change.get_or_create(&labels).set(alarm.since_ns as f64 / 1e9);
                    }
                    None => drop(changed.remove(&labels)),
                }
            }
        }
    }

    /// One of these at a time.
    fn set_alarm(&self, labels: &Labels, coincides: &'static str, raised: bool) {
        for name in Coincidence::ALL.iter().map(|what| what.label()).chain(["none"]) {
            let Labels { model, workload, of } = labels.clone();
            let labels = AlarmLabels { model, workload, of, coincides: name };
            if name == coincides {
                self.alarm.get_or_create(&labels).set(raised.into());
            } else {
                self.alarm.remove(&labels);
            }
        }
    }

    pub fn forget(&self, key: &Key, of: Of) {
        let labels = labels(key, of);
        for family in [&self.reference, &self.statistic, &self.ratio, &self.difference, &self.last_change] {
            family.remove(&labels);
        }
        for name in Coincidence::ALL.iter().map(|what| what.label()).chain(["none"]) {
            let Labels { model, workload, of } = labels.clone();
            self.alarm.remove(&AlarmLabels { model, workload, of, coincides: name });
        }
    }
}

fn labels(key: &Key, of: Of) -> Labels {
    Labels { model: key.model.clone(), workload: key.workload.clone(), of: of.label() }
}
