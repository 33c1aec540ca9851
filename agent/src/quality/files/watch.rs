//! The thread that looks at files of predictions. Scoring ten million numbers takes a second: nothing waits for it.
//!
//! In: `drift.files`. Out: the newest [`Standing`] of each, to be had at any time. It ends soon after this is dropped.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::Standing;
use super::reader::Reader;
use crate::quality::settings::FileSettings;

/// Pace at which entries are seen to be due.
const LOOK_EVERY: Duration = Duration::from_millis(500);

type Desk = Mutex<Vec<Standing>>;

/// The thread, as the pipeline has it.
#[derive(Debug, Default)]
pub struct Watch {
    desk: Arc<Desk>,
}

impl Watch {
    /// Starts it, where there are files: only once rights were given up.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(&self, files: &[FileSettings]) -> Result<()> {
        if files.is_empty() {
            return Ok(());
        }
        let entries: Vec<Entry> = files.iter().map(Entry::new).collect();
        *lock(&self.desk) = entries.iter().map(|entry| entry.standing.clone()).collect();
        let desk = Arc::downgrade(&self.desk);
        let thread = std::thread::Builder::new().name("predictions".to_owned());
        thread.spawn(move || run(entries, &desk)).context("start the reader of predictions")?;
        Ok(())
    }

    /// What is known of each entry.
    #[must_use]
    pub fn newest(&self) -> Vec<Standing> {
        lock(&self.desk).clone()
    }
}

struct Entry {
    reader: Reader,
    standing: Standing,
    interval: Duration,
    due: Instant,
}

impl Entry {
    fn new(settings: &FileSettings) -> Self {
        let reader = Reader::new(settings.clone());
        Self { standing: reader.standing(), reader, interval: settings.interval, due: Instant::now() }
    }
}

fn run(mut entries: Vec<Entry>, desk: &Weak<Desk>) {
    loop {
        for (index, entry) in entries.iter_mut().enumerate() {
            if Instant::now() < entry.due {
                continue;
            }
            let before = entry.standing.failure.clone();
            entry.reader.look(&mut entry.standing);
            entry.due = Instant::now() + entry.interval;
            tell(before.as_deref(), &entry.standing);
            let Some(desk) = desk.upgrade() else { return };
            lock(&desk)[index] = entry.standing.clone();
        }
        if desk.strong_count() == 0 {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Says once what is wrong, and once that it is over.
fn tell(before: Option<&str>, now: &Standing) {
    let (model, source) = (&now.model, &now.source);
    match (before, &now.failure) {
        (None, Some(failure)) => tracing::warn!(%model, %source, "predictions: {failure}"),
        (Some(_), None) => tracing::info!(%model, %source, "predictions are read again"),
        _ => {}
    }
}

fn lock(desk: &Desk) -> std::sync::MutexGuard<'_, Vec<Standing>> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}
