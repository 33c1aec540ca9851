//! What is known of each socket: the SOCKETS table.
//!
//! Keyed by the socket's cookie, which the kernel never gives twice. Changed in place by the thread of
//! the call and by the kernel's network interrupts; both only ever add, and a number lost to their
//! race shows as a repeated sequence, which readers take for no loss.

use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use inferscope_common::counter::Counter;
use inferscope_common::socket::{SOCKETS_MAX, SocketEvent, SocketKind, SocketState};

use crate::emit;
use crate::offsets::Sock;

#[map]
static SOCKETS: LruHashMap<u64, SocketState> = LruHashMap::with_max_entries(SOCKETS_MAX, 0);

/// The socket's cookie; makes one where there is none yet.
#[inline(always)]
pub fn key(sock: *const Sock) -> u64 {
    // SAFETY: an argument of a tp_btf program that the kernel types as a socket.
    unsafe { bpf_get_socket_cookie(sock.cast_mut().cast()) }
}

#[inline(always)]
pub fn find(key: u64) -> Option<*mut SocketState> {
    SOCKETS.get_ptr_mut(&key)
}

/// The state of a socket, made where there is none; `None`, and counted, where the table takes none.
#[inline(always)]
pub fn find_or_insert(key: u64) -> Option<*mut SocketState> {
    if let Some(state) = find(key) {
        return Some(state);
    }
    let fresh = SocketState {
        read_bytes: 0,
        written_bytes: 0,
        arrival_ns: 0,
        newest_arrival_ns: 0,
        sequence: 0,
        verdict: 0,
        strikes: 0,
        padding: 0,
    };
    let _ = SOCKETS.insert(&key, &fresh, 0);
    let state = find(key);
    if state.is_none() {
        emit::count(Counter::SocketTableFull);
    }
    state
}

#[inline(always)]
pub fn forget(key: u64) {
    let _ = SOCKETS.remove(&key);
}

/// Numbers the next event of a socket.
///
/// # Safety
/// `state` is a live value of the table.
#[inline(always)]
pub unsafe fn next_event(state: *mut SocketState, key: u64, kind: SocketKind) -> SocketEvent {
    emit::count(Counter::SocketSeen);
    let sequence = unsafe {
        (*state).sequence += 1;
        (*state).sequence
    };
    SocketEvent {
        time_ns: 0,
        arrival_ns: 0,
        socket: key,
        offset: 0,
        tgid: 0,
        tid: 0,
        len: 0,
        sequence,
        head_len: 0,
        tail_len: 0,
        kind: kind as u8,
        family: 0,
        flags: 0,
        padding: 0,
    }
}
