//! What happens to the sockets of watched processes besides reads and writes: bytes arrive, the kernel
//! takes bytes to send, states change, sockets go.
//!
//! In: a socket, as a hook shows it. Out: an event, or a time in the socket's state.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use inferscope_common::process::{ProcessEvent, ProcessKind};
use inferscope_common::socket::{
    FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, SocketEvent, SocketKind, SocketState, Verdict,
};

use crate::offsets::{self, Sock};
use crate::{emit, state, watch};

const TCP_ESTABLISHED: i32 = 1;
const TCP_FIN_WAIT1: i32 = 4;
const TCP_CLOSE: i32 = 7;
const TCP_CLOSE_WAIT: i32 = 8;
const TCP_LAST_ACK: i32 = 9;
const TCP_LISTEN: i32 = 10;

#[inline(always)]
fn is_tcp(family: u16) -> bool {
    family == FAMILY_INET as u16 || family == FAMILY_INET6 as u16
}

/// The kernel is about to take bytes of the call: the packet leaves, and may wake its reader in this
/// thread's place, before the call returns.
#[inline(always)]
pub fn sending(sock: *const Sock) {
    // Most sockets have no cookie, and to see that is cheaper than to ask who writes.
    if state::known(sock) == 0 || !watch::is_watched((bpf_get_current_pid_tgid() >> 32) as u32) {
        return;
    }
    let Some(socket) = state::find(sock) else { return };
    // SAFETY: a live value.
    unsafe {
        if (*socket).verdict == Verdict::Inbound as u32 {
            (*socket).sending_ns = bpf_ktime_get_boot_ns();
        }
    }
}

/// Runs in whatever thread was interrupted, so it filters by the socket: a served port, a Unix socket
/// that a watched process has used before, or one accepted where such a process has served before.
#[inline(always)]
pub fn arrive(sock: *const Sock) {
    let family = offsets::sock_family(sock);
    let tcp = is_tcp(family);
    if tcp && (!watch::is_served(offsets::sock_port(sock)) || offsets::sock_state(sock) as i32 == TCP_LISTEN)
    {
        return;
    }
    if !tcp && family != FAMILY_UNIX as u16 {
        return;
    }
    let found = if state::known(sock) == 0 { None } else { state::find(sock) };
    let Some(socket) = found.or_else(|| new_socket(sock, tcp)) else { return };
    // SAFETY: a live value.
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

#[inline(always)]
fn new_socket(sock: *const Sock, tcp: bool) -> Option<*mut SocketState> {
    if !tcp && !watch::is_served_unix(offsets::unix_address(sock)) {
        return None;
    }
    let _ = state::key(sock);
    state::find_or_insert(sock)
}

#[inline(always)]
pub fn change(sock: *const Sock, from: i32, to: i32) {
    if to == TCP_LISTEN {
        return listen(sock, ProcessKind::Listen);
    }
    if from == TCP_LISTEN {
        return listen(sock, ProcessKind::Unlisten);
    }
    let key = state::known(sock);
    if key == 0 || (from != TCP_ESTABLISHED && from != TCP_CLOSE_WAIT) {
        return;
    }
    let Some(socket) = state::find(sock) else { return };
    // SAFETY: a live value.
    unsafe {
        if (*socket).verdict == Verdict::Open as u32 && (to == TCP_CLOSE_WAIT || to == TCP_CLOSE) {
            // The first of a close and a reset.
            if (*socket).peer_closed_ns == 0 {
                (*socket).peer_closed_ns = bpf_ktime_get_boot_ns();
            }
        }
    }
    let kind = match to {
        TCP_CLOSE_WAIT => SocketKind::PeerClosed,
        TCP_CLOSE if offsets::sock_error(sock) != 0 => SocketKind::Reset,
        TCP_CLOSE | TCP_FIN_WAIT1 | TCP_LAST_ACK => SocketKind::Closed,
        _ => return,
    };
    // SAFETY: a live value.
    unsafe { end(sock, socket, key, kind) };
}

/// Sends the event of an end, where the socket is inbound.
///
/// # Safety
/// `socket` is a live value.
#[inline(always)]
unsafe fn end(sock: *const Sock, socket: *mut SocketState, key: u64, kind: SocketKind) {
    let mut event = SocketEvent::default();
    unsafe {
        if (*socket).verdict != Verdict::Inbound as u32 {
            return;
        }
        state::next_event(&raw mut event, socket, key, kind);
    }
    event.family = offsets::sock_family(sock) as u8;
    emit::socket_event(&event);
}

/// A socket that its process closed for good, and that has no states to change.
#[inline(always)]
pub fn release(sock: *const Sock) {
    let key = state::known(sock);
    if key == 0 {
        return;
    }
    let Some(socket) = state::find(sock) else { return };
    // SAFETY: a live value.
    unsafe { end(sock, socket, key, SocketKind::Closed) };
    state::forget(sock);
}

#[inline(always)]
fn listen(sock: *const Sock, kind: ProcessKind) {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if !watch::is_watched(tgid) || !is_tcp(offsets::sock_family(sock)) {
        return;
    }
    let mut port = 0;
    if matches!(kind, ProcessKind::Listen) {
        port = offsets::sock_port(sock);
        watch::serve(port);
    }
    emit::process_event(&ProcessEvent {
        time_ns: unsafe { bpf_ktime_get_boot_ns() },
        kind: kind as u32,
        tgid,
        parent_tgid: 0,
        port: port as u32,
    });
}
