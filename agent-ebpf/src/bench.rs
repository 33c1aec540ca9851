//! The smallest program there is: what a run costs before any work is done.
//!
//! Hook: empty tp_btf/sock_send_length
//! Kernel: 6.3.
//! Cost: some 60 ns, which are the run-time statistics themselves; every other figure is net of it.
//! Limits: for `cargo xtask bench`; the agent never loads it.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

#[btf_tracepoint(function = "sock_send_length")]
pub fn empty(_: BtfTracePointContext) -> i32 {
    0
}
