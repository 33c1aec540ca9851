//! Has what requests show changed?
//!
//! In: finished records with what their time went to, and a tick a second. Out, by `model`, `workload` and `of` (`ttft`,
//! `time_per_output_token`, `output_tokens`, `prompt_tokens`, `confidence`: compared within sizes of requests; `errors`,
//! `finish_length`: shares), from `quality/change`:
//!
//! | Series | What |
//! |---|---|
//! | `drift_reference_ratio` | the part of the reference that has been learnt; absent once it is whole |
//! | `drift_statistic` | what speaks for a change, as a share of the threshold: above 1 there is an alarm. Up to 1.5 |
//! | `drift_alarm{coincides}` | 1 while there is one; `coincides`: the weightiest of what else changed then, or `none` |
//! | `drift_change_ratio` | during an alarm: values since the change to those of the reference; of shares `drift_change_difference` |
//! | `drift_last_change_timestamp_seconds` | when the last change began that raised an alarm |
//!
//! `drift_requests_uncompared_total{reason}`: requests that are in none of it, `no_room` or of a model that shares a label.

mod families;
pub mod view;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;

use super::{Signal, Tick, Unavailable};
use crate::blame::{Cause, Verdict};
use crate::clock::BootTime;
use crate::quality::change::cause::Coincidence;
use crate::quality::change::pair::{Of, Pair, Shown};
use crate::quality::change::{Alarm, Settings, State};
use crate::quality::keeper::{KeptPair, Part, Save};
use crate::registry::Registries;
use crate::request::record::{Outcome, RequestRecord};
use crate::workload::Workload;
use crate::workload::facts::Facts;
use crate::workload::labels::{OTHER, UNKNOWN};
use families::{Families, Key};
use view::{ChangeReport, ChangesView};

/// Models of servers that are watched at once; each has seven streams of at most 50 KB while it learns.
const PAIRS_MAX: usize = 64;
/// Series of one model of a server where all of its streams have changed: statistic, alarm, change, time.
pub const SERIES_MAX: usize = Of::ALL.len() * 4;
/// Ticks between two hand-overs of what was learnt.
const KEEP_EVERY: u64 = 60;

/// Causes that are stalls of threads on a request's way.
const STALLS: [Cause; 6] = [
    Cause::Stopped,
    Cause::CpuThrottle,
    Cause::RunQueue,
    Cause::MemoryReclaim,
    Cause::MajorFault,
    Cause::BlockIo,
];

/// What the signal begins with.
#[derive(Debug)]
pub struct Options {
    pub enabled: bool,
    pub settings: Settings,
    /// What the last run has learnt.
    pub kept: Vec<KeptPair>,
    /// Takes what is to be kept.
    pub save: Option<Save>,
}

/// The signal `live`.
#[derive(Debug)]
pub struct LiveSignal {
    options: Options,
    families: Families,
    view: ChangesView,
    pairs: BTreeMap<Key, Pair>,
    /// What was kept of models that have not been seen yet.
    kept: HashMap<Key, KeptPair>,
    facts: HashMap<Arc<str>, (BootTime, Option<Facts>)>,
    driver: Option<String>,
    /// Alarms that were told.
    told: HashMap<(Key, Of), Alarm>,
    ticks: u64,
}

impl LiveSignal {
    /// Registers its series.
    pub fn new(mut options: Options, registries: &mut Registries) -> Self {
        let families = Families::default();
        families.register(&mut registries.common);
        let kept = std::mem::take(&mut options.kept).into_iter();
        let kept = kept.map(|pair| (Key::new(&pair.model, &pair.workload), pair)).collect();
        Self {
            options,
            families,
            view: ChangesView::default(),
            pairs: BTreeMap::new(),
            kept,
            facts: HashMap::new(),
            driver: None,
            told: HashMap::new(),
            ticks: 0,
        }
    }

    /// What the API shows of it.
    #[must_use]
    pub fn view(&self) -> ChangesView {
        self.view.clone()
    }

    fn take(&mut self, record: &RequestRecord, verdict: &Verdict, now_ns: u64) {
        if [OTHER, UNKNOWN].contains(&&*record.model) {
            self.families.uncompared("shared_label");
            return;
        }
        let key = Key { model: record.model.clone(), workload: record.workload.label.clone() };
        if !self.pairs.contains_key(&key) {
            if self.pairs.len() >= PAIRS_MAX {
                self.families.uncompared("no_room");
                return;
            }
            let kept = self.kept.remove(&key).map(|pair| pair.streams).unwrap_or_default();
            self.pairs.insert(key.clone(), Pair::resume(self.options.settings, kept));
        }
        if let Some(pair) = self.pairs.get_mut(&key) {
            pair.add(now_ns, &shown(record, verdict));
        }
    }

    /// What else changed, of all that is not told by requests.
    fn note_facts(&mut self, tick: &Tick<'_>, now_ns: u64) {
        for state in tick.workloads {
            let label = &state.workload.label;
            let newest = tick.quality.servers.get(label).copied();
            let before = self.facts.insert(label.clone(), (state.workload.started, newest));
            let Some((started, facts)) = before else { continue };
            let changed = |of: fn(&Facts) -> u64| facts.zip(newest).is_some_and(|(a, b)| of(&a) != of(&b));
            let all = [
                (Coincidence::ServerRestart, started != state.workload.started),
                (Coincidence::Arguments, changed(|facts| facts.arguments) || changed(|facts| facts.program)),
                (Coincidence::ModelFiles, changed(|facts| facts.model_files.unwrap_or(0))),
            ];
            for (what, _) in all.iter().filter(|(_, changed)| *changed) {
                let its = self.pairs.iter_mut().filter(|(key, _)| key.workload == *label);
                its.for_each(|(_, pair)| pair.note(now_ns, *what));
            }
            // Facts of a server that is being looked at anew are not yet there.
            if newest.is_none() && facts.is_some() {
                self.facts.insert(label.clone(), (state.workload.started, facts));
            }
        }
        let driver = tick.gpus.driver().and_then(|driver| driver.as_ref().ok()?.version.clone());
        if driver.is_some() && driver != self.driver {
            if self.driver.is_some() {
                self.pairs.values_mut().for_each(|pair| pair.note(now_ns, Coincidence::Driver));
            }
            self.driver = driver;
        }
    }

    fn show(&mut self, now_ns: u64) {
        let mut reports = Vec::new();
        for (key, pair) in &self.pairs {
            for of in Of::ALL {
                let state = pair.state(of, now_ns);
                let alarm = match state {
                    State::Learning(_) => None,
                    State::Watching(statistic) => statistic.alarm,
                };
                let coincides = alarm.map(|alarm| pair.coincidences(&alarm)).unwrap_or_default();
                self.families.show(key, of, &state, &coincides);
                tell(&mut self.told, key, of, alarm, &coincides);
                reports.push(ChangeReport::of(key, of, &state, &coincides));
            }
        }
        self.view.publish(reports);
    }

    fn keep(&self) {
        let Some(save) = &self.options.save else { return };
        let kept = |(key, pair): (&Key, &Pair)| KeptPair {
            model: key.model.to_string(),
            workload: key.workload.to_string(),
            streams: pair.kept(),
        };
        let waiting = self.kept.values().cloned();
        let pairs = self.pairs.iter().map(kept).chain(waiting).take(PAIRS_MAX).collect();
        // While the last one is still being written, the next one will do.
        let _busy = save.try_send(Part::Pairs(pairs));
    }

    fn forget(&mut self, gone: impl Fn(&Key) -> bool) {
        let keys: Vec<Key> = self.pairs.keys().filter(|key| gone(key)).cloned().collect();
        for key in keys {
            if let Some(pair) = self.pairs.remove(&key) {
                let (model, workload) = (key.model.to_string(), key.workload.to_string());
                self.kept.insert(key.clone(), KeptPair { model, workload, streams: pair.kept() });
            }
            Of::ALL.iter().for_each(|of| self.families.forget(&key, *of));
            self.told.retain(|(of, _), _| *of != key);
        }
    }
}

/// Says once that something changed, and once that it is as before.
fn tell(
    told: &mut HashMap<(Key, Of), Alarm>,
    key: &Key,
    of: Of,
    alarm: Option<Alarm>,
    coincides: &[Coincidence],
) {
    let (model, workload, of_) = (&key.model, &key.workload, of.label());
    match alarm {
        Some(alarm) if told.insert((key.clone(), of), alarm).is_none() => {
            let names: Vec<&str> = coincides.iter().map(|what| what.label()).collect();
            let coincides = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            tracing::warn!(%model, %workload, of = of_, effect = alarm.effect, coincides, "a change");
        }
        None if told.remove(&(key.clone(), of)).is_some() => {
            tracing::info!(%model, %workload, of = of_, "a change is over");
        }
        _ => {}
    }
}

/// What a request showed. What it took says something only of one that was answered.
fn shown(record: &RequestRecord, verdict: &Verdict) -> Shown {
    let answered = record.outcome == Outcome::Ok;
    let failed = match record.outcome {
        Outcome::ServerError | Outcome::ServerReset => Some(true),
        Outcome::Ok => Some(false),
        Outcome::ClientError | Outcome::Rejected | Outcome::ClientAbort => None,
    };
    let finish = record.finish;
    let reasons = finish.stop + finish.length + finish.tool_calls + finish.content_filter + finish.other;
    let stalled =
        |vector: &crate::blame::Vector| STALLS.iter().map(|cause| vector.of(*cause)).sum::<Duration>();
    let usage = record.usage.filter(|_| answered);
    Shown {
        size: record.request_bytes,
        ttft: record.ttft().filter(|_| answered),
        time_per_output_token: record.time_per_output_token().filter(|_| answered),
        output_tokens: usage.map(|usage| usage.completion_tokens),
        prompt_tokens: usage.map(|usage| usage.prompt_tokens),
        confidence: record.confidence.filter(|_| answered),
        failed,
        cut_at_limit: (answered && reasons > 0).then_some(finish.length > 0),
        throttled: verdict.throttles.as_ref().is_some_and(|causes| !causes.is_empty()),
        stalled: verdict.phases.iter().map(|(_, vector)| stalled(vector)).sum(),
        took: record.duration(),
    }
}

/// Nanoseconds since 1970.
fn unix_ns(time: BootTime) -> u64 {
    let since = time.to_wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

impl Signal for LiveSignal {
    fn name(&self) -> &'static str {
        "live"
    }

    fn on_request(&mut self, record: &RequestRecord, verdict: &Verdict) {
        if self.options.enabled && record.route.is_inference() && record.incomplete.is_none() {
            self.take(record, verdict, unix_ns(record.end));
        }
    }

    fn on_tick(&mut self, tick: &Tick<'_>) -> Result<()> {
        if !self.options.enabled {
            return Ok(());
        }
        let now_ns = unix_ns(tick.now);
        self.note_facts(tick, now_ns);
        self.show(now_ns);
        self.ticks += 1;
        if self.ticks.is_multiple_of(KEEP_EVERY) {
            self.keep();
        }
        Ok(())
    }

    fn unavailable(&self) -> Option<Unavailable> {
        (!self.options.enabled).then_some(Unavailable::Disabled)
    }

    fn forget_workload(&mut self, workload: &Workload) {
        self.forget(|key| key.workload == workload.label);
        self.facts.remove(&workload.label);
    }

    fn forget_model(&mut self, workload: &str, model: &str) {
        self.forget(|key| *key.workload == *workload && *key.model == *model);
    }
}

#[cfg(test)]
mod tests;
