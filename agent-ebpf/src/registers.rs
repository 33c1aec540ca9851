//! A system call and its buffer, from the registers with which the thread entered the kernel.
//!
//! In: the current task, or the registers themselves. Out: a single buffer or an array of pieces, both in
//! user memory.
//! Limits: `sendmmsg`, `recvmmsg`, `sendfile`, `splice`, io_uring and 32-bit calls give no buffer. Before
//! 5.16 the registers are found by the layout of the kernel's stack, which is known for x86-64 only.

use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};

use crate::features;

/// Byte offsets in `struct pt_regs`, which is part of the kernel's ABI towards debuggers, and the
/// numbers of the socket calls.
#[cfg(bpf_target_arch = "x86_64")]
mod arch {
    pub const ARGUMENT_1: usize = 14 * 8; // di
    pub const ARGUMENT_2: usize = 13 * 8; // si
    pub const ARGUMENT_3: usize = 12 * 8; // dx
    pub const ARGUMENT_4: usize = 7 * 8; // r10
    pub const NUMBER: usize = 15 * 8; // orig_ax
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    pub const READV: u32 = 19;
    pub const WRITEV: u32 = 20;
    pub const SENDTO: u32 = 44;
    pub const RECVFROM: u32 = 45;
    pub const YIELD: u32 = 24;
    pub const SENDMSG: u32 = 46;
    pub const RECVMSG: u32 = 47;

    /// Registers of the task that enters the kernel lie at the end of its stack, of four pages.
    pub fn from_stack() -> Option<super::Registers> {
        const STACK_BYTES: usize = 4 * 4096;
        const REGISTERS_BYTES: usize = 21 * 8;
        let stack = crate::offsets::current_stack()?;
        let registers = stack + (STACK_BYTES - REGISTERS_BYTES) as u64;
        // dx, si, di, orig_ax
        let [third, second, first, number] =
            crate::offsets::read_kernel::<[u64; 4]>(registers, ARGUMENT_3 as u32)?;
        // The fourth is of system_call only, which has the registers.
        Some(super::Registers { number: number as u32, first, second, third, fourth: 0 })
    }
}

#[cfg(bpf_target_arch = "aarch64")]
mod arch {
    pub const ARGUMENT_1: usize = 34 * 8; // orig_x0: x0 is the result by then
    pub const ARGUMENT_2: usize = 8; // x1
    pub const ARGUMENT_3: usize = 2 * 8; // x2
    pub const ARGUMENT_4: usize = 3 * 8; // x3
    pub const NUMBER: usize = 35 * 8; // syscallno, after 34 user registers and orig_x0
    pub const READ: u32 = 63;
    pub const WRITE: u32 = 64;
    pub const READV: u32 = 65;
    pub const WRITEV: u32 = 66;
    pub const SENDTO: u32 = 206;
    pub const RECVFROM: u32 = 207;
    pub const YIELD: u32 = 124;
    pub const SENDMSG: u32 = 211;
    pub const RECVMSG: u32 = 212;

    /// The size of a stack is a choice of the kernel's configuration here.
    pub fn from_stack() -> Option<super::Registers> {
        None
    }
}

/// How the bytes of a call lie in user memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One buffer of `len` bytes at `address`.
    Single,
    /// `len` pieces described at `address` (`struct iovec`).
    Pieces,
    /// Not a call whose buffer is known here.
    Unknown,
}

/// Where they lie. No enum with values: the verifier refuses to copy those that a variant leaves out.
#[derive(Clone, Copy)]
pub struct Buffer {
    pub layout: Layout,
    pub address: u64,
    pub len: u64,
}

impl Buffer {
    pub const UNKNOWN: Self = Self { layout: Layout::Unknown, address: 0, len: 0 };
}

/// A system call: its number and arguments.
#[derive(Clone, Copy)]
pub struct Registers {
    number: u32,
    pub first: u64,
    second: u64,
    third: u64,
    fourth: u64,
}

/// `struct msghdr` of user space, up to the members that are read.
#[repr(C)]
struct UserMessage {
    name: u64,
    name_len: u64,
    pieces: u64,
    piece_count: u64,
}

/// The call that the current thread is in.
#[inline(always)]
pub fn current() -> Option<Registers> {
    if features::helpers() {
        // SAFETY: the helpers always give the current task and its saved registers.
        return Some(of(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const u8));
    }
    if features::reads_kernel() { arch::from_stack() } else { None }
}

/// The call with these registers (`struct pt_regs`).
#[inline(always)]
pub fn of(registers: *const u8) -> Registers {
    // SAFETY: typed loads, checked by the verifier against the kernel's `struct pt_regs`.
    let at = |offset: usize| unsafe { *registers.add(offset).cast::<u64>() };
    Registers {
        number: at(arch::NUMBER) as u32,
        first: at(arch::ARGUMENT_1),
        second: at(arch::ARGUMENT_2),
        third: at(arch::ARGUMENT_3),
        fourth: at(arch::ARGUMENT_4),
    }
}

impl Registers {
    /// `Some(true)` of a call that writes, `Some(false)` of one that reads, `None` of any other.
    #[inline(always)]
    pub fn writes(&self) -> Option<bool> {
        match self.number {
            arch::WRITE | arch::WRITEV | arch::SENDTO | arch::SENDMSG => Some(true),
            arch::READ | arch::READV | arch::RECVFROM | arch::RECVMSG => Some(false),
            _ => None,
        }
    }

    /// `sched_yield`: it gives its processor to whoever else wants it.
    #[inline(always)]
    pub fn yields(&self) -> bool {
        self.number == arch::YIELD
    }

    /// Flags of a call that receives; 0 of one without.
    #[inline(always)]
    pub fn receive_flags(&self) -> u32 {
        match self.number {
            arch::RECVFROM => self.fourth as u32,
            arch::RECVMSG => self.third as u32,
            _ => 0,
        }
    }

    #[inline(always)]
    pub fn buffer(&self) -> Buffer {
        match self.number {
            arch::READ | arch::WRITE | arch::SENDTO | arch::RECVFROM => {
                Buffer { layout: Layout::Single, address: self.second, len: self.third }
            }
            arch::READV | arch::WRITEV => {
                Buffer { layout: Layout::Pieces, address: self.second, len: self.third }
            }
            arch::SENDMSG | arch::RECVMSG => message(self.second),
            _ => Buffer::UNKNOWN,
        }
    }
}

#[inline(always)]
fn message(address: u64) -> Buffer {
    // SAFETY: reads user memory through the helper, which fails cleanly.
    match unsafe { bpf_probe_read_user(address as *const UserMessage) } {
        Ok(message) => Buffer { layout: Layout::Pieces, address: message.pieces, len: message.piece_count },
        Err(_) => Buffer::UNKNOWN,
    }
}
