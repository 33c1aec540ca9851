//! Do real Prometheus tools take the rules, and does every alert fire when it should and only then?
//!
//! Needs promtool of two generations, which `cargo xtask setup` unpacks, and the agent's binary.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use inferscope_tests::stage::{agent_binary, tool};

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");

/// Alerts that are rendered only where their levels are set, each with a value of their histogram's buckets beyond it.
const LEVELS: &str = r#"
[slo]
p95_ttft_warning = "1s"
p95_ttft_critical = "2s"
p95_time_per_output_token_warning = "80ms"
p95_time_per_output_token_critical = "150ms"
"#;
const OF_LEVELS: [(&str, &str, &str); 4] = [
    ("TimeToFirstTokenHigh", "vllm_time_to_first_token_seconds", "1"),
    ("TimeToFirstTokenCritical", "vllm_time_to_first_token_seconds", "2"),
    ("TimePerOutputTokenHigh", "vllm_time_per_output_token_seconds", "0.08"),
    ("TimePerOutputTokenCritical", "vllm_time_per_output_token_seconds", "0.15"),
];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// promtool of each generation that is there.
fn promtools() -> Vec<PathBuf> {
    let names = ["prometheus-2/promtool", "prometheus-3/promtool"];
    names.into_iter().filter_map(|name| tool(Path::new(SERVER), name)).collect()
}

fn check(program: &Path, what: &str, file: &Path) {
    let output = Command::new(program).args(["check", what]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What promtool says of a file of tests; `Ok` where all hold.
fn run_tests(program: &Path, tests: &Path) -> Result<(), String> {
    let output = Command::new(program).args(["test", "rules"]).arg(tests).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    output.status.success().then_some(()).ok_or_else(|| String::from_utf8_lossy(&said).into_owned())
}

fn test_files() -> Vec<PathBuf> {
    let folder = fs::read_dir(deploy().join("prometheus/rules/tests")).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Values of a key that stands first on its line, after a dash or not.
fn values<'a>(text: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    let key = format!("{key}: ");
    text.lines().filter_map(move |line| line.trim_start_matches([' ', '-']).strip_prefix(&key))
}

#[test]
fn promtools_of_two_generations_take_the_rules_and_their_tests() {
    let rules = deploy().join("prometheus/rules/inferscope.yml");
    let (promtools, files) = (promtools(), test_files());
    // All at once: most of a minute and a half of one processor.
    thread::scope(|scope| {
        for promtool in &promtools {
            check(promtool, "rules", &rules);
            for tests in &files {
                scope.spawn(move || {
                    run_tests(promtool, tests).unwrap_or_else(|said| panic!("{}: {said}", tests.display()));
                });
            }
        }
    });
}

#[test]
fn promtools_take_the_configurations_of_their_generation() {
    let newer =
        ["prometheus.yml", "prometheus-native.yml", "prometheus-fleet.yml", "prometheus-federation.yml"];
    for promtool in promtools() {
        let older = promtool.ends_with("prometheus-2/promtool");
        for name in newer.iter().take(if older { 1 } else { newer.len() }) {
            check(&promtool, "config", &deploy().join("prometheus").join(name));
        }
    }
}

#[test]
fn every_alert_is_tested_to_fire_and_to_stay_quiet_and_has_a_runbook() {
    let rules = fs::read_to_string(deploy().join("prometheus/rules/inferscope.yml")).unwrap();
    let alerts: BTreeSet<&str> = values(&rules, "alert").collect();
    assert!(alerts.len() > 40, "{alerts:?}");
    let mut tested: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for tests in test_files() {
        let text = fs::read_to_string(tests).unwrap();
        for part in text.split("alertname: ").skip(1) {
            let entry = tested.entry(part.lines().next().unwrap().to_owned()).or_default();
            if part.contains("exp_alerts: []") { entry.1 += 1 } else { entry.0 += 1 }
        }
    }
    for alert in &alerts {
        let (fires, quiet) = tested.remove(*alert).unwrap_or_default();
        assert!(
            fires > 0 && quiet > 0,
            "{alert} is tested to fire {fires} times, to stay quiet {quiet} times"
        );
    }
    assert_eq!(tested, BTreeMap::new(), "tests of alerts that are not there");
    let runbooks = fs::read_dir(deploy().join("runbooks")).unwrap();
    let runbooks: BTreeSet<String> = runbooks
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    let of_levels = OF_LEVELS.iter().map(|(alert, _, _)| *alert);
    let wanted = alerts.iter().copied().chain(of_levels).map(|alert| format!("{alert}.md")).collect();
    assert_eq!(runbooks, wanted, "runbooks, one an alert");
}

#[test]
fn levels_that_are_set_are_alerts_that_fire() {
    let Some(agent) = agent_binary(SERVER) else { return };
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("inferscope.toml");
    fs::write(&settings, LEVELS).unwrap();
    let output = Command::new(agent).args(["rules", "--config"]).arg(&settings).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rules = folder.path().join("rules.yml");
    fs::write(&rules, output.stdout).unwrap();
    for promtool in promtools() {
        check(&promtool, "rules", &rules);
        for (alert, family, level) in OF_LEVELS {
            // All values are beyond the level, or within it: the tests of promtool compare an alert with all of its texts, so
            // what tells is that a test fails that says it is quiet.
            for (within, fires) in [(0, true), (100, false)] {
                let bucket = |le: &str, count: u32| {
                    format!(
                        "      - {{series: '{family}_bucket{{model=\"m\", workload=\"w\", le=\"{le}\"}}', values: '0+{count}x60'}}\n"
                    )
                };
                let text = format!(
                    "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n{}{}{}    \
                     alert_rule_test:\n      - {{alertname: {alert}, eval_time: 30m, exp_alerts: []}}\n",
                    bucket(level, within),
                    bucket("5", 100),
                    bucket("+Inf", 100),
                );
                let tests = folder.path().join("tests.yml");
                fs::write(&tests, text).unwrap();
                let quiet = run_tests(&promtool, &tests);
                assert_eq!(quiet.is_err(), fires, "{alert}: {quiet:?}");
                assert!(quiet.is_ok() || quiet.unwrap_err().contains("The 95th percentile is"), "{alert}");
            }
        }
    }
}
