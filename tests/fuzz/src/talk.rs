//! A conversation on one socket, as the kernel programs would tell of it.
//!
//! In: bytes. A payload runs up to the next [`MARK`]; the byte behind a mark says what happens. So a change of one
//! byte leaves the rest of the conversation as it is, which is what a fuzzing engine needs. Out: ring entries.

use inferscope_common::socket::{
    FAMILY_INET, FAMILY_UNIX, FLAG_FIRST, FLAG_NO_BYTES, FLAG_PIECES, FLAG_SHORT, HEAD_BYTES_MAX,
    READ_TAIL_BYTES_MAX, SocketEvent, SocketKind, WRITE_TAIL_BYTES_MAX,
};

/// Begins a command; twice it is itself. HTTP has no such byte.
pub const MARK: u8 = 0xff;
/// Commands of one conversation that are looked at.
const COMMANDS_MAX: usize = 512;
/// Between two events.
const STEP_NS: u64 = 1_000_000;

/// What happens on the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// The server reads or writes; with these flags.
    Move {
        kind: SocketKind,
        bytes: Vec<u8>,
        flags: u8,
    },
    /// So many bytes are read or written in an event that does not arrive.
    Lose {
        kind: SocketKind,
        len: u64,
    },
    State(SocketKind),
    /// So many seconds pass, and the agent looks at its connections.
    Tick(u64),
    /// The kernel forgot the socket, and numbers it anew.
    Forget,
}

impl Act {
    /// Nothing is missing of what it moves.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Move { bytes, flags, .. } => flags & !FLAG_SHORT == 0 && bytes.len() <= HEAD_BYTES_MAX,
            Self::State(_) | Self::Tick(_) => true,
            Self::Lose { .. } | Self::Forget => false,
        }
    }
}

/// The acts of a conversation.
#[must_use]
pub fn acts(script: &[u8]) -> Vec<Act> {
    let mut acts = Vec::new();
    let mut bytes = script;
    while !bytes.is_empty() && acts.len() < COMMANDS_MAX {
        let command = bytes[0];
        let (payload, rest) = payload(&bytes[1..]);
        bytes = rest;
        acts.push(act(command, &payload));
    }
    acts
}

fn act(command: u8, payload: &[u8]) -> Act {
    let moved = |kind, flags| Act::Move { kind, bytes: payload.to_vec(), flags };
    let first = || payload.first().copied().map_or(0, u64::from);
    match command {
        b'R' => moved(SocketKind::Read, 0),
        b'W' => moved(SocketKind::Write, 0),
        b'S' => moved(SocketKind::Write, FLAG_SHORT),
        b'n' => moved(SocketKind::Read, FLAG_NO_BYTES),
        b'N' => moved(SocketKind::Write, FLAG_NO_BYTES),
        b'p' => moved(SocketKind::Read, FLAG_PIECES),
        b'P' => moved(SocketKind::Write, FLAG_PIECES),
        // A call too long to be copied: the payload is its end, its first bytes too.
        b'g' => long(SocketKind::Read, payload),
        b'G' => long(SocketKind::Write, payload),
        b'l' => Act::Lose { kind: SocketKind::Read, len: payload.len() as u64 },
        b'L' => Act::Lose { kind: SocketKind::Write, len: payload.len() as u64 },
        b'B' => Act::State(SocketKind::WriteBlocked),
        b'H' => Act::State(SocketKind::PeerClosed),
        b'X' => Act::State(SocketKind::Reset),
        b'C' => Act::State(SocketKind::Closed),
        b'F' => Act::Forget,
        _ => Act::Tick(first() * first()),
    }
}

fn long(kind: SocketKind, payload: &[u8]) -> Act {
    let mut bytes = payload.to_vec();
    bytes.resize(bytes.len().max(HEAD_BYTES_MAX) + WRITE_TAIL_BYTES_MAX, b'a');
    bytes.extend_from_slice(payload);
    Act::Move { kind, bytes, flags: 0 }
}

/// The bytes up to the next command, and from its letter on.
fn payload(mut bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut payload = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        if *first != MARK {
            payload.push(*first);
            bytes = rest;
        } else if rest.first() == Some(&MARK) {
            payload.push(MARK);
            bytes = &rest[1..];
        } else {
            return (payload, rest);
        }
    }
    (payload, bytes)
}

/// Writes a conversation, for seeds.
#[must_use]
pub fn script(acts: &[(u8, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (command, payload) in acts {
        if !bytes.is_empty() {
            bytes.push(MARK);
        }
        bytes.push(*command);
        for byte in *payload {
            bytes.extend(std::iter::repeat_n(*byte, if *byte == MARK { 2 } else { 1 }));
        }
    }
    bytes
}

/// Numbers the events of a socket as the kernel programs do.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub time_ns: u64,
    socket: u64,
    family: u8,
    sequence: u32,
    read_bytes: u64,
    written_bytes: u64,
    flags: u8,
}

impl Kernel {
    #[must_use]
    pub fn new(socket: u64, unix: bool) -> Self {
        let family = if unix { FAMILY_UNIX } else { FAMILY_INET };
        Self {
            time_ns: STEP_NS,
            socket,
            family,
            sequence: 0,
            read_bytes: 0,
            written_bytes: 0,
            flags: FLAG_FIRST,
        }
    }

    /// An event that does not arrive.
    pub fn lose(&mut self, kind: SocketKind, len: u64) {
        self.sequence = self.sequence.wrapping_add(1);
        *self.offset(kind) += len;
    }

    pub fn forget(&mut self) {
        *self = Self { time_ns: self.time_ns, ..Self::new(self.socket, self.family == FAMILY_UNIX) };
    }

    /// The ring entry of a read, a write or a change.
    pub fn entry(&mut self, kind: SocketKind, bytes: &[u8], flags: u8) -> Vec<u8> {
        self.time_ns += STEP_NS;
        let tail_max = if kind == SocketKind::Read { READ_TAIL_BYTES_MAX } else { WRITE_TAIL_BYTES_MAX };
        let copied = if flags & FLAG_NO_BYTES == 0 { bytes } else { b"" };
        let (head, rest) = copied.split_at(copied.len().min(HEAD_BYTES_MAX));
        let tail = &rest[rest.len().saturating_sub(tail_max)..];
        let event = SocketEvent {
            time_ns: self.time_ns,
            arrival_ns: if self.sequence.is_multiple_of(2) { self.time_ns - STEP_NS / 2 } else { 0 },
            socket: self.socket,
            offset: *self.offset(kind),
            tgid: 10,
            tid: 11,
            len: bytes.len() as u32,
            sequence: self.sequence,
            head_len: head.len() as u16,
            tail_len: tail.len() as u16,
            kind: kind as u8,
            family: self.family,
            flags: flags | std::mem::take(&mut self.flags),
            padding: 0,
        };
        self.sequence = self.sequence.wrapping_add(1);
        *self.offset(kind) += bytes.len() as u64;
        [&header(&event)[..], head, tail].concat()
    }

    fn offset(&mut self, kind: SocketKind) -> &mut u64 {
        if kind == SocketKind::Read { &mut self.read_bytes } else { &mut self.written_bytes }
    }
}

/// An event's header as it lies in the ring.
#[must_use]
pub fn header(event: &SocketEvent) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of::<SocketEvent>());
    for number in [event.time_ns, event.arrival_ns, event.socket, event.offset] {
        bytes.extend(number.to_ne_bytes());
    }
    for number in [event.tgid, event.tid, event.len, event.sequence] {
        bytes.extend(number.to_ne_bytes());
    }
    bytes.extend(event.head_len.to_ne_bytes());
    bytes.extend(event.tail_len.to_ne_bytes());
    bytes.extend([event.kind, event.family, event.flags, event.padding]);
    bytes
}
