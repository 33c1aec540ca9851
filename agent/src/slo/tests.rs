//! Which requests are good, by a table and by what follows from the definitions; and which settings are refused.

use proptest::prelude::*;

use super::*;
use crate::clock::BootTime;
use crate::signal::latency::tests::record;

fn objective(measure: Measure, ms: u64) -> Objective {
    let good = Good::Within(measure, Duration::from_millis(ms));
    Objective { name: "o".into(), good, target: 0.95, model: None, workload: None, route: None }
}

/// A stream that took so long in all, with its first token after `first_ms`.
fn stream(ms: u64, first_ms: Option<u64>, outcome: Outcome) -> RequestRecord {
    let mut record = record();
    record.end = BootTime(record.arrival.0 + ms * 1_000_000);
    record.first_token = first_ms.map(|ms| BootTime(record.arrival.0 + ms * 1_000_000));
    (record.outcome, record.streamed) = (outcome, true);
    record
}

#[test]
fn a_request_is_good_bad_or_does_not_count() {
    use Outcome::{ClientAbort, ClientError, Ok, ServerError};
    let errors = Objective { good: Good::Answered, ..objective(Measure::Ttft, 1) };
    let (duration, ttft) = (objective(Measure::Duration, 100), objective(Measure::Ttft, 50));
    for (record, good) in [
        (stream(100, Some(50), Ok), [Some(true), Some(true), Some(true)]),
        (stream(101, Some(51), Ok), [Some(false), Some(false), Some(true)]),
        (stream(9, None, ServerError), [None, None, Some(false)]),
        (stream(9, None, ClientError), [None, None, Some(true)]),
        // A client that leaves says nothing of what would have come in time.
        (stream(40, None, ClientAbort), [None, None, Some(true)]),
        (stream(60, None, ClientAbort), [None, Some(false), Some(true)]),
        (stream(200, Some(20), ClientAbort), [Some(false), Some(true), Some(true)]),
    ] {
        let judged = [&duration, &ttft, &errors].map(|objective| objective.judge(&record));
        assert_eq!(judged, good, "{record:?}");
    }
    let cut = RequestRecord { incomplete: Some(Incomplete::BorderMissed), ..stream(100, Some(50), Ok) };
    assert_eq!((duration.judge(&cut), ttft.judge(&cut)), (Some(true), None));
    let lost = RequestRecord { incomplete: Some(Incomplete::EventsLost), ..cut };
    assert_eq!((duration.judge(&lost), errors.judge(&lost)), (None, Some(true)));
}

#[test]
fn an_objective_may_be_of_one_model_server_or_route() {
    let record = stream(10, Some(5), Outcome::Ok);
    let of = |model: Option<&str>, workload: Option<&str>, route: Option<&str>| {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Objective {
            model: own(model),
            workload: own(workload),
            route: own(route),
            ..objective(Measure::Duration, 99)
        }
        .judge(&record)
    };
    assert_eq!(of(Some("m"), Some("w"), Some(record.route.label())), Some(true));
    assert_eq!(of(Some("n"), None, None), None);
    assert_eq!(of(None, Some("v"), None), None);
    assert_eq!(of(None, None, Some("/score")), None);
}

#[test]
fn settings_that_help_nobody_are_refused_with_their_key() {
    let check = |text: &str| {
        let settings: Settings = toml::from_str(text).map_err(|error| error.to_string())?;
        settings.check().map_err(|error| error.to_string())
    };
    assert_eq!(check(""), Ok(()));
    let entry =
        |more: &str| format!("objectives = [{{ name = \"a\", of = \"ttft\", within = \"1s\"{more} }}]");
    assert_eq!(check(&entry(", target = 0.9, model = \"m\", route = \"/v1/completions\"")), Ok(()));
    for (text, expected) in [
        ("accuracy_target = 92".to_owned(), "`slo.accuracy_target` is 92, outside 0.5"),
        (
            "accuracy_warning = 0.95".to_owned(),
            "`slo.accuracy_target`, `_warning` and `_critical` are 0.92, 0.95",
        ),
        ("uptime_critical = 0.9999".to_owned(), "`slo.uptime_target`"),
        ("error_rate_warning = 0.00001".to_owned(), "`slo.error_rate_target`"),
        ("gpu_utilization_low = 99.0".to_owned(), "`slo.gpu_utilization_low`"),
        (entry(", route = \"/v2\""), "`route` is \"/v2\"; there are /v1/chat/completions"),
        (entry(", target = 1.0"), "`target` is 1, outside"),
        (entry(", of = \"x\""), "duplicate key"),
        (entry("").replace("\"a\"", "\"latency\""), "there is another one of this name"),
        (entry("").replace("\"a\"", "\"a b\""), "a name has 1 to 64 letters"),
        (entry("").replace("1s", "0s"), "`within` is nothing"),
    ] {
        let error = check(&text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

proptest! {
    /// A longer time is never good where a shorter one is not, and a wider threshold never makes it bad.
    #[test]
    fn good_is_monotonous(ms in 0_u64..500, more in 0_u64..500, threshold in 1_u64..500, wider in 0_u64..500) {
        let good = |ms, threshold| objective(Measure::Duration, threshold).judge(&stream(ms, None, Outcome::Ok)).unwrap();
        prop_assert!(good(ms, threshold) >= good(ms + more, threshold));
        prop_assert!(good(ms, threshold) <= good(ms, threshold + wider));
    }
}
