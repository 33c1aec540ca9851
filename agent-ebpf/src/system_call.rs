//! Reads and writes as the machine's system calls return, where a kernel has no hook at its sockets.
//!
//! Hook: call_exit tp_btf/sys_exit
//! Kernel: 5.10; not under lockdown `confidentiality`.
//! Cost: every system call of every process on the node pays for it, 100 to 200 ns: outside the budgets.
//! Limits: TCP only. An address alone is known of a socket, and no hook says when one of a Unix socket is used
//! again.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use inferscope_common::socket::{FAMILY_UNIX, SocketState};

use crate::call::{self, Call, MSG_PEEK};
use crate::copies::Slot;
use crate::registers::{self, Buffer, Registers};
use crate::tracepoint::watched_thread;
use crate::{offsets, state};

/// A call of which the registers are known, and its socket by address.
struct Returned {
    id: u64,
    sock: u64,
    family: u16,
    result: i32,
    registers: Registers,
}

impl Call for Returned {
    #[inline(always)]
    fn id(&self) -> u64 {
        self.id
    }

    #[inline(always)]
    fn result(&self) -> i32 {
        self.result
    }

    #[inline(always)]
    fn family(&self) -> u16 {
        self.family
    }

    #[inline(always)]
    fn key(&self) -> u64 {
        self.sock
    }

    #[inline(always)]
    fn state(&self) -> Option<*mut SocketState> {
        state::find_or_insert_at(self.sock)
    }

    #[inline(always)]
    fn unix_address(&self) -> u64 {
        0
    }

    #[inline(always)]
    fn buffer(&self) -> Buffer {
        self.registers.buffer()
    }

    #[inline(always)]
    fn position(&self, write: bool) -> Option<u32> {
        offsets::tcp_position_at(self.sock, write)
    }
}

#[btf_tracepoint(function = "sys_exit")]
pub fn call_exit(ctx: BtfTracePointContext) -> i32 {
    if let Some(id) = watched_thread() {
        let result: i64 = ctx.arg(1);
        returned(id, registers::of(ctx.arg(0)), result as i32);
    }
    0
}

#[inline(always)]
fn returned(id: u64, registers: Registers, result: i32) {
    let Some(write) = registers.writes() else { return };
    if !write && registers.receive_flags() & MSG_PEEK != 0 {
        return;
    }
    let Some((sock, family)) = offsets::sock_of(registers.first) else { return };
    if family == FAMILY_UNIX as u16 {
        return;
    }
    let call = Returned { id, sock, family, result, registers };
    // Two copies, so that each knows its direction; none of them is a second one.
    let _taken = if write { call::note(&call, Slot::WRITE) } else { call::note(&call, Slot::READ) };
}
