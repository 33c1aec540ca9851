//! The buffer of a system call, from the registers with which the thread entered the kernel.
//!
//! In: the current task. Out: a single buffer or an array of pieces, both in user memory.
//! Limits: `sendmmsg`, `recvmmsg`, `sendfile`, `splice`, io_uring and 32-bit calls give no buffer.

use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};

/// Byte offsets in `struct pt_regs`, which is part of the kernel's ABI towards debuggers, and the
/// numbers of the socket calls.
#[cfg(bpf_target_arch = "x86_64")]
mod arch {
    pub const ARGUMENT_2: usize = 13 * 8; // si
    pub const ARGUMENT_3: usize = 12 * 8; // dx
    pub const NUMBER: usize = 15 * 8; // orig_ax
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const READV: u32 = 19;
    pub const WRITEV: u32 = 20;
    pub const SENDTO: u32 = 44;
    pub const RECVFROM: u32 = 45;
    pub const SENDMSG: u32 = 46;
    pub const RECVMSG: u32 = 47;
}

#[cfg(bpf_target_arch = "aarch64")]
mod arch {
    pub const ARGUMENT_2: usize = 8; // x1
    pub const ARGUMENT_3: usize = 2 * 8; // x2
    pub const NUMBER: usize = 35 * 8; // syscallno, after 34 user registers and orig_x0
    pub const READ: u32 = 63;
    pub const WRITE: u32 = 64;
    pub const READV: u32 = 65;
    pub const WRITEV: u32 = 66;
    pub const SENDTO: u32 = 206;
    pub const RECVFROM: u32 = 207;
    pub const SENDMSG: u32 = 211;
    pub const RECVMSG: u32 = 212;
}

/// Where the bytes of a call lie in user memory.
#[derive(Clone, Copy)]
pub enum Buffer {
    /// One buffer of `len` bytes.
    Single { base: u64, len: u64 },
    /// `count` pieces described at `pieces` (`struct iovec`).
    Pieces { pieces: u64, count: u64 },
    /// Not a call whose buffer is known here.
    Unknown,
}

/// `struct msghdr` of user space, up to the members that are read.
#[repr(C)]
struct UserMessage {
    name: u64,
    name_len: u64,
    pieces: u64,
    piece_count: u64,
}

/// The buffer of the call that the current thread is in.
#[inline(always)]
pub fn buffer() -> Buffer {
    // SAFETY: the helpers always give the current task and its saved registers.
    let registers = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const u8;
    // SAFETY: typed loads, checked by the verifier against the kernel's `struct pt_regs`.
    let (number, second, third) = unsafe {
        (
            *registers.add(arch::NUMBER).cast::<u64>() as u32,
            *registers.add(arch::ARGUMENT_2).cast::<u64>(),
            *registers.add(arch::ARGUMENT_3).cast::<u64>(),
        )
    };
    match number {
        arch::READ | arch::WRITE | arch::SENDTO | arch::RECVFROM => {
            Buffer::Single { base: second, len: third }
        }
        arch::READV | arch::WRITEV => Buffer::Pieces { pieces: second, count: third },
        arch::SENDMSG | arch::RECVMSG => message(second),
        _ => Buffer::Unknown,
    }
}

#[inline(always)]
fn message(address: u64) -> Buffer {
    // SAFETY: reads user memory through the helper, which fails cleanly.
    match unsafe { bpf_probe_read_user(address as *const UserMessage) } {
        Ok(message) => Buffer::Pieces { pieces: message.pieces, count: message.piece_count },
        Err(_) => Buffer::Unknown,
    }
}
