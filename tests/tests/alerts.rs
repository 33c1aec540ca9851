//! An alert that a real Prometheus raises about a real server reaches its receivers through a real Alertmanager, with the shipped
//! rules and the shipped configuration.
//!
//! Needs root, the agent's binary, Prometheus and Alertmanager, which `cargo xtask setup` unpacks.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use inferscope_tests::alertmanager::{Alertmanager, Receiver};
use inferscope_tests::prometheus::Prometheus;
use inferscope_tests::stage::{Stage, until};
use serde_json::Value;

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");
/// Rules are looked at every second, and the on-call route waits for ten.
const HEARD_MAX: Duration = Duration::from_secs(60);
const FOUND_MAX: Duration = Duration::from_secs(20);

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

#[test]
fn the_shipped_configuration_is_one() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let Some(amtool) = stage.tool("alertmanager/amtool") else { return };
    let config = deploy().join("alertmanager/alertmanager.yml");
    let output = Command::new(&amtool).arg("check-config").arg(&config).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (labels, receivers) in [
        (&["severity=critical", "alertname=GPULost"][..], "remediation,on-call,chat"),
        (&["severity=critical", "alertname=InferscopeDown"], "on-call,chat"),
        (&["severity=warning", "alertname=SlowRequests"], "chat"),
        (&["severity=info", "alertname=GPUMemoryPressure"], "nobody"),
        (&["alertname=OfSomebodyElse"], "chat"),
    ] {
        let mut command = Command::new(&amtool);
        command.args(["config", "routes", "test"]).arg(format!("--config.file={}", config.display()));
        let output = command.args(labels).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), receivers, "{labels:?}");
    }
}

#[test]
fn a_server_that_ends_is_told_to_everybody_who_should_hear_of_it() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let tools =
        ["prometheus-2/prometheus", "alertmanager/prometheus-alertmanager"].map(|name| stage.tool(name));
    let [Some(prometheus), Some(alertmanager)] = tools else { return };
    let server = stage.start_server(&[]).unwrap();
    let agent = stage.start_agent(&stage.rule()).unwrap();
    let receiver = Receiver::start().unwrap();
    let alertmanager = Alertmanager::start(&alertmanager, &deploy(), stage.path(), &receiver).unwrap();
    // As shipped, but for the time that an alert has to hold.
    let rules = std::fs::read_to_string(deploy().join("prometheus/rules/inferscope.yml")).unwrap();
    std::fs::write(stage.path().join("rules.yml"), rules.replace("for: 1m", "for: 0s")).unwrap();
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s, external_labels: {{ cluster: test }} }}\nrule_files: [rules.yml]\n\
         alerting:\n  alertmanagers:\n  - static_configs:\n    - targets: [\"{}\"]\n\
         scrape_configs:\n- job_name: inferscope\n  static_configs:\n  - targets: [\"{}\"]\n",
        alertmanager.address, agent.listen
    );
    let prometheus = Prometheus::start(&prometheus, stage.path(), &config, &[]).unwrap();
    let serves = || (!prometheus.query("vllm_workload_up == 1").unwrap().is_empty()).then_some(());
    until(FOUND_MAX, serves).unwrap();
    server.stop().unwrap();

    let told = |path: &str| {
        until(HEARD_MAX, || {
            receiver.heard(path).into_iter().find(|said| said.to_string().contains("ServerDown"))
        })
        .unwrap_or_else(|| panic!("{path}: {:?}\n{}", receiver.heard(path), alertmanager.log().unwrap()))
    };
    let webhook = told("/on-call");
    let alert = &webhook["alerts"][0];
    assert_eq!(
        (&alert["labels"]["workload"], &alert["labels"]["severity"]),
        (&"demo".into(), &"critical".into())
    );
    let runbook = alert["annotations"]["runbook_url"].as_str().unwrap();
    assert!(deploy().join("runbooks").join(runbook.rsplit('/').next().unwrap()).is_file(), "{runbook}");
    assert_eq!(told("/remediation")["alerts"][0]["labels"]["alertname"], "ServerDown");
    for path in ["/slack", "/teams", "/pagerduty"] {
        let said = told(path).to_string();
        for part in ["[FIRING 1] ServerDown on demo (test)", "does not serve", "ServerDown.md"] {
            assert!(said.contains(part), "{path}: no {part:?} in {said}");
        }
    }
    assert_eq!(receiver.heard("/nobody"), Vec::<Value>::new());
    prometheus.stop().unwrap();
    alertmanager.stop().unwrap();
    agent.stop().unwrap();
}
