//! Names that clients and servers choose: of any length, of any characters, and without end.

use std::collections::BTreeSet;
use std::io::Write as _;

use inferscope_tests::transcript::{BodyReader, response_head};

use super::scene::{Scene, connect, post};

/// Models that get a label of their own.
const MODEL_SLOTS: usize = 8;

/// One request and its whole answer on a connection that stays open.
fn ask_whole(stream: &mut std::net::TcpStream, request: &[u8]) {
    use std::io::Read as _;
    stream.write_all(request).unwrap();
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 << 10]);
    loop {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "closed instead of answering");
        bytes.extend_from_slice(&buffer[..length]);
        let Some(head) = response_head(&bytes).unwrap() else { continue };
        assert_eq!(head.status, 200);
        if BodyReader::new(head.framing, head.length).advance(&bytes).unwrap() {
            return;
        }
    }
}

#[test]
fn models_without_end_share_one_label() {
    const MODELS: usize = 2_000;
    let Some(scene) = Scene::set() else { return };
    let hostile = [
        // That of the load at the end, which gets a label of its own while there are some.
        "demo",
        "\"",
        "a\"b\\",
        "line\nbreak",
        "\u{0}",
        "\u{202e}right to left",
        "model{a=\"b\"}",
        "ü✓",
        &"m".repeat(100_000),
    ];
    let mut stream = connect(scene.server_address());
    for number in 0..MODELS {
        let model = hostile.get(number).map_or_else(|| format!("model-{number}"), |name| (*name).to_owned());
        let body = serde_json::json!({"model": model, "messages": []}).to_string();
        let script = r#"{"head_after_us":0,"first_after_us":0,"content":1}"#;
        let request = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-script: {script}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        ask_whole(&mut stream, request.as_bytes());
    }
    scene.settle();
    let samples = scene.samples("vllm_requests_total");
    let labels: BTreeSet<&str> = samples.iter().map(|sample| sample.labels["model"].as_str()).collect();
    assert!(labels.len() <= MODEL_SLOTS + 2, "{labels:?}");
    assert!(labels.contains("other") && labels.contains("a\"b\\"), "{labels:?}");
    assert!(labels.iter().all(|label| label.len() <= 128 && !label.contains('\n')), "{labels:?}");
    assert_eq!(scene.metric("vllm_requests_total", &[]), MODELS as f64);
    scene.aftermath();
}

#[test]
fn identities_are_bounded_and_plain() {
    let Some(scene) = Scene::set() else { return };
    let long = "i".repeat(5_000);
    let identities = [
        "\"quoted\"",
        "a\\nb\\\"",
        "tab\there",
        "\u{fc}\u{2713}",
        "{\"json\":1}",
        "# EOF",
        &long,
        " ",
        "%0a%0d",
    ];
    for (number, identity) in identities.iter().enumerate() {
        let answer =
            serde_json::json!({"id": identity, "model": "m", "choices": [{"text": "a"}]}).to_string();
        let name = format!("identity-{number}");
        let head =
            format!("HTTP/1.1 200 OK\r\nx-request-id: {identity}\r\ncontent-type: application/json\r\n");
        scene.answer(&name, format!("{head}content-length: {}\r\n\r\n{answer}", answer.len()));
        let traced = format!("x-request-id: {identity}\r\ntraceparent: 00-{identity}-01\r\n");
        let mut stream = connect(scene.puppet_address());
        ask_whole(&mut stream, post("/v1/completions", &name, &traced, "{}").as_bytes());
    }
    scene.settle();
    let records = scene.records();
    assert_eq!(records.len(), identities.len(), "{records:?}");
    for record in &records {
        for id in [&record.request_id, &record.response_id].into_iter().flatten() {
            assert!((1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()), "{id}");
        }
    }
    assert!(records.iter().any(|record| record.request_id.as_deref() == Some("\"quoted\"")), "{records:?}");
    scene.aftermath();
}
