//! Two copies of each program that takes bytes, where the kernel interrupts programs.
//!
//! Such a kernel may let another thread onto the processor before a program is done, and skips the program for that
//! thread, since it is in use there. The second copy, at the same hook, takes the calls that the first is skipped
//! for. What is skipped by both is counted by the kernel alone, and shows as a gap in TCP's own position.
//!
//! Cost: a look-up for each call, where the kernel interrupts programs; elsewhere none, and no second copy.
//! Limits: a thread that is interrupted between the two copies, while another is in the first, looks like one that the
//! first was skipped for. TCP's position tells the two apart; over a Unix socket its call is told twice.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use inferscope_common::counter::Counter;
use inferscope_common::socket::SLOTS;

use crate::{emit, features};

/// A copy of a program: each has its own place to put an event together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Slot(u32);

impl Slot {
    pub const READ: Self = Self(0);
    pub const WRITE: Self = Self(Self::OF_WRITE);
    pub const UNIX_READ: Self = Self(Self::OF_UNIX);
    pub const UNIX_WRITE: Self = Self(Self::OF_UNIX | Self::OF_WRITE);

    const OF_WRITE: u32 = 1;
    const OF_SECOND: u32 = 2;
    const OF_UNIX: u32 = 4;

    #[inline(always)]
    pub const fn number(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub const fn writes(self) -> bool {
        self.0 & Self::OF_WRITE != 0
    }

    #[inline(always)]
    pub const fn is_second(self) -> bool {
        self.0 & Self::OF_SECOND != 0
    }

    #[inline(always)]
    const fn second(self) -> Self {
        Self(self.0 | Self::OF_SECOND)
    }
}

/// Not 0 by the slot of a first copy while it runs on this processor.
#[map]
static INSIDE: PerCpuArray<u32> = PerCpuArray::with_max_entries(SLOTS, 0);

/// Runs the first copy.
#[inline(always)]
pub fn first(slot: Slot, run: impl FnOnce(Slot) -> bool) {
    if !features::interrupted() {
        run(slot);
        return;
    }
    let Some(inside) = INSIDE.get_ptr_mut(slot.number()) else { return };
    // SAFETY: a live value of this processor, which this program does not leave before it is done.
    unsafe { inside.write_volatile(1) };
    run(slot);
    // SAFETY: as above.
    unsafe { inside.write_volatile(0) };
}

/// Runs the second copy, where the kernel skipped the first; `run` says false where it did not after all.
#[inline(always)]
pub fn second(slot: Slot, run: impl FnOnce(Slot) -> bool) {
    let Some(inside) = INSIDE.get_ptr(slot.number()) else { return };
    // SAFETY: a live value of this processor.
    if unsafe { inside.read_volatile() } != 0 && run(slot.second()) {
        emit::count(Counter::CallTakenOver);
    }
}
