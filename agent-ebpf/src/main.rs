//! The kernel programs of inferscope: thin, bounded, filtered by watched process first.
//!
//! Each file names its hooks. What they say leaves in two rings (EVENTS, PROCESSES) and tables; the
//! layouts are those of `inferscope-common`. A program reads, calls shared logic and writes.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod bench;
mod call;
mod capture;
mod copies;
mod emit;
mod features;
mod function;
mod memory;
mod offsets;
mod process;
mod registers;
mod sched;
mod socket;
mod sockets;
mod state;
mod system_call;
mod tracepoint;
mod watch;

// Kernel helpers such as `bpf_ktime_get_boot_ns` are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program that could reach this.
    loop {}
}
