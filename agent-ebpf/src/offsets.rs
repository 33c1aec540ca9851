//! Where the running kernel keeps the struct members that programs read.
//!
//! The agent looks each up in the kernel's BTF and sets it before the programs are loaded. A typed
//! load at a wrong offset is refused by the verifier, which knows the type: it cannot read garbage.

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_skc_to_unix_sock;

/// `task_struct.pid`: the thread.
#[unsafe(no_mangle)]
static TASK_PID: Global<u32> = Global::new(0);
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

/// Opaque kernel types: only their addresses pass through here.
pub enum Task {}
/// See [`Task`].
pub enum Sock {}

// SAFETY (of the loads below): `object` is an argument of a tp_btf program, so the kernel vouches for
// its type, and the verifier checks each offset against that type before the program can run.

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
pub fn socket_sock(socket: *const u8) -> *const Sock {
    unsafe { load(socket, SOCKET_SK.load()) }
}

/// Where the kernel keeps the address of a Unix socket; 0 for one without, as a client's is.
#[inline(always)]
pub fn unix_address(sock: *const Sock) -> u64 {
    // SAFETY: a socket by the kernel's own type; the helper checks that it is a Unix one.
    let unix = unsafe { bpf_skc_to_unix_sock(sock.cast_mut().cast()) };
    if unix.is_null() {
        return 0;
    }
    unsafe { load(unix.cast_const().cast(), UNIX_ADDR.load()) }
}

/// The socket's cookie as it stands: 0 for a socket that no program here has looked at yet.
#[inline(always)]
pub fn sock_cookie_known(sock: *const Sock) -> u64 {
    unsafe { load(sock.cast(), SOCK_COOKIE.load()) }
}
