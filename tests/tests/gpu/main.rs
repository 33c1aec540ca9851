//! GPUs as the agent reads them, by the real wrapper and real threads from the simulated library: what is true, what is
//! not available, and what goes wrong.
//!
//! Needs neither GPU nor root.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

mod failures;
mod readings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use inferscope::gpu::nvml::{Nvml, Places};
use inferscope::gpu::source::{Device, Failure, GpuSource, Session};
use inferscope::gpu::watch::{Times, Watch};
use inferscope::gpu::{Card, Gpus};
use nvml_sim::{Installed, install_aged};
use tempfile::TempDir;

/// Whatever is waited for comes in this time, or not at all.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Shorter than the agent's, so that a test need not wait for long.
const TIMES: Times = Times {
    interval: Duration::from_millis(100),
    unresponsive_after: Duration::from_millis(500),
    again: Duration::from_millis(300),
    fault_wait: Duration::from_millis(50),
    look: Duration::from_millis(50),
};

/// A library with a scenario that began so many seconds ago.
struct Library {
    installed: Installed,
    folder: TempDir,
}

impl Library {
    fn new(scenario: &str, age: f64) -> Self {
        let folder = TempDir::new().unwrap();
        let installed = install_aged(folder.path(), scenario, Duration::from_secs_f64(age)).unwrap();
        Self { installed, folder }
    }

    fn preset(name: &str, age: f64) -> Self {
        Self::new(nvml_sim::preset::text(name).unwrap(), age)
    }

    fn source(&self) -> Nvml {
        let configured = Some(self.installed.library.clone());
        Nvml::new(Places { configured, loader: false, roots: Vec::new() })
    }

    fn open(&self) -> Box<dyn Session> {
        self.source().open().unwrap()
    }

    fn devices(&self) -> Vec<Box<dyn Device>> {
        self.open().devices().unwrap().into_iter().map(Result::unwrap).collect()
    }
}

/// A watch over a library, and the GPUs as the pipeline has them.
struct Scene {
    _library: Library,
    watch: Watch,
    gpus: Gpus,
}

impl Scene {
    fn of(library: Library) -> Self {
        let (watch, news) = Watch::start(Arc::new(library.source()), TIMES).unwrap();
        let mut gpus = Gpus::default();
        gpus.hear(news);
        Self { _library: library, watch, gpus }
    }

    fn states(&self) -> Vec<&'static str> {
        let mut cards: Vec<&Card> = self.gpus.cards().collect();
        cards.sort_by_key(|card| card.identity.index);
        cards.iter().map(|card| card.state.label()).collect()
    }

    fn card(&self, index: u32) -> &Card {
        self.gpus.cards().find(|card| card.identity.index == index).unwrap()
    }

    fn until(&mut self, what: &str, met: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        loop {
            self.gpus.take();
            if met(self) {
                return;
            }
            assert!(begun.elapsed() < WAIT_MAX, "{what}: {:?} {:?}", self.states(), self.gpus.driver());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn until_states(&mut self, expected: &[&str]) {
        self.until(&format!("{expected:?}"), |scene| scene.states() == expected);
    }

    /// Its newest reading changes.
    fn until_read_again(&mut self, index: u32) {
        let at = |scene: &Self| scene.card(index).reading.as_ref().map(|reading| reading.at);
        let before = at(self);
        self.until("another reading", |scene| at(scene).is_some() && at(scene) != before);
    }

    fn failure(&self) -> Option<&Failure> {
        self.gpus.driver()?.as_ref().err()
    }
}
