//! Every alert that there is, raised by its fault: through the agent, a real Prometheus and a real Alertmanager to a receiver; and
//! two servers that end, one of which comes back.
//!
//! What `cargo xtask stack` shows, with the programs of the tests. Needs root, the agent's binary, Prometheus, Alertmanager; and for
//! the remedies ansible-rulebook with supervisor and Java.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::path::Path;

use inferscope_tests::skip;
use inferscope_tests::stack::remedy::Remedy;
use inferscope_tests::stack::run;
use inferscope_tests::stack::scene::Place;
use inferscope_tests::stack::services::Tools;
use inferscope_tests::stage::Stage;

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");

#[test]
fn every_alert_is_raised_by_its_fault_and_none_before() {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let programs =
        ["prometheus-2/prometheus", "alertmanager/prometheus-alertmanager", "remediation/bin/python3"];
    let [Some(prometheus), Some(alertmanager), Some(python)] = programs.map(|name| stage.tool(name)) else {
        return;
    };
    let ansible = python.ancestors().nth(2).unwrap();
    if let Some(why) = Remedy::missing(ansible) {
        return skip(&why);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = Tools { prometheus, alertmanager, deploy: root.join("../deploy") };
    let place = Place {
        agent: stage.agent.clone(),
        programs: Path::new(SERVER).parent().unwrap().to_owned(),
        tests: root.to_owned(),
        folder: stage.path().to_owned(),
    };
    let report = run(&tools, place, ansible).unwrap();
    println!("{report}");
    assert!(report.holds(), "{report}");
}
