//! What survives a restart: a file of two slots, written in turn.
//!
//! In: bytes to keep. Out: the newest that were kept whole. The file is opened before rights are given up, after which the
//! agent may open none for writing and make or rename none: so a new version never takes the old one's place, it is
//! written into the other slot, and its head, with a checksum over all, comes last. A write that is cut off, or a full
//! disk, leaves the slot before as it was.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::digest::Digest;

/// Longest content.
pub const CONTENT_BYTES_MAX: usize = 16 << 20;
/// Of the form of this file; the content has a version of its own.
const MAGIC: &[u8; 8] = b"iscope\x01\n";
const HEAD_BYTES: usize = 32;
const SLOT_BYTES: u64 = (CONTENT_BYTES_MAX + HEAD_BYTES) as u64;
const SLOTS: u64 = 2;

/// The open file.
#[derive(Debug)]
pub struct StateFile {
    file: File,
    /// Of the newest version in it; 0 where there is none.
    sequence: u64,
}

impl StateFile {
    /// Opens the file, made where there is none; and what it holds.
    ///
    /// # Errors
    /// It cannot be opened for reading and writing.
    pub fn open(path: &Path) -> Result<(Self, Option<Vec<u8>>)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let context = || format!("open the state {}", path.display());
        let file = options.open(path).with_context(context)?;
        ensure!(file.metadata().with_context(context)?.is_file(), "{} is no plain file", path.display());
        let newest =
            (0..SLOTS).filter_map(|slot| read_slot(&file, slot)).max_by_key(|(sequence, _)| *sequence);
        let sequence = newest.as_ref().map_or(0, |(sequence, _)| *sequence);
        Ok((Self { file, sequence }, newest.map(|(_, content)| content)))
    }

    /// Keeps this, and the version before it.
    ///
    /// # Errors
    /// It is too long, or cannot be written: what was kept last is kept still.
    pub fn save(&mut self, content: &[u8]) -> Result<()> {
        ensure!(
            content.len() <= CONTENT_BYTES_MAX,
            "{} bytes of state, {CONTENT_BYTES_MAX} are the most",
            content.len()
        );
        self.write(content).context("write the state")
    }

    fn write(&mut self, content: &[u8]) -> io::Result<()> {
        let sequence = self.sequence + 1;
        let place = sequence % SLOTS * SLOT_BYTES;
        // No head stands before a content that is not its own.
        self.file.write_all_at(&[0; HEAD_BYTES], place)?;
        self.file.write_all_at(content, place + HEAD_BYTES as u64)?;
        self.file.sync_data()?;
        self.file.write_all_at(&head(sequence, content), place)?;
        self.file.sync_data()?;
        self.sequence = sequence;
        Ok(())
    }
}

fn head(sequence: u64, content: &[u8]) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[8..16].copy_from_slice(&sequence.to_le_bytes());
    head[16..24].copy_from_slice(&(content.len() as u64).to_le_bytes());
    let mut sum = Digest::default();
    sum.add(&head[..24]);
    sum.add(content);
    head[24..].copy_from_slice(&sum.get().to_le_bytes());
    head
}

/// The sequence and content of a slot that is whole.
fn read_slot(file: &File, slot: u64) -> Option<(u64, Vec<u8>)> {
    let place = slot * SLOT_BYTES;
    let mut found = [0; HEAD_BYTES];
    file.read_exact_at(&mut found, place).ok()?;
    let number = |at: usize| u64::from_le_bytes(found[at..at + 8].try_into().expect("eight of 32 bytes"));
    let (sequence, length) = (number(8), number(16));
    if length > CONTENT_BYTES_MAX as u64 {
        return None;
    }
    let mut content = vec![0; usize::try_from(length).ok()?];
    file.read_exact_at(&mut content, place + HEAD_BYTES as u64).ok()?;
    (head(sequence, &content) == found).then_some((sequence, content))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_kept_last_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let (mut state, content) = StateFile::open(&path).unwrap();
        assert_eq!(content, None);
        for version in ["first", "second", "", "and a longer fourth"] {
            state.save(version.as_bytes()).unwrap();
            let (again, content) = StateFile::open(&path).unwrap();
            assert_eq!(content.as_deref(), Some(version.as_bytes()));
            state = again;
        }
        assert!(
            state.save(&vec![0; CONTENT_BYTES_MAX + 1]).unwrap_err().to_string().contains("are the most")
        );
        assert_eq!(StateFile::open(&path).unwrap().1.unwrap(), b"and a longer fourth");
    }

    #[test]
    fn places_that_hold_no_file_are_told() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), folder.path().join("nowhere/state")] {
            let error = format!("{:#}", StateFile::open(&path).unwrap_err());
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_write_that_was_cut_off_leaves_the_version_before(cut in 0_usize..80, byte in any::<u8>()) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state");
            let mut state = StateFile::open(&path).unwrap().0;
            state.save(b"first").unwrap();
            state.save(b"second").unwrap();
            // The third goes where the first was: any part of it may be on the disk when the machine stops.
            let third = [&head(3, b"the third")[..], b"the third"].concat();
            let cut = cut.min(third.len() - 1);
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&third[..cut], SLOT_BYTES).unwrap();
            file.write_all_at(&[byte], SLOT_BYTES + cut as u64).unwrap();
            let expected: &[u8] = if third[cut] == byte && cut + 1 == third.len() { b"the third" } else { b"second" };
            prop_assert_eq!(StateFile::open(&path).unwrap().1.unwrap(), expected);
        }
    }
}
