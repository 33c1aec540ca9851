//! Where the running kernel keeps the struct members that programs read.
//!
//! The agent looks each up in the kernel's BTF and sets it before the programs are loaded. A typed
//! load at a wrong offset is refused by the verifier, which knows the type: it cannot read garbage.

use aya_ebpf::Global;
use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_skc_to_tcp_sock, bpf_skc_to_unix_sock};

use crate::features;

/// `task_struct.tgid`: the process.
#[unsafe(no_mangle)]
static TASK_TGID: Global<u32> = Global::new(0);
/// `sock.__sk_common.skc_family`: u16.
#[unsafe(no_mangle)]
static SOCK_FAMILY: Global<u32> = Global::new(0);
/// `sock.__sk_common.skc_num`: u16, the local port in host order.
#[unsafe(no_mangle)]
static SOCK_NUM: Global<u32> = Global::new(0);
/// `sock.__sk_common.skc_state`: u8.
#[unsafe(no_mangle)]
static SOCK_STATE: Global<u32> = Global::new(0);
/// `sock.__sk_common.skc_cookie`: u64, 0 until somebody asks.
#[unsafe(no_mangle)]
static SOCK_COOKIE: Global<u32> = Global::new(0);
/// `sock.sk_err`: i32, set before a reset or a time-out changes the state.
#[unsafe(no_mangle)]
static SOCK_ERR: Global<u32> = Global::new(0);

/// `socket.sk`: the sock of a socket.
#[unsafe(no_mangle)]
static SOCKET_SK: Global<u32> = Global::new(0);

/// `unix_sock.addr`: the address of a Unix socket, which an accepted one shares with its listener.
#[unsafe(no_mangle)]
static UNIX_ADDR: Global<u32> = Global::new(0);

/// `msghdr.msg_flags`: u32, the flags of a call that sends.
#[unsafe(no_mangle)]
static MSGHDR_FLAGS: Global<u32> = Global::new(0);
/// `tcp_sock.copied_seq`: u32, the first byte that was not read yet.
#[unsafe(no_mangle)]
static TCP_COPIED_SEQ: Global<u32> = Global::new(0);
/// `tcp_sock.write_seq`: u32, the first byte that was not written yet.
#[unsafe(no_mangle)]
static TCP_WRITE_SEQ: Global<u32> = Global::new(0);
/// `inet_connection_sock.icsk_ulp_ops`: not null where a layer such as TLS in the kernel changes the bytes.
#[unsafe(no_mangle)]
static TCP_ULP_OPS: Global<u32> = Global::new(0);
/// `sock.sk_protocol`: u16.
#[unsafe(no_mangle)]
static SOCK_PROTOCOL: Global<u32> = Global::new(0);
/// `sk_buff.cb`: of a TCP segment, its first and last sequence number, u32 each.
#[unsafe(no_mangle)]
static SKB_CB: Global<u32> = Global::new(0);

/// `task_struct.pid`: u32, the thread's number.
#[unsafe(no_mangle)]
static TASK_PID: Global<u32> = Global::new(0);
/// `task_struct.__state`, `state` before 5.14: u32.
#[unsafe(no_mangle)]
static TASK_STATE: Global<u32> = Global::new(0);
/// `task_struct.maj_flt`: u64, of which the lower half is read.
#[unsafe(no_mangle)]
static TASK_MAJ_FLT: Global<u32> = Global::new(0);
/// `task_struct.se.sum_exec_runtime`: u64, nanoseconds.
#[unsafe(no_mangle)]
static TASK_EXECUTED: Global<u32> = Global::new(0);
/// `task_struct.in_iowait`: the u32 that has the bit.
#[unsafe(no_mangle)]
static TASK_IOWAIT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static TASK_IOWAIT_MASK: Global<u32> = Global::new(0);
/// `task_struct.in_memstall`, the same; the mask is 0 where the kernel has no pressure information.
#[unsafe(no_mangle)]
static TASK_MEMSTALL: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static TASK_MEMSTALL_MASK: Global<u32> = Global::new(0);
/// `task_struct.frozen`, the same: a control group of version 2 is frozen.
#[unsafe(no_mangle)]
static TASK_FROZEN: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static TASK_FROZEN_MASK: Global<u32> = Global::new(0);
/// `task_struct.throttled`: bool, Linux 6.18 and later; 0 where there is none.
#[unsafe(no_mangle)]
static TASK_THROTTLED: Global<u32> = Global::new(0);
/// `task_struct.se.cfs_rq`: the queue that the thread is in; 0 where groups have no quotas.
#[unsafe(no_mangle)]
static TASK_CFS_RQ: Global<u32> = Global::new(0);
/// `cfs_rq.throttle_count`: i32, not 0 while it or a group above it is throttled.
#[unsafe(no_mangle)]
static CFS_THROTTLE_COUNT: Global<u32> = Global::new(0);
/// `task_struct.signal`: what the threads of a process share.
#[unsafe(no_mangle)]
static TASK_SIGNAL: Global<u32> = Global::new(0);
/// `signal_struct.live`: i32, threads that have not begun to end.
#[unsafe(no_mangle)]
static SIGNAL_LIVE: Global<u32> = Global::new(0);
/// `task_struct.stack`, in which the registers of the system call lie.
#[unsafe(no_mangle)]
static TASK_STACK: Global<u32> = Global::new(0);
/// `task_struct.files`: the way from a descriptor to its socket begins here.
#[unsafe(no_mangle)]
static TASK_FILES: Global<u32> = Global::new(0);
/// `files_struct.fdt`.
#[unsafe(no_mangle)]
static FILES_FDT: Global<u32> = Global::new(0);
/// `fdtable.max_fds`: u32.
#[unsafe(no_mangle)]
static FDT_MAX_FDS: Global<u32> = Global::new(0);
/// `fdtable.fd`: an array of files.
#[unsafe(no_mangle)]
static FDT_FD: Global<u32> = Global::new(0);
/// `file.f_inode`.
#[unsafe(no_mangle)]
static FILE_INODE: Global<u32> = Global::new(0);
/// `file.private_data`: of a socket's file, its `struct socket`.
#[unsafe(no_mangle)]
static FILE_PRIVATE: Global<u32> = Global::new(0);
/// `inode.i_mode`: u16.
#[unsafe(no_mangle)]
static INODE_MODE: Global<u32> = Global::new(0);

/// Opaque kernel types: only their addresses pass through here.
pub enum Task {}
/// See [`Task`].
pub enum Sock {}
/// See [`Task`].
pub enum Socket {}
/// See [`Task`].
pub enum Message {}
/// See [`Task`].
pub enum Packet {}

// SAFETY (of the loads below): `object` is an argument of a program at a typed hook, so the kernel vouches
// for its type, and the verifier checks each offset against that type before the program can run.

#[inline(always)]
unsafe fn load<T: Copy>(object: *const u8, offset: u32) -> T {
    unsafe { *object.add(offset as usize).cast::<T>() }
}

#[inline(always)]
pub fn task_tgid(task: *const Task) -> u32 {
    unsafe { load(task.cast(), TASK_TGID.load()) }
}

#[inline(always)]
pub fn task_tid(task: *const Task) -> u32 {
    unsafe { load(task.cast(), TASK_PID.load()) }
}

#[inline(always)]
pub fn task_state(task: *const Task) -> u32 {
    unsafe { load(task.cast(), TASK_STATE.load()) }
}

#[inline(always)]
pub fn task_major_faults(task: *const Task) -> u32 {
    unsafe { load(task.cast(), TASK_MAJ_FLT.load()) }
}

/// Its time on processors, brought up to date as it leaves one.
#[inline(always)]
pub fn task_executed_ns(task: *const Task) -> u64 {
    unsafe { load(task.cast(), TASK_EXECUTED.load()) }
}

#[inline(always)]
pub fn task_is_in_iowait(task: *const Task) -> bool {
    let bits: u32 = unsafe { load(task.cast(), TASK_IOWAIT.load()) };
    bits & TASK_IOWAIT_MASK.load() != 0
}

#[inline(always)]
pub fn task_is_in_memstall(task: *const Task) -> bool {
    if TASK_MEMSTALL_MASK.load() == 0 {
        return false;
    }
    let bits: u32 = unsafe { load(task.cast(), TASK_MEMSTALL.load()) };
    bits & TASK_MEMSTALL_MASK.load() != 0
}

#[inline(always)]
pub fn task_is_frozen(task: *const Task) -> bool {
    if TASK_FROZEN_MASK.load() == 0 {
        return false;
    }
    let bits: u32 = unsafe { load(task.cast(), TASK_FROZEN.load()) };
    bits & TASK_FROZEN_MASK.load() != 0
}

/// Its group has used up its quota, and it may not run.
#[inline(always)]
pub fn task_is_throttled(task: *const Task) -> bool {
    if TASK_THROTTLED.load() != 0 {
        let throttled: u8 = unsafe { load(task.cast(), TASK_THROTTLED.load()) };
        return throttled != 0;
    }
    if TASK_CFS_RQ.load() == 0 {
        return false;
    }
    let queue: *const u8 = unsafe { load(task.cast(), TASK_CFS_RQ.load()) };
    let count: i32 = unsafe { load(queue, CFS_THROTTLE_COUNT.load()) };
    count != 0
}

/// Threads of its process that have not begun to end.
#[inline(always)]
pub fn task_threads(task: *const Task) -> i32 {
    let signal: *const u8 = unsafe { load(task.cast(), TASK_SIGNAL.load()) };
    unsafe { load(signal, SIGNAL_LIVE.load()) }
}

#[inline(always)]
pub fn sock_family(sock: *const Sock) -> u16 {
    unsafe { load(sock.cast(), SOCK_FAMILY.load()) }
}

#[inline(always)]
pub fn sock_port(sock: *const Sock) -> u16 {
    unsafe { load(sock.cast(), SOCK_NUM.load()) }
}

#[inline(always)]
pub fn sock_state(sock: *const Sock) -> u8 {
    unsafe { load(sock.cast(), SOCK_STATE.load()) }
}

#[inline(always)]
pub fn sock_error(sock: *const Sock) -> i32 {
    unsafe { load(sock.cast(), SOCK_ERR.load()) }
}

/// The sock of a socket that the kernel typed as `struct socket`; null for one that is being closed.
#[inline(always)]
pub fn socket_sock(socket: *const Socket) -> *const Sock {
    unsafe { load(socket.cast(), SOCKET_SK.load()) }
}

/// Flags of a message that is being sent.
#[inline(always)]
pub fn message_flags(message: *const Message) -> u32 {
    unsafe { load(message.cast(), MSGHDR_FLAGS.load()) }
}

/// Where the kernel keeps the address of a Unix socket; 0 for one without, as a client's is, and where the
/// kernel does not let it be read.
#[inline(always)]
pub fn unix_address(sock: *const Sock) -> u64 {
    if !features::helpers() {
        return if features::reads_kernel() {
            read_kernel(sock as u64, UNIX_ADDR.load()).unwrap_or(0)
        } else {
            0
        };
    }
    // SAFETY: a socket by the kernel's own type; the helper checks that it is a Unix one.
    let unix = unsafe { bpf_skc_to_unix_sock(sock.cast_mut().cast()) };
    if unix.is_null() {
        return 0;
    }
    unsafe { load(unix.cast_const().cast(), UNIX_ADDR.load()) }
}

/// TCP's own position in what was read or written; `None` for what is no TCP, or carries other bytes than the calls.
#[inline(always)]
pub fn tcp_position(sock: *const Sock, write: bool) -> Option<u32> {
    // SAFETY: a socket by the kernel's own type; the helper checks that it is a TCP one.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sock.cast_mut().cast()) };
    if tcp.is_null() {
        return None;
    }
    let tcp: *const u8 = tcp.cast_const().cast();
    // SAFETY: as the loads above.
    unsafe {
        if load::<u64>(tcp, TCP_ULP_OPS.load()) != 0 {
            return None;
        }
        Some(if write { load(tcp, TCP_WRITE_SEQ.load()) } else { load(tcp, TCP_COPIED_SEQ.load()) })
    }
}

/// The same of a socket of which the address alone is known.
#[inline(always)]
pub fn tcp_position_at(sock: u64, write: bool) -> Option<u32> {
    const IPPROTO_TCP: u16 = 6;
    if read_kernel::<u16>(sock, SOCK_PROTOCOL.load())? != IPPROTO_TCP
        || read_kernel::<u64>(sock, TCP_ULP_OPS.load())? != 0
    {
        return None;
    }
    read_kernel(sock, if write { TCP_WRITE_SEQ.load() } else { TCP_COPIED_SEQ.load() })
}

/// The socket's cookie as it stands: 0 for a socket that no program here has looked at yet.
#[inline(always)]
pub fn sock_cookie_known(sock: *const Sock) -> u64 {
    unsafe { load(sock.cast(), SOCK_COOKIE.load()) }
}

/// Whether a TCP segment brings data, not just an acknowledgement.
#[inline(always)]
pub fn has_data(packet: *const Packet) -> bool {
    let numbers: Option<[u32; 2]> = read_kernel(packet as u64, SKB_CB.load());
    matches!(numbers, Some([first, end]) if first != end)
}

/// The kernel's stack of the current thread.
#[inline(always)]
pub fn current_stack() -> Option<u64> {
    // SAFETY: the helper always gives the current task.
    read_kernel(unsafe { bpf_get_current_task() }, TASK_STACK.load())
}

/// Address of the sock behind a descriptor of the current thread, and its family; `None` for what is no
/// socket.
#[inline(always)]
pub fn sock_of(descriptor: u64) -> Option<(u64, u16)> {
    const SOCKET_MODE: u16 = 0o140_000;
    // SAFETY: the helper always gives the current task.
    let files = read_kernel(unsafe { bpf_get_current_task() }, TASK_FILES.load())?;
    let table = read_kernel(files, FILES_FDT.load())?;
    let descriptors: u32 = read_kernel(table, FDT_MAX_FDS.load())?;
    if descriptor >= descriptors as u64 {
        return None;
    }
    let array: u64 = read_kernel(table, FDT_FD.load())?;
    let file = read_kernel(array + descriptor * 8, 0)?;
    let mode: u16 = read_kernel(read_kernel(file, FILE_INODE.load())?, INODE_MODE.load())?;
    if mode & 0o170_000 != SOCKET_MODE {
        return None;
    }
    let socket = read_kernel(file, FILE_PRIVATE.load())?;
    let sock = read_kernel(socket, SOCKET_SK.load())?;
    Some((sock, read_kernel(sock, SOCK_FAMILY.load())?))
}

/// Reads kernel memory at an offset from an address; fails cleanly where there is none.
#[inline(always)]
pub fn read_kernel<T>(object: u64, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel((object + offset as u64) as *const T).ok() }
}
