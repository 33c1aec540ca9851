//! The agent asks a server itself: with the rights of its unit, beside a client whose requests are all that is measured.
//!
//! Needs root and the agent's binary.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::time::Duration;

use inferscope_tests::client::{self, Options};
use inferscope_tests::harness::AgentProcess;
use inferscope_tests::machine::patient;
use inferscope_tests::oracle::http_get;
use inferscope_tests::page::{self, Format};
use inferscope_tests::rights::Rights;
use inferscope_tests::socket::Endpoint;
use inferscope_tests::stage::{Stage, metrics_text, records_when, until};
use serde_json::Value;

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");
/// What a server runs is looked at every 10 s, and there is one question a second.
const RUN_MAX: Duration = Duration::from_secs(40);
const WAIT_MAX: Duration = Duration::from_secs(10);
const QUESTIONS: usize = 3;
const REQUESTS: usize = 5;

#[test]
fn its_questions_are_answered_and_are_in_nothing_else() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let questions = stage.path().join("questions.csv");
    std::fs::write(&questions, "What is 1 + 1?,1,2,3,4,B\n".repeat(QUESTIONS)).unwrap();
    let settings = format!(
        "{}[canary]\nenabled = true\nquestions = {questions:?}\nmodel = \"canary-model\"\n",
        stage.rule()
    );
    let server = stage.start_server(&[]).unwrap();
    let agent = AgentProcess::start_as(Rights::Unit, &stage.agent, stage.path(), &settings).unwrap();
    let api = Endpoint::Tcp(agent.listen);
    let told = || {
        let page: Value = serde_json::from_slice(&http_get(&api, "/api/v1/quality").unwrap()).unwrap();
        (page["canary"]["runs"] == 1).then(|| page["canary"].clone())
    };
    let canary = until(patient(RUN_MAX), told).unwrap_or_else(|| panic!("{}", agent.read_log().unwrap()));
    assert_eq!((&canary["failure"], &canary["model"]), (&Value::Null, &"canary-model".into()), "{canary}");
    // The demonstration server answers words of its own, which are no choice.
    assert_eq!(canary["run"]["unanswered"], QUESTIONS, "{canary}");
    let options = Options { requests: REQUESTS, ..Options::new(server.endpoint.clone()) };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(client::run(&options, |_| ())).unwrap();
    let records = records_when(&agent, WAIT_MAX, |records| records.len() >= REQUESTS).unwrap();
    assert_eq!(records.len(), REQUESTS, "{records:?}");
    let text = metrics_text(&agent).unwrap();
    let families = page::read(&text, Format::Text).unwrap();
    let own =
        families["inferscope_events_total"].samples.iter().find(|one| one.labels["stage"] == "request_own");
    assert_eq!(own.unwrap().value, QUESTIONS as f64);
    let of_canary: Vec<_> = text.lines().filter(|line| line.contains("canary-model")).collect();
    let known = |line: &str| line.starts_with("canary_") || line.starts_with("model_validation_accuracy{");
    assert!(of_canary.iter().all(|line| known(line)), "{of_canary:?}");
    agent.stop().unwrap();
    server.stop().unwrap();
}
