//! Processes that come, become something else, or go.
//!
//! Hook: process_exec tp_btf/sched_process_exec
//! Hook: process_fork tp_btf/sched_process_fork
//! Hook: process_exit tp_btf/sched_process_exit
//! Kernel: 5.10.
//! Limits: lines for the agent's log come from process_exit alone, which is rare and not missed where a kernel
//! does not take it. An exec of any process on the node is an event, since any may become a server; forks and
//! exits only of watched ones.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::debug;
use inferscope_common::process::{ProcessEvent, ProcessKind};

use crate::offsets::{self, Task};
use crate::{emit, watch};

#[inline(always)]
fn emit(kind: ProcessKind, tgid: u32, parent_tgid: u32) {
    let time_ns = unsafe { bpf_ktime_get_boot_ns() };
    emit::process_event(&ProcessEvent { time_ns, kind: kind as u32, tgid, parent_tgid, port: 0 });
}

#[btf_tracepoint(function = "sched_process_exec")]
pub fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let task: *const Task = ctx.arg(0);
    emit(ProcessKind::Exec, offsets::task_tgid(task), 0);
    0
}

#[btf_tracepoint(function = "sched_process_fork")]
pub fn process_fork(ctx: BtfTracePointContext) -> i32 {
    let (parent, child): (*const Task, *const Task) = (ctx.arg(0), ctx.arg(1));
    let (parent_tgid, tgid) = (offsets::task_tgid(parent), offsets::task_tgid(child));
    // A new thread has its process's number: it is watched already, or it is not.
    if tgid == parent_tgid {
        return 0;
    }
    // The number of one that was watched, and of whose end the agent has not heard yet: what the new one does from here on
    // would be taken for the old one's.
    let again = watch::is_watched(tgid);
    if again {
        watch::unwatch(tgid);
    }
    if watch::is_watched(parent_tgid) {
        if !again {
            watch::watch(tgid);
        }
        // Of a number given again the agent sets the bit, once it has heard of both.
        emit(ProcessKind::Fork, tgid, parent_tgid);
    }
    0
}

#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    let task: *const Task = ctx.arg(0);
    let tgid = offsets::task_tgid(task);
    // Two threads that end at once may both be the last: the second event says nothing new.
    if watch::is_watched(tgid) && offsets::task_threads(task) == 0 {
        emit(ProcessKind::Exit, tgid, 0);
        debug!(&ctx, "process {} ended", tgid);
    }
    0
}
