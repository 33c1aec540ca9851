//! The thread over the others: what they say decides what is done next.
//!
//! It calls nothing of the library and waits for nobody, so it always sees who has not come back. A session begins when
//! the library was opened, and is over when anybody says so: then every thread is told to end, the library is let go
//! and opened again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tracing::warn;

use super::desk::Desk;
use super::library::{self, Order};
use super::worker::{self, Common};
use super::{END_WITHIN, HUNG_MAX, Report, Teller, Times};
use crate::gpu::News;
use crate::gpu::source::{Device, Driver, Events, Failure, Found, GpuSource, Identity};

/// A session that held so long was a good one: the next failure is the first again.
const GOOD_SESSION: Duration = Duration::from_secs(60);
/// The first wait after a session that was none; doubled each time.
const BACKOFF: Duration = Duration::from_millis(500);
/// Doublings of it, at most.
const BACKOFF_DOUBLINGS_MAX: u32 = 10;
/// Between two looks at whether threads have ended, while that is waited for.
const END_LOOK: Duration = Duration::from_millis(5);
/// No GPU is called so.
const FAULTS: &str = "faults";

enum Phase {
    /// To be opened then.
    Closed(Instant),
    Opening,
    /// Since then, and to be listed again then.
    Open {
        since: Instant,
        list: Option<Instant>,
    },
    /// Its threads are to end, and have until then.
    Ending(Instant),
}

pub(super) struct Supervisor {
    times: Times,
    teller: Teller,
    reports: Sender<Report>,
    received: Receiver<Report>,
    order: Sender<Order>,
    library: Arc<Desk>,
    phase: Phase,
    /// Number of the session.
    session: u64,
    /// Sessions in a row that did not hold.
    short_sessions: u32,
    gpus: BTreeMap<String, Gpu>,
    faults: Option<Arc<Desk>>,
    faults_ordered: Option<Instant>,
    /// No faults are told, and that was told.
    no_faults: bool,
    /// Threads that were told to end, each with its GPU's UUID, or [`FAULTS`]. Those that hang stay here.
    left: Vec<(String, Arc<Desk>)>,
    opened: Option<Driver>,
    /// In this session.
    listed: bool,
    /// What was told last of the driver; and whether it, and which GPUs there are, still have to be.
    driver: Option<Result<Driver, Failure>>,
    driver_owed: bool,
    cards_owed: bool,
    /// That the library hangs was told.
    hang_told: bool,
}

struct Gpu {
    identity: Identity,
    /// `None`: there is no session, there was no thread to be had, or an old one hangs.
    desk: Option<Arc<Desk>>,
}

impl Supervisor {
    pub(super) fn start(
        source: Arc<dyn GpuSource>,
        times: Times,
        teller: Teller,
        reports: Sender<Report>,
        received: Receiver<Report>,
    ) -> Result<Self> {
        let started = library::start(source, reports.clone());
        let (order, library) = started.context("start the thread that opens the library of GPUs")?;
        Ok(Self {
            times,
            teller,
            reports,
            received,
            order,
            library,
            phase: Phase::Closed(Instant::now()),
            session: 0,
            short_sessions: 0,
            gpus: BTreeMap::new(),
            faults: None,
            faults_ordered: None,
            no_faults: false,
            left: Vec::new(),
            opened: None,
            listed: false,
            driver: None,
            driver_owed: false,
            cards_owed: false,
            hang_told: false,
        })
    }

    pub(super) fn run(mut self) {
        loop {
            self.look(Instant::now());
            match self.received.recv_timeout(self.patience(Instant::now())) {
                Ok(Report::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(report) => self.on_report(report),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.stop();
    }

    /// Until the next thing that is to be done.
    fn patience(&self, now: Instant) -> Duration {
        let due = match self.phase {
            Phase::Closed(at) | Phase::Open { list: Some(at), .. } => at.saturating_duration_since(now),
            Phase::Ending(_) => END_LOOK,
            Phase::Opening | Phase::Open { list: None, .. } => self.times.look,
        };
        due.min(self.times.look)
    }

    fn on_report(&mut self, report: Report) {
        match report {
            Report::Opened(opened) => self.on_opened(opened),
            Report::Listed(session, listed) if session == self.session => self.on_listed(listed),
            Report::Faults(session, faults) if session == self.session => self.on_faults(faults),
            Report::FaultsOver(session, failure) if session == self.session => self.on_faults_over(failure),
            Report::SessionOver(session, failure) if session == self.session => self.end_session(failure),
            _ => {}
        }
    }

    fn on_opened(&mut self, opened: Result<Driver, Failure>) {
        let now = Instant::now();
        self.opened = opened.as_ref().ok().cloned();
        self.tell_driver(opened);
        if self.opened.is_none() {
            self.phase = Phase::Closed(now + self.times.again);
            return;
        }
        self.listed = false;
        self.phase = Phase::Open { since: now, list: None };
        self.send(Order::List(self.session));
    }

    fn on_listed(&mut self, listed: Result<Vec<Found>, Failure>) {
        let Phase::Open { list, .. } = &mut self.phase else { return };
        *list = Some(Instant::now() + self.times.again);
        let devices = match listed {
            Ok(devices) => devices,
            Err(failure @ Failure::Session(_)) => return self.end_session(failure),
            // What reads goes on; who is there is asked again.
            Err(failure) if !self.reads() => return self.tell_driver(Err(failure)),
            Err(_failure) => return,
        };
        if let Some(driver) = self.opened.clone() {
            // After a list that hung or was refused.
            self.tell_driver(Ok(driver));
        }
        self.take(devices);
        if self.faults.is_none() && !self.gpus.is_empty() {
            self.order_faults();
        }
    }

    /// These GPUs there are, and no others.
    fn take(&mut self, devices: Vec<Found>) {
        let mut before = std::mem::take(&mut self.gpus);
        let (mut lost, mut fresh) = (Vec::new(), Vec::new());
        for device in devices {
            match device {
                Ok(device) => fresh.push(device),
                Err(failure) => lost.push(failure),
            }
        }
        let known = before.len();
        let mut changed = !std::mem::replace(&mut self.listed, true);
        for device in fresh {
            let uuid = device.identity().uuid.clone();
            let old = before.remove(&uuid);
            changed |= old.as_ref().is_none_or(|old| old.identity != *device.identity());
            let gpu = self.keep_or_start(old, device);
            self.gpus.insert(uuid, gpu);
        }
        // One that does not say who it is, is one of those that are not among the others.
        let mut missing = before.into_iter();
        for (failure, (uuid, old)) in lost.into_iter().zip(&mut missing) {
            if old.desk.as_ref().is_none_or(|desk| desk.is_ended()) {
                self.teller.tell(News::Failed { uuid: uuid.clone(), failure });
            }
            self.gpus.insert(uuid, old);
        }
        for (uuid, old) in missing {
            self.leave(uuid, old.desk);
        }
        changed |= known != self.gpus.len();
        if changed {
            self.cards_owed = true;
            self.pay();
            // The new ones' faults are told, too.
            self.stop_faults();
        }
        for (uuid, gpu) in &self.gpus {
            if gpu.desk.is_none() {
                tell_hung(&self.teller, &self.left, uuid, self.times.unresponsive_after);
            }
        }
    }

    /// A thread that reads goes on; one that fails gets the GPU's new handle.
    fn keep_or_start(&mut self, old: Option<Gpu>, device: Box<dyn Device>) -> Gpu {
        let identity = device.identity().clone();
        let reads = |desk: &Arc<Desk>| {
            !desk.is_ended() && (!desk.is_failing() || desk.hangs(self.times.unresponsive_after).is_some())
        };
        match old.and_then(|old| old.desk) {
            Some(desk) if reads(&desk) => return Gpu { identity, desk: Some(desk) },
            desk => self.leave(identity.uuid.clone(), desk),
        }
        if self.hang(&identity.uuid) >= HUNG_MAX {
            return Gpu { identity, desk: None };
        }
        let started = worker::start(self.common(), device);
        if let Err(error) = &started {
            warn!("there is no thread for GPU {}: {error}", identity.index);
        }
        Gpu { identity, desk: started.ok() }
    }

    /// Tells a thread to end; where it hangs it is left to itself.
    fn leave(&mut self, of: String, desk: Option<Arc<Desk>>) {
        let Some(desk) = desk else { return };
        desk.stop();
        self.left.push((of, desk));
    }

    /// Threads of a GPU that were left to themselves and have not ended.
    fn hang(&mut self, uuid: &str) -> usize {
        self.left.retain(|(_, desk)| !desk.is_ended());
        self.left.iter().filter(|(of, _)| of == uuid).count()
    }

    /// A GPU that is lost ends the faults of all: those of the others are asked for at once, once.
    fn on_faults_over(&mut self, failure: Failure) {
        let fresh = self.faults_ordered.is_some_and(|at| at.elapsed() < self.times.again);
        if fresh || matches!(failure, Failure::Session(_)) {
            return self.on_faults(Err(failure));
        }
        self.stop_faults();
        self.order_faults();
    }

    fn order_faults(&mut self) {
        self.faults_ordered = Some(Instant::now());
        self.send(Order::Faults(self.session));
    }

    fn on_faults(&mut self, faults: Result<Box<dyn Events>, Failure>) {
        self.stop_faults();
        let hangs = self.hang(FAULTS) >= HUNG_MAX;
        let started = faults.and_then(|events| {
            if hangs {
                return Err(Failure::Refused("a thread that waits for faults has not come back".to_owned()));
            }
            let started = worker::start_faults(self.common(), events);
            started
                .map_err(|error| Failure::Refused(format!("start the thread that waits for faults: {error}")))
        });
        match started {
            Ok(desk) => {
                self.faults = Some(desk);
                if std::mem::take(&mut self.no_faults) {
                    self.teller.tell(News::FaultsAgain);
                }
            }
            Err(failure @ Failure::Session(_)) => self.end_session(failure),
            // Asked again with the next list.
            Err(failure) => {
                if !self.no_faults {
                    self.no_faults = self.teller.tell(News::NoFaults(failure));
                }
            }
        }
    }

    fn stop_faults(&mut self) {
        let desk = self.faults.take();
        self.leave(FAULTS.to_owned(), desk);
    }

    fn end_session(&mut self, failure: Failure) {
        self.tell_driver(Err(failure));
        self.reopen();
    }

    /// Lets all of the session go, and begins another.
    fn reopen(&mut self) {
        if let Phase::Open { since, .. } = self.phase {
            let held = since.elapsed() > GOOD_SESSION;
            self.short_sessions = if held { 0 } else { self.short_sessions.saturating_add(1) };
        }
        self.session += 1;
        self.gpus.values().filter_map(|gpu| gpu.desk.as_ref()).for_each(|desk| desk.stop());
        if let Some(desk) = &self.faults {
            desk.stop();
        }
        self.phase = Phase::Ending(Instant::now() + self.times.unresponsive_after.min(END_WITHIN));
    }

    /// What time brings.
    fn look(&mut self, now: Instant) {
        self.pay();
        match self.phase {
            Phase::Closed(at) if at <= now => {
                self.phase = Phase::Opening;
                self.send(Order::Open);
            }
            Phase::Open { since, list: Some(at) } if at <= now => {
                self.phase = Phase::Open { since, list: None };
                self.send(Order::List(self.session));
            }
            Phase::Ending(until) if until <= now || self.all_ended() => self.close(now),
            _ => {}
        }
        self.complain();
    }

    fn all_ended(&self) -> bool {
        let gpus = self.gpus.values().filter_map(|gpu| gpu.desk.as_ref());
        gpus.chain(&self.faults).all(|desk| desk.is_ended())
    }

    /// Who has not ended hangs, and is left to itself.
    fn close(&mut self, now: Instant) {
        let gpus = self.gpus.iter_mut().filter_map(|(uuid, gpu)| Some((uuid.clone(), gpu.desk.take()?)));
        for (uuid, desk) in gpus.collect::<Vec<_>>() {
            self.leave(uuid, Some(desk));
        }
        self.stop_faults();
        self.send(Order::Close);
        let doublings = self.short_sessions.saturating_sub(1);
        // The first time at once.
        let wait = if doublings == 0 {
            Duration::ZERO
        } else {
            (BACKOFF * (1 << doublings.min(BACKOFF_DOUBLINGS_MAX))).min(self.times.again)
        };
        self.phase = Phase::Closed(now + wait);
    }

    /// Says who has not come back.
    fn complain(&mut self) {
        let longer = self.times.unresponsive_after;
        for (uuid, gpu) in &self.gpus {
            let Some(desk) = &gpu.desk else { continue };
            desk.complain(longer, |asked| self.teller.tell(News::Unresponsive { uuid: uuid.clone(), asked }));
        }
        let hangs = self.library.hangs(longer).is_some();
        if hangs && !self.hang_told {
            let text = format!("the library has not answered for {longer:?}");
            // Those that are read are read on.
            if !self.reads() { self.tell_driver(Err(Failure::Refused(text))) } else { warn!("{text}") }
        }
        self.hang_told = hangs;
    }

    fn reads(&self) -> bool {
        self.gpus.values().any(|gpu| gpu.desk.is_some())
    }

    fn tell_driver(&mut self, driver: Result<Driver, Failure>) {
        if self.driver.as_ref() != Some(&driver) {
            self.driver = Some(driver);
            self.driver_owed = true;
            self.pay();
        }
    }

    /// Tells what has to be known for the rest to make sense, until there is room for it.
    fn pay(&mut self) {
        if let (true, Some(driver)) = (self.driver_owed, &self.driver) {
            self.driver_owed = !self.teller.tell(News::Driver(driver.clone()));
        }
        if self.cards_owed && !self.driver_owed {
            let cards = self.gpus.values().map(|gpu| gpu.identity.clone()).collect();
            self.cards_owed = !self.teller.tell(News::Cards(cards));
        }
    }

    fn send(&self, order: Order) {
        if self.order.send(order).is_err() {
            warn!("the thread that opens the library of GPUs has ended");
        }
    }

    fn common(&self) -> Common {
        Common {
            session: self.session,
            times: self.times,
            teller: self.teller.clone(),
            reports: self.reports.clone(),
        }
    }

    /// Ends all that comes back soon.
    fn stop(self) {
        let gpus = self.gpus.values().filter_map(|gpu| gpu.desk.clone());
        let desks: Vec<Arc<Desk>> = gpus.chain(self.faults.clone()).chain([self.library.clone()]).collect();
        desks.iter().for_each(|desk| desk.stop());
        // Without orders the thread of the library ends.
        drop(self);
        let until = Instant::now() + END_WITHIN;
        while Instant::now() < until && !desks.iter().all(|desk| desk.is_ended()) {
            std::thread::sleep(END_LOOK);
        }
    }
}

/// A GPU whose old thread hangs gets no new one until that comes back.
fn tell_hung(teller: &Teller, left: &[(String, Arc<Desk>)], uuid: &str, longer: Duration) {
    let of_gpu = left.iter().rev().filter(|(other, _)| other == uuid);
    if let Some(asked) = of_gpu.filter_map(|(_, desk)| desk.hangs(longer)).next() {
        teller.tell(News::Unresponsive { uuid: uuid.to_owned(), asked });
    }
}
