//! Is this process watched, is this port a server's? The first question of every program.
//!
//! Cost: one array look-up, 15 to 30 ns above an empty program.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LruHashMap};
use inferscope_common::watch::{PORTS_WORDS, UNIX_LISTENERS_MAX, WATCHED_WORDS, bit};

/// One bit a process; the agent sets and clears, a fork of a watched process sets.
#[map]
static WATCHED: Array<u64> = Array::with_max_entries(WATCHED_WORDS, 0);

/// One bit a TCP port on which a watched process listens.
#[map]
static PORTS: Array<u64> = Array::with_max_entries(PORTS_WORDS, 0);

/// Addresses of Unix sockets on which a watched process has served: an accepted socket shares its
/// listener's. A new connection there may bring its first request before the process looks at it.
#[map]
static UNIX_SERVED: LruHashMap<u64, u8> = LruHashMap::with_max_entries(UNIX_LISTENERS_MAX, 0);

#[inline(always)]
fn is_set(bitmap: &Array<u64>, (word, mask): (u32, u64)) -> bool {
    matches!(bitmap.get(word), Some(bits) if bits & mask != 0)
}

#[inline(always)]
fn set(bitmap: &Array<u64>, (word, mask): (u32, u64)) {
    if let Some(bits) = bitmap.get_ptr_mut(word) {
        // Not atomic: kernels before 5.12 have no atomic OR. A bit lost to a neighbour that is set at the
        // same moment is set again when the agent reads the event that goes with it.
        // SAFETY: a live, aligned map value.
        unsafe { *bits |= mask };
    }
}

#[inline(always)]
pub fn is_watched(tgid: u32) -> bool {
    is_set(&WATCHED, bit(tgid))
}

#[inline(always)]
pub fn watch(tgid: u32) {
    set(&WATCHED, bit(tgid));
}

/// Not atomic, as [`set`]: a neighbour's bit that is lost is set again in the same way.
#[inline(always)]
pub fn unwatch(tgid: u32) {
    let (word, mask) = bit(tgid);
    if let Some(bits) = WATCHED.get_ptr_mut(word) {
        // SAFETY: a live, aligned map value.
        unsafe { *bits &= !mask };
    }
}

#[inline(always)]
pub fn is_served(port: u16) -> bool {
    is_set(&PORTS, bit(port as u32))
}

#[inline(always)]
pub fn serve(port: u16) {
    set(&PORTS, bit(port as u32));
}

#[inline(always)]
pub fn is_served_unix(address: u64) -> bool {
    address != 0 && UNIX_SERVED.get_ptr(address).is_some()
}

#[inline(always)]
pub fn serve_unix(address: u64) {
    if address != 0 {
        // A full table forgets the listener that was quiet longest.
        let _ = UNIX_SERVED.insert(address, 1, 0);
    }
}
