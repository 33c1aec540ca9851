//! A server ends, its alert goes through a real Prometheus and a real Alertmanager to Event-Driven Ansible, and the shipped
//! rulebook has it started again; where that does not help, a person is told.
//!
//! Needs root, the agent's binary, Prometheus, Alertmanager, and ansible-rulebook with supervisor and Java.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::path::Path;
use std::time::Duration;

use inferscope_tests::skip;
use inferscope_tests::stack::remedy::{BROKEN, MENDED, Remedy};
use inferscope_tests::stack::scene::Place;
use inferscope_tests::stack::services::{Services, Tools};
use inferscope_tests::stage::{Stage, until};

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
    let is_over = |name: &str| {
        let query = format!("ALERTS{{alertname=\"ServerDown\", workload=\"{name}\"}}");
        until(DONE_MAX, || services.prometheus.query(&query).unwrap().is_empty().then_some(())).unwrap();
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
    is_over(MENDED);

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
    let told = || {
        let said = services.receiver.heard("/on-call").into_iter();
        said.flat_map(|said| said["alerts"].as_array().cloned().unwrap_or_default())
            .find(|alert| alert["labels"]["alertname"] == "RemediationFailed")
    };
    let alert = until(DONE_MAX, told).unwrap_or_else(|| panic!("{:?}", services.receiver.heard("/on-call")));
    assert_eq!(alert["labels"]["workload"], BROKEN);
    services.stop().unwrap();
    agent.stop().unwrap();
    remedy.stop().unwrap();
}

fn remedy_log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("remedy/rulebook.log")).unwrap_or_default()
}
