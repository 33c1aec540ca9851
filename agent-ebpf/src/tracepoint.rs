//! The hooks that the kernel offers for this: tracepoints of sockets.
//!
//! Hook: socket_read tp_btf/sock_recv_length
//! Hook: socket_write tp_btf/sock_send_length
//! Hook: socket_read_2 tp_btf/sock_recv_length
//! Hook: socket_write_2 tp_btf/sock_send_length
//! Hook: socket_send tp_btf/tcp_sendmsg_locked
//! Hook: socket_arrive tp_btf/sk_data_ready
//! Hook: segment_arrive tp_btf/tcp_probe
//! Hook: socket_change tp_btf/inet_sock_set_state
//! Hook: socket_destroy tp_btf/tcp_destroy_sock
//! Kernel: 6.3 for reads, writes and arrivals; 6.16 for socket_send; the others 5.10.
//! Cost: see ARCHITECTURE.md, measured by `cargo xtask bench`.
//! Limits: segment_arrive is for kernels without the hooks of arrivals: it runs before the bytes are queued,
//! for every TCP segment of the node, and not for Unix sockets.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use inferscope_common::socket::SocketState;

use crate::call::{self, Call, MSG_PEEK};
use crate::copies::{self, Slot};
use crate::offsets::{self, Sock};
use crate::registers::{self, Buffer};
use crate::{socket, state, watch};

/// A call whose socket the kernel has typed, in the thread that makes it.
pub struct Traced {
    pub id: u64,
    pub sock: *const Sock,
    pub result: i32,
}

impl Call for Traced {
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
        offsets::sock_family(self.sock)
    }

    #[inline(always)]
    fn key(&self) -> u64 {
        state::key(self.sock)
    }

    #[inline(always)]
    fn state(&self) -> Option<*mut SocketState> {
        state::find_or_insert(self.sock)
    }

    #[inline(always)]
    fn unix_address(&self) -> u64 {
        offsets::unix_address(self.sock)
    }

    #[inline(always)]
    fn buffer(&self) -> Buffer {
        registers::current().map_or(Buffer::UNKNOWN, |registers| registers.buffer())
    }

    #[inline(always)]
    fn position(&self, write: bool) -> Option<u32> {
        offsets::tcp_position(self.sock, write)
    }
}

/// The current thread, where its process is watched.
#[inline(always)]
pub fn watched_thread() -> Option<u64> {
    let id = bpf_get_current_pid_tgid();
    if watch::is_watched((id >> 32) as u32) { Some(id) } else { None }
}

#[btf_tracepoint(function = "sock_recv_length")]
pub fn socket_read(ctx: BtfTracePointContext) -> i32 {
    copies::first(Slot::READ, |slot| read(&ctx, slot));
    0
}

#[btf_tracepoint(function = "sock_recv_length")]
pub fn socket_read_2(ctx: BtfTracePointContext) -> i32 {
    copies::second(Slot::READ, |slot| read(&ctx, slot));
    0
}

#[inline(always)]
fn read(ctx: &BtfTracePointContext, slot: Slot) -> bool {
    let flags: u32 = ctx.arg(2);
    if flags & MSG_PEEK == 0
        && let Some(id) = watched_thread()
    {
        return call::note(&Traced { id, sock: ctx.arg(0), result: ctx.arg(1) }, slot);
    }
    true
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn socket_write(ctx: BtfTracePointContext) -> i32 {
    copies::first(Slot::WRITE, |slot| write(&ctx, slot));
    0
}

#[btf_tracepoint(function = "sock_send_length")]
pub fn socket_write_2(ctx: BtfTracePointContext) -> i32 {
    copies::second(Slot::WRITE, |slot| write(&ctx, slot));
    0
}

#[inline(always)]
fn write(ctx: &BtfTracePointContext, slot: Slot) -> bool {
    let Some(id) = watched_thread() else { return true };
    call::note(&Traced { id, sock: ctx.arg(0), result: ctx.arg(1) }, slot)
}

#[btf_tracepoint(function = "tcp_sendmsg_locked")]
pub fn socket_send(ctx: BtfTracePointContext) -> i32 {
    socket::sending(ctx.arg(0));
    0
}

#[btf_tracepoint(function = "sk_data_ready")]
pub fn socket_arrive(ctx: BtfTracePointContext) -> i32 {
    socket::arrive(ctx.arg(0));
    0
}

#[btf_tracepoint(function = "tcp_probe")]
pub fn segment_arrive(ctx: BtfTracePointContext) -> i32 {
    let sock: *const Sock = ctx.arg(0);
    // Cheaper than to ask whether there is data, and mostly no.
    if watch::is_served(offsets::sock_port(sock)) && offsets::has_data(ctx.arg(1)) {
        socket::arrive(sock);
    }
    0
}

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn socket_change(ctx: BtfTracePointContext) -> i32 {
    socket::change(ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

#[btf_tracepoint(function = "tcp_destroy_sock")]
pub fn socket_destroy(ctx: BtfTracePointContext) -> i32 {
    state::forget(ctx.arg(0));
    0
}
