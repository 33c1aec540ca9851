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

/// Looks up what the programs of the scheduler read; what a kernel does not have is 0.
///
/// # Errors
/// The kernel lacks one that none does without.
pub fn look_up_scheduler(types: &KernelTypes) -> Result<Vec<Offset>> {
    let state = types.offset("task_struct", "__state").or_else(|_| types.offset("task_struct", "state"))?;
    let (iowait, iowait_mask) = types.bit("task_struct", "in_iowait")?;
    let (memstall, memstall_mask) = types.bit("task_struct", "in_memstall").unwrap_or_default();
    let (frozen, frozen_mask) = types.bit("task_struct", "frozen").unwrap_or_default();
    let throttled = types.offset("task_struct", "throttled").unwrap_or(0);
    let queue = || {
        Ok::<_, anyhow::Error>((
            types.offset("task_struct", "se.cfs_rq")?,
            types.offset("cfs_rq", "throttle_count")?,
        ))
    };
    let (queue, throttle_count) = queue().unwrap_or_default();
    Ok(vec![
        ("TASK_PID", types.offset("task_struct", "pid")?),
        ("TASK_STATE", state),
        ("TASK_MAJ_FLT", types.offset("task_struct", "maj_flt")?),
        ("TASK_EXECUTED", types.offset("task_struct", "se.sum_exec_runtime")?),
        ("TASK_IOWAIT", iowait),
        ("TASK_IOWAIT_MASK", iowait_mask),
        ("TASK_MEMSTALL", memstall),
        ("TASK_MEMSTALL_MASK", memstall_mask),
        ("TASK_FROZEN", frozen),
        ("TASK_FROZEN_MASK", frozen_mask),
        ("TASK_THROTTLED", throttled),
        ("TASK_CFS_RQ", queue),
        ("CFS_THROTTLE_COUNT", throttle_count),
    ])
}

/// Looks up those that are read by address.
///
/// # Errors
/// As above; then nothing may be read so.
pub fn look_up_by_address(types: &KernelTypes) -> Result<Vec<Offset>> {
    find(types, &BY_ADDRESS)
}
