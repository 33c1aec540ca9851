//! What the scheduler does with the threads of watched processes: stalls, as `inferscope_common::stall` finds them.
//!
//! Hook: sched_switch tp_btf/sched_switch
//! Hook: sched_wakeup tp_btf/sched_wakeup
//! Hook: sched_wakeup_new tp_btf/sched_wakeup_new
//! Kernel: 5.10.
//! Cost: of a switch between two unwatched threads, two look-ups of a bit.
//! Limits: THREADS_MAX threads; a stall of LONG_NS or more is an event, shorter ones are summed. Where the kernel does
//! not mark a thread as throttled (before 6.18), one that begins to wait before its group is throttled counts as
//! waiting. What follows after a thread has yielded to one of a server's own is not seen: a stranger that comes next
//! counts for whom it displaces. Before 6.1 the freezer of control groups of version 1 is not told from sleep.

use aya_ebpf::bindings::{BPF_ANY, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::{HashMap, RingBuf};
use aya_ebpf::programs::BtfTracePointContext;
use inferscope_common::counter::Counter;
use inferscope_common::stall::{
    Leaving, STALLS_BYTES, Sink, Spell, Stall, StallEvent, State, THREADS_MAX, Thread,
};

use crate::offsets::{self, Task};
use crate::tracepoint::watched_thread;
use crate::{emit, registers, watch};

/// Of a thread that the freezer of version 2 holds. Who waits for a child to run its program (`vfork`) is marked as frozen,
/// too, and is not interruptible.
const TASK_INTERRUPTIBLE: u32 = 0x1;
/// Of a thread that ends: it leaves its processor for the last time.
const TASK_DEAD: u32 = 0x80;
/// Stopped by a signal, by a debugger, or (from 6.1 on) by the freezer of version 1.
const TASK_STOPPED: u32 = 0x4 | 0x8 | 0x8000;

/// By thread number.
#[map]
static THREADS: HashMap<u32, Thread> = HashMap::with_max_entries(THREADS_MAX, 0);

#[map]
static STALLS: RingBuf = RingBuf::with_byte_size(STALLS_BYTES, 0);

/// Where the stalls of a thread go.
struct Out {
    tgid: u32,
    tid: u32,
}

impl Sink for Out {
    #[inline(always)]
    fn stalled(&mut self, kind: Stall, spell: Spell, end_ns: u64) -> bool {
        let event = StallEvent {
            start_ns: spell.start_ns,
            end_ns,
            stalled_ns: spell.stalled_ns,
            tgid: self.tgid,
            tid: self.tid,
            kind: kind as u32,
            padding: 0,
            counts: spell.counts,
        };
        let sent = STALLS.output::<StallEvent>(&event, BPF_RB_NO_WAKEUP as u64).is_ok();
        emit::count(if sent { Counter::StallSent } else { Counter::StallDeferred });
        sent
    }

    #[inline(always)]
    fn lost(&mut self) {
        emit::count(Counter::StallRingFull);
    }

    #[inline(always)]
    fn backwards(&mut self) {
        emit::count(Counter::StallBackwards);
    }

    #[inline(always)]
    fn untold(&mut self) {
        emit::count(Counter::SwitchUntold);
    }
}

#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> i32 {
    let (previous, next): (*const Task, *const Task) = (ctx.arg(1), ctx.arg(2));
    let (leaving, coming) = (offsets::task_tgid(previous), offsets::task_tgid(next));
    if watch::is_watched(leaving) {
        let preempted: bool = ctx.arg::<u64>(0) & 1 != 0;
        leaves(previous, leaving, preempted, coming);
    }
    if watch::is_watched(coming) {
        comes(next, coming);
    }
    0
}

#[inline(always)]
fn leaves(task: *const Task, tgid: u32, preempted: bool, coming: u32) {
    let tid = offsets::task_tid(task);
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let bits = offsets::task_state(task);
    let mut out = Out { tgid, tid };
    let (faults, executed_ns) = (offsets::task_major_faults(task), offsets::task_executed_ns(task));
    let leaving = Leaving { now, faults, executed_ns };
    if !preempted && bits & TASK_DEAD != 0 {
        if let Some(thread) = known(tid, tgid) {
            // SAFETY: a live value, of a thread that this processor has.
            unsafe { (*thread).dies(leaving, &mut out) };
        }
        let _ = THREADS.remove(tid);
        return;
    }
    let state = if offsets::task_is_throttled(task) {
        State::Throttled
    } else if preempted || bits == 0 {
        // The thread that leaves is still the current one.
        let yields = !preempted && registers::current().is_some_and(|call| call.yields());
        State::able(yields, watch::is_watched(coming))
    } else if bits & TASK_STOPPED != 0 || (bits & TASK_INTERRUPTIBLE != 0 && offsets::task_is_frozen(task)) {
        State::Stopped
    } else if offsets::task_is_in_memstall(task) {
        State::Reclaims
    } else if offsets::task_is_in_iowait(task) {
        State::Io
    } else {
        State::Sleeps
    };
    match known(tid, tgid) {
        // SAFETY: as above.
        Some(thread) => unsafe { (*thread).leaves(state, leaving, &mut out) },
        None => first(tid, &Thread { executed_ns, ..Thread::first(tgid, state, now) }),
    }
}

#[inline(always)]
fn comes(task: *const Task, tgid: u32) {
    let tid = offsets::task_tid(task);
    let now = unsafe { bpf_ktime_get_boot_ns() };
    match known(tid, tgid) {
        // SAFETY: a live value, of a thread that this processor gets.
        Some(thread) => unsafe { (*thread).comes(now, &mut Out { tgid, tid }) },
        None => first(tid, &Thread::first(tgid, State::Runs, now)),
    }
}

#[btf_tracepoint(function = "sched_wakeup")]
pub fn sched_wakeup(ctx: BtfTracePointContext) -> i32 {
    let task: *const Task = ctx.arg(0);
    let tgid = offsets::task_tgid(task);
    if !watch::is_watched(tgid) {
        return 0;
    }
    let tid = offsets::task_tid(task);
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let throttled = offsets::task_is_throttled(task);
    let Some(thread) = known(tid, tgid) else {
        first(tid, &Thread::first(tgid, State::Waits, now));
        return 0;
    };
    // SAFETY: a live value; the kernel wakes a thread on one processor at a time, and off its own.
    unsafe { (*thread).wakes(throttled, now, &mut Out { tgid, tid }) };
    // What an interrupt wakes counts for whom it interrupted: rare beside what that one wakes itself.
    if let Some(waker) = watched_thread()
        && waker as u32 != tid
    {
        // SAFETY: as above.
        unsafe { (*thread).woken_by(waker as u32) };
    }
    0
}

/// A thread that begins: what its number stood for before is over.
#[btf_tracepoint(function = "sched_wakeup_new")]
pub fn sched_wakeup_new(ctx: BtfTracePointContext) -> i32 {
    let task: *const Task = ctx.arg(0);
    let tgid = offsets::task_tgid(task);
    if watch::is_watched(tgid) {
        let now = unsafe { bpf_ktime_get_boot_ns() };
        first(offsets::task_tid(task), &Thread::first(tgid, State::Waits, now));
    }
    0
}

/// The current thread begins to look for memory. `id` is that of `bpf_get_current_pid_tgid`.
#[inline(always)]
pub fn begins_reclaim(id: u64) {
    let (tgid, tid) = ((id >> 32) as u32, id as u32);
    let now = unsafe { bpf_ktime_get_boot_ns() };
    if let Some(thread) = known(tid, tgid) {
        // SAFETY: a live value, of the current thread.
        unsafe { (*thread).begins_reclaim(now) };
        return;
    }
    let mut thread = Thread::first(tgid, State::Runs, now);
    thread.begins_reclaim(now);
    first(tid, &thread);
}

/// It has found some, or given up.
#[inline(always)]
pub fn ends_reclaim(id: u64) {
    let (tgid, tid) = ((id >> 32) as u32, id as u32);
    if let Some(thread) = known(tid, tgid) {
        let now = unsafe { bpf_ktime_get_boot_ns() };
        // SAFETY: as above.
        unsafe { (*thread).ends_reclaim(now, &mut Out { tgid, tid }) };
    }
}

/// What is known of a thread; not what was of one of another process that had its number before and was watched no longer
/// when it ended.
#[inline(always)]
fn known(tid: u32, tgid: u32) -> Option<*mut Thread> {
    let thread = THREADS.get_ptr_mut(tid)?;
    // SAFETY: a live value.
    if unsafe { (*thread).tgid } == tgid { Some(thread) } else { None }
}

#[inline(always)]
fn first(tid: u32, thread: &Thread) {
    if THREADS.insert(tid, thread, BPF_ANY as u64).is_err() {
        emit::count(Counter::ThreadTableFull);
    }
}
