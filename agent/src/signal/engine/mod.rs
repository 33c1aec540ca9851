//! Is the engine's own time to first token that of its clients?
//!
//! Engines note a request's arrival once they have read, parsed and split its text into tokens, and its first token before
//! it is sent: what comes before and after is in no figure of theirs. In: first tokens, and looks at the servers' pages
//! where `engine.metrics` allows them. Out, by `workload`, over all its models:
//!
//! | Series | What |
//! |---|---|
//! | `vllm_time_to_first_token_compared_wire_seconds_total` | seconds to the first token of the compared requests, at the socket |
//! | `vllm_time_to_first_token_compared_engine_seconds_total` | of the same, as the engine says |
//! | `vllm_time_to_first_token_compared_requests_total` | how many these are |
//! | `vllm_time_to_first_token_uncompared_requests_total` | requests between looks whose counts do not agree |
//! | `vllm_time_to_first_token_difference_seconds` | wire less engine, mean over the compared requests of the last 5 min |
//!
//! Only streams have a first token on the wire, and engines count every answer: [`referee`] says which are compared.

mod referee;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Result, bail};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

use self::referee::{Referee, Ruling, Sum};
use super::{Signal, Tick};
use crate::blame::Verdict;
use crate::clock::BootTime;
use crate::engine::Reading;
use crate::registry::{FloatCounter, Registries};
use crate::request::record::{OpenRequest, RequestRecord};
use crate::workload::Workload;

/// Over what the gauge is a mean.
const WINDOW: Duration = Duration::from_secs(300);
/// Before this, every look has been told of: a page is waited for 2 s, and a tick may be late.
const LOOK_WITHIN_NS: u64 = 5_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    workload: Arc<str>,
}

/// A request, whether under way or ended: its arrival, and the thread that read it.
type Key = (BootTime, u32);

/// The signal `engine`.
#[derive(Debug, Default)]
pub struct EngineSignal {
    series: Series,
    servers: HashMap<Arc<str>, Server>,
    /// Everything up to here has been taken from the kernel.
    known_until: BootTime,
}

#[derive(Debug, Default)]
struct Series {
    wire: Family<Labels, FloatCounter>,
    engine: Family<Labels, FloatCounter>,
    compared: Family<Labels, Counter>,
    uncompared: Family<Labels, Counter>,
    difference: Family<Labels, Gauge<f64, AtomicU64>>,
}

/// A server whose page is read.
#[derive(Debug)]
struct Server {
    started: BootTime,
    referee: Referee,
    /// The newest look that was taken was begun then.
    looked: BootTime,
    /// Those under way whose first token was told of.
    told: HashSet<Key>,
    recent: VecDeque<(BootTime, Ruling)>,
}

impl EngineSignal {
    /// Registers its series.
    pub fn new(registries: &mut Registries) -> Self {
        let Self { series, .. } = Self::default();
        let registry = &mut registries.common;
        let help = "Time to first token of the compared requests, summed, as measured at the socket";
        let name = "vllm_time_to_first_token_compared_wire";
        registry.register_with_unit(name, help, Unit::Seconds, series.wire.clone());
        let help = "Time to first token of the same requests, summed, as the engine measures it";
        let name = "vllm_time_to_first_token_compared_engine";
        registry.register_with_unit(name, help, Unit::Seconds, series.engine.clone());
        let help = "Streamed requests whose time to first token is known from the socket and from the engine";
        registry.register("vllm_time_to_first_token_compared_requests", help, series.compared.clone());
        let help = "Requests that could not be compared: engine and socket counted different ones beside them, \
                    such as answers without a stream";
        registry.register("vllm_time_to_first_token_uncompared_requests", help, series.uncompared.clone());
        let help = "Time to first token at the socket less that of the engine: mean over the compared \
                    requests of the last 5 minutes, absent without";
        let name = "vllm_time_to_first_token_difference";
        registry.register_with_unit(name, help, Unit::Seconds, series.difference.clone());
        Self { series, ..Self::default() }
    }

    fn add_open(&mut self, open: &[OpenRequest]) {
        let mut told: HashMap<&Arc<str>, HashSet<Key>> = HashMap::new();
        for request in open {
            let Some(time) = request.first_token else { continue };
            let Some(server) = self.servers.get_mut(&request.workload.label) else { continue };
            let key = (request.arrival, request.tid);
            if !server.told.contains(&key) {
                server.referee.on_first_token(time, time.since(request.arrival));
            }
            told.entry(&request.workload.label).or_default().insert(key);
        }
        for (label, server) in &mut self.servers {
            server.told = told.remove(label).unwrap_or_default();
        }
    }
}

impl Series {
    fn add(&self, workload: &Arc<str>, ruling: &Ruling) {
        let labels = Labels { workload: workload.clone() };
        self.wire.get_or_create(&labels).inc_by(ruling.wire.seconds.max(0.0));
        self.engine.get_or_create(&labels).inc_by(ruling.engine.seconds.max(0.0));
        self.compared.get_or_create(&labels).inc_by(ruling.wire.count);
        self.uncompared.get_or_create(&labels).inc_by(ruling.uncompared);
    }

    fn set_difference(&self, workload: &Arc<str>, recent: &Ruling) {
        let labels = Labels { workload: workload.clone() };
        if recent.wire.count == 0 {
            self.difference.remove(&labels);
            return;
        }
        let mean = (recent.wire.seconds - recent.engine.seconds) / recent.wire.count as f64;
        self.difference.get_or_create(&labels).set(mean);
    }
}

impl Server {
    /// One whose looks from `now` on are taken: before, first tokens were not noted.
    fn new(started: BootTime, now: BootTime) -> Self {
        Self {
            started,
            referee: Referee::default(),
            looked: now,
            told: HashSet::new(),
            recent: VecDeque::new(),
        }
    }

    /// Takes the looks up to a time before which all is known.
    fn take_looks(&mut self, tick: &Tick<'_>, workload: &Workload, known_until: BootTime) -> Ruling {
        let mut ruling = Ruling::default();
        if self.started != workload.started {
            self.started = workload.started;
            self.referee.settle(workload.started);
            ruling = self.referee.on_restart();
        }
        for look in tick.engines.after(&workload.label, self.looked.max(self.started)) {
            if look.answered > known_until {
                break;
            }
            self.looked = look.asked;
            let Some(engine) = first_tokens(&look.reading) else { continue };
            ruling.add(&self.referee.on_look(look.asked, look.answered, engine));
        }
        self.referee.settle(BootTime(known_until.0.saturating_sub(LOOK_WITHIN_NS)));
        ruling
    }

    /// The sum over the window, `newest` included.
    fn recent(&mut self, now: BootTime, newest: Ruling) -> Ruling {
        while self.recent.front().is_some_and(|(time, _)| now.since(*time) >= WINDOW) {
            self.recent.pop_front();
        }
        if newest.wire.count > 0 {
            self.recent.push_back((now, newest));
        }
        self.recent.iter().fold(Ruling::default(), |mut sum, (_, ruling)| {
            sum.add(ruling);
            sum
        })
    }
}

/// What the engine counted so far.
fn first_tokens(reading: &Reading) -> Option<Sum> {
    Some(Sum { count: reading.ttft_count? as u64, seconds: reading.ttft_sum? })
}

impl Signal for EngineSignal {
    fn name(&self) -> &'static str {
        "engine"
    }

    fn on_request(&mut self, record: &RequestRecord, _verdict: &Verdict) {
        let Some(server) = self.servers.get_mut(&record.workload.label) else { return };
        let told = server.told.remove(&(record.arrival, record.tid));
        let inference = record.route.is_inference() && record.incomplete.is_none();
        if let (Some(time), Some(ttft), true) = (record.first_token, record.ttft(), inference && !told) {
            server.referee.on_first_token(time, ttft);
        }
    }

    fn on_tick(&mut self, tick: &Tick<'_>) -> Result<()> {
        for state in tick.workloads {
            let label = &state.workload.label;
            let newest = tick.engines.newest(label);
            if !self.servers.contains_key(label) && newest.as_ref().and_then(first_tokens).is_some() {
                self.servers.insert(label.clone(), Server::new(state.workload.started, tick.now));
            }
        }
        self.add_open(tick.open);
        for state in tick.workloads {
            let label = &state.workload.label;
            let Some(server) = self.servers.get_mut(label) else { continue };
            let ruling = server.take_looks(tick, &state.workload, self.known_until);
            self.series.add(label, &ruling);
            self.series.set_difference(label, &server.recent(tick.now, ruling));
        }
        self.known_until = tick.now;
        match tick.engines.failure() {
            Some(failure) => bail!("{failure}"),
            None => Ok(()),
        }
    }

    fn forget_workload(&mut self, workload: &Workload) {
        self.servers.remove(&workload.label);
        let labels = Labels { workload: workload.label.clone() };
        let Series { wire, engine, compared, uncompared, difference } = &self.series;
        wire.remove(&labels);
        engine.remove(&labels);
        compared.remove(&labels);
        uncompared.remove(&labels);
        difference.remove(&labels);
    }

    fn forget_model(&mut self, _workload: &str, _model: &str) {}
}

#[cfg(test)]
mod tests;
