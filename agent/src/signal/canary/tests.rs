//! A standing becomes series, and what it no longer has leaves.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::quality::canary::run::Waits;

pub fn standing(flips: Option<u64>) -> Standing {
    let outcome = Outcome {
        right: 3,
        wrong: 4,
        unanswered: 1,
        accuracy: 0.375,
        interval: (0.125, 0.75),
        confidence: Some(0.625),
        flips,
    };
    Standing {
        model: "m".into(),
        outcome: Some(outcome),
        ended: Some(UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
        progress: Some((5, 8)),
        waits: Some(Waits::Busy),
        waited: BTreeMap::from([(Waits::Busy, Duration::from_millis(1500))]),
        runs: 2,
        tokens: 900,
        failures: BTreeMap::from([("late", 1)]),
        failure: Some("it is late".to_owned()),
    }
}

#[test]
fn a_run_is_shown_with_its_interval_and_what_it_took() {
    let mut registries = Registries::new(false);
    let signal = CanarySignal::new(true, &mut registries);
    signal.show(&standing(Some(2)));
    let page = || String::from_utf8(registries.text().unwrap()).unwrap();
    for line in [
        r#"model_validation_accuracy{model="m",source="canary"} 0.375"#,
        r#"prediction_confidence{model="m",source="canary"} 0.625"#,
        r#"canary_accuracy_interval{model="m",bound="lower"} 0.125"#,
        r#"canary_accuracy_interval{model="m",bound="upper"} 0.75"#,
        r#"canary_questions{model="m",outcome="unanswered"} 1"#,
        r#"canary_flips{model="m"} 2"#,
        r#"canary_last_run_timestamp_seconds{model="m"} 1800000000.0"#,
        r#"canary_runs_total{model="m"} 2"#,
        r#"canary_tokens_total{model="m"} 900"#,
        r#"canary_failures_total{model="m",reason="late"} 1"#,
        r#"canary_wait_seconds_total{model="m",reason="busy"} 1.5"#,
    ] {
        assert!(page().lines().any(|found| found == line), "{line}:\n{}", page());
    }
    signal.show(&standing(None));
    assert!(!page().contains("canary_flips{"), "{}", page());
}
