//! When threads of watched processes have to look for memory themselves.
//!
//! Hook: direct_reclaim_begin tp_btf/mm_vmscan_direct_reclaim_begin
//! Hook: direct_reclaim_end tp_btf/mm_vmscan_direct_reclaim_end
//! Hook: group_reclaim_begin tp_btf/mm_vmscan_memcg_reclaim_begin
//! Hook: group_reclaim_end tp_btf/mm_vmscan_memcg_reclaim_end
//! Hook: compaction_begin tp_btf/mm_compaction_begin
//! Hook: compaction_end tp_btf/mm_compaction_end
//! Kernel: 5.10.
//! Limits: their arguments differ between kernels, so none is used. Sleep for being over `memory.high` is in none of
//! these: the scheduler's programs see it.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;

use crate::sched;
use crate::tracepoint::watched_thread;

#[inline(always)]
fn begins() -> i32 {
    if let Some(id) = watched_thread() {
        sched::begins_reclaim(id);
    }
    0
}

#[inline(always)]
fn ends() -> i32 {
    if let Some(id) = watched_thread() {
        sched::ends_reclaim(id);
    }
    0
}

#[btf_tracepoint(function = "mm_vmscan_direct_reclaim_begin")]
pub fn direct_reclaim_begin(_: BtfTracePointContext) -> i32 {
    begins()
}

#[btf_tracepoint(function = "mm_vmscan_direct_reclaim_end")]
pub fn direct_reclaim_end(_: BtfTracePointContext) -> i32 {
    ends()
}

#[btf_tracepoint(function = "mm_vmscan_memcg_reclaim_begin")]
pub fn group_reclaim_begin(_: BtfTracePointContext) -> i32 {
    begins()
}

#[btf_tracepoint(function = "mm_vmscan_memcg_reclaim_end")]
pub fn group_reclaim_end(_: BtfTracePointContext) -> i32 {
    ends()
}

#[btf_tracepoint(function = "mm_compaction_begin")]
pub fn compaction_begin(_: BtfTracePointContext) -> i32 {
    begins()
}

#[btf_tracepoint(function = "mm_compaction_end")]
pub fn compaction_end(_: BtfTracePointContext) -> i32 {
    ends()
}
