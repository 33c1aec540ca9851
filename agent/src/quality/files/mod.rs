//! Predictions in files: whose they are, what was scored last, and what stands in the way.
//!
//! In: `drift.files`. Out: a [`Standing`] for each entry, made by a thread that nothing waits for. A file that vanishes, or
//! is still being written, or makes no sense, leaves the last good scores as they are: their age tells.

mod reader;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::clock::BootTime;
use crate::quality::score::Scores;
use crate::quality::score::accuracy::Accuracy;
use crate::quality::settings::FileSettings;
use crate::quality::watch;
use reader::Reader;

/// What is to be looked at.
#[must_use]
pub fn entries(files: &[FileSettings]) -> Vec<watch::Entry<Standing>> {
    let entry = |settings: &FileSettings| {
        let mut reader = Reader::new(settings.clone());
        let standing = reader.standing();
        let look = move |standing: &mut Standing| reader.look(standing);
        watch::Entry { standing, interval: settings.interval, look: Box::new(look) }
    };
    files.iter().map(entry).collect()
}

/// What is known of one entry.
#[derive(Clone, Debug)]
pub struct Standing {
    pub model: Arc<str>,
    pub source: Arc<str>,
    /// Of the newest files that could be scored.
    pub scored: Option<Scored>,
    /// Of the newest validation set.
    pub validation: Option<Accuracy>,
    /// Sums over all versions of the recent file.
    pub counted: Counted,
    /// Looks that ended in a failure, by its kind.
    pub failures: BTreeMap<&'static str, u64>,
    /// Why the newest look brought nothing; `None` where all is well.
    pub failure: Option<String>,
}

impl watch::Standing for Standing {
    fn whose(&self) -> String {
        format!("drift.files of {} ({})", self.model, self.source)
    }

    fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}

/// One scoring.
#[derive(Clone, Debug)]
pub struct Scored {
    pub scores: Scores,
    pub accuracy: Option<Accuracy>,
    /// Mean of the recent numbers, where they are probabilities.
    pub confidence: Option<f64>,
    /// When the recent file was written.
    pub written: SystemTime,
    /// The last look that found these files there, whole and unchanged.
    pub confirmed: BootTime,
}

/// Predictions that were compared with the truth so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub correct: u64,
    pub total: u64,
    pub false_positives: u64,
}

impl Counted {
    fn add(&mut self, accuracy: &Accuracy) {
        self.correct += accuracy.correct;
        self.total += accuracy.total;
        self.false_positives += accuracy.false_positives.unwrap_or(0);
    }
}
