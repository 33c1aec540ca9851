//! The genuine files, in folders that come later, with files that are not finished.

use std::fs;
use std::path::PathBuf;

use super::*;

fn examples(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/mmlu-examples").join(name)
}

fn results(path: &Path, baseline: Option<PathBuf>, significance: f64) -> (Results, Standing) {
    let entry = ResultSettings { model: "granite".to_owned(), path: path.to_owned(), baseline };
    let all = Settings { significance, ..Settings::default() };
    (Results::new(entry, &all), Standing::new("granite"))
}

fn score<'a>(standing: &'a Standing, source: Source, task: &str) -> Option<&'a Newest> {
    standing.scores.iter().find(|newest| newest.source == source && &*newest.task == task)
}

#[test]
fn a_run_is_shown_with_its_groups_alone() {
    let (mut results, mut standing) = results(&examples("full-57"), None, 0.01);
    results.look(&mut standing);
    let tasks: Vec<&str> = standing.scores.iter().map(|newest| &*newest.task).collect();
    assert_eq!(tasks, ["mmlu", "mmlu_humanities", "mmlu_other", "mmlu_social_sciences", "mmlu_stem"]);
    let mmlu = &standing.scores[0];
    assert!((mmlu.run.measured.accuracy - 0.7211).abs() < 5e-5, "{mmlu:?}");
    assert_eq!((mmlu.run.measured.samples, mmlu.comparison), (Some(950), None));
    assert_eq!((standing.files.clone(), standing.failure.clone()), (BTreeMap::from([("whole", 1)]), None));
    // Nothing is new at the second look.
    results.look(&mut standing);
    assert_eq!(standing.files["whole"], 1);
}

#[test]
fn subtasks_are_shown_where_asked_for_or_where_there_is_no_group() {
    let (mut results_, mut standing) = results(&examples("full-57"), None, 0.01);
    results_.subtasks = true;
    results_.look(&mut standing);
    assert_eq!(standing.scores.len(), 62);
    // The genuine one was limited, too.
    let folder = examples("no-group/local__granite-3.1-8b-lab-v2");
    let text = fs::read_to_string(folder.join("results_2026-11-24T21-14-47.201933.json")).unwrap();
    let mut file: serde_json::Value = serde_json::from_str(&text).unwrap();
    file["config"]["limit"] = serde_json::Value::Null;
    file["n-samples"] = serde_json::json!({});
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("results.json"), file.to_string()).unwrap();
    let (mut results, mut standing) = results(folder.path(), None, 0.01);
    results.look(&mut standing);
    assert!(score(&standing, Source::Harness, "mmlu_astronomy").is_some(), "{standing:?}");
}

#[test]
fn a_fall_is_told_with_what_it_is_against() {
    let (mut results_, mut standing) = results(&examples("two-runs"), None, 0.05);
    results_.look(&mut standing);
    let fallen = score(&standing, Source::Harness, "mmlu").unwrap().comparison.unwrap();
    assert!((fallen.fall - (0.7015 - 0.5896)).abs() < 1e-4 && fallen.significant, "{fallen:?}");
    // Against the second run as baseline, the second run has not fallen, whatever the first was.
    let folder = examples("two-runs/local__granite-3.1-8b-lab-v2");
    let baseline = folder.join("results_2026-11-24T21-14-18.691080.json");
    let (mut results, mut standing) = results(&examples("two-runs"), Some(baseline), 0.05);
    results.look(&mut standing);
    assert_eq!(score(&standing, Source::Harness, "mmlu").unwrap().comparison, None);
}

#[test]
fn limited_runs_are_counted_and_no_score() {
    let (mut results, mut standing) = results(&examples("limit-1"), None, 0.01);
    results.look(&mut standing);
    assert_eq!((standing.scores.len(), standing.files["limited"]), (0, 1));
}

#[test]
fn tools_are_kept_apart_and_reports_of_a_branch_are_of_the_model() {
    let (mut results, mut standing) = results(&examples("ilab"), None, 0.01);
    results.look(&mut standing);
    let accuracy = |source, task| score(&standing, source, task).unwrap().run.measured.accuracy;
    assert_eq!((accuracy(Source::Ilab, "mmlu"), accuracy(Source::IlabBranch, "mmlu_branch")), (0.72, 0.57));
}

#[test]
fn files_that_come_later_and_in_pieces_are_read_when_they_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later");
    let (mut results, mut standing) = results(&path, None, 0.01);
    results.look(&mut standing);
    assert!(standing.failure.as_ref().unwrap().contains("is not there (yet)"));
    let whole = fs::read(examples("v0.4.2/results.json")).unwrap();
    fs::create_dir_all(path.join("model")).unwrap();
    let file = path.join("model/results.json");
    for cut in [0, 5000] {
        fs::write(&file, &whole[..cut]).unwrap();
        results.look(&mut standing);
        assert!(standing.scores.is_empty() && standing.failure.as_ref().unwrap().contains("not finished"));
    }
    fs::write(&file, &whole).unwrap();
    results.look(&mut standing);
    assert_eq!((standing.failure.clone(), standing.files["unfinished"]), (None, 2));
    let newest = score(&standing, Source::Harness, "mmlu").unwrap().clone();
    assert!((newest.run.measured.accuracy - 0.2313).abs() < 5e-5);
    // What vanishes leaves its score.
    fs::remove_file(&file).unwrap();
    results.look(&mut standing);
    assert_eq!(score(&standing, Source::Harness, "mmlu"), Some(&newest));
}
