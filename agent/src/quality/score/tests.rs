//! Scores against SciPy's (`tests/drift-vectors/expected.json`), and against slow ways to the same number.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::quality::npy::{Kind, read_file};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/drift-vectors")
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(vectors().join("expected.json")).unwrap()).unwrap()
}

/// Both are the same text, nothing, or numbers that are near enough.
fn near(found: &Value, expected: &Value, relative: f64, absolute: f64) -> bool {
    match (found.as_f64(), expected.as_f64()) {
        (Some(found), Some(expected)) => (found - expected).abs() <= absolute.max(relative * expected.abs()),
        _ => found == expected,
    }
}

#[test]
fn every_pair_has_the_scores_that_scipy_gives_it() {
    // Ours, theirs, tolerances.
    let fields = [
        ("kl", "kl_seed", 1e-9, 1e-12),
        ("kl_smoothed", "kl_eps", 1e-9, 1e-12),
        ("js_distance", "js_distance_2", 0.0, 1e-6),
        ("population_stability", "psi_eps", 1e-9, 1e-12),
        ("ks_statistic", "ks_stat", 0.0, 1e-12),
        ("wasserstein", "wasserstein", 1e-9, 1e-15),
        ("ks_method", "ks_method_auto", 0.0, 0.0),
        ("baseline_count", "finite_baseline", 0.0, 0.0),
        ("recent_count", "finite_recent", 0.0, 0.0),
        ("baseline_in_range", "in_range_baseline", 0.0, 0.0),
        ("recent_in_range", "in_range_recent", 0.0, 0.0),
    ];
    let cases = expected();
    let cases = cases["cases"].as_object().unwrap();
    for (name, case) in cases {
        let side = |side: &str| read_file(&vectors().join(format!("good/{name}.{side}.npy"))).unwrap();
        let scores = serde_json::to_value(Scores::of(side("recent"), side("baseline"))).unwrap();
        for (ours, theirs, relative, absolute) in fields {
            let (found, expected) = (&scores[ours], &case[theirs]);
            assert!(near(found, expected, relative, absolute), "{name} {ours}: {found}, not {expected}");
        }
        let exact = case["ks_method_auto"] == "exact";
        let (found, expected) = (&scores["ks_p_value"], &case["ks_p_auto"]);
        let relative = if exact { 1e-9 } else { 1e-6 };
        assert!(near(found, expected, relative, 1e-12), "{name} p: {found}, not {expected}");
    }
    assert_eq!(cases.len(), 31);
}

#[test]
fn law_of_one_sample_is_scipys_for_every_pair() {
    for (name, case) in expected()["cases"].as_object().unwrap() {
        let (Some(n), Some(m)) = (case["finite_recent"].as_u64(), case["finite_baseline"].as_u64()) else {
            continue;
        };
        let (Some(statistic), Some(expected)) = (case["ks_stat"].as_f64(), case["ks_p_asymp"].as_f64())
        else {
            continue;
        };
        let size = (n as f64 * m as f64 / (n + m) as f64).round_ties_even() as u64;
        let found = if size == 0 { 1.0 } else { one_sample::survival(size, statistic) };
        let near = (found - expected).abs() <= (1e-5 * expected).max(1e-12);
        assert!(near, "{name}, {size}, {statistic}: {found}, not {expected}");
    }
}

#[test]
fn every_accuracy_is_the_one_that_was_counted() {
    let cases = expected();
    for (name, case) in cases["accuracy"].as_object().unwrap() {
        let side = |side: &str| read_file(&vectors().join(format!("accuracy/{name}.{side}.npy"))).unwrap();
        let found = accuracy::compare(&side("pred"), &side("truth"));
        if name == "a4_length_mismatch" {
            assert!(found.unwrap_err().contains("100 predictions and 99 truths"));
            continue;
        }
        let found = found.unwrap();
        if name == "a3_prob_vs_label" {
            assert_eq!(found.comparison, accuracy::Comparison::ThresholdHalf);
            assert!((found.accuracy - case["threshold_half"].as_f64().unwrap()).abs() < 1e-12);
            continue;
        }
        assert_eq!(found.comparison, accuracy::Comparison::Equality, "{name}");
        if name == "a7_empty" {
            assert_eq!((found.accuracy.is_nan(), found.total), (true, 0));
            continue;
        }
        assert_eq!(found.correct, case["correct"].as_u64().unwrap(), "{name}");
        assert_eq!(found.total, case["total"].as_u64().unwrap(), "{name}");
        let found = serde_json::to_value(&found).unwrap();
        assert!(near(&found["accuracy"], &case["elementwise_flat"], 0.0, 1e-12), "{name}: {found}");
    }
}

fn array(values: Vec<f64>) -> Array {
    Array { kind: Kind::Float(8), values }
}

/// Draws every way to divide the numbers into two samples of these sizes.
fn share_of_divisions(a: usize, all: &[f64], reaches: impl Fn(&[f64], &[f64]) -> bool) -> f64 {
    let (mut reached, mut ways) = (0_u32, 0_u32);
    for mask in 0_u32..1 << all.len() {
        if mask.count_ones() as usize == a {
            let side = |wanted: u32| {
                (0..all.len()).filter(|i| mask >> i & 1 == wanted).map(|i| all[i]).collect::<Vec<_>>()
            };
            ways += 1;
            reached += u32::from(reaches(&side(1), &side(0)));
        }
    }
    f64::from(reached) / f64::from(ways)
}

/// The largest difference of the distribution functions, at every number.
fn slow_statistic(a: &[f64], b: &[f64]) -> f64 {
    let at =
        |side: &[f64], x: f64| side.iter().filter(|value| **value <= x).count() as f64 / side.len() as f64;
    a.iter().chain(b).map(|x| (at(a, *x) - at(b, *x)).abs()).fold(0.0, f64::max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn exact_p_is_the_share_of_all_divisions(a in 1_usize..6, b in 1_usize..6, order in any::<u64>()) {
        // Without ties, as the law has it: whole numbers in an order of chance.
        let mut all: Vec<f64> = (0..a + b).map(|i| i as f64).collect();
        let mut state = order | 1;
        for i in (1..all.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            all.swap(i, (state >> 33) as usize % (i + 1));
        }
        let (left, right) = (sorted(all[..a].to_vec()), sorted(all[a..].to_vec()));
        let found = ks::test(&left, &right).unwrap();
        prop_assert!((found.statistic - slow_statistic(&left, &right)).abs() < 1e-12);
        let p = share_of_divisions(a, &all, |l, r| slow_statistic(l, r) > found.statistic - 1e-9);
        prop_assert!((found.p_value - p).abs() < 1e-12, "{} {}", found.p_value, p);
    }

    #[test]
    fn area_is_that_of_a_fine_sum(
        a in proptest::collection::vec(0_u8..20, 1..20), b in proptest::collection::vec(0_u8..20, 1..20)
    ) {
        let floats = |side: &[u8]| side.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let (a, b) = (floats(&a), floats(&b));
        let at = |side: &[f64], x: f64| side.iter().filter(|v| **v <= x).count() as f64 / side.len() as f64;
        let slow: f64 = (0..20).map(|x| (at(&a, f64::from(x)) - at(&b, f64::from(x))).abs()).sum();
        let found = Scores::of(array(a), array(b)).wasserstein.unwrap();
        prop_assert!((found - slow).abs() < 1e-9, "{} {}", found, slow);
    }

    #[test]
    fn the_same_numbers_are_at_no_distance(a in proptest::collection::vec(-0.5_f64..1.5, 1..50)) {
        let scores = Scores::of(array(a.clone()), array(a));
        prop_assert_eq!(scores.ks_statistic, Some(0.0));
        prop_assert_eq!(scores.ks_p_value, Some(1.0));
        prop_assert_eq!(scores.wasserstein, Some(0.0));
        if scores.recent_in_range > 0 {
            for score in [Some(scores.kl), scores.kl_smoothed, scores.js_distance, scores.population_stability] {
                prop_assert_eq!(score.unwrap().to_bits(), 0);
            }
        }
    }
}
