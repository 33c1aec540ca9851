//! Standings become series, and leave with their runs.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::quality::mmlu::Source;
use crate::quality::mmlu::history::{Against, Comparison, Run};
use crate::quality::mmlu::significance::Measured;

fn run(accuracy: f64) -> Run {
    let measured = Measured { accuracy, standard_error: Some(0.03125), samples: Some(134) };
    Run { began_unix_seconds: 1000.0, measured, may_alert: true }
}

pub fn standing(comparison: Option<Comparison>) -> Standing {
    let newest = Newest { source: Source::Harness, task: "mmlu".into(), run: run(0.5), comparison };
    Standing { model: "m".into(), scores: vec![newest], files: BTreeMap::from([("whole", 2)]), failure: None }
}

#[test]
fn a_score_is_shown_with_its_noise_its_age_and_its_fall() {
    let mut registries = Registries::new(false);
    let mut signal = MmluSignal::new(true, &mut registries);
    let of = Against::Best { of: 1 };
    let fallen =
        Comparison { against: of, reference: run(0.75), fall: 0.25, p_value: Some(0.125), significant: true };
    let now = UNIX_EPOCH + Duration::from_secs(1060);
    signal.show(&[standing(Some(fallen))], now);
    let page = |registries: &Registries| String::from_utf8(registries.text().unwrap()).unwrap();
    let labels = "{model=\"m\",source=\"lm_eval\",task=\"mmlu\"}";
    for (name, value) in [
        ("mmlu_benchmark_score", "0.5"),
        ("mmlu_standard_error", "0.03125"),
        ("mmlu_questions", "134.0"),
        ("mmlu_score_age_seconds", "60.0"),
        ("mmlu_score_fall", "0.25"),
        ("mmlu_score_fall_p_value", "0.125"),
        ("mmlu_score_fallen", "1.0"),
    ] {
        let line = format!("{name}{labels} {value}");
        assert!(page(&registries).lines().any(|found| found == line), "{line}:\n{}", page(&registries));
    }
    signal.show(&[standing(None)], now);
    assert!(!page(&registries).contains("mmlu_score_fall{"), "{}", page(&registries));
    signal.show(&[Standing { scores: Vec::new(), ..standing(None) }], now);
    assert!(!page(&registries).contains("mmlu_benchmark_score{"), "{}", page(&registries));
    assert!(page(&registries).contains("mmlu_files_total{model=\"m\",outcome=\"whole\"} 2\n"));
}
