//! Both readers on the genuine files, with the numbers that the tools wrote, and on bad ones.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::significance::{Measured, normal_tail, p_value_of_fall};
use super::*;

pub(super) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("tests/mmlu-examples")
}

/// The bytes of the n-th results file of an example, by name.
fn bytes(example: &str, index: usize) -> Vec<u8> {
    let folder = examples().join(example).join("local__granite-3.1-8b-lab-v2");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    std::fs::read(&files[index]).unwrap()
}

pub(super) fn harness_run(example: &str, index: usize) -> Evaluation {
    harness::read(&bytes(example, index)).unwrap()
}

fn old_format() -> Evaluation {
    harness::read(&std::fs::read(examples().join("v0.4.2/results.json")).unwrap()).unwrap()
}

fn report(name: &str) -> Vec<u8> {
    std::fs::read(examples().join("ilab").join(name)).unwrap()
}

fn check(run: &Evaluation, task: &str, accuracy: f64, error: Option<f64>, samples: Option<Samples>) {
    let score = run.score(task).unwrap();
    near(score.accuracy, accuracy);
    assert_eq!((score.standard_error.is_some(), score.samples), (error.is_some(), samples), "{task}");
    near(score.standard_error.unwrap_or(0.0), error.unwrap_or(0.0));
}

/// The parser may be off by the last bit.
fn near(got: f64, expected: f64) {
    assert!((got - expected).abs() <= 1e-15 * expected.abs(), "{got} {expected}");
}

#[test]
fn whole_benchmark_has_57_subtasks_and_five_groups() {
    let run = harness_run("full-57", 0);
    check(
        &run,
        "mmlu",
        0.721_052_631_578_947_4,
        Some(0.014_616_135_652_381_807),
        Some(Samples::Counted(950)),
    );
    let stated = (0.777_777_777_777_777_8, Some(0.100_831_690_330_336_72), Some(Samples::Counted(18)));
    check(&run, "mmlu_abstract_algebra", stated.0, stated.1, stated.2);
    assert_eq!(run.scores.len(), SUBTASKS + 5);
    assert_eq!(run.model.as_deref(), Some("local/granite-3.1-8b-lab-v2"));
    near(run.began_unix_seconds.unwrap(), 1_795_554_796.549_119_5);
    assert!(run.may_alert());
    let terms = &run.score("mmlu").unwrap().terms;
    assert_eq!((terms.mean, terms.parts.len()), (Mean::Weighted, SUBTASKS + 1));
    assert_eq!(terms.parts[0], part("mmlu", None, Some("2")));
    assert_eq!(terms.parts[1], part("mmlu_abstract_algebra", Some("5"), Some("1")));
}

fn part(task: &str, shots: Option<&str>, version: Option<&str>) -> Part {
    Part { task: task.to_owned(), shots: shots.map(str::to_owned), version: version.map(str::to_owned) }
}

#[test]
fn plain_mean_is_another_number_than_the_weighted_one() {
    let run = harness_run("full-57", 0);
    let single = run.scores.iter().filter(|score| score.terms.mean == Mean::Single);
    let mean = single.map(|score| score.accuracy).sum::<f64>() / SUBTASKS as f64;
    assert!((mean - 0.7156).abs() < 5e-5, "{mean}");
}

#[test]
fn two_runs_of_eight_subtasks_have_equal_terms() {
    let (first, second) = (harness_run("two-runs", 0), harness_run("two-runs", 1));
    let stated = Some(Samples::Counted(134));
    check(&first, "mmlu", 0.701_492_537_313_432_9, Some(0.039_004_367_674_054_255), stated);
    check(&second, "mmlu", 0.589_552_238_805_970_2, Some(0.042_538_165_274_632_42), stated);
    assert_eq!(first.score("mmlu").unwrap().terms, second.score("mmlu").unwrap().terms);
    let whole = harness_run("full-57", 0);
    assert_ne!(first.score("mmlu").unwrap().terms, whole.score("mmlu").unwrap().terms);
    assert_eq!(first.score("mmlu_anatomy").unwrap().terms, whole.score("mmlu_anatomy").unwrap().terms);
}

#[test]
fn limited_run_has_no_errors_and_may_not_alert() {
    let run = harness_run("limit-1", 0);
    check(&run, "mmlu", 0.625, None, Some(Samples::Counted(8)));
    assert_eq!(run.completeness, Completeness::Limited);
    assert_eq!(run.score("mmlu").unwrap().terms.limit.as_deref(), Some("1"));
    assert!(run.scores.iter().all(|score| score.standard_error.is_none()));
}

#[test]
fn run_without_a_group_has_no_total() {
    let run = harness_run("no-group", 0);
    assert!(run.score("mmlu").is_none());
    check(&run, "mmlu_astronomy", 1.0 / 3.0, Some(0.333_333_333_333_333_37), Some(Samples::Counted(3)));
    check(&run, "mmlu_virology", 1.0, Some(0.0), Some(Samples::Counted(3)));
    assert_eq!(run.completeness, Completeness::Limited);
    assert_eq!(run.scores[0].terms.parts, [part("mmlu_astronomy", Some("5"), Some("1"))]);
}

#[test]
fn old_format_has_counts_derived_from_errors() {
    let run = old_format();
    let stated = Some(Samples::Derived(134));
    check(&run, "mmlu", 0.231_343_283_582_089_55, Some(0.036_346_276_038_008_94), stated);
    check(&run, "mmlu_virology", 1.0 / 23.0, Some(0.043_478_260_869_565_23), Some(Samples::Derived(23)));
    assert_eq!(run.score("mmlu_stem").unwrap().samples, Some(Samples::Derived(58)));
    assert_eq!((run.model.as_deref(), run.completeness), (None, Completeness::Whole));
    near(run.began_unix_seconds.unwrap(), 1_795_554_886.951_964_1);
    assert_eq!(run.score("mmlu").unwrap().terms.parts.len(), 9);
}

#[test]
fn torn_files_are_not_finished() {
    for index in 0..2 {
        assert_eq!(harness::read(&bytes("torn", index)), Err(ReadError::Unfinished));
    }
}

#[test]
fn every_cut_of_a_results_file_is_not_finished() {
    let whole = bytes("no-group", 0);
    for length in 0..whole.len() {
        assert_eq!(harness::read(&whole[..length]), Err(ReadError::Unfinished), "{length} bytes");
    }
}

fn refused(text: &str, part_of_reason: &str) {
    match harness::read(text.as_bytes()) {
        Err(ReadError::NotResults(reason)) => assert!(reason.contains(part_of_reason), "{text}: {reason}"),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn what_is_no_result_is_refused_with_the_reason() {
    refused("[1, 2]", "invalid type");
    refused("{}", "missing field `results`");
    refused(r#"{"results": {"hellaswag": {"acc,none": 0.5}}}"#, "no mmlu task");
    refused(r#"{"results": {"mmlupro": {"acc,none": 0.5}}}"#, "no mmlu task");
    refused(r#"{"results": {"mmlu_pro": {"exact_match,custom-extract": 0.5}}}"#, "no mmlu task");
    refused(r#"{"results": {"mmlu": {"acc,none": NaN}}}"#, "expected value");
    refused(r#"{"results": {"mmlu": {"acc,none": Infinity}}}"#, "expected value");
    refused(r#"{"results": {"mmlu": {"acc,none": 1e999}}}"#, "number out of range");
    refused(r#"{"results": {"mmlu": {"acc,none": 72.1}}}"#, "not between 0 and 1");
    refused(r#"{"results": {"mmlu": {"acc,none": -0.1}}}"#, "not between 0 and 1");
    refused(r#"{"results": {"mmlu": {"acc,none": "N/A"}}}"#, "no number");
    refused(r#"{"results": {"mmlu": {"acc,none": 0.5, "acc_stderr,none": "?"}}}"#, "no number");
    refused(r#"{"results": {"mmlu": {"acc,none": 0.5, "acc_stderr,none": 2}}}"#, "standard error");
    refused(r#"{"results": {"mmlu": {"acc,none": 0.5, "sample_len": 1.5}}}"#, "number of questions");
    refused(r#"{"results": {"mmlu": {"acc,none": 0.5, "sample_len": 0}}}"#, "0 questions");
    refused(r#"{"results": {"mmlu": {"acc,none": 0.5}}, "date": -1}"#, "1970");
    refused(r#"{"results": {"mmlu": {"acc,none": 0.5}}} more"#, "trailing");
    let long = "m".repeat(NAME_BYTES_MAX + 1);
    refused(&format!(r#"{{"results": {{"mmlu": {{"acc,none": 0.5}}}}, "model_name": "{long}"}}"#), "name");
}

#[test]
fn file_past_the_bound_is_not_parsed() {
    let long = vec![b' '; FILE_BYTES_MAX + 1];
    assert_eq!(harness::read(&long), Err(ReadError::TooLarge));
    assert_eq!(ilab::read(&long), Err(ReadError::TooLarge));
}

#[test]
fn model_is_found_among_the_arguments() {
    let named = |config: &str| {
        let text = format!(r#"{{"results": {{"mmlu": {{"acc,none": 0.5}}}}, "config": {config}}}"#);
        harness::read(text.as_bytes()).unwrap().model
    };
    assert_eq!(named(r#"{"model_args": "dtype=auto,pretrained=a/b"}"#).as_deref(), Some("a/b"));
    assert_eq!(named(r#"{"model_args": {"model": "c", "n": [1]}}"#).as_deref(), Some("c"));
    assert_eq!(named(r#"{"model_args": ""}"#), None);
    assert_eq!(named(r#"{"model_args": null}"#), None);
}

#[test]
fn ring_of_groups_ends() {
    let text = r#"{"results": {"mmlu": {"acc,none": 0.5}}, "group_subtasks": {"mmlu": ["mmlu_a"], "mmlu_a": ["mmlu"]}}"#;
    assert_eq!(harness::read(text.as_bytes()).unwrap().scores[0].samples, None);
}

#[test]
fn chosen_questions_are_a_limited_run() {
    let text = r#"{"results": {"mmlu_a": {"acc,none": 0.5}}, "n-samples": {"mmlu_a": {"original": 9, "effective": 4}}}"#;
    let run = harness::read(text.as_bytes()).unwrap();
    assert_eq!(run.completeness, Completeness::Limited);
    assert!(run.scores[0].terms.limit.is_some());
    assert_eq!(run.scores[0].samples, Some(Samples::Counted(4)));
}

#[test]
fn report_of_ilab_has_57_lines_and_a_plain_mean() {
    let runs = ilab::read(&report("mmlu.txt")).unwrap();
    let run = &runs[0];
    assert_eq!((runs.len(), run.scores.len(), run.source), (1, SUBTASKS + 1, Source::Ilab));
    assert_eq!(run.model.as_deref(), Some("models/granite-3.1-8b-lab-v2"));
    check(run, "mmlu", 0.72, None, None);
    check(run, "mmlu_abstract_algebra", 0.78, None, None);
    check(run, "mmlu_world_religions", 0.45, None, None);
    let terms = &run.score("mmlu").unwrap().terms;
    assert_eq!((terms.mean, run.may_alert()), (Mean::Plain, true));
    assert_ne!(terms, &harness_run("full-57", 0).score("mmlu").unwrap().terms);
}

#[test]
fn branch_report_has_both_models() {
    let runs = ilab::read(&report("mmlu_branch.txt")).unwrap();
    let rows = [
        ("models/granite-3.1-8b-starter", [0.53, 0.42, 0.55, 0.61]),
        ("models/granite-3.1-8b-lab-v2", [0.57, 0.62, 0.48, 0.61]),
    ];
    let tasks =
        ["mmlu_branch", "mmlu_pr_knowledge_phoenix", "mmlu_pr_knowledge_mayan", "mmlu_pr_knowledge_tonsils"];
    assert_eq!(runs.len(), rows.len());
    for (run, (model, scores)) in runs.iter().zip(rows) {
        assert_eq!((run.model.as_deref(), run.scores.len()), (Some(model), tasks.len()));
        for (task, score) in tasks.iter().zip(scores) {
            check(run, task, score, None, None);
        }
    }
}

#[test]
fn cut_report_is_never_a_whole_one() {
    for name in ["mmlu.txt", "mmlu_branch.txt"] {
        let whole = report(name);
        for length in 0..whole.len() {
            match ilab::read(&whole[..length]) {
                Ok(runs) => assert!(runs.iter().all(|run| !run.may_alert()), "{name} {length}"),
                Err(error) => assert_eq!(error, ReadError::Unfinished, "{name} {length}"),
            }
        }
    }
}

#[test]
fn four_tasks_are_no_benchmark() {
    let text = "# KNOWLEDGE EVALUATION REPORT\n\n## MODEL (SCORE)\na (b) /c (1) (0.5/1.0)\n\n### SCORES (0.0 to 1.0):\nmmlu_a - 0.4\nmmlu_b - 0.6\n";
    let run = ilab::read(text.as_bytes()).unwrap().remove(0);
    assert_eq!(run.completeness, Completeness::Incomplete { subtasks: 2 });
    assert_eq!(run.model.as_deref(), Some("a (b) /c (1)"));
}

#[test]
fn last_of_several_reports_counts_and_logs_around_it_do_not() {
    let mut text = b"INFO: serving\n".to_vec();
    text.extend(report("mmlu_branch.txt"));
    text.extend(report("mmlu.txt"));
    text.extend("\n\nModel evaluate with MMLU completed!\n".as_bytes());
    let runs = ilab::read(&text).unwrap();
    assert_eq!((runs.len(), runs[0].score("mmlu").unwrap().accuracy), (1, 0.72));
}

#[test]
fn other_text_is_no_report() {
    let line = |row: &str| {
        format!(
            "# KNOWLEDGE EVALUATION REPORT\n\n## MODEL (SCORE)\nm (0.5/1.0)\n\n### SCORES (0.0 to 1.0):\n{row}\n"
        )
    };
    let texts = [
        "# SKILL EVALUATION REPORT\n".to_owned(),
        line("mmlu_a - 1.5"),
        line("mmlu_a - nan"),
        line("mmlu_a 0.5"),
        line("mmlu_a - 0.5\nmmlu_a - 0.5"),
        String::from_utf8_lossy(&report("mmlu.txt")).replace("(0.72/1.0)", "(0.62/1.0)"),
    ];
    for text in texts {
        assert!(matches!(ilab::read(text.as_bytes()), Err(ReadError::NotResults(_))), "{text}");
    }
    assert!(matches!(ilab::read(b"\xff\n"), Err(ReadError::NotResults(_))));
}

#[test]
fn normal_tail_agrees_with_the_complementary_error_function() {
    // Python's `0.5 * erfc(z / sqrt(2))`.
    let rows = [
        (-1.0, 0.841_344_746_068_542_9),
        (0.0, 0.5),
        (0.5, 0.308_537_538_725_986_9),
        (1.9, 0.028_716_559_816_001_82),
        (2.5, 0.006_209_665_325_776_139),
        (3.0, 0.001_349_898_031_630_095_7),
        (4.0, 3.167_124_183_311_996_5e-5),
        (6.0, 9.865_876_450_377_012e-10),
        (8.0, 6.220_960_574_271_819e-16),
    ];
    for (z, expected) in rows {
        let got = normal_tail(z);
        assert!((got - expected).abs() <= 1e-11 * expected, "{z}: {got} {expected}");
    }
    assert!(normal_tail(f64::NAN).is_nan());
    assert_eq!((normal_tail(f64::INFINITY), normal_tail(f64::NEG_INFINITY)), (0.0, 1.0));
}

fn measured(right: u64, samples: u64) -> Measured {
    Measured { accuracy: right as f64 / samples as f64, standard_error: None, samples: Some(samples) }
}

#[test]
fn fall_of_the_genuine_runs_has_the_stated_p_value() {
    let p_value = p_value_of_fall(measured(94, 134), measured(79, 134)).unwrap();
    assert!((p_value - 0.027_716_732_007_438_433).abs() < 1e-12, "{p_value}");
    let without = |run: &Evaluation| {
        let score = run.score("mmlu").unwrap();
        Measured { accuracy: score.accuracy, standard_error: score.standard_error, samples: None }
    };
    let (first, second) = (harness_run("two-runs", 0), harness_run("two-runs", 1));
    let p_value = p_value_of_fall(without(&first), without(&second)).unwrap();
    assert!((p_value - 0.026_214_799_481_794_31).abs() < 1e-12, "{p_value}");
}

#[test]
fn scores_that_do_not_tell_their_noise_have_no_p_value() {
    assert_eq!(p_value_of_fall(measured(8, 8), measured(0, 8)), None);
    let bare = Measured { accuracy: 0.7, standard_error: None, samples: None };
    assert_eq!(p_value_of_fall(bare, bare), None);
    assert_eq!(p_value_of_fall(measured(50, 50), measured(50, 50)), Some(1.0));
}

proptest! {
    #[test]
    fn readers_survive_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = harness::read(&bytes);
        let _ = ilab::read(&bytes);
    }

    #[test]
    fn readers_survive_damage(at in 0_usize..5000, byte in any::<u8>()) {
        for mut bytes in [bytes("no-group", 0), report("mmlu.txt"), report("mmlu_branch.txt")] {
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = harness::read(&bytes);
            if let Ok(runs) = ilab::read(&bytes) {
                prop_assert!(runs.iter().flat_map(|run| &run.scores).all(|score| score.accuracy <= 1.0));
            }
        }
    }
}
