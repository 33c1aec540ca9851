//! What the running kernel lets programs do, set by the agent before they are loaded.
//!
//! The verifier takes these for constants and leaves the other branch out, so a helper that a kernel
//! lacks may stand there.

use aya_ebpf::Global;

/// Not 0 where the kernel has the helpers of 5.16, by its own list of them: storage and cookie of a
/// socket, the registers of a task, the cast to a Unix socket.
#[unsafe(no_mangle)]
static HELPERS: Global<u32> = Global::new(0);
/// Not 0 where a program may read kernel memory by address: lockdown `confidentiality` forbids that.
#[unsafe(no_mangle)]
static READS_KERNEL: Global<u32> = Global::new(0);
/// Arguments of the kernel function `tcp_recvmsg`: six until 5.18, then five, four in 7.x.
#[unsafe(no_mangle)]
static RECEIVE_ARGUMENTS: Global<u32> = Global::new(0);

/// Not 0 where the kernel lets other threads onto the processor while a program runs.
#[unsafe(no_mangle)]
static INTERRUPTED: Global<u32> = Global::new(0);

#[inline(always)]
pub fn helpers() -> bool {
    HELPERS.load() != 0
}

#[inline(always)]
pub fn reads_kernel() -> bool {
    READS_KERNEL.load() != 0
}

#[inline(always)]
pub fn interrupted() -> bool {
    INTERRUPTED.load() != 0
}

#[inline(always)]
pub fn receive_arguments() -> u32 {
    RECEIVE_ARGUMENTS.load()
}
