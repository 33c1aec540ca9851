//! What the servers run, looked at again and again beside the pipeline.
//!
//! In: each server's first process. Out: the newest [`Facts`] of each. The thread ends soon after this is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::workload::Roots;
use crate::workload::facts::Facts;

/// Pace of the looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// By the label of their workload.
pub type Servers = HashMap<Arc<str>, Facts>;

/// The thread, as the pipeline has it.
#[derive(Clone, Debug, Default)]
pub struct Look {
    desk: Arc<Mutex<Desk>>,
}

#[derive(Debug, Default)]
struct Desk {
    leaders: Vec<(Arc<str>, u32)>,
    newest: Servers,
}

impl Look {
    /// Starts it: only once rights were given up.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(&self, roots: Roots) -> Result<()> {
        let desk = Arc::downgrade(&self.desk);
        let thread = std::thread::Builder::new().name("servers".to_owned());
        thread.spawn(move || run(&desk, &roots)).context("start the look at servers")?;
        Ok(())
    }

    /// From now on these servers, each by its label and first process.
    pub fn follow(&self, leaders: Vec<(Arc<str>, u32)>) {
        lock(&self.desk).leaders = leaders;
    }

    #[must_use]
    pub fn newest(&self) -> Servers {
        lock(&self.desk).newest.clone()
    }
}

fn run(desk: &Weak<Mutex<Desk>>, roots: &Roots) {
    loop {
        let Some(leaders) = desk.upgrade().map(|desk| lock(&desk).leaders.clone()) else { return };
        let facts = |(label, tgid): &(Arc<str>, u32)| Some((label.clone(), Facts::read(roots, *tgid)?));
        let newest = leaders.iter().filter_map(facts).collect();
        let Some(desk) = desk.upgrade() else { return };
        lock(&desk).newest = newest;
        drop(desk);
        std::thread::sleep(LOOK_EVERY);
    }
}

fn lock(desk: &Mutex<Desk>) -> std::sync::MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}
