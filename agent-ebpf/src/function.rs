//! The same at the entry and return of kernel functions, for kernels without those tracepoints.
//!
//! Hook: tcp_read fexit/tcp_recvmsg
//! Hook: tcp_write fexit/tcp_sendmsg
//! Hook: unix_read fexit/unix_stream_recvmsg
//! Hook: unix_write fexit/unix_stream_sendmsg
//! Hook: tcp_send fentry/tcp_sendmsg_locked
//! Hook: data_arrive fentry/sock_def_readable
//! Hook: unix_close fentry/unix_release
//! Kernel: 5.10, where functions may be traced: hardened kernels refuse it.
//! Cost: as the tracepoints, plus the trampoline.
//! Limits: the functions are called through tables of pointers, so none is inlined. tcp_send notes calls that do
//! not wait for room in the send buffer: of one that waits, the entry says nothing about when its last bytes left.

use core::hint::black_box;

use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};

use crate::call::{self, MSG_DONTWAIT, MSG_PEEK};
use crate::offsets::{self, Message, Sock, Socket};
use crate::tracepoint::{Traced, watched_thread};
use crate::{features, socket};

#[fexit(function = "tcp_recvmsg")]
pub fn tcp_read(ctx: FExitContext) -> i32 {
    // Until 5.18: sock, message, length, does not wait, flags, address; then without the fourth, then without
    // the last. The loads stay apart: one at a computed place is refused.
    let (flags, result): (u32, i32) = match features::receive_arguments() {
        6 => (black_box(ctx.arg(4)), black_box(ctx.arg(6))),
        5 => (black_box(ctx.arg(3)), black_box(ctx.arg(5))),
        4 => (black_box(ctx.arg(3)), black_box(ctx.arg(4))),
        _ => return 0,
    };
    if flags & MSG_PEEK == 0
        && let Some(id) = watched_thread()
    {
        call::note(&Traced { id, sock: ctx.arg(0), result }, false);
    }
    0
}

#[fexit(function = "tcp_sendmsg")]
pub fn tcp_write(ctx: FExitContext) -> i32 {
    if let Some(id) = watched_thread() {
        call::note(&Traced { id, sock: ctx.arg(0), result: ctx.arg(3) }, true);
    }
    0
}

#[fexit(function = "unix_stream_recvmsg")]
pub fn unix_read(ctx: FExitContext) -> i32 {
    let flags: u32 = ctx.arg(3);
    if flags & MSG_PEEK == 0
        && let Some(id) = watched_thread()
    {
        note_unix(ctx.arg(0), id, ctx.arg(4), false);
    }
    0
}

#[fexit(function = "unix_stream_sendmsg")]
pub fn unix_write(ctx: FExitContext) -> i32 {
    if let Some(id) = watched_thread() {
        note_unix(ctx.arg(0), id, ctx.arg(3), true);
    }
    0
}

#[inline(always)]
fn note_unix(socket: *const Socket, id: u64, result: i32, write: bool) {
    let sock = offsets::socket_sock(socket);
    if !sock.is_null() {
        call::note(&Traced { id, sock, result }, write);
    }
}

#[fentry(function = "tcp_sendmsg_locked")]
pub fn tcp_send(ctx: FEntryContext) -> i32 {
    let message: *const Message = ctx.arg(1);
    if offsets::message_flags(message) & MSG_DONTWAIT != 0 {
        socket::sending(ctx.arg(0));
    }
    0
}

#[fentry(function = "sock_def_readable")]
pub fn data_arrive(ctx: FEntryContext) -> i32 {
    socket::arrive(ctx.arg(0));
    0
}

#[fentry(function = "unix_release")]
pub fn unix_close(ctx: FEntryContext) -> i32 {
    let sock: *const Sock = offsets::socket_sock(ctx.arg(0));
    if !sock.is_null() {
        socket::release(sock);
    }
    0
}
