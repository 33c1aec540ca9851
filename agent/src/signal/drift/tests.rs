//! Standings become series; what cannot be had is absent.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::quality::files::{Counted, Scored};
use crate::quality::npy::{Array, Kind};
use crate::quality::score::{Scores, accuracy};

fn array(values: &[f64]) -> Array {
    Array { kind: Kind::Float(8), values: values.to_vec() }
}

pub fn standing(recent: &[f64], truth: Option<&[f64]>) -> Standing {
    let accuracy = truth.map(|truth| accuracy::compare(&array(recent), &array(truth)).unwrap());
    Standing {
        model: "m".into(),
        source: "files".into(),
        scored: Some(Scored {
            scores: Scores::of(array(recent), array(&[0.11, 0.91])),
            accuracy,
            confidence: None,
            written: UNIX_EPOCH + Duration::from_secs(7),
            confirmed: BootTime(1_000_000_000),
        }),
        validation: None,
        counted: Counted { correct: 1, total: 2, false_positives: 1 },
        failures: BTreeMap::from([("missing", 3)]),
        failure: None,
    }
}

fn page(standing: &Standing) -> String {
    let mut registries = Registries::new(false);
    DriftSignal::new(true, &mut registries).show(standing, BootTime(3_500_000_000));
    String::from_utf8(registries.text().unwrap()).unwrap()
}

#[test]
fn scores_and_counts_are_on_the_page() {
    let page = page(&standing(&[0.11, 0.92, 0.3, 2.0], Some(&[0.11, 0.91, 0.0, 0.0])));
    for line in [
        "model_drift_score{model=\"m\",source=\"files\"} +Inf",
        "model_accuracy{model=\"m\",source=\"files\"} 0.25",
        "drift_accuracy_info{model=\"m\",source=\"files\",method=\"equality\"} 1",
        "model_correct_predictions_total{model=\"m\",source=\"files\"} 1",
        "total_predictions{model=\"m\",source=\"files\"} 2.0",
        "drift_samples{model=\"m\",source=\"files\",file=\"recent\",range=\"in_range\"} 3",
        "drift_score_age_seconds{model=\"m\",source=\"files\"} 2.5",
        "drift_predictions_timestamp_seconds{model=\"m\",source=\"files\"} 7.0",
        "drift_file_failures_total{model=\"m\",source=\"files\",reason=\"missing\"} 3",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in:\n{page}");
    }
}

#[test]
fn what_cannot_be_had_is_nan_or_absent_and_never_0() {
    let page = page(&standing(&[], None));
    assert!(page.contains("model_drift_score{model=\"m\",source=\"files\"} NaN\n"), "{page}");
    for absent in [
        "kolmogorov_smirnov_test_p_value{",
        "model_accuracy{",
        "drift_kl_smoothed{",
        "prediction_confidence{",
    ] {
        assert!(!page.contains(absent), "{absent} is in:\n{page}");
    }
}
