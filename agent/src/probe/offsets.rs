//! The struct members that the kernel programs read, looked up in the running kernel.
//!
//! Out: one value a global of `agent-ebpf/src/offsets.rs`, to be set before the programs are loaded.

use anyhow::Result;

use super::btf::KernelTypes;

/// Global of the kernel programs, struct, member.
const MEMBERS: [(&str, &str, &str); 9] = [
    ("TASK_PID", "task_struct", "pid"),
    ("TASK_TGID", "task_struct", "tgid"),
    ("SOCK_FAMILY", "sock", "__sk_common.skc_family"),
    ("SOCK_NUM", "sock", "__sk_common.skc_num"),
    ("SOCK_STATE", "sock", "__sk_common.skc_state"),
    ("SOCK_COOKIE", "sock", "__sk_common.skc_cookie"),
    ("SOCK_ERR", "sock", "sk_err"),
    ("SOCKET_SK", "socket", "sk"),
    ("UNIX_ADDR", "unix_sock", "addr"),
];

/// Name of a global and the byte offset it takes.
pub type Offset = (&'static str, u32);

/// Looks every member up.
///
/// # Errors
/// The kernel lacks one: its version is not known to these programs.
pub fn look_up(types: &KernelTypes) -> Result<Vec<Offset>> {
    MEMBERS.iter().map(|&(global, structure, path)| Ok((global, types.offset(structure, path)?))).collect()
}
