//! The rendered file is the one that is shipped; and what every rule has.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use super::*;

const SHIPPED: &str = include_str!("../../../deploy/prometheus/rules/inferscope.yml");

/// With everything that can be set.
fn whole() -> Settings {
    let time = |ms| Some(Duration::from_millis(ms));
    Settings {
        p95_ttft_target: time(500),
        p95_ttft_warning: time(1000),
        p95_ttft_critical: time(2000),
        p95_time_per_output_token_target: time(50),
        p95_time_per_output_token_warning: time(80),
        p95_time_per_output_token_critical: time(150),
        ..Settings::default()
    }
}

fn all_alerts() -> Vec<Alert> {
    groups(&whole()).into_iter().flat_map(|group| group.alerts).collect()
}

#[test]
fn the_shipped_file_is_rendered_from_the_defaults() {
    let rendered = render(&groups(&Settings::default()), RUNBOOKS);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus/rules/inferscope.yml");
        std::fs::write(path, &rendered).unwrap();
        return;
    }
    assert!(
        rendered == SHIPPED,
        "deploy/prometheus/rules/inferscope.yml is not what `inferscope rules` writes"
    );
}

#[test]
fn levels_of_the_settings_are_in_the_rules_and_those_that_are_not_set_are_not() {
    let plain = render(&groups(&Settings::default()), RUNBOOKS);
    for text in ["> 0.08\n", "> 0.15\n", "< 0.92\n", "> 0.005\n", "> 0.0144\n", "model_drift_score > 0.5"] {
        assert!(plain.contains(text), "{text}");
    }
    assert!(!plain.contains("TimeToFirstToken"));
    let whole = render(&groups(&whole()), "https://runbooks.example/");
    assert!(whole.contains("TimeToFirstTokenCritical") && whole.contains("> 2\n"));
    assert!(whole.contains("\"https://runbooks.example/GPULost.md\""));
}

#[test]
fn names_are_there_once_and_every_alert_says_what_it_is() {
    let mut names = HashSet::new();
    for alert in all_alerts() {
        assert!(names.insert(alert.name), "{}", alert.name);
        assert!(!alert.summary.is_empty() && alert.description.ends_with('.'), "{}", alert.name);
    }
}
