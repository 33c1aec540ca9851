//! Judged requests become counters, and leave with their model.

use std::time::Duration;

use super::*;
use crate::clock::BootTime;
use crate::request::record::Outcome;
use crate::signal::latency::tests::{record, workload};
use crate::slo::Settings;

#[test]
fn requests_are_counted_by_objective_and_series_go_with_their_model() {
    let mut registries = Registries::new(false);
    let settings = Settings { p95_latency_target: Duration::from_millis(110), ..Settings::default() };
    let mut signal = SloSignal::new(settings.objectives(), &mut registries);
    let verdict = Verdict::default();
    let took = |ms: u64, outcome| {
        let mut record = record();
        record.end = BootTime(record.arrival.0 + ms * 1_000_000);
        record.outcome = outcome;
        record
    };
    for record in [
        took(110, Outcome::Ok),
        took(111, Outcome::Ok),
        took(5, Outcome::ServerError),
        took(900, Outcome::ClientAbort),
    ] {
        signal.on_request(&record, &verdict);
    }
    let page = |registries: &Registries| String::from_utf8(registries.text().unwrap()).unwrap();
    for line in [
        r#"slo_requests_total{model="m",workload="w",objective="latency"} 3"#,
        r#"slo_good_requests_total{model="m",workload="w",objective="latency"} 1"#,
        r#"slo_requests_total{model="m",workload="w",objective="errors"} 4"#,
        r#"slo_good_requests_total{model="m",workload="w",objective="errors"} 3"#,
        r#"slo_objective_ratio{objective="latency"} 0.95"#,
        r#"slo_objective_ratio{objective="errors"} 0.999"#,
    ] {
        assert!(page(&registries).lines().any(|found| found == line), "{line}:\n{}", page(&registries));
    }
    signal.forget_model("w", "another");
    assert!(page(&registries).contains("slo_requests_total{model=\"m\""));
    signal.forget_workload(&workload("w"));
    assert!(!page(&registries).contains("slo_requests_total{"), "{}", page(&registries));
}
