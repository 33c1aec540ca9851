//! The same at the entry and return of kernel functions, for kernels without those tracepoints.
//!
//! Hook: tcp_read fexit/tcp_recvmsg
//! Hook: tcp_write fexit/tcp_sendmsg
//! Hook: unix_read fexit/unix_stream_recvmsg
//! Hook: unix_write fexit/unix_stream_sendmsg
//! Hook: tcp_read_2 fexit/tcp_recvmsg
//! Hook: tcp_write_2 fexit/tcp_sendmsg
//! Hook: unix_read_2 fexit/unix_stream_recvmsg
//! Hook: unix_write_2 fexit/unix_stream_sendmsg
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
use crate::copies::{self, Slot};
use crate::offsets::{self, Message, Sock, Socket};
use crate::tracepoint::{Traced, watched_thread};
use crate::{features, socket};

#[fexit(function = "tcp_recvmsg")]
pub fn tcp_read(ctx: FExitContext) -> i32 {
    copies::first(Slot::READ, |slot| received(&ctx, slot));
    0
}

#[fexit(function = "tcp_recvmsg")]
pub fn tcp_read_2(ctx: FExitContext) -> i32 {
    copies::second(Slot::READ, |slot| received(&ctx, slot));
    0
}

#[fexit(function = "tcp_sendmsg")]
pub fn tcp_write(ctx: FExitContext) -> i32 {
    copies::first(Slot::WRITE, |slot| sent(&ctx, slot));
    0
}

#[fexit(function = "tcp_sendmsg")]
pub fn tcp_write_2(ctx: FExitContext) -> i32 {
    copies::second(Slot::WRITE, |slot| sent(&ctx, slot));
    0
}

#[fexit(function = "unix_stream_recvmsg")]
pub fn unix_read(ctx: FExitContext) -> i32 {
    copies::first(Slot::UNIX_READ, |slot| received_unix(&ctx, slot));
    0
}

#[fexit(function = "unix_stream_recvmsg")]
pub fn unix_read_2(ctx: FExitContext) -> i32 {
    copies::second(Slot::UNIX_READ, |slot| received_unix(&ctx, slot));
    0
}

#[fexit(function = "unix_stream_sendmsg")]
pub fn unix_write(ctx: FExitContext) -> i32 {
    copies::first(Slot::UNIX_WRITE, |slot| sent_unix(&ctx, slot));
    0
}

#[fexit(function = "unix_stream_sendmsg")]
pub fn unix_write_2(ctx: FExitContext) -> i32 {
    copies::second(Slot::UNIX_WRITE, |slot| sent_unix(&ctx, slot));
    0
}

#[inline(always)]
fn received(ctx: &FExitContext, slot: Slot) -> bool {
    // Until 5.18: sock, message, length, does not wait, flags, address; then without the fourth, then without
    // the last. The loads stay apart: one at a computed place is refused.
    let (flags, result): (u32, i32) = match features::receive_arguments() {
        6 => (black_box(ctx.arg(4)), black_box(ctx.arg(6))),
        5 => (black_box(ctx.arg(3)), black_box(ctx.arg(5))),
        4 => (black_box(ctx.arg(3)), black_box(ctx.arg(4))),
        _ => return true,
    };
    if flags & MSG_PEEK == 0
        && let Some(id) = watched_thread()
    {
        return call::note(&Traced { id, sock: ctx.arg(0), result }, slot);
    }
    true
}

#[inline(always)]
fn sent(ctx: &FExitContext, slot: Slot) -> bool {
    let Some(id) = watched_thread() else { return true };
    call::note(&Traced { id, sock: ctx.arg(0), result: ctx.arg(3) }, slot)
}

#[inline(always)]
fn received_unix(ctx: &FExitContext, slot: Slot) -> bool {
    let flags: u32 = ctx.arg(3);
    if flags & MSG_PEEK == 0
        && let Some(id) = watched_thread()
    {
        return note_unix(ctx.arg(0), id, ctx.arg(4), slot);
    }
    true
}

#[inline(always)]
fn sent_unix(ctx: &FExitContext, slot: Slot) -> bool {
    let Some(id) = watched_thread() else { return true };
    note_unix(ctx.arg(0), id, ctx.arg(3), slot)
}

#[inline(always)]
fn note_unix(socket: *const Socket, id: u64, result: i32, slot: Slot) -> bool {
    let sock = offsets::socket_sock(socket);
    sock.is_null() || call::note(&Traced { id, sock, result }, slot)
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
