//! Finds the files of results, and tells which changed since the last look.
//!
//! In: a file or a folder, which may not exist yet. Out: the files that may be results, newest first, and
//! their bytes, bounded. Sub-folders are looked into, because the harness makes one per model, later than
//! the watch begins; folders behind symbolic links are not, so that no ring and no other tree is walked.
//! Looked at by `stat` on each round, not by notification: runs take hours, and network folders notify nobody.

use std::collections::HashMap;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Evaluation, FILE_BYTES_MAX, ReadError, harness, ilab};

/// Levels of sub-folders below the given one; the harness makes one.
pub const DEPTH_MAX: usize = 4;

/// Entries looked at in one round, files and folders of all kinds.
pub const ENTRIES_MAX: usize = 20_000;

/// Files handed out, the newest.
pub const FILES_MAX: usize = 1024;

/// Which reader a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of lm-evaluation-harness.
    Results,
    /// Of `ilab model evaluate`, saved by somebody.
    Report,
}

/// A file that may be results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub path: PathBuf,
    pub kind: Kind,
    pub stamp: Stamp,
}

/// What changes when a file does. The change time tells a rewrite of equal length and set-back time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub modified: SystemTime,
    pub size_bytes: u64,
    inode: (u64, u64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            modified: metadata.modified().unwrap_or(UNIX_EPOCH),
            size_bytes: metadata.len(),
            inode: (metadata.dev(), metadata.ino()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The time of the file as Unix seconds, 0 before 1970.
    #[must_use]
    pub fn modified_unix_seconds(&self) -> f64 {
        self.modified.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
    }
}

/// One look at a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Newest first; of one time, by path.
    pub candidates: Vec<Candidate>,
    /// Nothing there (yet): an ordinary state.
    pub missing: bool,
    /// Folders and files that could not be looked at, and folders too deep.
    pub unreadable: usize,
    /// Files past [`FILES_MAX`].
    pub left_out: usize,
    /// Stopped at [`ENTRIES_MAX`].
    pub stopped: bool,
}

/// Looks at a file or a folder. Never fails: what cannot be seen is counted.
#[must_use]
pub fn list(path: &Path) -> Listing {
    let mut listing = Listing::default();
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => walk(path, &mut listing),
        Ok(metadata) if metadata.is_file() => {
            let kind =
                if path.extension().is_some_and(|end| end == "json") { Kind::Results } else { Kind::Report };
            listing.candidates.push(Candidate { path: path.to_owned(), kind, stamp: Stamp::of(&metadata) });
        }
        Ok(_) => listing.unreadable = 1,
        Err(error) if error.kind() == io::ErrorKind::NotFound => listing.missing = true,
        Err(_) => listing.unreadable = 1,
    }
    listing.candidates.sort_by(|one, other| {
        other.stamp.modified.cmp(&one.stamp.modified).then_with(|| one.path.cmp(&other.path))
    });
    listing.left_out = listing.candidates.len().saturating_sub(FILES_MAX);
    listing.candidates.truncate(FILES_MAX);
    listing
}

fn walk(root: &Path, listing: &mut Listing) {
    let mut waiting = vec![(root.to_owned(), 0)];
    let mut entries_seen = 0;
    while let Some((folder, depth)) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            listing.unreadable += 1;
            continue;
        };
        for entry in entries {
            entries_seen += 1;
            if entries_seen > ENTRIES_MAX {
                listing.stopped = true;
                return;
            }
            let Ok((path, kind)) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) else {
                listing.unreadable += 1;
                continue;
            };
            if !kind.is_dir() {
                consider(path, listing);
            } else if depth < DEPTH_MAX {
                waiting.push((path, depth + 1));
            } else {
                listing.unreadable += 1;
            }
        }
    }
}

/// A link to a file counts as the file; the name decides before anything is opened.
fn consider(path: PathBuf, listing: &mut Listing) {
    let Some(kind) = path.file_name().and_then(|name| kind_of(name.to_str()?)) else { return };
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => {
            listing.candidates.push(Candidate { path, kind, stamp: Stamp::of(&metadata) });
        }
        Ok(_) => {}
        // Deleted since the folder was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => listing.unreadable += 1,
    }
}

/// `results.json`, `results_<time>.json`, `<own name>_<time>.json`, `<any>.txt`.
fn kind_of(name: &str) -> Option<Kind> {
    if name.ends_with(".txt") {
        return Some(Kind::Report);
    }
    let stem = name.strip_suffix(".json")?;
    let dated = stem.rsplit_once('_').is_some_and(|(_, time)| is_time(time));
    (stem == "results" || stem.starts_with("results_") || dated).then_some(Kind::Results)
}

/// `2026-11-24T21-13-31.319895`; the fraction is missing where it is 0.
fn is_time(text: &str) -> bool {
    const SHAPE: &[u8] = b"0000-00-00T00-00-00";
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fits = |(byte, shape): (u8, &u8)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == *shape };
    whole.len() == SHAPE.len()
        && whole.bytes().zip(SHAPE).all(fits)
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads a candidate with the reader of its kind. A branch report gives two: the base model's first.
///
/// # Errors
/// As [`ReadError`] says; only `Unfinished` is worth a retry of an unchanged file.
pub fn read(candidate: &Candidate) -> Result<Vec<Evaluation>, ReadError> {
    let bytes = read_bounded(&candidate.path)?;
    match candidate.kind {
        Kind::Results => harness::read(&bytes).map(|evaluation| vec![evaluation]),
        Kind::Report => ilab::read(&bytes),
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, ReadError> {
    // Opening a pipe that took the file's place would wait for a writer.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(refusal)?;
    let metadata = file.metadata().map_err(refusal)?;
    if !metadata.is_file() {
        return Err(ReadError::not_results("not a file"));
    }
    if metadata.len() > FILE_BYTES_MAX as u64 {
        return Err(ReadError::TooLarge);
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(refusal)?;
    if bytes.len() > FILE_BYTES_MAX { Err(ReadError::TooLarge) } else { Ok(bytes) }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn refusal(error: io::Error) -> ReadError {
    match error.kind() {
        io::ErrorKind::NotFound => ReadError::Vanished,
        kind => ReadError::Unreadable(kind),
    }
}

/// What was seen at the last look. As large as the last listing.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    stamps: HashMap<PathBuf, Stamp>,
}

impl Seen {
    /// The candidates that are new or changed since the last call, oldest last as in the listing; the listed
    /// become the seen. A file that grows while it is read differs at the next look.
    pub fn changed(&mut self, listing: &Listing) -> Vec<Candidate> {
        let is_new = |candidate: &&Candidate| self.stamps.get(&candidate.path) != Some(&candidate.stamp);
        let changed = listing.candidates.iter().filter(is_new).cloned().collect();
        let stamps = listing.candidates.iter().map(|candidate| (candidate.path.clone(), candidate.stamp));
        self.stamps = stamps.collect();
        changed
    }

    /// Hands the file out again at the next look, changed or not: it was not finished, or not readable.
    pub fn retry(&mut self, path: &Path) {
        self.stamps.remove(path);
    }
}

#[cfg(test)]
mod tests;
