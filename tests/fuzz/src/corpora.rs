//! Every file of the corpora through its target, without the engine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::TARGETS;
use crate::seeds::seeds;

/// Files of one corpus, and their bytes.
const FILES_MAX: usize = 200;
const BYTES_MAX: u64 = 500 << 10;

/// What is held is counted for the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Says which file it was that broke something.
struct Named(PathBuf);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("broken by {}", self.0.display());
        }
    }
}

fn replay(name: &str) {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(corpora().join(name))
        .unwrap_or_else(|error| panic!("the corpus of {name}: {error}"))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let bytes: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(files.len() <= FILES_MAX && bytes <= BYTES_MAX, "{} files of {bytes} bytes", files.len());
    let found = files.len() > seeds(name).len();
    (target.run)(b"");
    for file in files {
        let bytes = fs::read(&file).unwrap();
        let _named = Named(file);
        (target.run)(&bytes);
    }
    assert!(found, "nothing but seeds: `cargo xtask fuzz {name}` finds more");
}

macro_rules! replays {
    ($($name:ident)*) => {
        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*
    };
}

replays! {
    answer btf command config connection credentials document framing http json negotiate node npy questions results ring sse state
}

#[test]
fn every_target_is_replayed_and_every_corpus_has_a_target() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, REPLAYED);
    assert!(names.is_sorted());
    let folders: BTreeSet<String> = fs::read_dir(corpora())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".dict"))
        .collect();
    assert_eq!(folders, names.iter().map(|name| (*name).to_owned()).collect());
}

/// `cargo xtask golden` writes them.
#[test]
fn golden_seeds_are_in_the_corpora() {
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for target in &TARGETS {
        let folder = corpora().join(target.name);
        fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in seeds(target.name) {
            let path = folder.join(format!("seed-{name}"));
            if update {
                fs::write(&path, &bytes).unwrap();
            }
            assert!(
                fs::read(&path).is_ok_and(|found| found == bytes),
                "{} is not as it is made",
                path.display()
            );
        }
    }
}
