//! Writes the events of one connection tersely, and runs them.

use std::sync::Arc;

use inferscope_common::decode::SocketBytes;
use inferscope_common::socket::{
    FAMILY_INET, FLAG_FIRST, FLAG_NO_BYTES, FLAG_SHORT, HEAD_BYTES_MAX, READ_TAIL_BYTES_MAX, SocketEvent,
    SocketKind, WRITE_TAIL_BYTES_MAX,
};

use crate::clock::BootTime;
use crate::request::record::{Observation, OpenRequest, ParseFailure, Progress, RequestRecord};
use crate::request::{CONNECTIONS_MAX, Connections, Follow, Settings};
use crate::workload::labels::ModelLabels;
use crate::workload::{ServerKind, Workload};

/// In the unit of event times.
pub const SECOND: u64 = 1_000_000_000;

/// One connection and what came of it.
pub struct Trace {
    pub connections: Connections,
    pub models: ModelLabels,
    pub out: Vec<Observation>,
    pub follow: Follow,
    workload: Arc<Workload>,
    time: u64,
    sequence: u32,
    read_offset: u64,
    written_offset: u64,
    pub event: SocketEvent,
}

impl Trace {
    pub fn new() -> Self {
        Self::with_connections_max(CONNECTIONS_MAX)
    }

    pub fn with_connections_max(connections_max: usize) -> Self {
        let event = SocketEvent {
            socket: 7,
            tgid: 10,
            tid: 11,
            family: FAMILY_INET,
            flags: FLAG_FIRST,
            ..Default::default()
        };
        Self {
            connections: Connections::new(Settings { connections_max, ..Settings::default() }),
            models: ModelLabels::new(8),
            out: Vec::new(),
            follow: Follow::Keep,
            workload: workload(),
            time: 0,
            sequence: 0,
            read_offset: 0,
            written_offset: 0,
            event,
        }
    }

    /// The time of the next events.
    pub fn at(&mut self, time: u64) -> &mut Self {
        self.time = time;
        self
    }

    pub fn read(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.read_arrived(0, bytes)
    }

    pub fn read_arrived(&mut self, arrival: u64, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.event.arrival_ns = arrival;
        self.moved(SocketKind::Read, bytes.as_ref(), 0);
        self.event.arrival_ns = 0;
        self
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.moved(SocketKind::Write, bytes.as_ref(), 0);
        self
    }

    pub fn write_short(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.moved(SocketKind::Write, bytes.as_ref(), FLAG_SHORT);
        self
    }

    pub fn moved_with(&mut self, kind: SocketKind, bytes: impl AsRef<[u8]>, flags: u8) -> &mut Self {
        self.moved(kind, bytes.as_ref(), flags);
        self
    }

    /// A read or write whose event does not arrive.
    pub fn lose(&mut self, kind: SocketKind, len: usize) -> &mut Self {
        self.sequence += 1;
        *self.offset(kind) += len as u64;
        self
    }

    pub fn state(&mut self, kind: SocketKind) -> &mut Self {
        let event = SocketEvent { len: 0, offset: *self.offset(kind), ..self.event };
        self.send(kind, event, b"", b"");
        self
    }

    /// The end of the connection that the kernel tells by itself, ahead of the write before it.
    pub fn overtaken_write(&mut self, bytes: impl AsRef<[u8]>, end: SocketKind, at: u64) -> &mut Self {
        let (written, bytes) = (self.time, bytes.as_ref());
        self.sequence += 1;
        self.at(at).end_by_itself(end);
        self.sequence -= 2;
        self.at(written).write(bytes);
        self.sequence += 1;
        self.at(at)
    }

    /// An end that the kernel tells by itself.
    pub fn end_by_itself(&mut self, end: SocketKind) -> &mut Self {
        let event = SocketEvent { tgid: 0, tid: 0, len: 0, offset: 0, ..self.event };
        self.send(end, event, b"", b"");
        self
    }

    /// The next event has the number of the one before it.
    pub fn repeat_number(&mut self) -> &mut Self {
        self.sequence -= 1;
        self
    }

    /// The ring was empty, so long after the last event.
    pub fn all_taken(&mut self, after: u64) -> &mut Self {
        self.connections.on_all_taken(BootTime(self.time + after), &mut self.models, &mut self.out);
        self
    }

    /// What follows is numbered from 0, as of another connection.
    pub fn restart_numbers(&mut self) -> &mut Self {
        self.sequence = 0;
        self.read_offset = 0;
        self.written_offset = 0;
        self.event.flags = FLAG_FIRST;
        self
    }

    pub fn tick(&mut self) -> &mut Self {
        self.connections.on_tick(BootTime(self.time), &mut self.models, &mut self.out);
        self
    }

    /// The kernel no longer knows the socket, as a look at those that may have vanished says.
    pub fn vanish(&mut self) -> &mut Self {
        let now = BootTime(self.time);
        let gone = self.connections.maybe_vanished(now).into_iter().collect();
        self.connections.close_vanished(&gone, now, &mut self.models, &mut self.out);
        self
    }

    pub fn process_exit(&mut self, tgid: u32) -> &mut Self {
        self.connections.on_process_exit(tgid, BootTime(self.time), &mut self.models, &mut self.out);
        self
    }

    pub fn open(&self) -> Vec<OpenRequest> {
        self.connections.open(BootTime(self.time))
    }

    pub fn records(&self) -> Vec<&RequestRecord> {
        fn finished(observation: &Observation) -> Option<&RequestRecord> {
            let Observation::Finished(record) = observation else { return None };
            Some(record)
        }
        self.out.iter().filter_map(finished).collect()
    }

    /// The only record.
    pub fn record(&self) -> RequestRecord {
        let records = self.records();
        assert_eq!(records.len(), 1, "{:?} {:?}", self.out, self.failures());
        records[0].clone()
    }

    pub fn progress(&self) -> Vec<&Progress> {
        fn progress(observation: &Observation) -> Option<&Progress> {
            let Observation::Progress(progress) = observation else { return None };
            Some(progress)
        }
        self.out.iter().filter_map(progress).collect()
    }

    pub fn gaps_ns(&self) -> Vec<u128> {
        self.progress()
            .iter()
            .flat_map(|progress| &progress.gaps)
            .map(std::time::Duration::as_nanos)
            .collect()
    }

    pub fn failures(&self) -> Vec<(ParseFailure, u64)> {
        self.connections.counts().failures().filter(|(_, count)| *count > 0).collect()
    }

    fn moved(&mut self, kind: SocketKind, bytes: &[u8], flags: u8) {
        let tail_max = if kind == SocketKind::Read { READ_TAIL_BYTES_MAX } else { WRITE_TAIL_BYTES_MAX };
        let copied = if flags & FLAG_NO_BYTES == 0 { bytes } else { b"" };
        let (head, rest) = copied.split_at(copied.len().min(HEAD_BYTES_MAX));
        let tail = &rest[rest.len().saturating_sub(tail_max)..];
        let offset = *self.offset(kind);
        *self.offset(kind) += bytes.len() as u64;
        let event =
            SocketEvent { len: bytes.len() as u32, offset, flags: self.event.flags | flags, ..self.event };
        self.send(kind, event, head, tail);
    }

    fn send(&mut self, kind: SocketKind, event: SocketEvent, head: &[u8], tail: &[u8]) {
        let event = SocketEvent {
            time_ns: self.time,
            sequence: self.sequence,
            kind: kind as u8,
            head_len: head.len() as u16,
            tail_len: tail.len() as u16,
            ..event
        };
        self.sequence += 1;
        self.event.flags = 0;
        let bytes = SocketBytes { event, kind, head, tail };
        self.follow =
            self.connections.on_event(&bytes, Some(&self.workload), &mut self.models, &mut self.out);
    }

    fn offset(&mut self, kind: SocketKind) -> &mut u64 {
        if kind == SocketKind::Read { &mut self.read_offset } else { &mut self.written_offset }
    }
}

fn workload() -> Arc<Workload> {
    Arc::new(Workload {
        label: "vllm".into(),
        kind: ServerKind::Vllm,
        namespace: None,
        pod: None,
        container: None,
        unit: None,
        started: BootTime(0),
    })
}

/// A POST with a JSON body.
pub fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// `data` as one chunk.
pub fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

/// A streamed chat event with one choice, as a chunk, as vLLM writes it.
pub fn chat_event(choice: &str) -> String {
    chunk(&format!(
        "data: {{\"id\":\"chatcmpl-b8\",\"object\":\"chat.completion.chunk\",\"created\":1795554937,\"model\":\"tiny\",\
         \"choices\":[{{\"index\":0,{choice},\"logprobs\":null}}]}}\n\n"
    ))
}

/// A chat request.
pub fn chat() -> String {
    post(
        "/v1/chat/completions",
        r#"{"model":"tiny","stream":true,"messages":[{"role":"user","content":"hi"}]}"#,
    )
}

/// A whole answer to it.
pub fn answer() -> String {
    let body = r#"{"id":"chatcmpl-1","model":"tiny","choices":[{"message":{"content":"TEXT"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":4}}"#;
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
