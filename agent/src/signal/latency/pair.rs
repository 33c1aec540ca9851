//! One model of one workload: its series, and the windows behind its quantiles and rates.
//!
//! In: records, progress and time, from the one task of the pipeline. Out: the atomics of its
//! [`PairSeries`], and what the API shows. Which record may be measured is decided here.

use std::sync::Arc;
use std::time::Duration;

use super::bounds::seconds;
use super::distribution::Exemplar;
use super::series::{Count, PairLabels, PairSeries};
use super::view::{ModelLatency, Quantiles, Rates};
use super::window::{SlidingHistogram, SlidingMean, SlidingRate};
use crate::blame::Verdict;
use crate::clock::BootTime;
use crate::request::record::{Incomplete, OpenRequest, Outcome, Progress, RequestRecord, Stall};

/// What is kept of a model of a workload, beside its series.
#[derive(Debug)]
pub struct Pair {
    series: Arc<PairSeries>,
    duration: SlidingHistogram,
    ttft: SlidingHistogram,
    inter_chunk: SlidingHistogram,
    time_per_output_token: SlidingHistogram,
    confidence: SlidingMean,
    requests: SlidingRate,
    errors: SlidingRate,
    chunks: SlidingRate,
    prompt_tokens: SlidingRate,
    completion_tokens: SlidingRate,
}

impl Pair {
    /// With its series at 0, measured from `now` on.
    pub fn new(series: Arc<PairSeries>, now: BootTime) -> Self {
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
            prompt_tokens: SlidingRate::new(now),
            completion_tokens: SlidingRate::new(now),
        }
    }

    /// No request is under way, until [`Self::add_open`] says otherwise.
    pub fn clear_open(&self) {
        self.series.in_flight.set(0);
        self.series.stalled.iter().for_each(|count| count.set(0));
    }

    /// A request is under way.
    pub fn add_open(&self, request: &OpenRequest) {
        self.series.in_flight.add(1);
        if let Some(stall) = request.stalled {
            count_at(&self.series.stalled, &Stall::ALL, &stall);
        }
    }

    /// Phases of the latest start, in the order of [`super::series::START_PHASES`].
    pub fn set_cold_start(&self, phases: [Option<Duration>; 3]) {
        for (gauge, phase) in self.series.cold_start.iter().zip(phases) {
            gauge.set(phase.map(seconds));
        }
    }

    /// A stream went on.
    pub fn go_on(&mut self, progress: &Progress) {
        self.series.chunks.add(progress.chunks);
        self.chunks.add(progress.chunks);
        for gap in &progress.gaps {
            self.series.inter_chunk.observe(*gap, None);
            self.inter_chunk.record(*gap);
        }
    }

    /// What is counted of every request that ended.
    pub fn count(&mut self, record: &RequestRecord) {
        let series = &self.series;
        series.requests.add(1);
        self.requests.add(1);
        if record.outcome.is_error() {
            series.errors.add(1);
            self.errors.add(1);
        }
        count_at(&series.outcomes, &Outcome::ALL, &record.outcome);
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
            self.prompt_tokens.add(usage.prompt_tokens);
            self.completion_tokens.add(usage.completion_tokens);
        }
        if let Some(confidence) = record.confidence.filter(|confidence| confidence.is_finite()) {
            self.confidence.record(confidence);
        }
    }

    /// What is measured of it, as far as its record can be trusted: see the table of this signal.
    pub fn observe(&mut self, record: &RequestRecord, verdict: &Verdict) {
        if record.incomplete == Some(Incomplete::EventsLost) {
            return;
        }
        let exemplar = Exemplar::of(record, verdict);
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

    /// Goes on to `now`: lets the old go, and sets what the page shows of the windows.
    pub fn advance(&mut self, now: BootTime) {
        for window in
            [&mut self.duration, &mut self.ttft, &mut self.inter_chunk, &mut self.time_per_output_token]
        {
            window.advance(now);
        }
        for rate in [
            &mut self.requests,
            &mut self.errors,
            &mut self.chunks,
            &mut self.prompt_tokens,
            &mut self.completion_tokens,
        ] {
            rate.advance(now);
        }
        self.confidence.advance(now);
        self.series.p95.set(self.duration.quantile(0.95).map(seconds));
    }

    /// Sum and count of the confidences in the window.
    #[must_use]
    pub fn confidence(&self) -> (f64, u64) {
        self.confidence.totals()
    }

    /// What the API shows, of a signal that has `watched` this long.
    #[must_use]
    pub fn latency(&self, labels: &PairLabels, watched: Duration) -> ModelLatency {
        ModelLatency {
            workload: labels.workload.clone(),
            model: labels.model.clone(),
            in_flight: self.series.in_flight.get(),
            stalled: self.series.stalled.iter().map(Count::get).sum(),
            requests_per_second: Rates::of(&self.requests, watched),
            errors_per_second: Rates::of(&self.errors, watched),
            chunks_per_second: Rates::of(&self.chunks, watched),
            prompt_tokens_per_second: Rates::of(&self.prompt_tokens, watched),
            completion_tokens_per_second: Rates::of(&self.completion_tokens, watched),
            duration_seconds: Quantiles::of(&self.duration),
            ttft_seconds: Quantiles::of(&self.ttft),
            inter_chunk_seconds: Quantiles::of(&self.inter_chunk),
            time_per_output_token_seconds: Quantiles::of(&self.time_per_output_token),
        }
    }
}

/// Counts at the place that `value` has among `all`.
fn count_at<T: PartialEq>(counts: &[Count], all: &[T], value: &T) {
    if let Some(index) = all.iter().position(|other| other == value) {
        counts[index].add(1);
    }
}
