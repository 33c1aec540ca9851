//! Order, repetition and bounds of the history, and its rate of false alarms over many simulated ones.

use super::super::tests::harness_run;
use super::super::{Completeness, Mean, Part, Samples};
use super::*;

const MODEL: &str = "granite";

/// SplitMix64: the same numbers on every run of the tests.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn right(&mut self, samples: u64, accuracy: f64) -> u64 {
        let below = (accuracy * u64::MAX as f64) as u64;
        (0..samples).filter(|_| self.next() < below).count() as u64
    }
}

fn run_at(began: f64, right: u64, samples: u64) -> Run {
    let accuracy = right as f64 / samples as f64;
    let measured = Measured { accuracy, standard_error: None, samples: Some(samples) };
    Run { began_unix_seconds: began, measured, may_alert: true }
}

fn evaluation(began: f64, accuracy: f64, limit: Option<&str>) -> Evaluation {
    let part = Part { task: "mmlu".to_owned(), shots: None, version: None };
    let terms = Terms {
        source: Source::Harness,
        mean: Mean::Single,
        limit: limit.map(str::to_owned),
        prompting: None,
        parts: vec![part],
    };
    let samples = Some(Samples::Counted(1000));
    let score = Score { task: "mmlu".to_owned(), accuracy, standard_error: None, samples, terms };
    Evaluation {
        model: None,
        source: Source::Harness,
        began_unix_seconds: Some(began),
        completeness: if limit.is_some() { Completeness::Limited } else { Completeness::Whole },
        scores: vec![score],
    }
}

fn total(history: &History) -> &Series {
    history.current().find(|(subject, _, _)| subject.task == "mmlu").unwrap().2
}

#[test]
fn genuine_fall_is_found_in_either_order() {
    let runs = [harness_run("two-runs", 0), harness_run("two-runs", 1)];
    for order in [[0, 1], [1, 0]] {
        let mut history = History::new(0.05);
        for index in order {
            assert_eq!(history.take(MODEL, &runs[index], 0.0).added, 13);
        }
        let comparison = history.compare(total(&history)).unwrap();
        assert!((comparison.fall - 15.0 / 134.0).abs() < 1e-12);
        assert!((comparison.p_value.unwrap() - 0.027_716_732_007_438_433).abs() < 1e-12);
        assert_eq!((comparison.against, comparison.significant), (Against::Best { of: 1 }, true));
        assert!(!total(&history).compare(SIGNIFICANCE_LEVEL).unwrap().significant);
    }
}

#[test]
fn subtasks_of_few_questions_are_not_judged() {
    let mut history = History::default();
    for index in 0..2 {
        history.take(MODEL, &harness_run("two-runs", index), 0.0);
    }
    let anatomy = history.current().find(|(subject, _, _)| subject.task == "mmlu_anatomy").unwrap().2;
    assert_eq!(history.compare(anatomy).unwrap().p_value, None);
}

#[test]
fn run_seen_twice_counts_once() {
    let mut history = History::default();
    let run = harness_run("full-57", 0);
    assert_eq!(history.take(MODEL, &run, 1.0).added, 62);
    assert_eq!(history.take(MODEL, &run, 2.0), Taken { seen_before: 62, ..Taken::default() });
    assert_eq!((total(&history).len(), total(&history).compare(0.01)), (1, None));
}

#[test]
fn runs_under_other_terms_are_not_compared() {
    let mut history = History::default();
    history.take(MODEL, &harness_run("full-57", 0), 0.0);
    history.take(MODEL, &harness_run("two-runs", 1), 0.0);
    assert_eq!(total(&history).compare(1.0), None);
    assert_eq!(total(&history).newest().unwrap().measured.samples, Some(134));
}

#[test]
fn limited_run_neither_hides_a_whole_one_nor_alerts() {
    let mut history = History::default();
    history.take(MODEL, &evaluation(1.0, 0.7, None), 0.0);
    history.take(MODEL, &evaluation(2.0, 0.2, Some("1")), 0.0);
    history.take(MODEL, &evaluation(3.0, 0.1, Some("1")), 0.0);
    assert_eq!(total(&history).newest().unwrap().measured.accuracy, 0.7);
    for ways in history.subjects.values() {
        assert!(ways.values().all(|series| series.compare(1.0).is_none()));
    }
}

#[test]
fn pinned_run_is_compared_with_instead_of_the_best() {
    let mut history = History::default();
    history.pin(MODEL, &evaluation(1.0, 0.70, None), 0.0);
    assert_eq!(history.current().count(), 0);
    history.take(MODEL, &evaluation(1.0, 0.70, None), 0.0);
    assert_eq!(history.compare(total(&history)), None);
    history.take(MODEL, &evaluation(2.0, 0.80, None), 0.0);
    history.take(MODEL, &evaluation(3.0, 0.60, None), 0.0);
    let comparison = history.compare(total(&history)).unwrap();
    assert!((comparison.fall - 0.1).abs() < 1e-12);
    assert_eq!((comparison.against, comparison.significant), (Against::Pinned, true));
    assert_eq!(total(&history).best().unwrap().measured.accuracy, 0.80);
}

#[test]
fn bounds_hold_and_the_oldest_goes_first() {
    let mut series = Series::default();
    for second in 1..=RUNS_MAX as u32 + 5 {
        series.insert(run_at(f64::from(second), 70, 100));
    }
    assert_eq!((series.len(), series.runs[0].began_unix_seconds), (RUNS_MAX, 6.0));
    assert!(matches!(series.insert(run_at(1.0, 70, 100)), Insert::LeftOut));
    assert!(series.runs.is_sorted_by(|one, other| one.began_unix_seconds < other.began_unix_seconds));
    let mut history = History::default();
    for second in 1..=TERMS_MAX as u32 + 3 {
        history.take(MODEL, &evaluation(f64::from(second), 0.5, Some(&second.to_string())), 0.0);
    }
    let ways = history.subjects.values().next().unwrap();
    assert_eq!(ways.len(), TERMS_MAX);
    assert!(ways.keys().all(|terms| terms.limit.as_deref() != Some("1")));
    history.forget(MODEL);
    assert!(history.subjects.is_empty());
}

#[test]
fn file_time_stands_in_where_no_start_is_told() {
    let mut history = History::default();
    let mut run = evaluation(0.0, 0.7, None);
    run.began_unix_seconds = None;
    assert_eq!((history.take(MODEL, &run, 5.0).added, history.take(MODEL, &run, 5.0).seen_before), (1, 1));
    assert_eq!(total(&history).newest().unwrap().began_unix_seconds, 5.0);
}

/// Of `HISTORIES` of `count` runs of one unchanged model, the share whose last run is called worse; with
/// and without the correction for the choice of the best.
fn false_alarms(count: u32, samples: u64, accuracy: f64, level: f64) -> (f64, f64) {
    const HISTORIES: u64 = 4000;
    let mut random = Random(u64::from(count) * 1000 + samples);
    let (mut corrected, mut naive) = (0_u32, 0_u32);
    for _ in 0..HISTORIES {
        let mut series = Series::default();
        for time in 0..count {
            series.insert(run_at(f64::from(time), random.right(samples, accuracy), samples));
        }
        let comparison = series.compare(level).unwrap();
        corrected += u32::from(comparison.significant);
        let newest = series.newest().unwrap().measured;
        let p_value = significance::p_value_of_fall(comparison.reference.measured, newest).unwrap();
        naive += u32::from(p_value <= level);
    }
    (f64::from(corrected) / HISTORIES as f64, f64::from(naive) / HISTORIES as f64)
}

#[test]
fn unchanged_model_is_called_worse_no_more_often_than_the_level_says() {
    for (count, samples, accuracy, level) in [
        (10, 134, 0.7, 0.05),
        (30, 134, 0.7, 0.05),
        (10, 134, 0.7, 0.01),
        (30, 134, 0.7, 0.01),
        (30, 950, 0.72, 0.05),
        (30, 100, 0.95, 0.05),
        (30, 30, 0.9, 0.05),
    ] {
        let (corrected, naive) = false_alarms(count, samples, accuracy, level);
        println!(
            "{count} runs of {samples} at {accuracy}: level {level}, found {corrected}, uncorrected {naive}"
        );
        assert!(corrected <= level, "{count} {samples} {accuracy} {level}: {corrected}");
        assert!(naive > level, "the simulation would not show the fault: {naive}");
    }
}

#[test]
fn real_fall_is_found_among_thirty_runs() {
    const HISTORIES: u32 = 500;
    let mut random = Random(7);
    let mut found = 0;
    for _ in 0..HISTORIES {
        let mut series = Series::default();
        for time in 0..29 {
            series.insert(run_at(f64::from(time), random.right(2000, 0.72), 2000));
        }
        series.insert(run_at(29.0, random.right(2000, 0.66), 2000));
        found += u32::from(series.compare(SIGNIFICANCE_LEVEL).unwrap().significant);
    }
    println!("found {found} of {HISTORIES}");
    assert!(found > HISTORIES * 95 / 100, "{found}");
}
