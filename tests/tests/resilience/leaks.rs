//! What never leaves: what clients send and servers answer, wherever it stands.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::process::Output;
use std::time::Duration;

use inferscope_tests::books::tick_over;
use inferscope_tests::client::{HEADER_CANARY, Options, PROMPT_CANARY};
use inferscope_tests::fake_server::{COMPLETION_CANARY, every_kind};
use inferscope_tests::harness::{AgentProcess, ServerProcess, agent_command};
use inferscope_tests::oracle::{http_get, http_get_as};
use inferscope_tests::socket::Endpoint;
use inferscope_tests::stage::Stage;

use super::{Kept, SERVER, make_load, ordinary_load, records_of};

/// Stands where no record, label or log line may show it.
const RAW_CANARY: &str = "canary-raw-77ae";
/// Begins the names of models for which there is no place.
const MODEL_CANARY: &str = "canary-model-";

/// Whatever else a client can put its text into; most of it is no good HTTP.
fn hostile_inputs() -> Vec<String> {
    let model = format!("{{\"model\":\"{RAW_CANARY}");
    let post = |target: &str, headers: &str, body: &str| {
        format!("POST {target} HTTP/1.1\r\nhost: a\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
    };
    vec![
        format!("{RAW_CANARY} {RAW_CANARY}\r\n\r\n"),
        format!("GET /{RAW_CANARY}?key={RAW_CANARY} HTTP/1.1\r\nhost: {RAW_CANARY}\r\n\r\n"),
        format!("{} / HTTP/1.1\r\nhost: a\r\n\r\n", RAW_CANARY.to_ascii_uppercase()),
        format!("GET / HTTP/1.1\r\n{RAW_CANARY}\r\n\r\n"),
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {RAW_CANARY}\r\n\r\n{{}}"),
        format!(
            "POST /v1/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{RAW_CANARY}\r\n"
        ),
        format!("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{RAW_CANARY}"),
        post(&format!("/v1/chat/completions?key={RAW_CANARY}"), "", "{}"),
        post("/v1/completions", &format!("traceparent: 00-{RAW_CANARY}-01\r\n"), "{}"),
        post("/v1/completions", &format!("x-request-id: a b {RAW_CANARY}\u{7f}\r\n"), "{}"),
        post("/v1/completions", &format!("{RAW_CANARY}: 1\r\ncontent-encoding: {RAW_CANARY}\r\n"), "{}"),
        post("/v1/chat/completions", "", &model),
        post("/v1/chat/completions", "", &format!("{model}\\u0000\\ud800\"}}")),
        post("/v1/embeddings", "", &format!("{{\"input\":[\"{RAW_CANARY}\"],\"model\":[\"{RAW_CANARY}\"]}}")),
    ]
}

/// Sends it on a connection of its own, and passes over whatever the server says.
fn send_raw(server: &ServerProcess, input: &str) {
    let mut stream = Kept::open(server).0;
    stream.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    stream.write_all(input.as_bytes()).unwrap();
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                let silent = [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::ConnectionReset];
                assert!(silent.contains(&error.kind()), "{error}");
                return;
            }
        }
    }
}

/// Everything that comes out of the agent, by its place.
fn all_output(stage: &Stage, agent: &AgentProcess) -> BTreeMap<String, Vec<u8>> {
    let endpoint = Endpoint::Tcp(agent.listen);
    let mut output = BTreeMap::new();
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/v1/latency",
        "/api/v1/requests?after=0&limit=1000",
        "/api/v1/slow?limit=1000",
        "/api/v1/stalls",
        "/api/v1/gpus",
        "/api/v1/quality",
        "/api/v1/agent",
        "/api/v1/workloads",
    ] {
        output.insert(path.to_owned(), http_get(&endpoint, path).unwrap());
    }
    for accept in [
        "application/openmetrics-text;version=1.0.0",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    ] {
        output.insert(accept.to_owned(), http_get_as(&endpoint, "/metrics", accept).unwrap());
    }
    let config = stage.path().join("inferscope.toml");
    for arguments in [&["check", "--config", config.to_str().unwrap()][..], &["doctor", "--json"]] {
        let Output { stdout, stderr, .. } = agent_command(&stage.agent).args(arguments).output().unwrap();
        output.insert(arguments[0].to_owned(), [stdout, stderr].concat());
    }
    output.insert("log".to_owned(), agent.read_log().unwrap().into_bytes());
    output
}

fn canaries_in(output: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let upper = RAW_CANARY.to_ascii_uppercase();
    let canaries = [PROMPT_CANARY, COMPLETION_CANARY, HEADER_CANARY, RAW_CANARY, &upper, MODEL_CANARY];
    let shows =
        |bytes: &[u8], canary: &str| bytes.windows(canary.len()).any(|part| part == canary.as_bytes());
    let found = output.iter().flat_map(|(place, bytes)| {
        let shown = canaries.iter().filter(move |canary| shows(bytes, canary));
        shown.map(move |canary| format!("{canary} in {place}"))
    });
    found.collect()
}

/// Fills the places for models, then sends what may not show.
fn check_nothing_leaks(format: &str) {
    let Some(stage) = Stage::set(SERVER).unwrap() else { return };
    let server = stage.start_server(&[]).unwrap();
    let settings = format!(
        "{}[export]\nnative_histograms = true\nopentelemetry = true\n\
         [log]\nlevel = \"trace\"\nformat = \"{format}\"\n",
        stage.rule()
    );
    let agent = stage.start_agent(&settings).unwrap();
    for number in 0..8 {
        let models = vec![format!("kept-{number}")];
        make_load(&Options { models, ..ordinary_load(&server, 1, 100.0) });
    }
    let load = Options {
        mix: "all".parse().unwrap(),
        models: (0..4).map(|number| format!("{MODEL_CANARY}{number}")).collect(),
        scenarios: every_kind(),
        ..ordinary_load(&server, 120, 60.0)
    };
    let report = make_load(&load);
    for input in hostile_inputs() {
        send_raw(&server, &input);
    }
    let inference = report.exchanges.iter().filter(|exchange| exchange.is_inference()).count();
    let records = records_of(&agent, inference + 8);
    assert!(records.len() >= inference, "{} records of {inference} requests", records.len());
    tick_over(agent.listen).unwrap();

    let output = all_output(&stage, &agent);
    assert_eq!(canaries_in(&output), Vec::<String>::new());
    // What was searched is what there is.
    let text = |place: &str| String::from_utf8_lossy(&output[place]).into_owned();
    for model in ["kept-0", "kept-7", "other"] {
        let label = format!("model=\"{model}\"");
        assert!(text("/metrics").contains(&label), "{label} is not in {}", text("/metrics"));
    }
    assert!(text("/api/v1/requests?after=0&limit=1000").contains("load-"), "no record names its request");
    assert!(text("check").contains("demo-server .*"), "{}", text("check"));
    for line in text("log").lines().filter(|_| format == "json") {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    assert!(text("log").contains("tick"), "nothing of level debug in {}", text("log"));
    agent.stop().unwrap();
    server.stop().unwrap();
}

#[test]
fn nothing_of_a_request_leaks_where_the_log_is_text() {
    check_nothing_leaks("text");
}

#[test]
fn nothing_of_a_request_leaks_where_the_log_is_json() {
    check_nothing_leaks("json");
}
