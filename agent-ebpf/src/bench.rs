//! The smallest programs there are: what a run costs before any work is done, and each step that work is made of.
//!
//! Hook: empty tp_btf/sock_send_length
//! Hook: bench_thread tp_btf/sock_send_length
//! Hook: bench_clock tp_btf/sock_send_length
//! Hook: bench_storage tp_btf/sock_send_length
//! Hook: bench_registers tp_btf/sock_send_length
//! Hook: bench_copy tp_btf/sock_send_length
//! Hook: bench_copy_4k tp_btf/sock_send_length
//! Hook: bench_ring tp_btf/sock_send_length
//! Hook: bench_ring_4k tp_btf/sock_send_length
//! Kernel: 6.3.
//! Cost: `empty` is some 60 ns, which are the run-time statistics themselves; every other figure is net of it.
//! Limits: for `cargo xtask bench`, one at a time; the agent never loads them.

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_probe_read_user};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use crate::copies::Slot;
use crate::{capture, emit, registers, state};

const SMALL: usize = 256;
const LARGE: usize = 4096;
/// Of an event, in front of what was copied.
const HEADER: usize = 56;

#[btf_tracepoint(function = "sock_send_length")]
pub fn empty(_: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn bench_thread(_: BtfTracePointContext) -> i32 {
    (bpf_get_current_pid_tgid() & 1) as i32
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn bench_clock(_: BtfTracePointContext) -> i32 {
    (unsafe { bpf_ktime_get_boot_ns() } & 1) as i32
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn bench_storage(ctx: BtfTracePointContext) -> i32 {
    i32::from(state::find_or_insert(ctx.arg(0)).is_some())
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn bench_registers(_: BtfTracePointContext) -> i32 {
    registers::current().map_or(0, |registers| (registers.buffer().address & 1) as i32)
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn bench_copy(_: BtfTracePointContext) -> i32 {
    copy::<SMALL>()
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn bench_copy_4k(_: BtfTracePointContext) -> i32 {
    copy::<LARGE>()
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn bench_ring(_: BtfTracePointContext) -> i32 {
    output::<{ HEADER + SMALL }>()
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn bench_ring_4k(_: BtfTracePointContext) -> i32 {
    output::<{ HEADER + LARGE }>()
}

/// Copies so much of what the call moves, wherever that is: the registers are part of it.
#[inline(always)]
fn copy<const BYTES: usize>() -> i32 {
    let Some(registers) = registers::current() else { return 0 };
    let Some(scratch) = capture::scratch(Slot::WRITE) else { return 0 };
    // SAFETY: the scratch is a live map value of more than `LARGE` bytes; the helper checks the other address.
    unsafe {
        (bpf_probe_read_user(scratch.cast(), BYTES as u32, registers.buffer().address as *const _) & 1) as i32
    }
}

/// Hands so much to the ring, as the agent's events are: without a wake-up.
#[inline(always)]
fn output<const BYTES: usize>() -> i32 {
    let Some(scratch) = capture::scratch(Slot::WRITE) else { return 0 };
    // SAFETY: as above.
    let bytes = unsafe { core::slice::from_raw_parts(scratch.cast::<u8>(), BYTES) };
    i32::from(emit::EVENTS.output::<[u8]>(bytes, BPF_RB_NO_WAKEUP as u64).is_ok())
}
