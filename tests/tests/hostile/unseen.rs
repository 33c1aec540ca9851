//! Bytes that pass beside the programs: TCP's own position tells, and no record is quietly wrong.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use super::scene::{Scene, connect, hear};

const ANSWER: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n{\"model\":\"m\"} ";
/// Bytes of the body that no read takes.
const SPLICED: usize = 1000;

#[test]
fn bytes_that_no_program_saw_are_counted_and_mark_the_record() {
    const HEAD: usize = 300;
    const BODY: usize = 5000;
    let Some(scene) = Scene::set() else { return };
    scene.answer("model", ANSWER);
    let mut stream = connect(scene.puppet_address());
    for spliced in [SPLICED, 0] {
        let path = format!("/v1/completions?answer=model&spliced={spliced}&after={}", HEAD + BODY);
        let head = format!("POST {path} HTTP/1.1\r\ncontent-length: {BODY}\r\nx: ");
        let head = format!("{head:x<width$}\r\n\r\n", width = HEAD - "\r\n\r\n".len());
        for part in [head, " ".repeat(SPLICED), " ".repeat(BODY - SPLICED - 2) + "{}"] {
            stream.write_all(part.as_bytes()).unwrap();
            // Each is a call of its own.
            thread::sleep(Duration::from_millis(100));
        }
        hear(&mut stream, ANSWER.len() as u64);
    }
    scene.settle();
    let records = scene.records();
    let incomplete: Vec<_> = records.iter().map(|record| record.incomplete.as_deref()).collect();
    assert_eq!(incomplete, [Some("events_lost"), None], "{records:?}");
    assert_eq!(scene.metric("inferscope_events_total", &[("stage", "connection_missed")]), 1.0);
    scene.aftermath();
}
