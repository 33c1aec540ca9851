//! How long did requests take? Whole requests, first tokens, the gaps between them, and how they ended.
//!
//! In: finished records, stream progress, and a tick a second. Out: the `vllm_*` request families,
//! `inference_latency_p95_seconds`, `prediction_confidence{source="live"}`, and [`LatencyView`] for the API.
//! Names and what each is measured from are in [`families`]; bounds and precision in [`bounds`].
//!
//! A record that missed bytes is counted, and kept out of the distributions it would falsify:
//!
//! | reason | counters | duration | read delay, send wait | first token, time per token |
//! |---|---|---|---|---|
//! | `events_lost` | yes | no: either end may be among the lost | no | no |
//! | `border_missed` | yes | yes: both ends were seen | yes | no: an event inside the body was missed |
//!
//! Gaps and chunks come with the progress of the stream, which leaves out what spans lost events.

pub mod bounds;
mod cold_start;
mod distribution;
mod families;
mod page;
mod pair;
pub mod recent;
mod series;
#[cfg(test)]
pub mod tests;
pub mod view;
pub mod window;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::Result;

use self::cold_start::ColdStart;
use self::pair::Pair;
use self::recent::OpenStreams;
pub use self::series::Options;
use self::series::{INCOMPLETE, PairLabels, Store, WorkloadLabels, WorkloadSeries};
use self::view::{LatencySnapshot, LatencyView};
use super::{Signal, Tick};
use crate::blame::Verdict;
use crate::clock::BootTime;
use crate::registry::Registries;
use crate::registry::by_source::BySource;
use crate::request::record::{Incomplete, OpenRequest, Progress, RequestRecord};
use crate::workload::Workload;

/// The signal `latency`.
#[derive(Debug)]
pub struct LatencySignal {
    store: Arc<Store>,
    confidence: BySource,
    /// Models that have one now.
    confident: BTreeSet<Arc<str>>,
    view: LatencyView,
    pairs: HashMap<PairLabels, Pair>,
    workloads: HashMap<Arc<str>, WorkloadPart>,
    streams: OpenStreams,
    started: BootTime,
    now: BootTime,
}

#[derive(Debug)]
struct WorkloadPart {
    series: Arc<WorkloadSeries>,
    start: ColdStart,
}

impl LatencySignal {
    /// Registers its series; measures from `now` on.
    pub fn new(options: Options, registries: &mut Registries, now: BootTime) -> Self {
        let store = Arc::new(Store::new(options));
        page::register(&store, registries);
        Self {
            store,
            confidence: registries.confidence(),
            confident: BTreeSet::new(),
            view: LatencyView::default(),
            pairs: HashMap::new(),
            workloads: HashMap::new(),
            streams: OpenStreams::default(),
            started: now,
            now,
        }
    }

    /// What the API shows of it.
    #[must_use]
    pub fn view(&self) -> LatencyView {
        self.view.clone()
    }

    /// The pair of these labels, its series made at 0 where it is new; `None` where there is no room.
    fn pair(&mut self, workload: &Workload, model: &Arc<str>) -> Option<&mut Pair> {
        let labels = PairLabels { model: model.clone(), workload: workload.label.clone() };
        if !self.pairs.contains_key(&labels) {
            let Some(series) = self.store.add_pair(&labels) else {
                self.store.without_series.add(1);
                return None;
            };
            self.pairs.insert(labels.clone(), Pair::new(series, self.now));
        }
        self.pairs.get_mut(&labels)
    }

    fn workload(&mut self, workload: &Workload) -> Option<&mut WorkloadPart> {
        if !self.workloads.contains_key(&workload.label) {
            let labels = WorkloadLabels { workload: workload.label.clone() };
            let Some(series) = self.store.add_workload(&labels) else {
                self.store.without_series.add(1);
                return None;
            };
            // Heard of it, so it runs; the next tick knows better.
            series.up.set(1);
            let start = ColdStart::new(workload.started, self.started);
            self.workloads.insert(workload.label.clone(), WorkloadPart { series, start });
        }
        let started = self.started;
        let part = self.workloads.get_mut(&workload.label)?;
        if part.start.is_before(workload.started) {
            part.start = ColdStart::new(workload.started, started);
        }
        Some(part)
    }

    fn count_incomplete(&self, incomplete: Incomplete) {
        if let Some(index) = INCOMPLETE.iter().position(|reason| *reason == incomplete) {
            self.store.incomplete[index].add(1);
        }
    }

    fn set_open(&mut self, open: &[OpenRequest]) {
        for pair in self.pairs.values() {
            pair.clear_open();
        }
        for request in open {
            let labels =
                PairLabels { model: request.model.clone(), workload: request.workload.label.clone() };
            // A pair is named by its first response. Only a stall is worth naming one without: otherwise
            // every first request of a model would leave a set of series of `other` behind.
            if request.stalled.is_none() && !self.pairs.contains_key(&labels) {
                continue;
            }
            let Some(pair) = self.pair(&request.workload, &request.model) else { continue };
            pair.add_open(request);
        }
    }

    fn set_cold_starts(&self) {
        for (workload, part) in &self.workloads {
            let Some((model, phases)) = part.start.measured() else { continue };
            let labels = PairLabels { model: model.clone(), workload: workload.clone() };
            let Some(pair) = self.pairs.get(&labels) else { continue };
            pair.set_cold_start(phases);
        }
    }

    /// Its labels have no workload: a model that two workloads serve is one series, the mean over both.
    fn set_confidence(&mut self) {
        let mut models: BTreeMap<Arc<str>, (f64, u64)> = BTreeMap::new();
        for (labels, pair) in &self.pairs {
            let (sum, count) = pair.confidence();
            if count > 0 {
                let total = models.entry(labels.model.clone()).or_default();
                *total = (total.0 + sum, total.1 + count);
            }
        }
        let source = "live".into();
        for model in self.confident.iter().filter(|model| !models.contains_key(*model)) {
            self.confidence.set(model, &source, None);
        }
        for (model, (sum, count)) in &models {
            self.confidence.set(model, &source, Some(sum / *count as f64));
        }
        self.confident = models.into_keys().collect();
    }

    fn snapshot(&self) -> LatencySnapshot {
        let watched = self.now.since(self.started);
        let mut models: Vec<_> =
            self.pairs.iter().map(|(labels, pair)| pair.latency(labels, watched)).collect();
        models.sort_by(|a, b| (&a.workload, &a.model).cmp(&(&b.workload, &b.model)));
        LatencySnapshot { models }
    }
}

impl Signal for LatencySignal {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn on_request(&mut self, record: &RequestRecord, verdict: &Verdict) {
        if let Some(workload) = self.workload(&record.workload) {
            workload.start.on_record(record);
            if !record.route.is_inference() {
                workload.series.count_http(record.route.label(), record.status);
            }
        }
        if !record.route.is_inference() {
            return;
        }
        let gaps = self.streams.end(record.socket);
        self.view.with_recent(|recent| recent.push(record, verdict, gaps));
        if let Some(incomplete) = record.incomplete {
            self.count_incomplete(incomplete);
        }
        if let Some(pair) = self.pair(&record.workload, &record.model) {
            pair.count(record);
            pair.observe(record, verdict);
        }
    }

    fn on_progress(&mut self, progress: &Progress) {
        self.streams.add(progress.socket, &progress.gaps, self.now);
        let Some(pair) = self.pair(&progress.workload, &progress.model) else { return };
        pair.go_on(progress);
    }

    fn on_tick(&mut self, tick: &Tick<'_>) -> Result<()> {
        self.now = tick.now;
        self.streams.expire(tick.now);
        for state in tick.workloads {
            if let Some(workload) = self.workload(&state.workload) {
                workload.series.up.set(state.down.is_none().into());
                workload.start.on_tick(state);
            }
        }
        self.set_open(tick.open);
        self.set_cold_starts();
        for pair in self.pairs.values_mut() {
            pair.advance(tick.now);
        }
        self.set_confidence();
        self.view.publish(self.snapshot());
        Ok(())
    }

    fn forget_workload(&mut self, workload: &Workload) {
        self.store.remove_workload(&workload.label);
        self.pairs.retain(|labels, _| labels.workload != workload.label);
        self.workloads.remove(&workload.label);
    }

    fn forget_model(&mut self, workload: &str, model: &str) {
        let labels = PairLabels { model: model.into(), workload: workload.into() };
        self.store.remove_pair(&labels);
        self.pairs.remove(&labels);
    }
}
