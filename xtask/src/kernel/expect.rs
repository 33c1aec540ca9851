//! What is expected of each kernel, in one table: the hooks that the agent uses, and what comes of each trial.
//!
//! A kernel that behaves otherwise is a failure, also where it does more than is written here: then this table is to be
//! changed, knowingly.

use super::packages::Version;

/// Kernels that behave alike, from one version to the next family's.
#[derive(Debug)]
pub struct Family {
    pub from: Version,
    /// Hooks that the agent's programs are attached to, where nothing is forced.
    pub in_use: &'static [&'static str],
    /// Hooks that this kernel has and whose program it does not take, and why.
    pub refused: &'static [(&'static str, &'static str)],
    /// Other families of socket hooks that can be forced.
    pub forced: &'static [Forced],
    /// Under lockdown `confidentiality`.
    pub confidential: Expected,
}

#[derive(Debug)]
pub struct Forced {
    pub family: &'static str,
    /// The kinds of sockets that it sees.
    pub sockets: &'static str,
}

/// How a trial should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Passes,
    /// The agent ends at its start and says this.
    Refuses(&'static str),
}

const FUNCTION: Forced = Forced { family: "function", sockets: "ipv4,unix" };
const SYSTEM_CALL: Forced = Forced { family: "system_call", sockets: "ipv4" };

const CONFIDENTIAL: Expected = Expected::Refuses("lockdown `confidentiality` forbids");

static FAMILIES: [Family; 4] = [
    // Sockets are known by address: helpers that tell their cookie came with 5.12 and 5.16.
    Family {
        from: Version(5, 10),
        in_use: &[
            "fentry/sock_def_readable",
            "fentry/tcp_sendmsg_locked",
            "fentry/unix_release",
            "fexit/tcp_recvmsg",
            "fexit/tcp_sendmsg",
            "fexit/unix_stream_recvmsg",
            "fexit/unix_stream_sendmsg",
            "tp_btf/inet_sock_set_state",
            "tp_btf/mm_compaction_begin",
            "tp_btf/mm_compaction_end",
            "tp_btf/mm_vmscan_direct_reclaim_begin",
            "tp_btf/mm_vmscan_direct_reclaim_end",
            "tp_btf/mm_vmscan_memcg_reclaim_begin",
            "tp_btf/mm_vmscan_memcg_reclaim_end",
            "tp_btf/sched_process_exec",
            "tp_btf/sched_process_exit",
            "tp_btf/sched_process_fork",
            "tp_btf/sched_switch",
            "tp_btf/sched_wakeup",
            "tp_btf/sched_wakeup_new",
            "tp_btf/tcp_destroy_sock",
        ],
        refused: &[("iter/task_file", "the helper that finds a file's socket came with 5.11")],
        forced: &[SYSTEM_CALL],
        confidential: CONFIDENTIAL,
    },
    Family {
        from: Version(5, 16),
        in_use: &[
            "fentry/sock_def_readable",
            "fentry/tcp_sendmsg_locked",
            "fentry/unix_release",
            "fexit/tcp_recvmsg",
            "fexit/tcp_sendmsg",
            "fexit/unix_stream_recvmsg",
            "fexit/unix_stream_sendmsg",
            "iter/task_file",
            "tp_btf/inet_sock_set_state",
            "tp_btf/mm_compaction_begin",
            "tp_btf/mm_compaction_end",
            "tp_btf/mm_vmscan_direct_reclaim_begin",
            "tp_btf/mm_vmscan_direct_reclaim_end",
            "tp_btf/mm_vmscan_memcg_reclaim_begin",
            "tp_btf/mm_vmscan_memcg_reclaim_end",
            "tp_btf/sched_process_exec",
            "tp_btf/sched_process_exit",
            "tp_btf/sched_process_fork",
            "tp_btf/sched_switch",
            "tp_btf/sched_wakeup",
            "tp_btf/sched_wakeup_new",
        ],
        refused: &[],
        forced: &[SYSTEM_CALL],
        confidential: CONFIDENTIAL,
    },
    // Tracepoints of what sockets read, write and receive.
    Family {
        from: Version(6, 3),
        in_use: &[
            "fentry/tcp_sendmsg_locked",
            "fentry/unix_release",
            "iter/task_file",
            "tp_btf/inet_sock_set_state",
            "tp_btf/mm_compaction_begin",
            "tp_btf/mm_compaction_end",
            "tp_btf/mm_vmscan_direct_reclaim_begin",
            "tp_btf/mm_vmscan_direct_reclaim_end",
            "tp_btf/mm_vmscan_memcg_reclaim_begin",
            "tp_btf/mm_vmscan_memcg_reclaim_end",
            "tp_btf/sched_process_exec",
            "tp_btf/sched_process_exit",
            "tp_btf/sched_process_fork",
            "tp_btf/sched_switch",
            "tp_btf/sched_wakeup",
            "tp_btf/sched_wakeup_new",
            "tp_btf/sk_data_ready",
            "tp_btf/sock_recv_length",
            "tp_btf/sock_send_length",
        ],
        refused: &[],
        forced: &[FUNCTION, SYSTEM_CALL],
        confidential: CONFIDENTIAL,
    },
    // And of when a write is taken.
    Family {
        from: Version(6, 16),
        in_use: &[
            "fentry/unix_release",
            "iter/task_file",
            "tp_btf/inet_sock_set_state",
            "tp_btf/mm_compaction_begin",
            "tp_btf/mm_compaction_end",
            "tp_btf/mm_vmscan_direct_reclaim_begin",
            "tp_btf/mm_vmscan_direct_reclaim_end",
            "tp_btf/mm_vmscan_memcg_reclaim_begin",
            "tp_btf/mm_vmscan_memcg_reclaim_end",
            "tp_btf/sched_process_exec",
            "tp_btf/sched_process_exit",
            "tp_btf/sched_process_fork",
            "tp_btf/sched_switch",
            "tp_btf/sched_wakeup",
            "tp_btf/sched_wakeup_new",
            "tp_btf/sk_data_ready",
            "tp_btf/sock_recv_length",
            "tp_btf/sock_send_length",
            "tp_btf/tcp_sendmsg_locked",
        ],
        refused: &[],
        // Not system_call, which no start chooses here: these kernels let a thread be interrupted in a program, and skip
        // the program for others meanwhile, which at every system call of a slow processor happens (and is counted).
        forced: &[FUNCTION],
        confidential: CONFIDENTIAL,
    },
];

/// The family of a kernel; `None` for one that is too old.
pub fn family(version: Version) -> Option<&'static Family> {
    FAMILIES.iter().rev().find(|family| family.from <= version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_its_family() {
        let check = |version, from| assert_eq!(family(version).map(|family| family.from), from, "{version}");
        check(Version(5, 9), None);
        check(Version(5, 14), Some(Version(5, 10)));
        check(Version(6, 1), Some(Version(5, 16)));
        check(Version(6, 12), Some(Version(6, 3)));
        check(Version(7, 3), Some(Version(6, 16)));
    }

    #[test]
    fn lists_are_sorted_as_reports_are_compared() {
        for family in &FAMILIES {
            assert!(family.in_use.is_sorted(), "{}", family.from);
        }
    }
}
