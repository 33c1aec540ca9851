//! Conversations of whole connections.

mod trace;

use trace::{Trace, chat_event, post};

use super::record::{Outcome, Route};

#[test]
fn streamed_chat_gives_a_record_with_times() {
    let mut trace = Trace::new();
    trace
        .at(100)
        .read_arrived(90, &post("/v1/chat/completions", r#"{"model":"tiny","stream":true,"messages":[]}"#));
    trace.at(200).write(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    trace.at(300).write(&chat_event(r#""delta":{"role":"assistant","content":""}"#));
    trace.at(310).write(&chat_event(r#""delta":{"content":" TEXT"}"#));
    trace.at(350).write(&chat_event(r#""delta":{"content":" TEXT"},"finish_reason":"length""#));
    trace.at(360).write("e\r\ndata: [DONE]\n\n\r\n");
    trace.at(370).write("0\r\n\r\n");
    let record = trace.record();
    assert_eq!(record.route, Route::ChatCompletions);
    assert_eq!(&*record.model, "tiny");
    assert_eq!((record.arrival.0, record.first_read.0, record.end.0), (90, 100, 370));
    assert_eq!(record.first_token.map(|time| time.0), Some(310));
    assert_eq!(record.outcome, Outcome::Ok);
    assert_eq!(record.chunks, 2);
    assert_eq!(record.finish.length, 1);
    assert_eq!(trace.gaps_ns(), [40]);
}
