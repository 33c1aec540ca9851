//! One capture for every socket hook: (buffer in user memory, bytes moved) -> head and tail.
//!
//! Cost: see ARCHITECTURE.md, measured by `cargo xtask bench`.
//! Limits: `HEAD_BYTES_MAX` and the tail of the direction; `PIECES_MAX` pieces; pages that are not
//! present are not faulted in, and then the event says `FLAG_NO_BYTES`.

use core::hint::black_box;

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use inferscope_common::socket::{
    FLAG_NO_BYTES, FLAG_PIECES, HEAD_BYTES_MAX, PIECES_MAX, READ_TAIL_BYTES_MAX, SLOTS, SocketEvent,
    WRITE_TAIL_BYTES_MAX,
};

use crate::copies::Slot;
use crate::emit;
use crate::registers::{Buffer, Layout};

/// Head and tail have room for this much each.
const PART: usize = HEAD_BYTES_MAX;
const HEADER: usize = size_of::<SocketEvent>();
/// Power of two above header, head, tail and one part more, which the verifier wants because it cannot
/// know that offset and length of a piece add up to at most a part.
const SCRATCH_BYTES: usize = 4 * PART;

const _: () = assert!(PIECES_MAX.is_power_of_two());
const _: () = assert!(HEADER + 3 * PART <= SCRATCH_BYTES);
const _: () = assert!(READ_TAIL_BYTES_MAX <= PART && WRITE_TAIL_BYTES_MAX <= PART);

/// Where one event is put together, the list of its pieces, and how far the copy has come.
///
/// What a loop needs to know lies here and is loaded anew in each round. In registers, the verifier
/// would follow each of their values through each branch of each round, and never come to an end.
#[repr(C, align(8))]
pub struct Scratch {
    event: SocketEvent,
    payload: [u8; SCRATCH_BYTES - HEADER],
    pieces: [Piece; PIECES_MAX as usize],
    /// Pieces of the call, of which at most PIECES_MAX are in the list.
    count: u64,
    /// Bytes that the pieces have room for.
    offered: u64,
    /// Bytes the call moved.
    moved: u32,
    /// First position of the tail.
    tail_from: u32,
    /// Position of the piece that is being copied.
    at: u32,
    /// Not 0 when a piece could not be copied.
    failed: u32,
    /// Where the piece that is being copied lies in user memory.
    base: u64,
    /// How much of it the call moved.
    len: u32,
    padding: u32,
}

/// `struct iovec` of user space.
#[repr(C)]
#[derive(Clone, Copy)]
struct Piece {
    base: u64,
    len: u64,
}

// One a copy of a program, not one for all: another may run on this processor before this one is done.
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(SLOTS, 0);

#[inline(always)]
pub fn scratch(slot: Slot) -> Option<*mut Scratch> {
    scratch_of(slot.number())
}

#[inline(always)]
fn scratch_of(slot: u32) -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(slot)
}

/// First four bytes of what the call moved, as [`inferscope_common::socket::opening`] wants them.
#[inline(always)]
pub fn first_bytes(scratch: *mut Scratch, buffer: Buffer, moved: u32) -> u32 {
    let base = match buffer.layout {
        Layout::Single => buffer.address,
        // SAFETY: a live map value; `fetch_pieces` has filled it.
        Layout::Pieces => unsafe { (*scratch).pieces[0].base },
        Layout::Unknown => return 0,
    };
    let mut first = [0u8; 4];
    let len = if moved < 4 { moved } else { 4 };
    // SAFETY: at most four bytes into four bytes.
    unsafe { bpf_probe_read_user(first.as_mut_ptr().cast(), black_box(len) & 7, base as *const _) };
    u32::from_be_bytes(first)
}

/// Copies the list of pieces, so that it is read from user memory once.
#[inline(always)]
pub fn fetch_pieces(scratch: *mut Scratch, buffer: Buffer) -> bool {
    if buffer.layout != Layout::Pieces {
        return true;
    }
    let count = if buffer.len > PIECES_MAX as u64 { PIECES_MAX as u64 } else { buffer.len };
    let bytes = black_box(count as u32 * 16) & (PIECES_MAX * 32 - 1);
    let bytes = if bytes > PIECES_MAX * 16 { PIECES_MAX * 16 } else { bytes };
    // SAFETY: at most PIECES_MAX pieces of 16 bytes into the array of PIECES_MAX.
    unsafe {
        bpf_probe_read_user((&raw mut (*scratch).pieces).cast(), bytes, buffer.address as *const _) == 0
    }
}

/// What came of a copy.
pub struct Copied {
    /// Head and tail are in the payload.
    whole: bool,
    head_len: u32,
    tail_len: u32,
    /// Bytes the caller offered, or had room for.
    pub offered: u64,
}

/// Copies head and tail of what the call moved into the payload.
#[inline(always)]
pub fn copy(scratch: *mut Scratch, buffer: Buffer, moved: u32, slot: Slot) -> Copied {
    let tail_max = if slot.writes() { WRITE_TAIL_BYTES_MAX } else { READ_TAIL_BYTES_MAX } as u32;
    let head_len = if moved > PART as u32 { PART as u32 } else { moved };
    let rest = moved - head_len;
    let tail_len = if rest > tail_max { tail_max } else { rest };
    let (whole, offered) = match buffer.layout {
        Layout::Single => {
            let base = buffer.address;
            let tail = base + (moved - tail_len) as u64;
            // SAFETY: the head goes to the first part of the payload, the tail to the second.
            let head_failed = unsafe { copy_part(scratch, 0, base, head_len) };
            let tail_failed =
                if tail_len > 0 { unsafe { copy_part(scratch, PART as u32, tail, tail_len) } } else { 0 };
            (head_failed | tail_failed == 0, buffer.len)
        }
        Layout::Pieces => {
            // SAFETY: a live map value, of this processor and program alone.
            unsafe {
                (&raw mut (*scratch).count).write_volatile(buffer.len);
                (&raw mut (*scratch).offered).write_volatile(0);
                (&raw mut (*scratch).moved).write_volatile(moved);
                (&raw mut (*scratch).tail_from).write_volatile(moved - tail_len);
                (&raw mut (*scratch).at).write_volatile(0);
                (&raw mut (*scratch).failed).write_volatile(0);
                gather(slot.number());
                let failed = (&raw mut (*scratch).failed).read_volatile() != 0;
                let at = (&raw mut (*scratch).at).read_volatile();
                (!failed && at >= moved, (&raw mut (*scratch).offered).read_volatile())
            }
        }
        Layout::Unknown => (false, moved as u64),
    };
    Copied { whole, head_len, tail_len, offered }
}

/// The event that is being put together.
#[inline(always)]
pub fn event(scratch: *mut Scratch) -> *mut SocketEvent {
    // SAFETY: a live map value.
    unsafe { &raw mut (*scratch).event }
}

/// Sends the event with what was copied.
#[inline(always)]
pub fn send(scratch: *mut Scratch, buffer: Buffer, copied: &Copied) {
    let event = event(scratch);
    let mut payload = 0;
    // SAFETY: a live map value, of this processor and program alone.
    unsafe {
        if copied.whole {
            (*event).head_len = copied.head_len as u16;
            (*event).tail_len = copied.tail_len as u16;
            payload = copied.head_len + copied.tail_len;
        } else {
            (*event).flags |= FLAG_NO_BYTES;
        }
        if buffer.layout == Layout::Pieces && buffer.len > PIECES_MAX as u64 {
            (*event).flags |= FLAG_PIECES;
        }
    }
    let bytes = black_box(HEADER as u32 + payload) & (SCRATCH_BYTES as u32 - 1);
    // SAFETY: the scratch is a live map value of more than SCRATCH_BYTES, and `bytes` is below that.
    unsafe { emit::socket_bytes(core::slice::from_raw_parts(scratch.cast::<u8>(), bytes as usize)) };
}

/// Copies `len` bytes from user memory to `at` in the payload; not 0 when that failed.
///
/// # Safety
/// `at` is at most `2 * PART`; of `len`, no more than `PART` is copied.
#[inline(always)]
unsafe fn copy_part(scratch: *mut Scratch, at: u32, from: u64, len: u32) -> u32 {
    let len = black_box(len) & (2 * PART as u32 - 1);
    let len = if len > PART as u32 { PART as u32 } else { len };
    unsafe {
        let to = (&raw mut (*scratch).payload).cast::<u8>().add(at as usize);
        bpf_probe_read_user(to.cast(), len, from as *const _) as u32
    }
}

/// Copies head and tail out of pieces, and sums what they offer.
///
/// A function of its own, as the next: the verifier walks it once, for any argument, and not once for each path
/// that leads to it and each round of its loop, which took a kernel of 5.10 above its limit.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn gather(slot: u32) -> u32 {
    let Some(scratch) = scratch_of(slot) else { return 0 };
    let mut i = 0;
    while i < PIECES_MAX {
        // SAFETY: a live map value.
        if i as u64 >= unsafe { (&raw mut (*scratch).count).read_volatile() } {
            break;
        }
        gather_piece(slot, i);
        i += 1;
    }
    i
}

/// Copies what of one piece lies in the head and in the tail.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn gather_piece(slot: u32, i: u32) -> u32 {
    let Some(scratch) = scratch_of(slot) else { return 0 };
    // In one register from the bound to the use, or the verifier does not see that it is one number.
    let i = black_box(i) & (PIECES_MAX - 1);
    // SAFETY: a live map value, of this processor and program alone, whose counts are set.
    unsafe {
        let Piece { base, len } =
            (&raw mut (*scratch).pieces).cast::<Piece>().add(i as usize).read_volatile();
        let offered = (&raw mut (*scratch).offered).read_volatile();
        (&raw mut (*scratch).offered).write_volatile(offered + len);
        let moved = (&raw mut (*scratch).moved).read_volatile();
        let at = (&raw mut (*scratch).at).read_volatile();
        if at >= moved {
            return 0;
        }
        let left = moved - at;
        (&raw mut (*scratch).base).write_volatile(base);
        (&raw mut (*scratch).len).write_volatile(if len > left as u64 { left } else { len as u32 });
        copy_window(scratch, 0, PART as u32, 0);
        let tail_from = (&raw mut (*scratch).tail_from).read_volatile();
        let moved = (&raw mut (*scratch).moved).read_volatile();
        copy_window(scratch, tail_from, moved, PART as u32);
        let at = (&raw mut (*scratch).at).read_volatile();
        let len = (&raw mut (*scratch).len).read_volatile();
        (&raw mut (*scratch).at).write_volatile(at + len);
        len
    }
}

/// Copies what of the piece lies between the positions `from` and `until` of what the call moved, to
/// `to` in the payload for the first of them.
///
/// # Safety
/// `scratch` is a live map value, whose counts are set; `to` is at most `PART`.
#[inline(always)]
unsafe fn copy_window(scratch: *mut Scratch, from: u32, until: u32, to: u32) {
    unsafe {
        let at = (&raw mut (*scratch).at).read_volatile();
        let end = at + (&raw mut (*scratch).len).read_volatile();
        let start = if at > from { at } else { from };
        let end = if end < until { end } else { until };
        if start >= end {
            return;
        }
        let base = (&raw mut (*scratch).base).read_volatile();
        let offset = black_box(start - from) & (PART as u32 - 1);
        let failed = copy_part(scratch, to + offset, base + (start - at) as u64, end - start);
        let before = (&raw mut (*scratch).failed).read_volatile();
        (&raw mut (*scratch).failed).write_volatile(before | failed);
    }
}
