//! What did requests' time go to, and which were slow?
//!
//! In: finished records with their verdicts, and the gaps of streams under way. Out:
//! `vllm_request_blame_seconds_total{model,workload,phase,cause}`, seconds of wall time of all requests that ended;
//! `vllm_slow_requests_total{model,workload,cause}`; `vllm_requests_under_throttle_total{model,workload,cause}`, where the
//! server has GPUs; and [`SlowView`], the newest slow requests, for the API. The sum
//! over causes is the sum of the requests' durations.

mod chunks;
mod list;
#[cfg(test)]
mod tests;
mod throttled;

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Result;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Unit;

use self::chunks::Streams;
pub use self::chunks::{ChunkGaps, GAPS_MAX, STREAMS_MAX};
pub use self::list::{SLOW_MAX, SlowPage, SlowView};
use self::throttled::Throttled;
use super::{Signal, Tick};
use crate::blame::{Cause, Phase, Reason, Verdict};
use crate::clock::BootTime;
use crate::registry::{FloatCounter, Registries};
use crate::request::record::{Progress, RequestRecord};
use crate::workload::Workload;

/// Models of all workloads with series of their own.
const PAIRS_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BlameLabels {
    model: Arc<str>,
    workload: Arc<str>,
    phase: &'static str,
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SlowLabels {
    model: Arc<str>,
    workload: Arc<str>,
    cause: &'static str,
}

type Pair = (Arc<str>, Arc<str>);

/// The signal `slow`.
#[derive(Debug)]
pub struct SlowSignal {
    blame: Family<BlameLabels, FloatCounter>,
    slow: Family<SlowLabels, Counter>,
    throttled: Throttled,
    /// Workload and model, of which all series are there.
    pairs: HashSet<Pair>,
    streams: Streams,
    /// Of the newest tick.
    now: BootTime,
    view: SlowView,
}

impl SlowSignal {
    /// Registers its series.
    pub fn new(registries: &mut Registries) -> Self {
        let (blame, slow) = (Family::default(), Family::default());
        let help =
            "Wall time of inference requests that ended, by cause; where causes overlap, the first has it";
        registries.common.register_with_unit("vllm_request_blame", help, Unit::Seconds, blame.clone());
        let help =
            "Inference requests that took much longer than usual for their size, or than they may, by cause";
        registries.common.register("vllm_slow_requests", help, slow.clone());
        Self {
            blame,
            slow,
            throttled: Throttled::new(registries),
            pairs: HashSet::new(),
            streams: Streams::default(),
            now: BootTime::default(),
            view: SlowView::default(),
        }
    }

    /// What the API shows of it.
    #[must_use]
    pub fn view(&self) -> SlowView {
        self.view.clone()
    }

    /// Makes all series of a pair, at 0. False where there is no room.
    fn begin(&mut self, workload: &Arc<str>, model: &Arc<str>) -> bool {
        let pair = (workload.clone(), model.clone());
        if self.pairs.contains(&pair) {
            return true;
        }
        if self.pairs.len() >= PAIRS_MAX {
            return false;
        }
        for (phase, cause) in Phase::ALL.into_iter().flat_map(|phase| Cause::ALL.map(|cause| (phase, cause)))
        {
            drop(self.blame.get_or_create(&blame_labels(&pair, phase, cause)));
        }
        for reason in Reason::ALL {
            drop(self.slow.get_or_create(&slow_labels(&pair, reason)));
        }
        self.pairs.insert(pair)
    }

    fn end(&mut self, pair: &Pair) {
        for (phase, cause) in Phase::ALL.into_iter().flat_map(|phase| Cause::ALL.map(|cause| (phase, cause)))
        {
            self.blame.remove(&blame_labels(pair, phase, cause));
        }
        for reason in Reason::ALL {
            self.slow.remove(&slow_labels(pair, reason));
        }
        self.throttled.end(pair);
        self.pairs.remove(pair);
    }

    fn end_where(&mut self, gone: impl Fn(&Pair) -> bool) {
        let pairs: Vec<Pair> = self.pairs.iter().filter(|pair| gone(pair)).cloned().collect();
        pairs.iter().for_each(|pair| self.end(pair));
    }
}

fn blame_labels((workload, model): &Pair, phase: Phase, cause: Cause) -> BlameLabels {
    let (model, workload) = (model.clone(), workload.clone());
    BlameLabels { model, workload, phase: phase.label(), cause: cause.label() }
}

fn slow_labels((workload, model): &Pair, reason: Reason) -> SlowLabels {
    SlowLabels { model: model.clone(), workload: workload.clone(), cause: reason.label() }
}

impl Signal for SlowSignal {
    fn name(&self) -> &'static str {
        "slow"
    }

    fn on_request(&mut self, record: &RequestRecord, verdict: &Verdict) {
        let gaps = self.streams.end(record.socket);
        if verdict.phases.is_empty() {
            return;
        }
        if let Some(slow) = &verdict.slow {
            self.view.push(record, verdict, slow, gaps);
        }
        if !self.begin(&record.workload.label, &record.model) {
            return;
        }
        let pair = (record.workload.label.clone(), record.model.clone());
        for (phase, vector) in &verdict.phases {
            for cause in Cause::ALL {
                let time = vector.of(cause);
                if !time.is_zero() {
                    self.blame.get_or_create(&blame_labels(&pair, *phase, cause)).inc_by(time.as_secs_f64());
                }
            }
        }
        if let Some(slow) = &verdict.slow {
            self.slow.get_or_create(&slow_labels(&pair, slow.reason)).inc();
        }
        if let Some(causes) = &verdict.throttles {
            self.throttled.count(&pair, causes);
        }
    }

    fn on_progress(&mut self, progress: &Progress) {
        self.streams.add(progress.socket, &progress.gaps, self.now);
    }

    fn on_tick(&mut self, tick: &Tick<'_>) -> Result<()> {
        self.now = tick.now;
        self.streams.expire(tick.now);
        Ok(())
    }

    fn forget_workload(&mut self, workload: &Workload) {
        self.end_where(|pair| pair.0 == workload.label);
    }

    fn forget_model(&mut self, workload: &str, model: &str) {
        self.end_where(|pair| *pair.0 == *workload && *pair.1 == *model);
    }
}
