//! What is known of each socket: the SOCKETS table.
//!
//! Keyed by the socket's cookie, which the kernel never gives twice. Changed in place by the thread of
//! the call and by the kernel's network interrupts; both only ever add, and a number lost to their
//! race shows as a repeated sequence, which readers take for no loss.

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use inferscope_common::counter::Counter;
use inferscope_common::socket::{FLAG_FIRST, SOCKETS_MAX, SocketEvent, SocketKind, SocketState};

use crate::emit;
use crate::offsets::{self, Sock};

#[map]
static SOCKETS: LruHashMap<u64, SocketState> = LruHashMap::with_max_entries(SOCKETS_MAX, 0);

/// The socket's cookie; makes one where there is none yet.
#[inline(always)]
pub fn key(sock: *const Sock) -> u64 {
    // A load is 15 ns cheaper than the helper, which only the first call on a socket needs.
    let known = offsets::sock_cookie_known(sock);
    if known != 0 {
        return known;
    }
    // SAFETY: an argument of a tp_btf program that the kernel types as a socket.
    unsafe { bpf_get_socket_cookie(sock.cast_mut().cast()) }
}

#[inline(always)]
pub fn find(key: u64) -> Option<*mut SocketState> {
    SOCKETS.get_ptr_mut(key)
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
        sending_ns: 0,
        peer_closed_ns: 0,
        sequence: 0,
        verdict: 0,
        strikes: 0,
        padding: 0,
    };
    let _ = SOCKETS.insert(key, fresh, 0);
    let state = find(key);
    if state.is_none() {
        emit::count(Counter::SocketTableFull);
    }
    state
}

#[inline(always)]
pub fn forget(key: u64) {
    let _ = SOCKETS.remove(key);
}

/// Begins the next event of a socket: its number, time and kind. A write's time is when the kernel took
/// its bytes, where that is known.
///
/// Written member by member: a copy of the whole would go through the stack, where the verifier
/// keeps every value of every path apart.
///
/// # Safety
/// `socket` is a live value of the table, `event` a live place for one.
#[inline(always)]
pub unsafe fn next_event(event: *mut SocketEvent, socket: *mut SocketState, key: u64, kind: SocketKind) {
    emit::count(Counter::SocketSeen);
    unsafe {
        (*socket).sequence += 1;
        let sequence = (*socket).sequence;
        let sending_ns = (*socket).sending_ns;
        (*event).time_ns = if matches!(kind, SocketKind::Write) && sending_ns != 0 {
            (*socket).sending_ns = 0;
            sending_ns
        } else {
            bpf_ktime_get_boot_ns()
        };
        (*event).arrival_ns = 0;
        (*event).socket = key;
        (*event).offset = 0;
        (*event).tgid = 0;
        (*event).tid = 0;
        (*event).len = 0;
        (*event).sequence = sequence;
        (*event).head_len = 0;
        (*event).tail_len = 0;
        (*event).kind = kind as u8;
        (*event).family = 0;
        (*event).flags = if sequence == 1 { FLAG_FIRST } else { 0 };
        (*event).padding = 0;
    }
}
