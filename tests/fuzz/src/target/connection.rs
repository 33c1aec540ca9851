//! One connection: a conversation cut anywhere, with holes, losses and ends anywhere.
//!
//! Input: how its calls are cut into others, then the conversation (see `talk`).

use inferscope::clock::BootTime;
use inferscope::request::record::{Observation, RequestRecord};
use inferscope_common::socket::{Opening, SocketKind, opening};

use super::ring::{CONNECTION_BYTES_MAX, Room};
use crate::input::{Cuts, Input};
use crate::memory::held;
use crate::talk::{Act, Kernel, acts};

const SOCKET: u64 = 7;
const SECOND_NS: u64 = 1_000_000_000;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let unix = input.byte() & 1 == 1;
    let cuts = input.cuts();
    let acts = acts(input.rest());
    anything_is_taken(&acts, unix);
    if let Some(certain) = certain(&acts) {
        cuts_change_nothing(certain, &cuts);
    }
}

/// All of it: what is held stays small, and no more is counted than passed.
fn anything_is_taken(acts: &[Act], unix: bool) {
    let (mut room, mut kernel) = (Room::new(), Kernel::new(SOCKET, unix));
    let (mut passed, mut counted) = ([0, 0], [0, 0]);
    let before = held();
    for act in acts {
        let (kind, bytes) = play(&mut room, &mut kernel, act, &Cuts::default());
        passed[usize::from(kind == SocketKind::Write)] += bytes;
        room.check();
        count(&mut room, &mut counted);
        let more = held().saturating_sub(before);
        assert!(more <= CONNECTION_BYTES_MAX, "{more} bytes held");
    }
    room.end();
    count(&mut room, &mut counted);
    assert!(counted[0] <= passed[0] && counted[1] <= passed[1], "{counted:?} of {passed:?} bytes");
}

/// Adds the bytes of requests and answers that left, and lets them go.
fn count(room: &mut Room, counted: &mut [u64; 2]) {
    for record in finished(std::mem::take(&mut room.out)) {
        counted[0] += record.request_bytes;
        counted[1] += record.response_bytes;
    }
}

fn finished(out: Vec<Observation>) -> impl Iterator<Item = RequestRecord> {
    out.into_iter().filter_map(|observation| match observation {
        Observation::Finished(record) => Some(*record),
        Observation::Progress(_) => None,
    })
}

/// Does one act; says in which direction how many bytes passed.
fn play(room: &mut Room, kernel: &mut Kernel, act: &Act, cuts: &Cuts) -> (SocketKind, u64) {
    match act {
        Act::Move { kind, bytes, flags } => {
            for part in cuts.parts(bytes) {
                room.take(&kernel.entry(*kind, part, *flags));
            }
            return (*kind, bytes.len() as u64);
        }
        Act::Lose { kind, len } => {
            kernel.lose(*kind, *len);
            return (*kind, *len);
        }
        Act::State(kind) => room.take(&kernel.entry(*kind, b"", 0)),
        Act::Tick(seconds) => {
            kernel.time_ns += seconds * SECOND_NS;
            room.tick(BootTime(kernel.time_ns));
        }
        Act::Forget => kernel.forget(),
    }
    (SocketKind::Read, 0)
}

/// The acts up to the end of the connection, if the agent sees it from its start and misses nothing of it.
fn certain(acts: &[Act]) -> Option<&[Act]> {
    let ends = |act: &Act| {
        matches!(act, Act::Tick(_) | Act::Forget | Act::State(SocketKind::Closed | SocketKind::Reset))
    };
    let acts = &acts[..acts.iter().position(ends).unwrap_or(acts.len())];
    let begins = |act: &Act| match act {
        Act::Move { kind: SocketKind::Read, bytes, .. } if !bytes.is_empty() => {
            let mut first = [0; 4];
            let len = bytes.len().min(4);
            first[..len].copy_from_slice(&bytes[..len]);
            opening(u32::from_be_bytes(first), len as u32) == Opening::Request
        }
        _ => false,
    };
    (acts.first().is_some_and(begins) && acts.iter().all(Act::is_whole)).then_some(acts)
}

/// What came of a connection, but for times.
#[derive(Debug, PartialEq)]
struct Came {
    records: Vec<RequestRecord>,
    chunks: u64,
    failures: u64,
    not_followed: u64,
}

fn come(acts: &[Act], cuts: &Cuts) -> Came {
    let (mut room, mut kernel) = (Room::new(), Kernel::new(SOCKET, false));
    for act in acts {
        play(&mut room, &mut kernel, act, cuts);
    }
    room.take(&kernel.entry(SocketKind::Closed, b"", 0));
    let chunks = room.out.iter().map(|observation| match observation {
        Observation::Progress(progress) => progress.chunks,
        Observation::Finished(_) => 0,
    });
    let (chunks, counts) = (chunks.sum(), room.counts());
    let failures = counts.failures().map(|(_, count)| count).sum();
    let not_followed = counts.requests_refused + counts.requests_unfinished;
    Came { chunks, failures, not_followed, records: finished(room.out).map(timeless).collect() }
}

fn timeless(record: RequestRecord) -> RequestRecord {
    RequestRecord {
        arrival: BootTime(0),
        first_read: BootTime(0),
        end: BootTime(0),
        read_delay: None,
        send_wait: std::time::Duration::ZERO,
        first_token: record.first_token.map(|_| BootTime(0)),
        ..record
    }
}

/// A conversation that is understood means the same however its calls are cut.
fn cuts_change_nothing(acts: &[Act], cuts: &Cuts) {
    let whole = come(acts, &Cuts::default());
    if whole.failures == 0 && whole.not_followed == 0 {
        assert_eq!(come(acts, cuts), whole);
        assert_eq!(come(acts, &Cuts::every_byte()), whole);
    }
}
