//! Keeps what was learnt: a thread that writes it to the state file, so that nothing waits for a disk.
//!
//! In: the newest [`Content`], now and then. Out: the content of the last run, at the start. What comes while it writes is
//! left out: the next one holds more. It ends once nobody can send any more.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

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
    #[must_use]
    pub fn new(epoch: &str, pairs: Vec<KeptPair>) -> Self {
        Self { version: VERSION, epoch: epoch.to_owned(), pairs }
    }
}

/// The open file, before the thread has begun.
#[derive(Debug)]
pub struct Keeper {
    file: StateFile,
    received: Receiver<Content>,
}

/// Hands over what is to be kept.
pub type Save = SyncSender<Content>;

impl Keeper {
    /// Opens the file, as long as that is still allowed; and what was kept under this epoch.
    ///
    /// # Errors
    /// The file cannot be opened. What is in it may be anything: that is told in the log, and begun anew.
    pub fn open(path: &Path, epoch: &str) -> Result<(Self, Save, Vec<KeptPair>)> {
        let (file, bytes) = StateFile::open(path)?;
        let pairs = bytes.map_or_else(Vec::new, |bytes| match read(&bytes, epoch) {
            Ok(pairs) => pairs,
            Err(why) => {
                tracing::warn!(path = %path.display(), "what was learnt is learnt anew: {why:#}");
                Vec::new()
            }
        });
        let (save, received) = sync_channel(1);
        Ok((Self { file, received }, save, pairs))
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
        while let Ok(content) = self.received.recv() {
            let text = serde_json::to_vec(&content).context("write what was learnt as text");
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

fn read(bytes: &[u8], epoch: &str) -> Result<Vec<KeptPair>> {
    /// Enough of any version.
    #[derive(Deserialize)]
    struct Head {
        version: u32,
        epoch: String,
    }
    let head: Head = serde_json::from_slice(bytes).context("read the state")?;
    anyhow::ensure!(head.version == VERSION, "the state is of version {}, this is {VERSION}", head.version);
    anyhow::ensure!(
        head.epoch == epoch,
        "it was learnt under epoch {:?}, `drift.epoch` is {epoch:?}",
        head.epoch
    );
    let content: Content = serde_json::from_slice(bytes).context("read the state")?;
    Ok(content.pairs)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn content(epoch: &str, model: &str) -> Content {
        let pair =
            KeptPair { model: model.to_owned(), workload: "w".to_owned(), streams: pair::Kept::default() };
        Content::new(epoch, vec![pair])
    }

    #[test]
    fn what_is_kept_is_there_for_the_next_run_under_the_same_epoch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (keeper, save, pairs) = Keeper::open(&path, "").unwrap();
        assert_eq!(pairs, []);
        keeper.start().unwrap();
        save.send(content("", "first")).unwrap();
        save.send(content("", "second")).unwrap();
        let began = Instant::now();
        let model = || Keeper::open(&path, "").unwrap().2.first().map(|pair| pair.model.clone());
        while model().as_deref() != Some("second") {
            assert!(began.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(Keeper::open(&path, "after the new model").unwrap().2, []);
    }

    #[test]
    fn what_is_no_state_of_this_version_is_begun_anew() {
        let newer = br#"{"version":2,"epoch":"","more":[]}"#;
        assert!(read(newer, "").unwrap_err().to_string().contains("of version 2"));
        for bytes in [&b"{"[..], b"[]", br#"{"version":1,"epoch":"","pairs":[{}]}"#] {
            assert!(read(bytes, "").is_err());
        }
    }
}
