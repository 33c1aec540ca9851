//! Reads, writes, arrivals and ends of the sockets of watched processes.
//!
//! Hook: socket_read tp_btf/sock_recv_length
//! Hook: socket_write tp_btf/sock_send_length
//! Hook: socket_send tp_btf/tcp_sendmsg_locked
//! Hook: socket_arrive tp_btf/sk_data_ready
//! Hook: socket_change tp_btf/inet_sock_set_state
//! Hook: socket_destroy tp_btf/tcp_destroy_sock
//! Kernel: 6.3 for reads, writes and arrivals; 6.16 for socket_send; the others 5.10.
//! Cost: see ARCHITECTURE.md, measured by `cargo xtask bench`.
//! Limits: what is no inbound HTTP gets a verdict after `STRIKES_MAX` and is left alone from then on.
//! A Unix socket has no close event here: its end is what the process reads, or the process's own end.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use inferscope_common::counter::Counter;
use inferscope_common::process::{ProcessEvent, ProcessKind};
use inferscope_common::socket::{
    FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, FLAG_SHORT, Opening, READ_STRIKES, READ_TAIL_BYTES_MAX,
    STRIKES_MAX, SocketEvent, SocketKind, SocketState, Verdict, WRITE_STRIKES, WRITE_TAIL_BYTES_MAX, opening,
};

use crate::capture::{self, Scratch};
use crate::offsets::{self, Sock};
use crate::registers::{self, Buffer};
use crate::{emit, state, watch};

const EAGAIN: i32 = -11;
const EPIPE: i32 = -32;
const ECONNRESET: i32 = -104;

const TCP_ESTABLISHED: i32 = 1;
const TCP_FIN_WAIT1: i32 = 4;
const TCP_CLOSE: i32 = 7;
const TCP_CLOSE_WAIT: i32 = 8;
const TCP_LAST_ACK: i32 = 9;
const TCP_LISTEN: i32 = 10;

#[btf_tracepoint(function = "sock_recv_length")]
pub fn socket_read(ctx: BtfTracePointContext) -> i32 {
    let result: i32 = ctx.arg(1);
    call(ctx.arg(0), result, false);
    0
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn socket_write(ctx: BtfTracePointContext) -> i32 {
    let result: i32 = ctx.arg(1);
    call(ctx.arg(0), result, true);
    0
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

#[inline(always)]
fn call(sock: *const Sock, result: i32, write: bool) {
    let id = bpf_get_current_pid_tgid();
    let tgid = (id >> 32) as u32;
    if !watch::is_watched(tgid) {
        return;
    }
    let Some(kind) = kind_of(result, write) else { return };
    let family = offsets::sock_family(sock);
    if family != FAMILY_INET as u16 && family != FAMILY_INET6 as u16 && family != FAMILY_UNIX as u16 {
        return;
    }
    let key = state::key(sock);
    let Some(socket) = state::find_or_insert(key) else { return };
    // SAFETY: a live value of the table.
    let verdict = unsafe { (*socket).verdict };
    if verdict == Verdict::Ignored as u32 {
        return emit::count(Counter::SocketIgnored);
    }
    let Some(scratch) = capture::scratch(write) else { return };
    let buffer = registers::buffer();
    let buffer = if capture::fetch_pieces(scratch, buffer) { buffer } else { Buffer::Unknown };
    let moved = if result > 0 { result as u32 } else { 0 };
    // SAFETY: as above.
    let undecided = verdict == Verdict::Open as u32
        && !unsafe { decide(socket, capture::first_bytes(scratch, buffer, moved), moved, write) };
    if undecided {
        return emit::count(Counter::SocketUndecided);
    }
    if verdict == Verdict::Open as u32 && family == FAMILY_UNIX as u16 {
        watch::serve_unix(offsets::unix_address(sock));
    }
    let call = Call { kind, family: family as u8, id, moved, buffer };
    // SAFETY: as above.
    unsafe { send(scratch, socket, key, &call) };
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
struct Call {
    kind: SocketKind,
    family: u8,
    /// `bpf_get_current_pid_tgid`.
    id: u64,
    moved: u32,
    buffer: Buffer,
}

#[inline(always)]
unsafe fn send(scratch: *mut Scratch, socket: *mut SocketState, key: u64, call: &Call) {
    let event = capture::event(scratch);
    unsafe {
        state::next_event(event, socket, key, call.kind);
        (*event).tgid = (call.id >> 32) as u32;
        (*event).tid = call.id as u32;
        (*event).family = call.family;
        (*event).len = call.moved;
    }
    match call.kind {
        SocketKind::Read => unsafe { send_read(scratch, socket, call) },
        SocketKind::Write => unsafe { send_write(scratch, socket, call) },
        // SAFETY: live map values.
        _ => unsafe {
            // A server that reads late learns late that its client has gone.
            if matches!(call.kind, SocketKind::PeerClosed | SocketKind::Reset)
                && (*socket).peer_closed_ns != 0
            {
                (*event).time_ns = (*socket).peer_closed_ns;
            }
            emit::socket_event(&*event);
        },
    }
}

#[inline(always)]
unsafe fn send_read(scratch: *mut Scratch, socket: *mut SocketState, call: &Call) {
    let event = capture::event(scratch);
    // SAFETY: live map values.
    unsafe {
        (*event).offset = (*socket).read_bytes;
        (*event).arrival_ns = (*socket).arrival_ns;
        (*socket).read_bytes += call.moved as u64;
    }
    let copied = capture::copy(scratch, call.buffer, call.moved, READ_TAIL_BYTES_MAX as u32);
    // A read that filled its buffer may have left bytes behind, of which the newest arrival is known.
    let full = copied.offered == call.moved as u64;
    // SAFETY: as above.
    unsafe { (*socket).arrival_ns = if full { (*socket).newest_arrival_ns } else { 0 } };
    capture::send(scratch, call.buffer, &copied);
}

#[inline(always)]
unsafe fn send_write(scratch: *mut Scratch, socket: *mut SocketState, call: &Call) {
    let event = capture::event(scratch);
    // SAFETY: live map values.
    unsafe {
        (*event).offset = (*socket).written_bytes;
        (*socket).written_bytes += call.moved as u64;
    }
    let copied = capture::copy(scratch, call.buffer, call.moved, WRITE_TAIL_BYTES_MAX as u32);
    if copied.offered > call.moved as u64 {
        // SAFETY: as above.
        unsafe { (*event).flags |= FLAG_SHORT };
    }
    capture::send(scratch, call.buffer, &copied);
}

#[btf_tracepoint(function = "tcp_sendmsg_locked")]
pub fn socket_send(ctx: BtfTracePointContext) -> i32 {
    sending(ctx.arg(0));
    0
}

/// The kernel is about to take bytes of the call: the packet leaves, and may wake its reader in this
/// thread's place, before the call returns.
#[inline(always)]
fn sending(sock: *const Sock) {
    // Most sockets have no cookie, and to see that is cheaper than to ask who writes.
    let key = offsets::sock_cookie_known(sock);
    if key == 0 || !watch::is_watched((bpf_get_current_pid_tgid() >> 32) as u32) {
        return;
    }
    let Some(socket) = state::find(key) else { return };
    // SAFETY: a live value of the table.
    unsafe {
        if (*socket).verdict == Verdict::Inbound as u32 {
            (*socket).sending_ns = bpf_ktime_get_boot_ns();
        }
    }
}

#[btf_tracepoint(function = "sk_data_ready")]
pub fn socket_arrive(ctx: BtfTracePointContext) -> i32 {
    arrive(ctx.arg(0));
    0
}

/// Runs in whatever thread was interrupted, so it filters by the socket: a served port, a Unix socket
/// that a watched process has used before, or one accepted where such a process has served before.
#[inline(always)]
fn arrive(sock: *const Sock) {
    let family = offsets::sock_family(sock);
    let tcp = family == FAMILY_INET as u16 || family == FAMILY_INET6 as u16;
    if tcp && (!watch::is_served(offsets::sock_port(sock)) || offsets::sock_state(sock) as i32 == TCP_LISTEN)
    {
        return;
    }
    if !tcp && family != FAMILY_UNIX as u16 {
        return;
    }
    let fresh = offsets::sock_cookie_known(sock) == 0;
    if !tcp && fresh && !watch::is_served_unix(offsets::unix_address(sock)) {
        return;
    }
    let key = state::key(sock);
    let socket = if tcp || fresh { state::find_or_insert(key) } else { state::find(key) };
    let Some(socket) = socket else { return };
    // SAFETY: a live value of the table.
    let socket = unsafe { &mut *socket };
    if socket.verdict == Verdict::Ignored as u32 {
        return;
    }
    let now = unsafe { bpf_ktime_get_boot_ns() };
    socket.newest_arrival_ns = now;
    if socket.arrival_ns == 0 {
        socket.arrival_ns = now;
    }
}

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn socket_change(ctx: BtfTracePointContext) -> i32 {
    change(ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

#[inline(always)]
fn change(sock: *const Sock, from: i32, to: i32) {
    if to == TCP_LISTEN {
        return listen(sock);
    }
    let key = offsets::sock_cookie_known(sock);
    if key == 0 || (from != TCP_ESTABLISHED && from != TCP_CLOSE_WAIT) {
        return;
    }
    let Some(socket) = state::find(key) else { return };
    // SAFETY: a live value of the table.
    unsafe {
        if (*socket).verdict == Verdict::Open as u32 && (to == TCP_CLOSE_WAIT || to == TCP_CLOSE) {
            // The first of a close and a reset.
            if (*socket).peer_closed_ns == 0 {
                (*socket).peer_closed_ns = bpf_ktime_get_boot_ns();
            }
        }
        if (*socket).verdict != Verdict::Inbound as u32 {
            return;
        }
    }
    let kind = match to {
        TCP_CLOSE_WAIT => SocketKind::PeerClosed,
        TCP_CLOSE if offsets::sock_error(sock) != 0 => SocketKind::Reset,
        TCP_CLOSE | TCP_FIN_WAIT1 | TCP_LAST_ACK => SocketKind::Closed,
        _ => return,
    };
    let mut event = SocketEvent::default();
    // SAFETY: a live value of the table.
    unsafe { state::next_event(&raw mut event, socket, key, kind) };
    event.family = offsets::sock_family(sock) as u8;
    emit::socket_event(&event);
}

#[inline(always)]
fn listen(sock: *const Sock) {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let family = offsets::sock_family(sock);
    if !watch::is_watched(tgid) || (family != FAMILY_INET as u16 && family != FAMILY_INET6 as u16) {
        return;
    }
    let port = offsets::sock_port(sock);
    watch::serve(port);
    emit::process_event(&ProcessEvent {
        time_ns: unsafe { bpf_ktime_get_boot_ns() },
        kind: ProcessKind::Listen as u32,
        tgid,
        parent_tgid: 0,
        port: port as u32,
    });
}

#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn socket_destroy(ctx: BtfTracePointContext) -> i32 {
    let key = offsets::sock_cookie_known(ctx.arg(0));
    if key != 0 {
        state::forget(key);
    }
    0
}
