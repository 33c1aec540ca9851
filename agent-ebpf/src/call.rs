//! One body for every hook at which bytes move: whose socket, what verdict, which event.
//!
//! In: a call, as a hook shows it. Out: an event with the bytes, or a counter.
//! Limits: what is no inbound HTTP gets a verdict after `STRIKES_MAX` and is left alone from then on.

use inferscope_common::counter::Counter;
use inferscope_common::socket::{
    FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, FLAG_SHORT, Opening, READ_STRIKES, STRIKES_MAX, SocketKind,
    SocketState, Verdict, WRITE_STRIKES, opening,
};

use crate::capture::{self, Scratch};
use crate::copies::Slot;
use crate::registers::Buffer;
use crate::{emit, state, watch};

/// Flag of a call that looks at bytes and leaves them.
pub const MSG_PEEK: u32 = 2;
/// Flag of a call that does not wait, as on every socket of an event loop.
pub const MSG_DONTWAIT: u32 = 0x40;

const EAGAIN: i32 = -11;
const EPIPE: i32 = -32;
const ECONNRESET: i32 = -104;

/// A call that is done, of a watched process.
pub trait Call {
    /// `bpf_get_current_pid_tgid`.
    fn id(&self) -> u64;
    /// Bytes that it moved, or an error.
    fn result(&self) -> i32;
    fn family(&self) -> u16;
    /// The number of its socket.
    fn key(&self) -> u64;
    fn state(&self) -> Option<*mut SocketState>;
    /// Address of its Unix socket, or 0.
    fn unix_address(&self) -> u64;
    fn buffer(&self) -> Buffer;
    /// TCP's own position in what was read or written; `None` where there is none.
    fn position(&self, write: bool) -> Option<u32>;
}

/// What a call's result says, if it says anything: its kind.
#[inline(always)]
fn kind_of(result: i32, write: bool) -> Option<SocketKind> {
    match (result, write) {
        (1.., false) => Some(SocketKind::Read),
        (1.., true) => Some(SocketKind::Write),
        (0, false) => Some(SocketKind::PeerClosed),
        (EAGAIN, true) => Some(SocketKind::WriteBlocked),
        (EPIPE, true) | (ECONNRESET, _) => Some(SocketKind::Reset),
        _ => None,
    }
}

/// Takes a call; false where the first copy of the program has taken it, and this is the second.
#[inline(always)]
pub fn note<C: Call>(call: &C, slot: Slot) -> bool {
    let write = slot.writes();
    let result = call.result();
    let Some(kind) = kind_of(result, write) else { return true };
    let family = call.family();
    if family != FAMILY_INET as u16 && family != FAMILY_INET6 as u16 && family != FAMILY_UNIX as u16 {
        return true;
    }
    let Some(socket) = call.state() else { return true };
    if slot.is_second()
        && result > 0
        && let Some(position) = call.position(write)
        // SAFETY: a live value.
        && unsafe { state::has_position(socket, write, position) }
    {
        return false;
    }
    take(call, slot, kind, family, socket);
    true
}

#[inline(always)]
fn take<C: Call>(call: &C, slot: Slot, kind: SocketKind, family: u16, socket: *mut SocketState) {
    let write = slot.writes();
    let result = call.result();
    // SAFETY: a live value.
    let verdict = unsafe { (*socket).verdict };
    if verdict == Verdict::Ignored as u32 {
        return emit::count(Counter::SocketIgnored);
    }
    let key = call.key();
    // SAFETY: as above.
    if verdict == Verdict::Inbound as u32 && unsafe { state::is_overruled(socket, key) } {
        return emit::count(Counter::SocketIgnored);
    }
    let Some(scratch) = capture::scratch(slot) else { return };
    let buffer = call.buffer();
    let buffer = if capture::fetch_pieces(scratch, buffer) { buffer } else { Buffer::UNKNOWN };
    let len = if result > 0 { result as u32 } else { 0 };
    // SAFETY: as above.
    let undecided = verdict == Verdict::Open as u32
        && !unsafe { decide(socket, capture::first_bytes(scratch, buffer, len), len, write) };
    if undecided {
        return emit::count(Counter::SocketUndecided);
    }
    if verdict == Verdict::Open as u32 && family == FAMILY_UNIX as u16 {
        watch::serve_unix(call.unix_address());
    }
    let moved = Moved { kind, family: family as u8, id: call.id(), len, buffer, slot };
    // SAFETY: as above.
    unsafe {
        if len > 0
            && let Some(position) = call.position(write)
        {
            state::note_position(socket, write, position, len);
        }
        send(scratch, socket, key, &moved);
    }
}

/// Looks at the first bytes of a call while the verdict is open; true when the socket is inbound.
#[inline(always)]
unsafe fn decide(socket: *mut SocketState, first: u32, moved: u32, write: bool) -> bool {
    let socket = unsafe { &mut *socket };
    let verdict = match (opening(first, moved), write) {
        _ if moved == 0 || (write && moved < 4) => Verdict::Open,
        // A response of which the request was not seen: the connection is older than the agent.
        (Opening::Request, false) | (Opening::Response, true) => Verdict::Inbound,
        // The process asks and somebody else answers.
        (Opening::Request, true) | (Opening::Response, false) => Verdict::Ignored,
        (Opening::Other, _) => {
            socket.strikes += if write { WRITE_STRIKES } else { READ_STRIKES };
            if socket.strikes >= STRIKES_MAX { Verdict::Ignored } else { Verdict::Open }
        }
    };
    socket.verdict = verdict as u32;
    if matches!(verdict, Verdict::Inbound) {
        return true;
    }
    socket.arrival_ns = 0;
    false
}

/// A call that gives an event.
struct Moved {
    kind: SocketKind,
    family: u8,
    /// `bpf_get_current_pid_tgid`.
    id: u64,
    len: u32,
    buffer: Buffer,
    slot: Slot,
}

#[inline(always)]
unsafe fn send(scratch: *mut Scratch, socket: *mut SocketState, key: u64, moved: &Moved) {
    let event = capture::event(scratch);
    unsafe {
        state::next_event(event, socket, key, moved.kind);
        (*event).tgid = (moved.id >> 32) as u32;
        (*event).tid = moved.id as u32;
        (*event).family = moved.family;
        (*event).len = moved.len;
    }
    match moved.kind {
        SocketKind::Read => unsafe { send_read(scratch, socket, moved) },
        SocketKind::Write => unsafe { send_write(scratch, socket, moved) },
        // SAFETY: live map values.
        _ => unsafe {
            // A server that reads late learns late that its client has gone.
            if matches!(moved.kind, SocketKind::PeerClosed | SocketKind::Reset)
                && (*socket).peer_closed_ns != 0
            {
                (*event).time_ns = (*socket).peer_closed_ns;
            }
            emit::socket_event(&*event);
        },
    }
}

#[inline(always)]
unsafe fn send_read(scratch: *mut Scratch, socket: *mut SocketState, moved: &Moved) {
    let event = capture::event(scratch);
    // SAFETY: live map values.
    unsafe {
        (*event).offset = (*socket).read_bytes;
        (*event).arrival_ns = (*socket).arrival_ns;
        (*socket).read_bytes += moved.len as u64;
    }
    let copied = capture::copy(scratch, moved.buffer, moved.len, moved.slot);
    // A read that filled its buffer may have left bytes behind, of which the newest arrival is known.
    let full = copied.offered == moved.len as u64;
    // SAFETY: as above.
    unsafe { (*socket).arrival_ns = if full { (*socket).newest_arrival_ns } else { 0 } };
    capture::send(scratch, moved.buffer, &copied);
}

#[inline(always)]
unsafe fn send_write(scratch: *mut Scratch, socket: *mut SocketState, moved: &Moved) {
    let event = capture::event(scratch);
    // SAFETY: live map values.
    unsafe {
        (*event).offset = (*socket).written_bytes;
        (*socket).written_bytes += moved.len as u64;
    }
    let copied = capture::copy(scratch, moved.buffer, moved.len, moved.slot);
    if copied.offered > moved.len as u64 {
        // SAFETY: as above.
        unsafe { (*event).flags |= FLAG_SHORT };
    }
    capture::send(scratch, moved.buffer, &copied);
}
