//! Whole watches, over a source that a test tells what to answer.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use super::*;
use crate::clock::BootTime;
use crate::gpu::source::{Device, Found, Identity, Reading, Session, Xid};
use crate::gpu::{CardState, Gpus};

/// Whatever is waited for comes in this time, or not at all.
const WAIT_MAX: Duration = Duration::from_secs(20);
const TIMES: Times = Times {
    interval: Duration::from_millis(5),
    unresponsive_after: Duration::from_millis(60),
    again: Duration::from_millis(30),
    fault_wait: Duration::from_millis(10),
    look: Duration::from_millis(10),
};

/// What the source does, and what was seen of it.
#[derive(Default)]
struct Script {
    absent: bool,
    gpus: Vec<&'static str>,
    /// Calls of these hang: a GPU's name, or `open`.
    hang: BTreeSet<&'static str>,
    fail: BTreeMap<&'static str, Failure>,
    /// They do not even say who they are.
    unknown: BTreeSet<&'static str>,
    faults: VecDeque<Xid>,
    no_faults: bool,
    /// Sessions so far.
    opened: u64,
    /// Readings so far, by GPU and session.
    reads: BTreeMap<(&'static str, u64), u64>,
    /// Threads in a call, by GPU.
    inside: BTreeMap<&'static str, usize>,
    /// Objects of sessions that are alive.
    alive: usize,
}

#[derive(Clone, Default)]
struct Scripted(Arc<(Mutex<Script>, Condvar)>);

impl Scripted {
    fn of(gpus: &[&'static str]) -> Self {
        let scripted = Self::default();
        scripted.set(|script| script.gpus = gpus.to_vec());
        scripted
    }

    fn set<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        let changed = change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        changed
    }

    /// Hangs as long as the script says so.
    fn enter(&self, name: &'static str) {
        let mut script = self.0.0.lock().unwrap();
        *script.inside.entry(name).or_default() += 1;
        while script.hang.contains(name) {
            script = self.0.1.wait(script).unwrap();
        }
        *script.inside.entry(name).or_default() -= 1;
    }
}

/// Counts itself as long as it lives.
struct Part {
    source: Scripted,
    session: u64,
}

impl Part {
    fn new(source: &Scripted, session: u64) -> Self {
        source.set(|script| script.alive += 1);
        Self { source: source.clone(), session }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.source.set(|script| script.alive -= 1);
    }
}

impl GpuSource for Scripted {
    fn open(&self) -> Result<Box<dyn Session>, Failure> {
        self.enter("open");
        if self.set(|script| script.absent) {
            return Err(Failure::Absent("no library".to_owned()));
        }
        let number = self.set(|script| {
            script.opened += 1;
            script.opened
        });
        let driver = Driver { version: Some(number.to_string()), ..Driver::default() };
        Ok(Box::new(ScriptedSession { part: Part::new(self, number), driver }))
    }
}

struct ScriptedSession {
    part: Part,
    driver: Driver,
}

impl Session for ScriptedSession {
    fn driver(&self) -> &Driver {
        &self.driver
    }

    fn devices(&self) -> Result<Vec<Found>, Failure> {
        self.part.source.enter("list");
        let (names, unknown) = self.part.source.set(|script| (script.gpus.clone(), script.unknown.clone()));
        let device = |(index, &name): (usize, &&'static str)| {
            if unknown.contains(name) {
                return Err(Failure::Lost("who knows".to_owned()));
            }
            let index = u32::try_from(index).unwrap();
            let identity = Identity { uuid: name.to_owned(), index, ..Identity::default() };
            let part = Part::new(&self.part.source, self.part.session);
            Ok(Box::new(ScriptedGpu { part, identity, name }) as Box<dyn Device>)
        };
        Ok(names.iter().enumerate().map(device).collect())
    }

    fn events(&self) -> Result<Box<dyn Events>, Failure> {
        if self.part.source.set(|script| script.no_faults) {
            return Err(Failure::Refused("no faults".to_owned()));
        }
        Ok(Box::new(ScriptedFaults(Part::new(&self.part.source, self.part.session))))
    }
}

struct ScriptedGpu {
    part: Part,
    identity: Identity,
    name: &'static str,
}

impl Device for ScriptedGpu {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn read(&mut self) -> Result<Reading, Failure> {
        self.part.source.enter(self.name);
        self.part.source.set(|script| {
            *script.reads.entry((self.name, self.part.session)).or_default() += 1;
            let failure = script.fail.get(self.name).cloned();
            // The driver went for this session, not for the next.
            if matches!(failure, Some(Failure::Session(_))) {
                script.fail.remove(self.name);
            }
            failure.map_or_else(|| Ok(Reading { at: BootTime::now(), ..Reading::default() }), Err)
        })
    }
}

struct ScriptedFaults(Part);

impl Events for ScriptedFaults {
    fn next(&mut self, wait: Duration) -> Result<Option<Xid>, Failure> {
        let fault = self.0.source.set(|script| {
            if script.no_faults {
                Err(Failure::Lost("a GPU went".to_owned()))
            } else {
                Ok(script.faults.pop_front())
            }
        })?;
        if fault.is_none() {
            std::thread::sleep(wait);
        }
        Ok(fault)
    }
}

/// A watch, and the GPUs as the pipeline has them.
struct Scene {
    source: Scripted,
    watch: Option<Watch>,
    gpus: Gpus,
}

impl Scene {
    fn of(source: Scripted) -> Self {
        let (watch, news) = Watch::start(Arc::new(source.clone()), TIMES).unwrap();
        let mut gpus = Gpus::default();
        gpus.hear(news);
        Self { source, watch: Some(watch), gpus }
    }

    fn states(&self) -> Vec<(&str, &'static str)> {
        self.gpus.cards().map(|card| (&*card.identity.uuid, card.state.label())).collect()
    }

    fn until(&mut self, what: &str, met: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        loop {
            self.gpus.take();
            if met(self) {
                return;
            }
            assert!(begun.elapsed() < WAIT_MAX, "{what}: {:?} {:?}", self.states(), self.gpus.driver());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn until_states(&mut self, expected: &[(&str, &str)]) {
        self.until(&format!("{expected:?}"), |scene| scene.states() == expected);
    }

    fn reads(&self, name: &'static str) -> u64 {
        let script = self.source.0.0.lock().unwrap();
        script.reads.iter().filter(|((gpu, _), _)| *gpu == name).map(|(_, count)| count).sum()
    }

    fn until_read_again(&mut self, name: &'static str) {
        let before = self.reads(name);
        self.until(&format!("{name} is read"), |scene| scene.reads(name) > before + 3);
    }
}

#[test]
fn gpus_are_read_at_their_pace_until_the_watch_is_dropped() {
    let mut scene = Scene::of(Scripted::of(&["a", "b"]));
    scene.until_states(&[("a", "answers"), ("b", "answers")]);
    let (begun, before) = (Instant::now(), scene.reads("a"));
    scene.until("a hundred readings", |scene| scene.reads("a") >= before + 100);
    // Never faster than its pace; how much slower is the machine's.
    assert!(begun.elapsed() > TIMES.interval * 98, "{:?}", begun.elapsed());
    scene.watch = None;
    assert_eq!(scene.source.set(|script| script.alive), 0, "every thread has ended");
}

#[test]
fn one_that_hangs_is_said_so_once_and_delays_nobody() {
    let mut scene = Scene::of(Scripted::of(&["a", "b"]));
    scene.until_states(&[("a", "answers"), ("b", "answers")]);
    scene.source.set(|script| script.hang.insert("a"));
    scene.until_states(&[("a", "unresponsive"), ("b", "answers")]);
    scene.until_read_again("b");
    assert_eq!(scene.states(), [("a", "unresponsive"), ("b", "answers")]);
    assert_eq!(scene.source.set(|script| script.inside["a"]), 1);
    scene.source.set(|script| script.hang.clear());
    scene.until_states(&[("a", "answers"), ("b", "answers")]);
}

#[test]
fn one_that_is_lost_comes_back() {
    let mut scene = Scene::of(Scripted::of(&["a", "b"]));
    scene.until_states(&[("a", "answers"), ("b", "answers")]);
    scene.source.set(|script| script.fail.insert("a", Failure::Lost("off the bus".to_owned())));
    scene.until_states(&[("a", "lost"), ("b", "answers")]);
    scene.until_read_again("b");
    // It does not even say any more who it is.
    scene.source.set(|script| script.unknown.insert("a"));
    scene.until_read_again("b");
    assert_eq!(scene.states(), [("a", "lost"), ("b", "answers")]);
    scene.source.set(|script| (script.fail.clear(), script.unknown.clear()));
    scene.until_states(&[("a", "answers"), ("b", "answers")]);
    assert_eq!(scene.source.set(|script| script.opened), 1, "nothing was opened again for that");
}

#[test]
fn one_that_is_not_read_this_time_is_asked_on() {
    let mut scene = Scene::of(Scripted::of(&["a"]));
    scene.source.set(|script| script.fail.insert("a", Failure::Refused("busy".to_owned())));
    scene.until_states(&[("a", "failed")]);
    scene.until_read_again("a");
    scene.source.set(|script| script.fail.clear());
    scene.until_states(&[("a", "answers")]);
}

#[test]
fn a_driver_that_goes_is_opened_again_at_once() {
    let mut scene = Scene::of(Scripted::of(&["a", "b"]));
    scene.until_states(&[("a", "answers"), ("b", "answers")]);
    for session in 2..5 {
        scene.source.set(|script| script.fail.insert("a", Failure::Session("it went".to_owned())));
        scene.until("the next session reads", |scene| {
            let script = scene.source.0.0.lock().unwrap();
            ["a", "b"].into_iter().all(|name| script.reads.contains_key(&(name, session)))
        });
    }
    scene.until_states(&[("a", "answers"), ("b", "answers")]);
    let version = scene.gpus.driver().unwrap().as_ref().unwrap().version.clone();
    assert_eq!(version.as_deref(), Some("4"));
    // A session with its GPUs and its faults; a list may be under way.
    scene.until("old sessions are gone", |scene| scene.source.0.0.lock().unwrap().alive <= 4);
}

#[test]
fn a_library_that_appears_later_is_found_and_one_that_goes_is_missed() {
    let source = Scripted::of(&["a"]);
    source.set(|script| script.absent = true);
    let mut scene = Scene::of(source);
    scene.until(
        "no library",
        |scene| matches!(scene.gpus.driver(), Some(Err(Failure::Absent(text))) if text == "no library"),
    );
    scene.source.set(|script| script.absent = false);
    scene.until_states(&[("a", "answers")]);
    scene.source.set(|script| {
        script.absent = true;
        script.fail.insert("a", Failure::Session("it went".to_owned()));
    });
    scene.until("it is missed", |scene| matches!(scene.gpus.driver(), Some(Err(Failure::Absent(_)))));
    scene.until_states(&[("a", "failed")]);
    scene.until("it was let go", |scene| scene.source.0.0.lock().unwrap().alive == 0);
    scene.source.set(|script| script.absent = false);
    scene.until_states(&[("a", "answers")]);
}

#[test]
fn a_library_that_hangs_is_said_so_and_waited_for() {
    let source = Scripted::of(&["a"]);
    source.set(|script| script.hang.insert("open"));
    let mut scene = Scene::of(source);
    scene.until("it hangs", |scene| {
        matches!(scene.gpus.driver(), Some(Err(Failure::Refused(text))) if text.contains("not answered"))
    });
    scene.source.set(|script| (script.hang.clear(), script.hang.insert("list")));
    scene.until("it answers", |scene| scene.gpus.driver().is_some_and(Result::is_ok));
    scene.until("the list hangs", |scene| scene.gpus.driver().is_some_and(Result::is_err));
    scene.source.set(|script| script.hang.clear());
    scene.until_states(&[("a", "answers")]);
    assert!(scene.gpus.driver().unwrap().is_ok());
    // One that reads goes on while the list of what there is hangs.
    scene.source.set(|script| script.hang.insert("list"));
    std::thread::sleep(TIMES.again + TIMES.unresponsive_after * 2);
    scene.until_read_again("a");
    assert_eq!(scene.states(), [("a", "answers")]);
    assert!(scene.gpus.driver().unwrap().is_ok());
    scene.source.set(|script| script.hang.clear());
}

#[test]
fn threads_that_hang_never_pile_up() {
    let mut scene = Scene::of(Scripted::of(&["a", "b"]));
    scene.until_states(&[("a", "answers"), ("b", "answers")]);
    scene.source.set(|script| script.hang.insert("a"));
    scene.until_states(&[("a", "unresponsive"), ("b", "answers")]);
    for _ in 0..4 {
        let opened = scene.source.set(|script| {
            script.fail.insert("b", Failure::Session("it went".to_owned()));
            script.opened
        });
        scene.until("another session", |scene| scene.source.0.0.lock().unwrap().opened > opened);
        scene.until_states(&[("a", "unresponsive"), ("b", "answers")]);
        assert_eq!(scene.source.set(|script| script.inside["a"]), HUNG_MAX);
    }
    scene.source.set(|script| script.hang.clear());
    scene.until_states(&[("a", "answers"), ("b", "answers")]);
    assert_eq!(scene.source.set(|script| script.reads[&("a", 1)]), scene.reads_of_first_session());
}

impl Scene {
    /// What came back from the first session's last call was told to nobody: it is the last of them.
    fn reads_of_first_session(&mut self) -> u64 {
        self.until_read_again("a");
        self.source.set(|script| script.reads[&("a", 1)])
    }
}

#[test]
fn gpus_that_come_and_go_are_followed() {
    let mut scene = Scene::of(Scripted::of(&["a"]));
    scene.until_states(&[("a", "answers")]);
    scene.source.set(|script| script.gpus = vec!["b", "a", "c"]);
    scene.until_states(&[("a", "answers"), ("b", "answers"), ("c", "answers")]);
    let index = |scene: &Scene| scene.gpus.cards().map(|card| card.identity.index).collect::<Vec<_>>();
    assert_eq!(index(&scene), [1, 0, 2]);
    scene.source.set(|script| script.gpus = vec!["c"]);
    scene.until_states(&[("c", "answers")]);
    scene.source.set(|script| script.gpus.clear());
    scene.until_states(&[]);
}

#[test]
fn faults_are_told_and_that_none_are_too() {
    let mut scene = Scene::of(Scripted::of(&["a"]));
    scene.until_states(&[("a", "answers")]);
    let fault = |code| Xid { uuid: "a".to_owned(), code, at: BootTime(1) };
    scene.source.set(|script| script.faults.extend([fault(79), fault(79), fault(31)]));
    scene.until("three faults", |scene| {
        scene.gpus.cards().next().is_some_and(|card| card.xids == BTreeMap::from([(31, 1), (79, 2)]))
    });
    scene.source.set(|script| script.no_faults = true);
    scene.until("no faults are told", |scene| scene.gpus.no_faults().is_some());
    scene.until_read_again("a");
    scene.source.set(|script| script.no_faults = false);
    scene.until("they are again", |scene| scene.gpus.no_faults().is_none());
    assert!(matches!(scene.gpus.cards().next().unwrap().state, CardState::Answers));
}

#[test]
fn news_that_nobody_takes_are_counted_and_what_matters_is_told_later() {
    let mut scene = Scene::of(Scripted::of(&["a"]));
    scene.until_states(&[("a", "answers")]);
    let fault = Xid { uuid: "a".to_owned(), code: 1, at: BootTime(1) };
    scene.source.set(|script| script.faults.extend(std::iter::repeat_n(fault, NEWS_MAX + 100)));
    let begun = Instant::now();
    while scene.watch.as_ref().unwrap().lost() < 50 {
        assert!(begun.elapsed() < WAIT_MAX, "{}", scene.watch.as_ref().unwrap().lost());
        std::thread::sleep(Duration::from_millis(5));
    }
    // There is no room to tell of these.
    scene.source.set(|script| script.gpus = vec!["a", "b"]);
    let begun = Instant::now();
    while scene.source.set(|script| !script.reads.contains_key(&("b", 1))) {
        assert!(begun.elapsed() < WAIT_MAX);
        std::thread::sleep(Duration::from_millis(5));
    }
    scene.until_states(&[("a", "answers"), ("b", "answers")]);
    assert!(scene.watch.as_ref().unwrap().lost() >= 50);
}
