//! Is this process watched, is this port a server's? The first question of every program.
//!
//! Cost: one array look-up, 5 ns above an empty program.

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use inferscope_common::watch::{PORTS_WORDS, WATCHED_WORDS, bit};

/// One bit a process; the agent sets and clears, a fork of a watched process sets.
#[map]
static WATCHED: Array<u64> = Array::with_max_entries(WATCHED_WORDS, 0);

/// One bit a TCP port on which a watched process listens.
#[map]
static PORTS: Array<u64> = Array::with_max_entries(PORTS_WORDS, 0);

#[inline(always)]
fn is_set(bitmap: &Array<u64>, index: u32) -> bool {
    let (word, mask) = bit(index);
    matches!(bitmap.get(word), Some(bits) if bits & mask != 0)
}

#[inline(always)]
fn set(bitmap: &Array<u64>, index: u32) {
    let (word, mask) = bit(index);
    if let Some(bits) = bitmap.get_ptr_mut(word) {
        // Not atomic: kernels before 5.12 have no atomic OR. A bit lost to a neighbour that is set at the
        // same moment is set again when the agent reads the event that goes with it.
        // SAFETY: a live, aligned map value.
        unsafe { *bits |= mask };
    }
}

#[inline(always)]
pub fn is_watched(tgid: u32) -> bool {
    is_set(&WATCHED, tgid)
}

#[inline(always)]
pub fn watch(tgid: u32) {
    set(&WATCHED, tgid);
}

#[inline(always)]
pub fn is_served(port: u16) -> bool {
    is_set(&PORTS, port as u32)
}

#[inline(always)]
pub fn serve(port: u16) {
    set(&PORTS, port as u32);
}
