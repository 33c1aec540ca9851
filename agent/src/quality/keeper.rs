//! Keeps what was learnt: a thread that writes it to the state file, so that nothing waits for a disk.
//!
//! In: the newest [`Part`]s, now and then. Out: the [`Content`] of the last run, at the start. It ends once nobody can send any
//! more.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::canary::outcome::LastRun;
use super::change::pair;
use super::state::StateFile;

/// Of the content; one of another version is not read.
const VERSION: u32 = 1;

/// Everything that is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    version: u32,
    /// `drift.epoch` under which it was learnt.
    epoch: String,
    pub pairs: Vec<KeptPair>,
    /// Answers of the canary's last run.
    #[serde(default)]
    pub canary: Option<LastRun>,
}

/// A part of the content, which takes the place of the one before.
#[derive(Clone, Debug)]
pub enum Part {
    Pairs(Vec<KeptPair>),
    Canary(LastRun),
}

/// What was learnt of one model of one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptPair {
    pub model: String,
    pub workload: String,
    pub streams: pair::Kept,
}

impl Content {
    /// Reads what was kept under this epoch.
    ///
    /// # Errors
    /// It is none of this version and this epoch.
    pub fn read(bytes: &[u8], epoch: &str) -> Result<Self> {
        /// Enough of any version.
        #[derive(Deserialize)]
        struct Head {
            version: u32,
            epoch: String,
        }
        let head: Head = serde_json::from_slice(bytes).context("read the state")?;
        ensure!(head.version == VERSION, "the state is of version {}, this is {VERSION}", head.version);
        let of = head.epoch;
        ensure!(of == epoch, "it was learnt under epoch {of:?}, `drift.epoch` is {epoch:?}");
        serde_json::from_slice(bytes).context("read the state")
    }

    fn new(epoch: &str) -> Self {
        Self { version: VERSION, epoch: epoch.to_owned(), pairs: Vec::new(), canary: None }
    }

    fn take(&mut self, part: Part) {
        match part {
            Part::Pairs(pairs) => self.pairs = pairs,
            Part::Canary(last) => self.canary = Some(last),
        }
    }
}

/// The open file, before the thread has begun.
#[derive(Debug)]
pub struct Keeper {
    file: StateFile,
    content: Content,
    received: Receiver<Part>,
}

/// Hands over what is to be kept.
pub type Save = SyncSender<Part>;

impl Keeper {
    /// Opens the file, as long as that is still allowed; and what was kept under this epoch.
    ///
    /// # Errors
    /// The file cannot be opened. What is in it may be anything: that is told in the log, and begun anew.
    pub fn open(path: &Path, epoch: &str) -> Result<(Self, Save)> {
        let (file, bytes) = StateFile::open(path)?;
        let fresh = || Content::new(epoch);
        let content = bytes.map_or_else(fresh, |bytes| {
            Content::read(&bytes, epoch).unwrap_or_else(|why| {
                tracing::warn!(path = %path.display(), "what was learnt is learnt anew: {why:#}");
                fresh()
            })
        });
        let (save, received) = sync_channel(1);
        Ok((Self { file, content, received }, save))
    }

    /// What was kept.
    #[must_use]
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Starts the thread: only once rights were given up.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(self) -> Result<()> {
        let thread = std::thread::Builder::new().name("keeper".to_owned());
        thread.spawn(move || self.run()).context("start the thread that keeps what was learnt")?;
        Ok(())
    }

    fn run(mut self) {
        let mut failed = false;
        while let Ok(part) = self.received.recv() {
            self.content.take(part);
            let text = serde_json::to_vec(&self.content).context("write what was learnt as text");
            let saved = text.and_then(|text| self.file.save(&text));
            match &saved {
                Err(error) if !failed => tracing::warn!("what was learnt cannot be kept: {error:#}"),
                Ok(()) if failed => tracing::info!("what was learnt is kept again"),
                _ => {}
            }
            failed = saved.is_err();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn pairs(model: &str) -> Part {
        let pair =
            KeptPair { model: model.to_owned(), workload: "w".to_owned(), streams: pair::Kept::default() };
        Part::Pairs(vec![pair])
    }

    #[test]
    fn what_is_kept_is_there_for_the_next_run_under_the_same_epoch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (keeper, save) = Keeper::open(&path, "").unwrap();
        assert_eq!(*keeper.content(), Content::new(""));
        keeper.start().unwrap();
        save.send(pairs("first")).unwrap();
        save.send(Part::Canary(LastRun::default())).unwrap();
        save.send(pairs("second")).unwrap();
        let began = Instant::now();
        let kept = |epoch: &str| Keeper::open(&path, epoch).unwrap().0.content().clone();
        while kept("").pairs.first().is_none_or(|pair| pair.model != "second") {
            assert!(began.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(kept("").canary, Some(LastRun::default()));
        assert_eq!(kept("after the new model"), Content::new("after the new model"));
    }

    #[test]
    fn what_is_no_state_of_this_version_is_begun_anew() {
        let newer = br#"{"version":2,"epoch":"","more":[]}"#;
        assert!(Content::read(newer, "").unwrap_err().to_string().contains("of version 2"));
        for bytes in [&b"{"[..], b"[]", br#"{"version":1,"epoch":"","pairs":[{}]}"#] {
            assert!(Content::read(bytes, "").is_err());
        }
    }
}
