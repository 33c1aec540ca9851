//! The rings: any bytes as their entries, through `decode` and on into the state of the connections.
//!
//! Input: entries, each behind its length in two bytes; one shorter than a header is a look at the connections, or
//! the end of a process, at the time that it holds.

use std::sync::Arc;

use inferscope::clock::BootTime;
use inferscope::request::record::{IDENTITY_BYTES_MAX, MODEL_BYTES_MAX, Observation, RequestRecord};
use inferscope::request::{Connections, Counts, Settings};
use inferscope::workload::labels::ModelLabels;
use inferscope::workload::{ServerKind, Workload};
use inferscope_common::decode;
use inferscope_common::socket::SocketEvent;

use crate::input::Input;
use crate::memory::held;

/// Connections followed at once: few, so that the oldest have to make room.
const CONNECTIONS: usize = 8;
/// Requests of one connection that can be under way.
const REQUESTS_EACH: usize = 64;
/// Most memory that one connection holds: two heads, the ends of two documents, 64 requests.
pub const CONNECTION_BYTES_MAX: usize = 224 << 10;

/// All that is needed to put requests together.
pub struct Room {
    pub connections: Connections,
    pub models: ModelLabels,
    pub out: Vec<Observation>,
    workload: Arc<Workload>,
}

impl Room {
    #[must_use]
    pub fn new() -> Self {
        let workload = Workload {
            label: "fuzz".into(),
            kind: ServerKind::Vllm,
            namespace: None,
            pod: None,
            container: None,
            unit: None,
            started: BootTime(0),
        };
        Self {
            connections: Connections::new(Settings { connections_max: CONNECTIONS, ..Settings::default() }),
            models: ModelLabels::new(8),
            out: Vec::new(),
            workload: Arc::new(workload),
        }
    }

    /// Takes an entry of the ring, as the pipeline does.
    pub fn take(&mut self, entry: &[u8]) {
        let Ok(event) = decode::socket(entry) else { return };
        let workload = (event.event.tgid != 0).then_some(&self.workload);
        self.connections.on_event(&event, workload, &mut self.models, &mut self.out);
    }

    pub fn tick(&mut self, now: BootTime) {
        self.connections.on_tick(now, &mut self.models, &mut self.out);
    }

    /// Whatever was found out so far is as it has to be.
    pub fn check(&self) {
        for observation in &self.out {
            match observation {
                Observation::Progress(progress) => assert!(progress.model.len() <= MODEL_BYTES_MAX),
                Observation::Finished(record) => check_record(record),
            }
        }
        assert!(self.connections.len() <= CONNECTIONS, "{} connections", self.connections.len());
        let open = self.connections.open(BootTime(u64::MAX)).len();
        assert!(open <= CONNECTIONS * REQUESTS_EACH, "{open} requests");
    }

    /// Everything ends, and nothing is left over.
    pub fn end(&mut self) {
        self.tick(BootTime(u64::MAX));
        self.check();
        assert!(self.connections.is_empty(), "{} connections are left", self.connections.len());
        assert!(self.connections.open(BootTime(u64::MAX)).is_empty());
    }

    #[must_use]
    pub fn counts(&self) -> &Counts {
        self.connections.counts()
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

fn check_record(record: &RequestRecord) {
    let identity = &record.identity;
    for text in [&identity.request_id, &identity.response_id, &identity.trace_id].into_iter().flatten() {
        assert!((1..=IDENTITY_BYTES_MAX).contains(&text.len()), "{text}");
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
    }
    assert!(record.model.len() <= MODEL_BYTES_MAX && !record.model.chars().any(char::is_control));
    assert!(record.first_token.is_none_or(|time| time <= record.end), "a token after the end");
    assert!(!record.empty || record.chunks == 0 && record.incomplete.is_none(), "{record:?}");
    assert!(record.confidence.is_none_or(|share| (0.0..=1.0).contains(&share)), "{:?}", record.confidence);
    assert!(record.streamed || record.chunks == 0, "{} chunks without a stream", record.chunks);
}

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut room = Room::new();
    let before = held();
    loop {
        let len = usize::from(input.word());
        let rest = input.rest();
        if rest.is_empty() {
            break;
        }
        let (entry, rest) = rest.split_at(len.min(rest.len()));
        input = Input::new(rest);
        let entry = &in_our_time(entry);
        check_decode(entry);
        if entry.len() < size_of::<SocketEvent>() {
            control(&mut room, entry);
        } else {
            room.take(entry);
        }
        room.check();
        room.out = Vec::new();
        let more = held().saturating_sub(before);
        assert!(more <= CONNECTIONS * CONNECTION_BYTES_MAX, "{more} bytes held");
    }
    room.end();
}

/// The kernel's clock is right: no event is of a time that the last tick here does not reach.
fn in_our_time(entry: &[u8]) -> Vec<u8> {
    let mut entry = entry.to_vec();
    if let Some(highest) = entry.get_mut(7) {
        *highest &= 0x7f;
    }
    entry
}

fn control(room: &mut Room, entry: &[u8]) {
    let mut input = Input::new(entry);
    let choice = input.byte();
    let time = input.rest().iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let Room { connections, models, out, .. } = room;
    match choice % 3 {
        0 => connections.on_tick(BootTime(time), models, out),
        1 => connections.on_process_exit(choice.into(), BootTime(time), models, out),
        _ => connections.close_unix(&[u64::from(choice)].into(), BootTime(time), models, out),
    }
}

/// No byte beyond what the header says is looked at, and none before that is left out.
fn check_decode(entry: &[u8]) {
    let end = |bytes: &[u8]| decode::process(bytes).is_ok();
    assert_eq!(end(entry), entry.len() >= 24);
    let Ok(found) = decode::socket(entry) else { return };
    let len = size_of::<SocketEvent>() + found.head.len() + found.tail.len();
    assert!(len <= entry.len(), "{len} of {}", entry.len());
    assert_eq!(decode::socket(&entry[..len]), Ok(found));
    assert_eq!(decode::socket(&entry[..len - 1]), Err(decode::DecodeError::Short));
    assert_eq!(crate::talk::header(&found.event), entry[..size_of::<SocketEvent>()]);
}
