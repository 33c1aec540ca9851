//! What energy did requests take, and what did they cost?
//!
//! In: the energy of each GPU from reading to reading, who uses it, which requests were under way, and the price of a GPU's time. Out:
//!
//! | Series | What |
//! |---|---|
//! | `vllm_energy_joules_total{model,workload}` | energy of the workload's GPUs while a request of the model was under way |
//! | `vllm_phase_energy_joules_total{model,workload,phase}` | the same: `prefill` until a request's first token, all of an answer without a stream; `decode` after |
//! | `vllm_idle_energy_joules_total{workload}` | while none was |
//! | `cost_total{model,workload}` | price of the workload's share of its GPUs for the time in which a request of the model was under way, where `cost.gpu_hour` is set |
//! | `cost_idle_total{workload}` | while none was; `none`: of GPUs that nobody had |
//! | `cost_currency_info{currency}` | 1 |
//!
//! Joules per output token: `rate(vllm_energy_joules_total[5m]) / rate(vllm_generation_tokens_total[5m])`. That counts the
//! tokens of answers that say their `usage`; the energy is that of all.
//!
//! **How it is estimated.** The energy between two readings of a GPU is divided among its workloads as `Card::shares` says.
//! What a workload has of it is for the idle time in the stretch at the power of idle time ([`idle`]), and the rest is
//! spread evenly over the time in which any of its requests was under way. Each moment of that is shared evenly by the
//! requests that were under way in it ([`flight`]), so a request's energy does not depend on when the GPU was read.
//!
//! **Its error.** The sum over models and idle time is that of the driver's counter, exactly. What is divided by assumption:
//! a stretch that is busy in part, by the idle power that was learnt (wrong by its error times the idle time in the stretch);
//! phases and models that are under way at once, evenly, though a prefill step may take more power than a decode step, and a
//! request that only waits for a place has as much as the others; and workloads that share a GPU. Where there is no counter, power
//! is integrated, and what a driver reports as power is a mean of the last second.
//!
//! The cost of a stretch is its length times the price, whatever the GPU did; time that several models share is divided as their
//! energy is. All of `cost_total` and `cost_idle_total` is the GPUs' hours times their price, from their first reading on.
//!
//! A stretch is booked at the second tick after its end: by then everything that was under way in it is known, whenever it
//! ended. Requests whose model the server has not told yet have their energy kept for them until it has.

mod flight;
mod idle;
mod meter;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use anyhow::Result;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;

use self::flight::{Flight, Flights, Key, Phase, Share};
use self::idle::Taken;
use self::meter::{Meter, Ready};
use super::{Signal, Tick};
use crate::blame::Verdict;
use crate::clock::BootTime;
use crate::cost;
use crate::gpu::Gpus;
use crate::registry::{FloatCounter, Registries};
use crate::request::record::{OpenRequest, RequestRecord};
use crate::workload::Workload;
use crate::workload::labels::UNKNOWN;

/// Models of all workloads with series of their own.
const PAIRS_MAX: usize = 64;
/// Label of GPUs that no workload has.
const NOBODY: &str = "none";
/// Requests of one server that ended and whose energy is not booked yet: those of 20 s at 3,000 a second. Beyond that the oldest
/// are left out, and those beside them have their energy.
const ENDED_MAX: usize = 65_536;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model: Arc<str>,
    workload: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    model: Arc<str>,
    workload: Arc<str>,
    phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkloadLabels {
    workload: Arc<str>,
}

/// The signal `energy`.
#[derive(Debug, Default)]
pub struct EnergySignal {
    series: Series,
    /// Those that have, or had, a GPU, by label.
    servers: HashMap<Arc<str>, Server>,
    /// By the UUID of the GPU.
    meters: HashMap<String, Meter>,
    /// Everything up to here has been taken from the kernel.
    known_until: BootTime,
}

#[derive(Debug, Default)]
struct Series {
    energy: Family<ModelLabels, FloatCounter>,
    phases: Family<PhaseLabels, FloatCounter>,
    idle: Family<WorkloadLabels, FloatCounter>,
    cost: Family<ModelLabels, FloatCounter>,
    idle_cost: Family<WorkloadLabels, FloatCounter>,
    /// Price of a GPU's second, where it is known.
    gpu_second: Option<f64>,
    pairs: HashSet<ModelLabels>,
}

/// What a request, or idle time, has of a GPU.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    joules: f64,
    /// Of the GPU.
    seconds: f64,
}

impl Part {
    /// A part of this part.
    fn times(self, share: f64) -> Self {
        Self { joules: self.joules * share, seconds: self.seconds * share }
    }

    fn add(&mut self, other: Self) {
        self.joules += other.joules;
        self.seconds += other.seconds;
    }
}

#[derive(Debug)]
struct Server {
    /// Its requests are noted from here on.
    since: BootTime,
    /// Requests that ended lately.
    ended: VecDeque<Flight>,
    /// Of requests under way whose model is not known yet.
    held: HashMap<Key, Part>,
}

impl EnergySignal {
    /// Registers its series.
    pub fn new(cost: &cost::Settings, registries: &mut Registries) -> Self {
        let series = Series { gpu_second: cost.gpu_second(), ..Series::default() };
        let signal = Self { series, ..Self::default() };
        let (series, registry) = (&signal.series, &mut registries.common);
        let help = "Energy of the GPUs of a workload, by the models whose requests were under way";
        registry.register_with_unit("vllm_energy", help, Unit::Joules, series.energy.clone());
        let help = "The same by phase of the requests: prefill until the first token, decode after";
        registry.register_with_unit("vllm_phase_energy", help, Unit::Joules, series.phases.clone());
        let help = "Energy of the GPUs of a workload while none of its requests was under way";
        registry.register_with_unit("vllm_idle_energy", help, Unit::Joules, series.idle.clone());
        if series.gpu_second.is_some() {
            let help = "Price of the GPUs' time, by the models whose requests were under way";
            registry.register("cost", help, series.cost.clone());
            let help =
                "Price of the GPUs' time while no request was under way; none: of GPUs that nobody had";
            registry.register("cost_idle", help, series.idle_cost.clone());
            let info = Info::new([("currency", cost.currency.clone())]);
            registry.register("cost_currency", "Currency of the costs", info);
        }
        signal
    }

    /// Takes what the GPUs took since, and makes room for servers that came to have one.
    fn take(&mut self, gpus: &Gpus, now: BootTime) {
        for card in gpus.cards() {
            let meter = self.meters.entry(card.identity.uuid.clone()).or_default();
            meter.take(card);
            for each in &card.users {
                if !self.servers.contains_key(&each.workload) {
                    self.series.add_idle(&each.workload, Part::default());
                    self.servers.insert(each.workload.clone(), Server::new(now));
                }
            }
        }
        let there: HashSet<&str> = gpus.cards().map(|card| card.identity.uuid.as_str()).collect();
        self.meters.retain(|uuid, meter| there.contains(uuid.as_str()) || meter.waits());
    }

    /// Books what is known well enough by now.
    fn book(&mut self, open: &[OpenRequest]) {
        let Self { series, servers, meters, known_until, .. } = self;
        let ready: Vec<(&mut Meter, Vec<Ready>)> = meters
            .values_mut()
            .map(|meter| {
                let ready = meter.ready(*known_until);
                (meter, ready)
            })
            .collect();
        let mut marks: HashMap<Arc<str>, Vec<BootTime>> = HashMap::new();
        for part in ready.iter().flat_map(|(_, ready)| ready) {
            for (workload, _) in part.shares.iter() {
                let marks = marks.entry(workload.clone()).or_default();
                marks.extend([part.stretch.start, part.stretch.end]);
            }
        }
        let of = |(workload, marks): (Arc<str>, Vec<BootTime>)| {
            let flights = servers.get(&workload)?.flights(&workload, open, marks);
            Some((workload, flights))
        };
        let flights: HashMap<Arc<str>, Flights> = marks.into_iter().filter_map(of).collect();
        for (meter, ready) in ready {
            for part in ready {
                book_one(&part, meter, &flights, servers, series);
            }
        }
    }

    /// Before this, nothing is asked any more.
    fn horizon(&self, now: BootTime) -> BootTime {
        self.meters.values().map(|meter| meter.needs(now)).min().unwrap_or(now)
    }
}

/// Books one stretch of one GPU.
fn book_one(
    part: &Ready,
    meter: &mut Meter,
    flights: &HashMap<Arc<str>, Flights>,
    servers: &mut HashMap<Arc<str>, Server>,
    series: &mut Series,
) {
    let (start, end) = (part.stretch.start, part.stretch.end);
    let length = end.since(start).as_secs_f64();
    if part.shares.is_empty() {
        series.add_cost_of_nobody(length);
    }
    let share = |workload| flights.get(workload).map(|flights| flights.between(start, end));
    let shares: Vec<Option<Share<'_>>> = part.shares.iter().map(|(workload, _)| share(workload)).collect();
    let busy = shares.iter().flatten().filter(|share| share.busy > 0.0).count();
    for ((workload, of_gpu), share) in part.shares.iter().zip(&shares) {
        let (Some(share), Some(server)) = (share, servers.get_mut(workload)) else {
            series.add_cost_of_nobody(length * of_gpu);
            continue;
        };
        // What it did before is not known.
        if start < server.since {
            series.add_cost_of_nobody(length * of_gpu);
            continue;
        }
        let busy_seconds = (share.busy / 1e9).min(length);
        let joules = part.stretch.joules * of_gpu;
        let taken = Taken { joules, busy_seconds, idle_seconds: length - busy_seconds };
        let idle = meter.idle(workload);
        if busy == usize::from(share.busy > 0.0) {
            idle.learn(&taken);
        }
        let idle = idle.joules(&taken);
        series.add_idle(workload, Part { joules: idle, seconds: taken.idle_seconds * of_gpu });
        if share.busy > 0.0 {
            let busy = Part { joules: joules - idle, seconds: busy_seconds * of_gpu };
            server.give(workload, share, busy, series);
        }
    }
}

impl Server {
    fn new(since: BootTime) -> Self {
        Self { since, ended: VecDeque::new(), held: HashMap::new() }
    }

    fn flights(&self, workload: &Arc<str>, open: &[OpenRequest], marks: Vec<BootTime>) -> Flights {
        let own = open.iter().filter(|open| open.workload.label == *workload);
        let open: Vec<Flight> = own.map(flight_of).collect();
        Flights::new(self.ended.iter().chain(&open), marks)
    }

    /// Gives its requests their part of this.
    fn give(&mut self, workload: &Arc<str>, share: &Share<'_>, busy: Part, series: &mut Series) {
        for ((model, phase), time) in &share.slots {
            series.add(workload, model, *phase, busy.times(time / share.busy));
        }
        for (key, time) in &share.unnamed {
            self.held.entry(*key).or_default().add(busy.times(time / share.busy));
        }
    }

    /// Gives what was held for requests to their models, once these are known, or will not be any more.
    fn settle(&mut self, workload: &Arc<str>, open: &[OpenRequest], series: &mut Series) {
        if self.held.is_empty() {
            return;
        }
        let own = open.iter().filter(|open| open.workload.label == *workload);
        let models: HashMap<Key, Option<Arc<str>>> =
            own.map(|open| (key_of(open), flight_of(open).model)).collect();
        let known = |key: &Key| models.get(key).is_none_or(Option::is_some);
        for (key, part) in self.held.extract_if(|key, _| known(key)) {
            let model = models.get(&key).cloned().flatten().unwrap_or_else(|| UNKNOWN.into());
            series.add(workload, &model, Phase::Prefill, part);
        }
    }
}

fn key_of(open: &OpenRequest) -> Key {
    (open.arrival, open.tid)
}

/// A request that goes on. Its model may be told with the beginning of the answer; after the first token it will not be.
fn flight_of(open: &OpenRequest) -> Flight {
    let told = *open.model != *UNKNOWN || open.first_token.is_some();
    let model = told.then(|| open.model.clone());
    Flight { key: key_of(open), model, first_token: open.first_token, end: None }
}

impl Series {
    /// All series of a pair, at 0. False where there is no room.
    fn begin(&mut self, labels: &ModelLabels) -> bool {
        if self.pairs.contains(labels) {
            return true;
        }
        if self.pairs.len() >= PAIRS_MAX {
            return false;
        }
        drop(self.energy.get_or_create(labels));
        if self.gpu_second.is_some() {
            drop(self.cost.get_or_create(labels));
        }
        for phase in Phase::ALL {
            drop(self.phases.get_or_create(&labels.of(phase)));
        }
        self.pairs.insert(labels.clone())
    }

    fn add_idle(&mut self, workload: &Arc<str>, part: Part) {
        let labels = WorkloadLabels { workload: workload.clone() };
        self.idle.get_or_create(&labels).inc_by(part.joules);
        if let Some(price) = self.gpu_second {
            self.idle_cost.get_or_create(&labels).inc_by(part.seconds * price);
        }
    }

    /// Time for which nobody had a GPU, or for which it is not known who did.
    fn add_cost_of_nobody(&mut self, seconds: f64) {
        if let Some(price) = self.gpu_second {
            self.idle_cost.get_or_create(&WorkloadLabels { workload: NOBODY.into() }).inc_by(seconds * price);
        }
    }

    fn add(&mut self, workload: &Arc<str>, model: &Arc<str>, phase: Phase, part: Part) {
        let labels = ModelLabels { model: model.clone(), workload: workload.clone() };
        if self.begin(&labels) {
            self.energy.get_or_create(&labels).inc_by(part.joules);
            self.phases.get_or_create(&labels.of(phase)).inc_by(part.joules);
            if let Some(price) = self.gpu_second {
                self.cost.get_or_create(&labels).inc_by(part.seconds * price);
            }
        } else {
            self.add_cost_of_nobody(part.seconds);
        }
    }

    fn end_where(&mut self, gone: impl Fn(&ModelLabels) -> bool) {
        for labels in self.pairs.extract_if(|labels| gone(labels)) {
            self.energy.remove(&labels);
            self.cost.remove(&labels);
            for phase in Phase::ALL {
                self.phases.remove(&labels.of(phase));
            }
        }
    }
}

impl ModelLabels {
    fn of(&self, phase: Phase) -> PhaseLabels {
        PhaseLabels { model: self.model.clone(), workload: self.workload.clone(), phase: phase.label() }
    }
}

impl Signal for EnergySignal {
    fn name(&self) -> &'static str {
        "energy"
    }

    fn on_request(&mut self, record: &RequestRecord, _verdict: &Verdict) {
        let workload = &record.workload.label;
        let Some(server) = self.servers.get_mut(workload).filter(|_| record.route.is_inference()) else {
            return;
        };
        self.series.begin(&ModelLabels { model: record.model.clone(), workload: workload.clone() });
        let key = (record.arrival, record.tid);
        if let Some(part) = server.held.remove(&key) {
            self.series.add(workload, &record.model, Phase::Prefill, part);
        }
        if server.ended.len() >= ENDED_MAX {
            server.ended.pop_front();
        }
        let (model, end) = (Some(record.model.clone()), Some(record.end));
        server.ended.push_back(Flight { key, model, first_token: record.first_token, end });
    }

    fn on_tick(&mut self, tick: &Tick<'_>) -> Result<()> {
        self.take(tick.gpus, tick.now);
        self.book(tick.open);
        let horizon = self.horizon(tick.now);
        for (workload, server) in &mut self.servers {
            server.settle(workload, tick.open, &mut self.series);
            server.ended.retain(|flight| flight.end.is_some_and(|end| end > horizon));
        }
        self.known_until = tick.now;
        Ok(())
    }

    fn forget_workload(&mut self, workload: &Workload) {
        let label = &workload.label;
        self.servers.remove(label);
        self.meters.values_mut().for_each(|meter| meter.forget(label));
        self.series.end_where(|labels| labels.workload == *label);
        let labels = WorkloadLabels { workload: label.clone() };
        self.series.idle.remove(&labels);
        self.series.idle_cost.remove(&labels);
    }

    fn forget_model(&mut self, workload: &str, model: &str) {
        self.series.end_where(|labels| *labels.workload == *workload && *labels.model == *model);
    }
}

#[cfg(test)]
mod tests;
