//! A server ends, its alert goes through a real Prometheus and a real Alertmanager to Event-Driven Ansible, and the shipped
//! rulebook has it started again; where that does not help, a person is told.
//!
//! Needs root, the agent's binary, Prometheus, Alertmanager, and ansible-rulebook with supervisor and Java.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use inferscope_tests::alertmanager::{Alertmanager, Receiver};
use inferscope_tests::prometheus::Prometheus;
use inferscope_tests::skip;
use inferscope_tests::stack::remedy::{BROKEN, MENDED, Remedy};
use inferscope_tests::stack::scene::Place;
use inferscope_tests::stack::services::{Services, Tools};
use inferscope_tests::stage::{Stage, until};
use serde_json::{Value, json};

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");
/// A playbook takes seconds, and the wait for what it did some more.
const DONE_MAX: Duration = Duration::from_secs(90);

#[test]
fn a_server_that_ends_is_started_again_or_a_person_is_told() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let programs =
        ["prometheus-2/prometheus", "alertmanager/prometheus-alertmanager", "remediation/bin/python3"];
    let [Some(prometheus), Some(alertmanager), Some(python)] = programs.map(|name| stage.tool(name)) else {
        return;
    };
    let environment = python.ancestors().nth(2).unwrap();
    if let Some(why) = Remedy::missing(environment) {
        return skip(&why);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let deploy = root.join("../deploy");
    let place = Place {
        agent: stage.agent.clone(),
        programs: Path::new(SERVER).parent().unwrap().to_owned(),
        tests: root.to_owned(),
        folder: stage.path().to_owned(),
    };
    let mut remedy = Remedy::start(environment, &place).unwrap();
    let settings = format!("workload = [\n{}]\n", Remedy::agent_rules(stage.path()));
    let agent = stage.start_agent(&settings).unwrap();
    let tools = Tools { prometheus, alertmanager, deploy: deploy.clone() };
    let services = Services::start(&tools, &place, agent.listen, remedy.listen).unwrap();
    let up = |name: &str, state: u8| {
        let query = format!("vllm_workload_up{{workload=\"{name}\"}} == {state}");
        let is = || (!services.prometheus.query(&query).unwrap().is_empty()).then_some(());
        until(DONE_MAX, is).unwrap_or_else(|| panic!("{name} is not {state}: {}", remedy_log(stage.path())));
    };
    up(MENDED, 1);
    up(BROKEN, 1);

    // Dry: it is written what would be done, and nothing is.
    let (to, from) = (services.prometheus.address, services.alertmanager.address);
    remedy.start_rulebook(&deploy, to, from, true).unwrap();
    remedy.kill(MENDED).unwrap();
    let result = until(DONE_MAX, || remedy.result(MENDED)).unwrap_or_else(|| panic!("{}", remedy.log()));
    let entry = remedy.audit().pop().unwrap();
    assert_eq!((result.as_str(), &entry["verdict"]), ("nothing done", &"dry run".into()), "{entry}");
    assert_eq!(
        (&entry["alert"], &entry["remedy"], &entry["node"]),
        (&"ServerDown".into(), &"restart".into(), &"node-1".into())
    );
    up(MENDED, 0);
    remedy.stop_rulebook().unwrap();
    remedy.revive(MENDED).unwrap();
    wait_until_over(&services, MENDED);

    remedy.start_rulebook(&deploy, to, from, false).unwrap();
    remedy.kill(MENDED).unwrap();
    remedy.kill(BROKEN).unwrap();
    let ended = |name: &str| {
        let over =
            || remedy.result(name).filter(|result| !["begun", "nothing done"].contains(&result.as_str()));
        until(DONE_MAX, over).unwrap_or_else(|| panic!("{name}: {:?}\n{}", remedy.audit(), remedy.log()))
    };
    assert_eq!(ended(MENDED), "recovered");
    up(MENDED, 1);
    assert!(ended(BROKEN).starts_with("failed: "), "{}", ended(BROKEN));
    up(BROKEN, 0);
    let told = || failure_told(&services);
    let alert = until(DONE_MAX, told).unwrap_or_else(|| panic!("{:?}", services.receiver.heard("/on-call")));
    assert_eq!(alert["labels"]["workload"], BROKEN);
    services.stop().unwrap();
    agent.stop().unwrap();
    remedy.stop().unwrap();
}

/// The alert of a remedy that failed, where the person on call has been told.
fn failure_told(services: &Services) -> Option<Value> {
    let said = services.receiver.heard("/on-call").into_iter();
    said.flat_map(|said| said["alerts"].as_array().cloned().unwrap_or_default())
        .find(|alert| alert["labels"]["alertname"] == "RemediationFailed")
}

/// Until no alert is left of a server's end.
fn wait_until_over(services: &Services, name: &str) {
    let query = format!("ALERTS{{alertname=\"ServerDown\", workload=\"{name}\"}}");
    until(DONE_MAX, || services.prometheus.query(&query).unwrap().is_empty().then_some(())).unwrap();
}

fn remedy_log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("remedy/rulebook.log")).unwrap_or_default()
}

/// A model of two revisions, and a server that commands do something to.
const SETTINGS: &str = r#"
dry_run: false
cool_down: COOL_DOWN
limit_per_hour: 2
recovers_within: 10
looks_every: 1
audit: FOLDER/audit.jsonl
prometheus: http://PROMETHEUS
alertmanager: http://ALERTMANAGER
targets:
  - workload: chat
    models: [granite]
    commands:
      restart: [touch, FOLDER/restarted]
      drain: [touch, FOLDER/drained]
      retrain: [touch, FOLDER/retrained]
    revisions: { current: FOLDER/current, previous: FOLDER/previous }
  - workload: bare
"#;

/// The playbook by itself, as the rulebook runs it.
struct Playbook {
    environment: PathBuf,
    folder: PathBuf,
}

impl Playbook {
    /// Answers an alert with these labels; the newest entry of the audit.
    fn run(&self, remedy: &str, labels: &Value) -> Value {
        let playbook =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/remediation/playbooks/remediate.yml");
        let variables = json!({
            "remedy": remedy,
            "settings_file": self.folder.join("settings.yml"),
            "ansible_eda": { "event": { "status": "firing", "labels": labels, "annotations": {} } },
            "ansible_python_interpreter": self.environment.join("bin/python3"),
        });
        let mut command = Command::new(self.environment.join("bin/ansible-playbook"));
        command.args(["--inventory", "node-1,", "--connection", "local"]).arg(playbook);
        command.arg("--extra-vars").arg(variables.to_string()).env("HOME", &self.folder);
        let output = command.current_dir(&self.folder).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        let audit = std::fs::read_to_string(self.folder.join("audit.jsonl")).unwrap_or_default();
        audit.lines().next_back().map_or(Value::Null, |line| serde_json::from_str(line).unwrap())
    }

    fn has(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }
}

#[test]
fn each_remedy_does_what_it_says_within_its_limits() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let programs =
        ["prometheus-2/prometheus", "alertmanager/prometheus-alertmanager", "remediation/bin/python3"];
    let [Some(prometheus), Some(alertmanager), Some(python)] = programs.map(|name| stage.tool(name)) else {
        return;
    };
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let receiver = Receiver::start().unwrap();
    let alertmanager = Alertmanager::start(&alertmanager, &deploy, stage.path(), &receiver).unwrap();
    // No alert fires in it: whatever was done has helped.
    let prometheus = Prometheus::start(&prometheus, stage.path(), "scrape_configs: []\n", &[]).unwrap();
    let folder = stage.path().join("remedies");
    for revision in ["one", "two"] {
        std::fs::create_dir_all(folder.join(revision)).unwrap();
    }
    symlink(folder.join("two"), folder.join("current")).unwrap();
    symlink(folder.join("one"), folder.join("previous")).unwrap();
    let settle = |cool_down: &str| {
        let text = SETTINGS
            .replace("COOL_DOWN", cool_down)
            .replace("FOLDER", &folder.display().to_string())
            .replace("PROMETHEUS", &prometheus.address.to_string())
            .replace("ALERTMANAGER", &alertmanager.address.to_string());
        std::fs::write(folder.join("settings.yml"), text).unwrap();
    };
    settle("600");
    let playbook =
        Playbook { environment: python.ancestors().nth(2).unwrap().to_owned(), folder: folder.clone() };
    let of_model = json!({ "alertname": "ModelAccuracyCritical", "model": "granite" });
    let of_server = json!({ "alertname": "ServerDown", "workload": "chat", "instance": "node-1" });
    let is = |entry: &Value, verdict: &str, result: &str| {
        assert_eq!((&entry["verdict"], &entry["result"]), (&verdict.into(), &result.into()), "{entry}");
    };

    is(&playbook.run("rollback", &of_model), "outcome", "recovered");
    assert_eq!(folder.join("current").canonicalize().unwrap(), folder.join("one"));
    assert!(playbook.has("restarted"), "the server loads it anew");
    is(&playbook.run("retrain", &of_model), "outcome", "done");
    assert!(playbook.has("retrained"));
    // Of a GPU: every server of the node, of which one cannot be drained; and of another node none.
    let of_gpu = |node: &str| json!({ "alertname": "GPULost", "gpu": "0", "instance": node });
    let before = playbook.run("drain", &of_gpu("node-2"));
    assert_eq!((&before["remedy"], playbook.has("drained")), (&"retrain".into(), false));
    is(&playbook.run("drain", &of_gpu("node-1")), "impossible", "nothing done");
    assert!(playbook.has("drained"));

    is(&playbook.run("restart", &of_server), "outcome", "recovered");
    std::fs::remove_file(folder.join("restarted")).unwrap();
    is(&playbook.run("restart", &of_server), "cooling down", "nothing done");
    settle("0");
    is(&playbook.run("restart", &of_server), "outcome", "recovered");
    std::fs::remove_file(folder.join("restarted")).unwrap();
    is(&playbook.run("restart", &of_server), "beyond the limit", "nothing done");
    assert!(!playbook.has("restarted"));
    let told = || {
        receiver.heard("/on-call").into_iter().find(|said| said.to_string().contains("2 times in an hour"))
    };
    until(DONE_MAX, told).unwrap_or_else(|| panic!("{:?}", receiver.heard("/on-call")));
    prometheus.stop().unwrap();
    alertmanager.stop().unwrap();
}
