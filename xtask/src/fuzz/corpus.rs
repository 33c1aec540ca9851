//! The corpora in the working tree: which there are, and how what was found is made small enough to be kept.
//!
//! Files with a name are kept for ever: seeds, and inputs that once broke something. The others are named by a hash;
//! a run may replace them by fewer or smaller ones that reach the same.

use super::engine::Engine;
use crate::place::Place;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Files of one corpus, and their bytes: what a clone and a test run can bear. A little below what `tests/fuzz`
/// demands, so that an input that broke something can be added by hand.
const FILES_MAX: usize = 180;
const BYTES_MAX: u64 = 480 << 10;

/// How large a corpus is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) files: usize,
    pub(super) bytes: u64,
    /// Inputs that reach something, for which there was no room.
    pub(super) left_out: usize,
}

pub(super) fn folder(place: &Place) -> PathBuf {
    place.root.join("tests/fuzz/corpus")
}

/// The names of all targets: each has a corpus.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn targets(place: &Place) -> Result<Vec<String>> {
    let folder = folder(place);
    let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Replaces the corpus by the least that reaches all that it and the newly found inputs reach.
///
/// # Errors
/// When the engine fails or files cannot be written.
pub(super) fn make_small(engine: &Engine, target: &str) -> Result<Size> {
    let corpus = engine.corpus_folder(target);
    let merged = engine.work(target)?.join("merged");
    if merged.exists() {
        fs::remove_dir_all(&merged).context("remove what an earlier run left")?;
    }
    fs::create_dir_all(&merged).context("make a folder for the merged corpus")?;
    for file in files(&corpus)?.iter().filter(|file| is_named(file)) {
        copy(file, &merged)?;
    }
    engine.merge(target, &merged, &[corpus.clone(), engine.found_folder(target)?])?;
    let (kept, size) = within_limits(files(&merged)?)?;
    for file in files(&corpus)?.iter().filter(|file| !is_named(file)) {
        fs::remove_file(file).with_context(|| format!("remove {}", file.display()))?;
    }
    for file in kept.iter().filter(|file| !is_named(file)) {
        copy(file, &corpus)?;
    }
    Ok(size)
}

/// The named files, and of the others the small ones, as many as there is room for.
fn within_limits(files: Vec<PathBuf>) -> Result<(Vec<PathBuf>, Size)> {
    let mut sized = Vec::new();
    for file in files {
        let bytes = fs::metadata(&file).with_context(|| format!("look at {}", file.display()))?.len();
        sized.push((!is_named(&file), bytes, file));
    }
    sized.sort();
    let (mut kept, mut size) = (Vec::new(), Size::default());
    for (unnamed, bytes, file) in sized {
        if unnamed && (size.files >= FILES_MAX || size.bytes + bytes > BYTES_MAX) {
            size.left_out += 1;
            continue;
        }
        size.files += 1;
        size.bytes += bytes;
        kept.push(file);
    }
    Ok((kept, size))
}

/// Its name was given by a person: the engine's are hashes.
fn is_named(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.len() != 40 || !name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn copy(file: &Path, into: &Path) -> Result<()> {
    let name = file.file_name().context("a file without name")?;
    fs::copy(file, into.join(name)).with_context(|| format!("copy {}", file.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_files_stay_and_small_ones_come_before_large_ones() {
        let folder = std::env::temp_dir().join(format!("xtask-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let hash = |number: usize| format!("{number:040x}");
        fs::write(folder.join("seed-large"), vec![0; 400 << 10]).unwrap();
        fs::write(folder.join(hash(0)), vec![0; 100 << 10]).unwrap();
        for number in 1..=FILES_MAX {
            fs::write(folder.join(hash(number)), [0; 10]).unwrap();
        }
        let (kept, size) = within_limits(files(&folder).unwrap()).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let bytes = (400 << 10) + 10 * (FILES_MAX as u64 - 1);
        assert_eq!(size, Size { files: FILES_MAX, bytes, left_out: 2 });
        let has = |name: &str| kept.iter().any(|file| file.ends_with(name));
        assert!(has("seed-large") && has(&hash(1)) && !has(&hash(0)));
    }
}
