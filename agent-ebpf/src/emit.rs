//! How events leave: the two rings and the counters of what did not fit.
//!
//! No socket event wakes the reader: waking costs ten times the program, so the agent looks at the rings at a
//! steady pace and their size covers a reader that gets no processor for seconds. A process event does, where
//! the reader waits: what a new server does before it is watched is not seen.

use core::arch::asm;

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use inferscope_common::counter::{Counter, Counters};
use inferscope_common::process::{PROCESSES_BYTES, ProcessEvent};
use inferscope_common::socket::{EVENTS_BYTES, SocketEvent};

use crate::features;

/// Socket events: header and payload.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

/// Process events.
#[map]
static PROCESSES: RingBuf = RingBuf::with_byte_size(PROCESSES_BYTES, 0);

#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
pub fn count(counter: Counter) {
    add([counter]);
}

#[inline(always)]
fn add<const N: usize>(counters: [Counter; N]) {
    if let Some(cells) = COUNTERS.get_ptr_mut(0) {
        let mut i = 0;
        while i < N {
            // SAFETY: a live map value of this processor.
            let cell = unsafe { cells.cast::<u64>().add(counters[i] as usize) };
            if features::interrupted() {
                // SAFETY: as above; whoever interrupts this program counts the same way. The compiler has no
                // atomics for this target.
                unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) cell, in(reg) 1u64) };
            } else {
                // SAFETY: as above; a program in an interrupt between load and store can lose it one count.
                unsafe { *cell += 1 };
            }
            i += 1;
        }
    }
}

#[inline(always)]
fn counted(result: Result<(), i32>) {
    add([Counter::SocketSeen, if result.is_ok() { Counter::SocketSent } else { Counter::SocketRingFull }]);
}

#[inline(always)]
pub fn socket_bytes(bytes: &[u8]) {
    counted(EVENTS.output::<[u8]>(bytes, BPF_RB_NO_WAKEUP as u64));
}

#[inline(always)]
pub fn socket_event(event: &SocketEvent) {
    counted(EVENTS.output::<SocketEvent>(event, BPF_RB_NO_WAKEUP as u64));
}

#[inline(always)]
pub fn process_event(event: &ProcessEvent) {
    let result = PROCESSES.output::<ProcessEvent>(event, 0);
    count(if result.is_ok() { Counter::ProcessSent } else { Counter::ProcessRingFull });
}
