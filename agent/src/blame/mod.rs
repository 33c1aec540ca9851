//! Why was it slow? Gives each request the causes of its time.
//!
//! In: stalls and threads from the kernel, throttles of GPUs, who is who, finished records. Out: a [`Verdict`] for each record, and sums of
//! stalls. Between `request` and the signals, since several of these need it; does no I/O.
//!
//! The kernel tells each stall of a watched thread with its begin and its end. So a request's own are those within its
//! times, of the threads on its way: nothing has to be read at the moment when a request begins or has its first token,
//! and what a thread did before or after is nobody's.

mod around;
mod history;
mod judge;
mod path;
mod settings;
mod totals;
mod typical;
mod vector;
pub mod view;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use inferscope_common::stall::{StallEvent, State, Thread};

pub use self::around::{Neighbour, Surroundings};
pub use self::judge::{Limit, Reason};
pub use self::settings::Settings;
pub use self::totals::{LENGTHS_NS, Owner, Sum, Totals};
pub use self::vector::{CAUSES, Cause, Phase, Vector};

use self::around::Around;
use self::history::{History, Told};
use self::path::{Lanes, Paths};
use self::typical::{Class, Typical};
use self::vector::{Times, Way};
use crate::clock::BootTime;
use crate::engine::Engines;
use crate::gpu::{Gpus, Slowed, ThrottleCause};
use crate::request::record::{OpenRequest, RequestRecord};
use crate::serving::Load;
use crate::workload::{Role, Workloads};

/// Stalls of one slow request that are listed; the longest.
pub const LISTED_MAX: usize = 64;
/// Stalls are kept so long after they were over, where no request under way is older.
const KEPT: Duration = Duration::from_secs(10);

/// Why a request took as long as it did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// One or two phases, whose causes sum to their time. Empty where the record's times cannot be trusted.
    pub phases: Vec<(Phase, Vector)>,
    /// Causes that took more than usual, and how much more; the most first.
    pub causes: Vec<(Cause, Duration)>,
    /// Set where it was slow.
    pub slow: Option<Box<Slow>>,
    /// What held down the clocks of its server's GPUs meanwhile; `None` where the server is not known to have any.
    pub throttles: Option<Vec<ThrottleCause>>,
}

/// What else is known when a request is judged.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The watched threads as they stand.
    pub threads: &'a [(u32, Thread)],
    pub engines: &'a Engines,
    pub gpus: &'a Gpus,
}

/// What is known of a slow request beside its vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Slow {
    pub reason: Reason,
    pub limit: Limit,
    pub around: Surroundings,
    /// Stalls of the threads on its way, the longest, in the order of their beginning.
    pub stalls: Vec<Held>,
}

/// One stall of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub tid: u32,
    pub role: Option<Role>,
    pub cause: Cause,
    pub start: BootTime,
    pub end: BootTime,
    /// Less than from start to end where it is several short ones.
    pub stalled: Duration,
}

/// Stalls that are put down to nobody, in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// There was no room for them; they are in the sums.
    pub forgotten: u64,
    /// Nobody is known whose they are: of a process that has ended, or is not followed.
    pub unclaimed: u64,
}

/// What the threads of a workload do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Standing {
    /// Processors that all of them have, as a mean over the last seconds.
    share: f64,
    /// A process that clients need is stopped.
    stopped: bool,
}

/// The stage.
#[derive(Debug)]
pub struct Blame {
    settings: Settings,
    history: History,
    paths: Paths,
    totals: Totals,
    typical: Typical,
    around: Around,
    /// What the threads of each workload do, as of the newest tick.
    standing: HashMap<Arc<str>, Standing>,
    /// Lanes by the two ends of a socket, until the threads are looked at again.
    lanes: HashMap<[u32; 2], Arc<Lanes>>,
    started: BootTime,
    unclaimed: u64,
}

impl Blame {
    /// Starts at `started`.
    #[must_use]
    pub fn new(settings: Settings, started: BootTime) -> Self {
        Self {
            settings,
            history: History::default(),
            paths: Paths::default(),
            totals: Totals::default(),
            typical: Typical::default(),
            around: Around::default(),
            standing: HashMap::new(),
            lanes: HashMap::new(),
            started,
            unclaimed: 0,
        }
    }

    /// Goes on with other settings.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// A stall is over.
    pub fn on_stall(&mut self, event: &StallEvent, workloads: &mut Workloads) {
        let Some((workload, role)) = workloads.find(event.tgid) else {
            self.unclaimed += 1;
            return;
        };
        self.history.on_event(event);
        self.totals.on_event(Owner { workload: workload.label.clone(), role }, event);
    }

    /// The threads as they stand at `now`: before the stalls that were told until then are taken.
    pub fn on_threads(&mut self, threads: &[(u32, Thread)], now: BootTime) {
        self.history.on_table(threads, now.0);
    }

    /// A second passed. Returns the threads of processes that are watched no longer.
    pub fn on_tick(
        &mut self,
        threads: &[(u32, Thread)],
        open: &[OpenRequest],
        now: BootTime,
        workloads: &mut Workloads,
    ) -> Vec<u32> {
        self.look(threads, now);
        let oldest = open.iter().map(|open| open.arrival).min().unwrap_or(now);
        let kept = BootTime(now.0.saturating_sub(KEPT.as_nanos() as u64));
        self.history.forget_before(oldest.min(kept).0);
        self.totals.clear_pending();
        self.standing.clear();
        let mut strangers = HashSet::new();
        let mut gone = Vec::new();
        for (tid, thread) in threads {
            let owner = if strangers.contains(&thread.tgid) { None } else { workloads.find(thread.tgid) };
            let Some((workload, role)) = owner else {
                strangers.insert(thread.tgid);
                gone.push(*tid);
                continue;
            };
            let standing = self.standing.entry(workload.label.clone()).or_default();
            standing.share += self.paths.share(*tid).unwrap_or(0.0);
            let serves = *tid == thread.tgid && matches!(role, Some(Role::Api | Role::Engine));
            standing.stopped |= serves && thread.state == State::Stopped as u32;
            for told in history::pending(thread, now.0) {
                let owner = Owner { workload: workload.label.clone(), role };
                self.totals.add_pending(owner, told.kind, told.stalled_ns);
            }
        }
        gone
    }

    /// Whether a process of a workload that clients need was stopped at the newest tick.
    #[must_use]
    pub fn is_stopped(&self, workload: &str) -> bool {
        self.standing.get(workload).is_some_and(|standing| standing.stopped)
    }

    /// What the threads of a request's server do; `None` where the kernel does not tell.
    #[must_use]
    pub fn load(&self, open: &OpenRequest) -> Option<Load> {
        let all = self.standing.get(&open.workload.label)?.share;
        Some(Load { all, reader: self.paths.share(open.tid)? })
    }

    /// Who wakes whom, as it stands.
    fn look(&mut self, threads: &[(u32, Thread)], now: BootTime) {
        self.paths.observe(threads, now.0);
        self.lanes.clear();
    }

    /// Gives a finished request its causes. `open`: the requests under way.
    pub fn judge(
        &mut self,
        record: &RequestRecord,
        known: &Known<'_>,
        open: impl FnOnce() -> Vec<OpenRequest>,
        workloads: &mut Workloads,
    ) -> Verdict {
        let Known { threads, engines, gpus } = *known;
        if !record.route.is_inference() || record.incomplete.is_some() {
            return Verdict::default();
        }
        if !self.paths.knows(record.tid) {
            self.look(threads, BootTime::now());
        }
        let lanes = self.lanes(record, workloads);
        let held_down = gpus.held_down(&record.workload.label, record.arrival, record.end);
        let (slowed, throttles) = held_down.map(|held| (held.slowed, held.causes)).unzip();
        let past = self.past(record, &lanes, slowed.unwrap_or_default());
        let phases = past.phases(record);
        let whole = phases.iter().fold(Vector::default(), |sum, (_, vector)| sum.plus(vector));
        let class = Class::of(record);
        let usual = self.typical.usual(&class);
        let causes = judge::causes(&whole, usual.map(|usual| &usual.causes));
        let before = phases.iter().find(|(phase, _)| *phase == Phase::BeforeFirstToken);
        let before = before.map_or_else(Vector::default, |(_, vector)| *vector);
        let slow = judge::limit(record, usual, &self.settings).map(|over| {
            let of_first = || judge::causes(&before, usual.map(|usual| &usual.causes_before));
            let to_blame = if over.first_token_only { of_first() } else { causes.clone() };
            let usual = usual.map(|usual| usual.ttft.unwrap_or(usual.duration));
            let mut around = self.around.of(record, &open(), self.started, usual);
            let (label, begun) = (&record.workload.label, record.first_token.unwrap_or(record.end));
            around.queued |= engines.waited(label, record.arrival, begun);
            let end = if over.first_token_only { begun } else { record.end };
            around.preempted = engines.preempted(label, record.arrival, end);
            let reason = judge::reason(&to_blame, &around);
            Box::new(Slow { reason, limit: over.limit, around, stalls: past.longest(&lanes) })
        });
        self.typical.add(class, record, [whole, before]);
        self.around.add(record);
        Verdict { phases, causes, slow, throttles }
    }

    fn lanes(&mut self, record: &RequestRecord, workloads: &mut Workloads) -> Arc<Lanes> {
        let ends = [record.tid, record.writer_tid];
        if let Some(lanes) = self.lanes.get(&ends) {
            return lanes.clone();
        }
        let own = |tgid| {
            let (workload, role) = workloads.find(tgid)?;
            (workload.label == record.workload.label).then_some(role)
        };
        let lanes = Arc::new(self.paths.lanes(&ends, own));
        self.lanes.insert(ends, lanes.clone());
        lanes
    }

    /// What held the lanes up while the request was there.
    fn past(&self, record: &RequestRecord, lanes: &Lanes, gpu: Vec<Slowed>) -> Past {
        let of = |tid: &u32| self.history.of(*tid, self.paths.process(*tid), record.arrival.0, record.end.0);
        Past {
            reader: of(&record.tid),
            serial: lanes.serial.keys().map(of).collect(),
            parallel: lanes.parallel.keys().map(of).collect(),
            gpu,
        }
    }

    /// The sums of all stalls.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Stalls that are put down to nobody.
    #[must_use]
    pub fn lost(&self) -> Lost {
        Lost { forgotten: self.history.forgotten(), unclaimed: self.unclaimed }
    }

    /// A process has ended: its number, and those of its threads, may be given again.
    pub fn forget_process(&mut self, tgid: u32) {
        self.history.forget_process(tgid);
        self.paths.forget_process(tgid);
        self.lanes.clear();
    }

    /// A workload is gone for good.
    pub fn forget_workload(&mut self, workload: &str) {
        self.totals.forget_workload(workload);
        self.typical.forget(workload, None);
        self.around.forget_workload(workload);
    }

    /// A model gave its label back.
    pub fn forget_model(&mut self, workload: &str, model: &str) {
        self.typical.forget(workload, Some(model));
    }
}

/// What held up the threads on a request's way, lane by lane, and its GPUs.
struct Past {
    reader: Vec<Told>,
    serial: Vec<Vec<Told>>,
    parallel: Vec<Vec<Told>>,
    gpu: Vec<Slowed>,
}

impl Past {
    fn phases(&self, record: &RequestRecord) -> Vec<(Phase, Vector)> {
        let arrival = record.arrival.0;
        let times = Times {
            arrival,
            first_read: record.first_read.0,
            first_token: record.first_token.map(|time| time.0),
            end: record.end.0.max(arrival),
            send_wait_before: record.send_wait_before.as_nanos() as u64,
            send_wait: record.send_wait.as_nanos() as u64,
        };
        let way =
            Way { reader: &self.reader, serial: &self.serial, parallel: &self.parallel, gpu: &self.gpu };
        vector::blame(&times, &way)
    }

    fn longest(&self, lanes: &Lanes) -> Vec<Held> {
        let threads = lanes.serial.iter().zip(&self.serial).chain(lanes.parallel.iter().zip(&self.parallel));
        let mut held: Vec<Held> = threads
            .flat_map(|((tid, role), told)| told.iter().map(|told| Held::new(*tid, *role, told)))
            .collect();
        held.sort_by_key(|held| std::cmp::Reverse(held.stalled));
        held.truncate(LISTED_MAX);
        held.sort_by_key(|held| held.start);
        held
    }
}

impl Held {
    fn new(tid: u32, role: Option<Role>, told: &Told) -> Self {
        Self {
            tid,
            role,
            cause: told.kind.into(),
            start: BootTime(told.start_ns),
            end: BootTime(told.end_ns),
            stalled: Duration::from_nanos(told.stalled_ns),
        }
    }
}

#[cfg(test)]
mod tests;
