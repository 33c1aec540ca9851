//! Which sockets do watched processes still hold? Read on demand, for ends that no hook tells.
//!
//! Hook: open_sockets iter/task_file
//! Kernel: 5.11.
//! Cost: one pass over the open files of the node, some 30 ms, only while a request on a Unix socket is
//! open and quiet.
//! Limits: says that a socket is gone, not when it went.

use aya_ebpf::helpers::generated::{bpf_seq_write, bpf_sock_from_file};

use crate::offsets::{self, Task};
use crate::{state, watch};

/// Context of an iterator over files: `struct bpf_iter__task_file`.
#[repr(C)]
pub struct TaskFile {
    meta: *const Meta,
    task: *const Task,
    fd: u32,
    padding: u32,
    file: *mut core::ffi::c_void,
}

/// `struct bpf_iter_meta`, up to the member that is read.
#[repr(C)]
pub struct Meta {
    seq: *mut core::ffi::c_void,
}

/// Writes the cookie of each socket that a program here has looked at, eight bytes each.
///
/// aya-ebpf has no macro for iterators: name and section are all that one does.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub extern "C" fn open_sockets(ctx: *const TaskFile) -> i32 {
    // SAFETY: the kernel hands a live context; its members are null at the end of the pass only.
    unsafe { write_cookie(&*ctx) };
    0
}

#[inline(always)]
unsafe fn write_cookie(ctx: &TaskFile) {
    let (task, file) = (ctx.task, ctx.file);
    if task.is_null() || file.is_null() || !watch::is_watched(offsets::task_tgid(task)) {
        return;
    }
    let socket = unsafe { bpf_sock_from_file(file.cast()) };
    if socket.is_null() {
        return;
    }
    let sock = offsets::socket_sock(socket.cast());
    if sock.is_null() {
        return;
    }
    let cookie = state::known(sock);
    if cookie != 0 {
        unsafe { bpf_seq_write((*ctx.meta).seq.cast(), (&raw const cookie).cast(), 8) };
    }
}
