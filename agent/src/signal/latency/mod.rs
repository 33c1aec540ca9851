//! How long did requests take? Whole requests, first tokens, the gaps between them, and how they ended.
//!
//! In: finished records, stream progress, and a tick a second. Out: the `vllm_*` request families,
//! `inference_latency_p95_seconds`, `prediction_confidence{source="live"}`, and [`LatencyView`] for the API.
//! Names and what each is measured from are in [`page`]; bounds and precision in [`bounds`].
//!
//! A record that missed bytes is counted, and kept out of the distributions it would falsify:
//!
//! | reason | counters | duration | read delay, send wait | first token, time per token |
//! |---|---|---|---|---|
//! | `start_unseen` | yes | no: the arrival is unknown | no | no |
//! | `events_lost` | yes | no: either end may be among the lost | no | no |
//! | `border_missed` | yes | yes: both ends were seen | yes | no: an event inside the body was missed |
//!
//! Gaps and chunks come with the progress of the stream, which leaves out what spans lost events.

pub mod bounds;
mod cold_start;
mod distribution;
mod page;
pub mod recent;
mod series;
#[cfg(test)]
pub mod tests;
pub mod view;
pub mod window;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Result;

use self::bounds::seconds;
use self::cold_start::ColdStart;
use self::distribution::Exemplar;
use self::recent::OpenStreams;
pub use self::series::Options;
use self::series::{Count, INCOMPLETE, PairLabels, PairSeries, Store, WorkloadLabels, WorkloadSeries};
use self::view::{LatencySnapshot, LatencyView, ModelLatency, Quantiles, Rates};
use self::window::{SlidingHistogram, SlidingMean, SlidingRate};
use super::{Signal, Tick};
use crate::clock::BootTime;
use crate::registry::Registries;
use crate::request::record::{Incomplete, OpenRequest, Outcome, Progress, RequestRecord, Stall};
use crate::workload::Workload;

/// The signal `latency`.
#[derive(Debug)]
pub struct LatencySignal {
    store: Arc<Store>,
    view: LatencyView,
    pairs: HashMap<PairLabels, Pair>,
    workloads: HashMap<Arc<str>, WorkloadPart>,
    streams: OpenStreams,
    started: BootTime,
    now: BootTime,
}

/// What is kept of a model of a workload, beside its series.
#[derive(Debug)]
struct Pair {
    series: Arc<PairSeries>,
    duration: SlidingHistogram,
    ttft: SlidingHistogram,
    inter_chunk: SlidingHistogram,
    time_per_output_token: SlidingHistogram,
    confidence: SlidingMean,
    requests: SlidingRate,
    errors: SlidingRate,
    chunks: SlidingRate,
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
        if !part.start.is_of(workload.started) {
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
            pair.series.in_flight.set(0);
            pair.series.stalled.iter().for_each(|count| count.set(0));
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
            pair.series.in_flight.add(1);
            if let Some(stall) = request.stalled {
                count_at(&pair.series.stalled, &Stall::ALL, stall);
            }
        }
    }

    fn set_cold_starts(&self) {
        for (workload, part) in &self.workloads {
            let Some((model, phases)) = part.start.measured() else { continue };
            let labels = PairLabels { model: model.clone(), workload: workload.clone() };
            let Some(pair) = self.pairs.get(&labels) else { continue };
            for (gauge, phase) in pair.series.cold_start.iter().zip(phases) {
                gauge.set(phase.map(seconds));
            }
        }
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

    fn on_request(&mut self, record: &RequestRecord) {
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
        self.view.with_recent(|recent| recent.push(record, gaps));
        if let Some(incomplete) = record.incomplete {
            self.count_incomplete(incomplete);
        }
        if let Some(pair) = self.pair(&record.workload, &record.model) {
            pair.count(record);
            pair.observe(record);
        }
    }

    fn on_progress(&mut self, progress: &Progress) {
        self.streams.add(progress.socket, &progress.gaps);
        let Some(pair) = self.pair(&progress.workload, &progress.model) else { return };
        pair.series.chunks.add(progress.chunks);
        pair.chunks.add(progress.chunks);
        for gap in &progress.gaps {
            pair.series.inter_chunk.observe(*gap, None);
            pair.inter_chunk.record(*gap);
        }
    }

    fn on_tick(&mut self, tick: &Tick<'_>) -> Result<()> {
        self.now = tick.now;
        for state in tick.workloads {
            if let Some(workload) = self.workload(&state.workload) {
                workload.series.up.set(state.up.into());
                workload.start.on_tick(state);
            }
        }
        self.set_open(tick.open);
        self.set_cold_starts();
        for pair in self.pairs.values_mut() {
            pair.advance(tick.now);
        }
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

impl Pair {
    fn new(series: Arc<PairSeries>, now: BootTime) -> Self {
        Self {
            series,
            duration: SlidingHistogram::new(now),
            ttft: SlidingHistogram::new(now),
            inter_chunk: SlidingHistogram::new(now),
            time_per_output_token: SlidingHistogram::new(now),
            confidence: SlidingMean::new(now),
            requests: SlidingRate::new(now),
            errors: SlidingRate::new(now),
            chunks: SlidingRate::new(now),
        }
    }

    /// What is counted of every request that ended.
    fn count(&mut self, record: &RequestRecord) {
        let series = &self.series;
        series.requests.add(1);
        self.requests.add(1);
        if record.outcome.is_error() {
            series.errors.add(1);
            self.errors.add(1);
        }
        count_at(&series.outcomes, &Outcome::ALL, record.outcome);
        let finish = record.finish;
        let reasons = [
            finish.stop,
            finish.length,
            finish.tool_calls,
            finish.content_filter,
            finish.other,
            u32::from(record.empty),
        ];
        for (count, reason) in series.finished.iter().zip(reasons) {
            count.add(reason.into());
        }
        if let Some(usage) = record.usage {
            series.requests_with_usage.add(1);
            series.prompt_tokens.add(usage.prompt_tokens);
            series.generation_tokens.add(usage.completion_tokens);
        }
        if let Some(confidence) = record.confidence {
            self.confidence.record(confidence);
        }
    }

    /// What is measured of it, as far as its record can be trusted: see the table above.
    fn observe(&mut self, record: &RequestRecord) {
        if matches!(record.incomplete, Some(Incomplete::StartUnseen | Incomplete::EventsLost)) {
            return;
        }
        let exemplar = Exemplar::of(record);
        let exemplar = exemplar.as_ref();
        self.series.observe_duration(record.duration(), exemplar);
        self.duration.record(record.duration());
        if let Some(read_delay) = record.read_delay {
            self.series.read_delay.observe(read_delay, exemplar);
        }
        if record.status.is_some() {
            self.series.send_wait.observe(record.send_wait, exemplar);
        }
        if record.incomplete.is_some() {
            return;
        }
        if let Some(ttft) = record.ttft() {
            self.series.observe_ttft(ttft, exemplar);
            self.ttft.record(ttft);
        }
        if let Some(per_token) = record.time_per_output_token() {
            self.series.observe_time_per_output_token(per_token, exemplar);
            self.time_per_output_token.record(per_token);
        }
    }

    fn advance(&mut self, now: BootTime) {
        for window in
            [&mut self.duration, &mut self.ttft, &mut self.inter_chunk, &mut self.time_per_output_token]
        {
            window.advance(now);
        }
        for rate in [&mut self.requests, &mut self.errors, &mut self.chunks] {
            rate.advance(now);
        }
        self.confidence.advance(now);
        self.series.p95.set(self.duration.quantile(0.95).map(seconds));
        *self.series.confidence.lock().unwrap_or_else(PoisonError::into_inner) = self.confidence.totals();
    }

    fn latency(&self, labels: &PairLabels, watched: Duration) -> ModelLatency {
        ModelLatency {
            workload: labels.workload.clone(),
            model: labels.model.clone(),
            in_flight: self.series.in_flight.get(),
            stalled: self.series.stalled.iter().map(Count::get).sum(),
            requests_per_second: Rates::of(&self.requests, watched),
            errors_per_second: Rates::of(&self.errors, watched),
            chunks_per_second: Rates::of(&self.chunks, watched),
            duration_seconds: Quantiles::of(&self.duration),
            ttft_seconds: Quantiles::of(&self.ttft),
            inter_chunk_seconds: Quantiles::of(&self.inter_chunk),
            time_per_output_token_seconds: Quantiles::of(&self.time_per_output_token),
        }
    }
}

/// Counts at the place that `value` has among `all`.
fn count_at<T: PartialEq>(counts: &[Count], all: &[T], value: T) {
    if let Some(index) = all.iter().position(|other| *other == value) {
        counts[index].add(1);
    }
}
