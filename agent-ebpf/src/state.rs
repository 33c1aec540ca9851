//! What is known of each socket: a value in the kernel's own socket, or a table keyed by its address.
//!
//! Changed in place by the thread of the call and by the kernel's network interrupts; both only ever add,
//! and a number lost to their race shows as a repeated sequence, which readers take for no loss.
//! Kernel: storage in the socket from 5.16, where it costs a third of a look-up in a table and goes with the
//! socket. Before, and where sockets are found by descriptor, the SOCKETS table: an address is used again, so
//! `socket_destroy` and `unix_close` forget it.

use aya_ebpf::bindings::{BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_sk_storage_get};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::LruHashMap;
use inferscope_common::counter::Counter;
use inferscope_common::socket::{
    FLAG_FIRST, OVERRULED_MAX, POSITION_READ, POSITION_WRITE, SOCKETS_MAX, SocketEvent, SocketKind,
    SocketState, Verdict,
};

use crate::offsets::{self, Sock};
use crate::{emit, features};

#[btf_map]
static STORAGE: SkStorage<SocketState> = SkStorage::new();

#[map]
static SOCKETS: LruHashMap<u64, SocketState> = LruHashMap::with_max_entries(SOCKETS_MAX, 0);

/// Sockets that the agent has given up on: no HTTP after all. Asked rarely, since few are.
#[map]
static OVERRULED: LruHashMap<u64, u8> = LruHashMap::with_max_entries(OVERRULED_MAX, 0);

/// Bytes that can pass unseen between two events: half of what a position can tell.
const MISSED_MAX: u32 = u32::MAX / 2;

/// Events of a socket between two looks at OVERRULED.
const OVERRULED_EVERY: u32 = 16;

/// The number by which the agent knows a socket: its cookie, which the kernel never gives twice, made where
/// there is none yet; or its address.
#[inline(always)]
pub fn key(sock: *const Sock) -> u64 {
    if !features::helpers() {
        return sock as u64;
    }
    // A load is 15 ns cheaper than the helper, which only the first call on a socket needs.
    let known = offsets::sock_cookie_known(sock);
    if known != 0 {
        return known;
    }
    // SAFETY: an argument of a program that the kernel types as a socket.
    unsafe { bpf_get_socket_cookie(sock.cast_mut().cast()) }
}

/// The same, but 0 for a socket that surely no program here has looked at.
#[inline(always)]
pub fn known(sock: *const Sock) -> u64 {
    if features::helpers() { offsets::sock_cookie_known(sock) } else { sock as u64 }
}

#[inline(always)]
fn stored(sock: *const Sock, flags: u64) -> Option<*mut SocketState> {
    // SAFETY: the map is one of the object; the socket is typed by the kernel, and checked by the verifier.
    let state = unsafe {
        bpf_sk_storage_get(
            (&raw const STORAGE).cast_mut().cast(),
            sock.cast_mut().cast(),
            core::ptr::null_mut(),
            flags,
        )
    };
    if state.is_null() { None } else { Some(state.cast()) }
}

#[inline(always)]
pub fn find(sock: *const Sock) -> Option<*mut SocketState> {
    if features::helpers() { stored(sock, 0) } else { SOCKETS.get_ptr_mut(sock as u64) }
}

/// The state of a socket, made where there is none; `None`, and counted, where there is no room.
#[inline(always)]
pub fn find_or_insert(sock: *const Sock) -> Option<*mut SocketState> {
    if !features::helpers() {
        return find_or_insert_at(sock as u64);
    }
    // Where two processors make it at once, as a client that sends over a Unix socket and a server that reads, one of
    // them is refused, and finds what the other has made.
    let state = stored(sock, BPF_SK_STORAGE_GET_F_CREATE as u64).or_else(|| stored(sock, 0));
    if state.is_none() {
        emit::count(Counter::SocketTableFull);
    }
    state
}

/// The same for a socket of which the address alone is known.
#[inline(always)]
pub fn find_or_insert_at(address: u64) -> Option<*mut SocketState> {
    if let Some(state) = SOCKETS.get_ptr_mut(address) {
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
        positions: 0,
        read_position: 0,
        write_position: 0,
    };
    // Another processor may be faster, and has counted in its own since.
    let _ = SOCKETS.insert(address, fresh, BPF_NOEXIST as u64);
    let state = SOCKETS.get_ptr_mut(address);
    if state.is_none() {
        emit::count(Counter::SocketTableFull);
    }
    state
}

/// A socket that is closed for good; storage goes with it by itself.
#[inline(always)]
pub fn forget(sock: *const Sock) {
    if !features::helpers() {
        let _ = SOCKETS.remove(sock as u64);
        let _ = OVERRULED.remove(sock as u64);
    }
}

/// Takes over what the agent decided of an inbound socket; true where it is to be left alone.
///
/// # Safety
/// `socket` is a live value.
#[inline(always)]
pub unsafe fn is_overruled(socket: *mut SocketState, key: u64) -> bool {
    unsafe {
        if (*socket).sequence % OVERRULED_EVERY != 1 || OVERRULED.get_ptr(key).is_none() {
            return false;
        }
        (*socket).verdict = Verdict::Ignored as u32;
    }
    let _ = OVERRULED.remove(key);
    true
}

/// Compares TCP's own position with what was counted: bytes between are of calls that no program saw. The kernel
/// skips a program while the same program is interrupted on that processor, and others may pass beside the hooks.
///
/// # Safety
/// `socket` is a live value.
#[inline(always)]
pub unsafe fn note_position(socket: *mut SocketState, write: bool, position: u32, moved: u32) {
    let socket = unsafe { &mut *socket };
    let known = if write { POSITION_WRITE } else { POSITION_READ };
    let before = if write { socket.write_position } else { socket.read_position };
    let missed = position.wrapping_sub(before).wrapping_sub(moved);
    if write {
        socket.write_position = position;
    } else {
        socket.read_position = position;
    }
    let compare = socket.positions & known != 0;
    socket.positions |= known;
    // One is the end of the stream, which has a place of its own; a negative number, two threads at once.
    if !compare || missed <= 1 || missed > MISSED_MAX {
        return;
    }
    socket.sequence += 1;
    if write {
        socket.written_bytes += missed as u64;
    } else {
        socket.read_bytes += missed as u64;
    }
}

/// Whether a call that ends at this position was counted already.
///
/// # Safety
/// `socket` is a live value.
#[inline(always)]
pub unsafe fn has_position(socket: *const SocketState, write: bool, position: u32) -> bool {
    let socket = unsafe { &*socket };
    let (known, last) =
        if write { (POSITION_WRITE, socket.write_position) } else { (POSITION_READ, socket.read_position) };
    socket.positions & known != 0 && last == position
}

/// Begins the next event of a socket: its number, time and kind. A write's time is when the kernel took
/// its bytes, where that is known.
///
/// Written member by member: a copy of the whole would go through the stack, where the verifier
/// keeps every value of every path apart.
///
/// # Safety
/// `socket` is a live value, `event` a live place for one.
#[inline(always)]
pub unsafe fn next_event(event: *mut SocketEvent, socket: *mut SocketState, key: u64, kind: SocketKind) {
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
