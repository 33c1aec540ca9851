//! What is found in folders that appear late, change, vanish, and hold other things.

use std::os::unix::fs::symlink;

use tempfile::{TempDir, tempdir};

use super::super::tests::examples;
use super::*;

const WHOLE: &str = r#"{"results": {"mmlu": {"acc,none": 0.5}}}"#;

fn put(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

fn names(listing: &Listing) -> Vec<String> {
    let name = |candidate: &Candidate| candidate.path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<_> = listing.candidates.iter().map(name).collect();
    names.sort();
    names
}

#[test]
fn genuine_folder_has_ten_candidates_of_which_two_are_torn() {
    let listing = list(&examples());
    let outcomes: Vec<_> = listing.candidates.iter().map(read).collect();
    let whole = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let torn = outcomes.iter().filter(|outcome| **outcome == Err(ReadError::Unfinished)).count();
    assert_eq!((listing.candidates.len(), whole, torn), (10, 8, 2));
}

#[test]
fn only_names_that_may_be_results_are_listed() {
    let folder = tempdir().unwrap();
    let wanted = [
        "evaluated.txt",
        "mine_2026-11-24T21-13-31.319895.json",
        "mine_2026-11-24T21-13-31.json",
        "results.json",
        "results_2026-11-24T21-13-31.319895.json",
    ];
    let other = [
        "samples_mmlu_2026-11-24T21-13-31.319895.jsonl",
        "config.json",
        "mine_2026.json",
        "results.json.tmp",
    ];
    for name in wanted.iter().chain(&other) {
        put(&folder, &format!("model/{name}"), WHOLE);
    }
    assert_eq!(names(&list(folder.path())), wanted);
}

#[test]
fn folder_that_does_not_exist_yet_is_an_ordinary_state() {
    let folder = tempdir().unwrap();
    let later = folder.path().join("later");
    let mut seen = Seen::default();
    let listing = list(&later);
    assert!(listing.missing && seen.changed(&listing).is_empty());
    put(&folder, "later/model/results_1.json", WHOLE);
    assert_eq!(seen.changed(&list(&later)).len(), 1);
    assert!(seen.changed(&list(&later)).is_empty());
}

#[test]
fn torn_file_is_handed_out_again_when_it_is_whole() {
    let folder = tempdir().unwrap();
    put(&folder, "results_1.json", &WHOLE[..20]);
    let mut seen = Seen::default();
    let torn = seen.changed(&list(folder.path())).remove(0);
    assert_eq!(read(&torn), Err(ReadError::Unfinished));
    seen.retry(&torn.path);
    assert_eq!(seen.changed(&list(folder.path())).len(), 1);
    assert!(seen.changed(&list(folder.path())).is_empty());
    put(&folder, "results_1.json", WHOLE);
    let whole = seen.changed(&list(folder.path())).remove(0);
    assert_eq!(read(&whole).unwrap()[0].scores[0].accuracy, 0.5);
}

#[test]
fn replaced_file_of_equal_length_and_time_is_changed() {
    let folder = tempdir().unwrap();
    let path = put(&folder, "results.json", WHOLE);
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let mut seen = Seen::default();
    seen.changed(&list(folder.path()));
    let other = put(&folder, "new", &WHOLE.replace("0.5", "0.6"));
    fs::File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
    fs::rename(other, &path).unwrap();
    assert_eq!(seen.changed(&list(folder.path())).len(), 1);
}

#[test]
fn newest_comes_first_and_the_bound_holds() {
    let folder = tempdir().unwrap();
    for index in 0..FILES_MAX as u64 + 3 {
        let path = put(&folder, &format!("results_{index}.json"), "");
        let time = UNIX_EPOCH + std::time::Duration::from_secs(index + 1);
        fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
    let listing = list(folder.path());
    assert_eq!((listing.candidates.len(), listing.left_out), (FILES_MAX, 3));
    assert_eq!(listing.candidates[0].stamp.modified_unix_seconds(), FILES_MAX as f64 + 3.0);
}

#[test]
fn vanished_and_replaced_files_are_told_apart() {
    let folder = tempdir().unwrap();
    let path = put(&folder, "results.json", WHOLE);
    let candidate = list(folder.path()).candidates.remove(0);
    fs::remove_file(&path).unwrap();
    assert_eq!(read(&candidate), Err(ReadError::Vanished));
    fs::create_dir(&path).unwrap();
    assert!(matches!(read(&candidate), Err(ReadError::NotResults(_))));
    assert!(list(folder.path()).candidates.is_empty());
    fs::remove_dir(&path).unwrap();
    fs::File::create(&path).unwrap().set_len(FILE_BYTES_MAX as u64 + 1).unwrap();
    assert_eq!(read(&candidate), Err(ReadError::TooLarge));
}

#[test]
fn linked_files_are_read_and_linked_folders_are_not_entered() {
    let (folder, elsewhere) = (tempdir().unwrap(), tempdir().unwrap());
    let file = put(&elsewhere, "some.json", WHOLE);
    put(&elsewhere, "results_9.json", WHOLE);
    symlink(&file, folder.path().join("results_1.json")).unwrap();
    symlink(elsewhere.path(), folder.path().join("model")).unwrap();
    symlink(folder.path().join("nowhere"), folder.path().join("results_2.json")).unwrap();
    assert_eq!(names(&list(folder.path())), ["results_1.json"]);
}

#[test]
fn folders_past_the_depth_are_counted() {
    let folder = tempdir().unwrap();
    put(&folder, "1/2/3/4/results.json", WHOLE);
    put(&folder, "1/2/3/4/5/results.json", WHOLE);
    let listing = list(folder.path());
    assert_eq!((listing.candidates.len(), listing.unreadable), (1, 1));
}

#[test]
fn named_file_is_taken_whatever_its_name() {
    let folder = tempdir().unwrap();
    for (name, kind) in [("own.json", Kind::Results), ("saved.log", Kind::Report)] {
        assert_eq!(list(&put(&folder, name, WHOLE)).candidates[0].kind, kind);
    }
}
