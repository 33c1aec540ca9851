//! Which requests were good enough?
//!
//! In: finished records, judged by the objectives of `[slo]` (`slo/`). Out, by `model`, `workload` and `objective` (`latency`, `errors`,
//! `ttft` and `time_per_output_token` where they are set, and those of `slo.objectives`):
//!
//! | Series | What |
//! |---|---|
//! | `slo_requests_total` | requests that count for the objective: what is not known of one, or not its server's doing, does not |
//! | `slo_good_requests_total` | those that were good |
//! | `slo_objective_ratio` (by `objective` alone) | the share that has to be good |
//!
//! Each is judged by its exact time, so that a burn rate needs no buckets. Both counters appear at 0 with a model's first request.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Signal;
use crate::blame::Verdict;
use crate::registry::Registries;
use crate::request::record::RequestRecord;
use crate::slo::Objective;
use crate::workload::Workload;

/// Models of servers that have series: as many as have series of latency, which counts the requests of those beyond
/// (`inferscope_records_without_series_total`).
const PAIRS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    model: Arc<str>,
    workload: Arc<str>,
    objective: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObjectiveLabels {
    objective: Arc<str>,
}

/// By model and server.
type Key = (Arc<str>, Arc<str>);

/// The signal `slo`.
#[derive(Debug)]
pub struct SloSignal {
    objectives: Vec<Objective>,
    requests: Family<Labels, Counter>,
    good: Family<Labels, Counter>,
    /// Handles of the series, by objective, so that a request takes no lock.
    pairs: HashMap<Key, Vec<Option<(Counter, Counter)>>>,
}

impl SloSignal {
    /// Registers its series.
    pub fn new(objectives: Vec<Objective>, registries: &mut Registries) -> Self {
        let (requests, good) = (Family::<Labels, Counter>::default(), Family::<Labels, Counter>::default());
        let ratio = Family::<ObjectiveLabels, Gauge<f64, AtomicU64>>::default();
        for objective in &objectives {
            ratio.get_or_create(&ObjectiveLabels { objective: objective.name.clone() }).set(objective.target);
        }
        let registry = &mut registries.common;
        registry.register("slo_requests", "Requests that count for an objective", requests.clone());
        registry.register("slo_good_requests", "Requests that met an objective", good.clone());
        registry.register(
            "slo_objective_ratio",
            "Share of the requests that has to meet an objective",
            ratio,
        );
        Self { objectives, requests, good, pairs: HashMap::new() }
    }

    fn handles(&self, (model, workload): &Key) -> Vec<Option<(Counter, Counter)>> {
        let handle = |objective: &Objective| {
            objective.is_of(workload, model).then(|| {
                let (model, workload) = (model.clone(), workload.clone());
                let labels = Labels { model, workload, objective: objective.name.clone() };
                (self.requests.get_or_create_owned(&labels), self.good.get_or_create_owned(&labels))
            })
        };
        self.objectives.iter().map(handle).collect()
    }

    fn forget(&mut self, gone: impl Fn(&Key) -> bool) {
        let keys: HashSet<Key> = self.pairs.keys().filter(|key| gone(key)).cloned().collect();
        for (model, workload) in &keys {
            for objective in &self.objectives {
                let (model, workload) = (model.clone(), workload.clone());
                let labels = Labels { model, workload, objective: objective.name.clone() };
                self.requests.remove(&labels);
                self.good.remove(&labels);
            }
        }
        self.pairs.retain(|key, _| !keys.contains(key));
    }
}

impl Signal for SloSignal {
    fn name(&self) -> &'static str {
        "slo"
    }

    fn on_request(&mut self, record: &RequestRecord, _verdict: &Verdict) {
        if !record.route.is_inference() {
            return;
        }
        let key = (record.model.clone(), record.workload.label.clone());
        if !self.pairs.contains_key(&key) {
            if self.pairs.len() >= PAIRS_MAX {
                return;
            }
            let handles = self.handles(&key);
            self.pairs.insert(key.clone(), handles);
        }
        let Some(handles) = self.pairs.get(&key) else { return };
        for (objective, handle) in self.objectives.iter().zip(handles) {
            let (Some((requests, good)), Some(is_good)) = (handle, objective.judge(record)) else { continue };
            requests.inc();
            good.inc_by(is_good.into());
        }
    }

    fn forget_workload(&mut self, workload: &Workload) {
        self.forget(|(_, of)| *of == workload.label);
    }

    fn forget_model(&mut self, workload: &str, model: &str) {
        self.forget(|(of_model, of)| **of == *workload && **of_model == *model);
    }
}

#[cfg(test)]
mod tests;
