//! Text that looks like protocol, in prompts and answers, and JSON that is none or too deep.

use std::io::Write as _;

use super::scene::{Scene, connect, hear, post};

/// What a prompt or an answer may hold.
const PROTOCOL: [&str; 9] = [
    "data: [DONE]\n\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "\r\n0\r\n\r\n",
    "POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 5\r\n\r\n",
    "\"}],\"model\":\"forged\",\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":7}}",
    "event: error\ndata: {\"error\":{}}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n",
    "\u{16}\u{3}\u{1}",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

/// All of it, again and again: more than is copied of one call.
fn protocol_text() -> String {
    PROTOCOL.concat().repeat(40)
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

#[test]
fn text_that_looks_like_protocol_changes_nothing() {
    const EVENTS: usize = 5;
    let Some(scene) = Scene::set() else { return };
    let text = protocol_text();
    let usage = serde_json::json!({"prompt_tokens": 9, "completion_tokens": 4});
    let whole = serde_json::json!({
        "id": "c", "model": "true", "choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage,
    });
    let whole = whole.to_string();
    let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    scene.answer("whole", format!("{json}content-length: {}\r\n\r\n{whole}", whole.len()));
    let event = |delta: serde_json::Value| {
        let event = serde_json::json!({"model": "true", "choices": [{"delta": delta}]});
        chunk(&format!("data: {event}\n\n"))
    };
    let stream = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        .to_owned()
        + &event(serde_json::json!({"role": "assistant", "content": ""}))
        + &event(serde_json::json!({"content": PROTOCOL.concat()})).repeat(EVENTS)
        + &chunk(&format!("data: {{\"choices\":[],\"usage\":{usage}}}\n\n"))
        + &chunk("data: [DONE]\n\n")
        + "0\r\n\r\n";
    scene.answer("stream", &stream);
    let mut connection = connect(scene.puppet_address());
    for (number, answer) in ["whole", "stream"].repeat(10).into_iter().enumerate() {
        let body =
            serde_json::json!({"messages": [{"content": text}], "model": "true", "n": number}).to_string();
        connection.write_all(post("/v1/chat/completions", answer, "", &body).as_bytes()).unwrap();
        hear(&mut connection, scene.answer_len(answer));
    }
    scene.settle();
    let records = scene.records();
    assert_eq!(records.len(), 20, "{records:?}");
    for record in &records {
        assert_eq!(
            (record.model.as_deref(), record.outcome.as_deref()),
            (Some("true"), Some("ok")),
            "{record:?}"
        );
        assert_eq!((record.prompt_tokens, record.completion_tokens), (Some(9), Some(4)), "{record:?}");
        assert_eq!(record.incomplete, None, "{record:?}");
        let expected = if record.streamed == Some(true) { EVENTS as u64 } else { 0 };
        assert_eq!(record.chunks, expected, "{record:?}");
    }
    assert_eq!(scene.metric("inferscope_parse_failures_total", &[]), 0.0);
    scene.aftermath();
}

#[test]
fn json_that_is_deep_or_broken_is_counted() {
    const DEEP: usize = 1_000_000;
    let Some(scene) = Scene::set() else { return };
    let deep = format!("{}1{}", "[".repeat(DEEP), "]".repeat(DEEP));
    let open = "{\"a\":".repeat(DEEP);
    let bodies = [
        ("deep", deep.as_str()),
        ("open", &open),
        ("cut", "{\"choices\":[{\"text\":\"a"),
        ("none", "<html>"),
    ];
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    for (name, body) in bodies {
        scene.answer(name, format!("{head}content-length: {}\r\n\r\n{body}", body.len()));
        let mut stream = connect(scene.puppet_address());
        let request = post("/v1/completions", name, "content-type: application/json\r\n", body);
        stream.write_all(request.as_bytes()).unwrap();
        hear(&mut stream, scene.answer_len(name));
    }
    scene.settle();
    let failures = scene.metric("inferscope_parse_failures_total", &[("reason", "json")]);
    // What was not copied of the long ones may have been right: the short ones are broken on both sides.
    assert!(failures >= 4.0, "{failures} failures");
    assert_eq!(scene.metric("vllm_requests_total", &[]), bodies.len() as f64);
    scene.aftermath();
}
