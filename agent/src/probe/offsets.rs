//! The struct members that the kernel programs read, looked up in the running kernel.
//!
//! Out: one value a global of `agent-ebpf/src/offsets.rs`, to be set before the programs are loaded.

use anyhow::Result;

use super::btf::KernelTypes;

/// Global of the kernel programs, struct, member.
const MEMBERS: [(&str, &str, &str); 14] = [
    ("TASK_TGID", "task_struct", "tgid"),
    ("TASK_SIGNAL", "task_struct", "signal"),
    ("SIGNAL_LIVE", "signal_struct", "live.counter"),
    ("SOCK_FAMILY", "sock", "__sk_common.skc_family"),
    ("SOCK_NUM", "sock", "__sk_common.skc_num"),
    ("SOCK_STATE", "sock", "__sk_common.skc_state"),
    ("SOCK_COOKIE", "sock", "__sk_common.skc_cookie"),
    ("SOCK_ERR", "sock", "sk_err"),
    ("SOCKET_SK", "socket", "sk"),
    ("UNIX_ADDR", "unix_sock", "addr"),
    ("MSGHDR_FLAGS", "msghdr", "msg_flags"),
    ("TCP_COPIED_SEQ", "tcp_sock", "copied_seq"),
    ("TCP_WRITE_SEQ", "tcp_sock", "write_seq"),
    ("TCP_ULP_OPS", "inet_connection_sock", "icsk_ulp_ops"),
];

/// The same of what is read by address, which only older kernels and system calls need.
pub(crate) const BY_ADDRESS: [(&str, &str, &str); 10] = [
    ("SOCK_PROTOCOL", "sock", "sk_protocol"),
    ("SKB_CB", "sk_buff", "cb"),
    ("TASK_STACK", "task_struct", "stack"),
    ("TASK_FILES", "task_struct", "files"),
    ("FILES_FDT", "files_struct", "fdt"),
    ("FDT_MAX_FDS", "fdtable", "max_fds"),
    ("FDT_FD", "fdtable", "fd"),
    ("FILE_INODE", "file", "f_inode"),
    ("FILE_PRIVATE", "file", "private_data"),
    ("INODE_MODE", "inode", "i_mode"),
];

/// Name of a global and the byte offset it takes.
pub type Offset = (&'static str, u32);

type Members = [(&'static str, &'static str, &'static str)];

fn find(types: &KernelTypes, members: &'static Members) -> Result<Vec<Offset>> {
    members.iter().map(|&(global, structure, path)| Ok((global, types.offset(structure, path)?))).collect()
}

/// Looks up every member that is read by its type.
///
/// # Errors
/// The kernel lacks one: its version is not known to these programs.
pub fn look_up(types: &KernelTypes) -> Result<Vec<Offset>> {
    find(types, &MEMBERS)
}

/// Looks up those that are read by address.
///
/// # Errors
/// As above; then nothing may be read so.
pub fn look_up_by_address(types: &KernelTypes) -> Result<Vec<Offset>> {
    find(types, &BY_ADDRESS)
}
