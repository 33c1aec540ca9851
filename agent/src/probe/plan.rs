//! Which program can go to which hook, in the order of preference, and what each choice costs.
//!
//! Data, and one rule: a way is open where the kernel's types have its hooks with the arguments that the
//! programs rely on. Whether the kernel then takes a program, only loading it tells.

use std::fmt;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::btf::KernelTypes;
use super::features::Features;

/// Where bytes are seen to move. The order is that of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Tracepoints of sockets, Linux 6.3 and later.
    Tracepoint,
    /// Entry and return of kernel functions, Linux 5.10 and later where functions may be traced.
    Function,
    /// The return of every system call of the node.
    SystemCall,
}

impl Family {
    pub const ALL: [Self; 3] = [Self::Tracepoint, Self::Function, Self::SystemCall];
}

/// Section `kernel` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub socket_hook: SocketHook,
}

/// Which family is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketHook {
    /// The best that the kernel takes.
    #[default]
    Auto,
    Tracepoint,
    Function,
    SystemCall,
}

impl SocketHook {
    /// The families that may be tried, in that order.
    #[must_use]
    pub fn families(self) -> Vec<Family> {
        match self {
            Self::Auto => Family::ALL.to_vec(),
            Self::Tracepoint => vec![Family::Tracepoint],
            Self::Function => vec![Family::Function],
            Self::SystemCall => vec![Family::SystemCall],
        }
    }
}

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tracepoint,
    Entry,
    Return,
    /// Runs when it is asked.
    Iterator,
}

/// What a program has to be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing that kernels differ in.
    Nothing,
    /// Copies of a call's bytes, which its registers tell the place of: helpers of 5.16, or reads of kernel memory.
    Bytes,
    /// Reads of kernel memory.
    KernelMemory,
}

/// Ending of the name of a second copy, which takes what the kernel skips the first for.
const SECOND: &str = "_2";

/// Whether it is one that takes what another is skipped for.
#[must_use]
pub fn is_second_copy(program: &str) -> bool {
    program.ends_with(SECOND)
}

/// One program and its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Name of the program.
    pub name: &'static str,
    pub kind: Kind,
    /// Tracepoint, function or iterator.
    pub hook: &'static str,
    /// Types of the hook's arguments, as far as the program looks.
    pub takes: &'static [&'static str],
    pub needs: Needs,
}

impl Program {
    /// Why it cannot go there, as far as the kernel's types tell.
    ///
    /// # Errors
    /// The hook is not there, has other arguments, or the program may not do what it has to.
    pub fn check(&self, types: &KernelTypes, features: &Features) -> Result<()> {
        let (what, found) = match self.kind {
            Kind::Tracepoint => ("tracepoint", types.tracepoint_arguments(self.hook)),
            Kind::Entry | Kind::Return => ("function", types.function_arguments(self.hook)),
            Kind::Iterator => ("iterator", types.function_arguments(&format!("bpf_iter_{}", self.hook))),
        };
        let Some(found) = found else { bail!("the kernel has no {what} {}", self.hook) };
        let matches = found.len() >= self.takes.len()
            && self.takes.iter().zip(&found).all(|(wanted, found)| wanted == found);
        ensure!(
            matches,
            "{what} {} takes ({}), not ({})",
            self.hook,
            found.join(", "),
            self.takes.join(", ")
        );
        let Features { helpers, reads_kernel, copies_user, .. } = features;
        match (self.needs, reads_kernel, copies_user) {
            (Needs::Bytes, _, Err(reason)) => bail!("{reason}"),
            (Needs::Bytes, Err(reason), _) if !helpers => bail!("{reason}"),
            (Needs::KernelMemory, Err(reason), _) => bail!("{reason}"),
            _ => Ok(()),
        }
    }
}

/// As the kernel's own tools write it.
impl fmt::Display for Program {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Tracepoint => "tp_btf",
            Kind::Entry => "fentry",
            Kind::Return => "fexit",
            Kind::Iterator => "iter",
        };
        write!(out, "{kind}/{}", self.hook)
    }
}

/// One way to do a duty.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Open to this family and those after it.
    pub family: Family,
    /// All of them are needed.
    pub programs: &'static [Program],
    /// What it costs compared to the best way.
    pub costs: Option<&'static str>,
}

/// Where a duty is to be done, by where what is known of a socket lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    /// In a table by the socket's address.
    ByAddress,
    /// In the socket itself.
    InSocket,
    /// The kernel interrupts programs.
    Interrupted,
}

/// Something to be seen, and the ways to see it, the best first.
#[derive(Debug)]
pub struct Duty {
    pub name: &'static str,
    pub ways: &'static [Way],
    /// What is lost without it.
    pub without: &'static str,
    pub when: When,
}

const fn tracepoint(name: &'static str, hook: &'static str, takes: &'static [&'static str]) -> Program {
    Program { name, kind: Kind::Tracepoint, hook, takes, needs: Needs::Nothing }
}

const fn on_entry(name: &'static str, hook: &'static str, takes: &'static [&'static str]) -> Program {
    Program { name, kind: Kind::Entry, hook, takes, needs: Needs::Nothing }
}

const fn call(kind: Kind, name: &'static str, hook: &'static str, takes: &'static [&'static str]) -> Program {
    Program { name, kind, hook, takes, needs: Needs::Bytes }
}

const SOCKET_READ: Program =
    call(Kind::Tracepoint, "socket_read", "sock_recv_length", &["sock *", "int", "int"]);
const SOCKET_WRITE: Program =
    call(Kind::Tracepoint, "socket_write", "sock_send_length", &["sock *", "int", "int"]);
const TCP_READ: Program = call(Kind::Return, "tcp_read", "tcp_recvmsg", &["sock *", "msghdr *"]);
const TCP_WRITE: Program =
    call(Kind::Return, "tcp_write", "tcp_sendmsg", &["sock *", "msghdr *", "long unsigned int"]);
const UNIX_READ: Program = call(
    Kind::Return,
    "unix_read",
    "unix_stream_recvmsg",
    &["socket *", "msghdr *", "long unsigned int", "int"],
);
const UNIX_WRITE: Program =
    call(Kind::Return, "unix_write", "unix_stream_sendmsg", &["socket *", "msghdr *", "long unsigned int"]);
/// Lists the sockets which watched processes hold.
pub const OPEN_SOCKETS: Program = Program {
    name: "open_sockets",
    kind: Kind::Iterator,
    hook: "task_file",
    takes: &["bpf_iter_meta *", "task_struct *", "unsigned int", "file *"],
    needs: Needs::Nothing,
};
/// Where a Unix socket is closed.
pub const UNIX_CLOSE: Program = on_entry("unix_close", "unix_release", &["socket *"]);
const KERNEL_MEMORY: Needs = Needs::KernelMemory;

/// What sockets read and write. Without it the agent measures nothing.
pub static CALLS: Duty = Duty {
    name: "socket bytes",
    ways: &[
        Way { family: Family::Tracepoint, programs: &[SOCKET_READ, SOCKET_WRITE], costs: None },
        Way {
            family: Family::Function,
            programs: &[TCP_READ, TCP_WRITE, UNIX_READ, UNIX_WRITE],
            costs: Some(
                "a read or write costs some tens of nanoseconds more than at the tracepoints of Linux 6.3",
            ),
        },
        Way {
            family: Family::Function,
            programs: &[TCP_READ, TCP_WRITE],
            costs: Some("servers on Unix sockets are not measured"),
        },
        Way {
            family: Family::SystemCall,
            programs: &[Program {
                name: "call_exit",
                kind: Kind::Tracepoint,
                hook: "sys_exit",
                takes: &["pt_regs *", "long int"],
                needs: KERNEL_MEMORY,
            }],
            costs: Some(
                "every system call of the node costs 100 to 200 ns more, which is outside the agent's budget, and \
                 servers on Unix sockets are not measured",
            ),
        },
    ],
    without: "no requests are measured",
    when: When::Always,
};

/// Everything else, each with its loss.
pub static DUTIES: [Duty; 11] = [
    Duty {
        name: "time of writes",
        ways: &[
            Way {
                family: Family::Tracepoint,
                programs: &[tracepoint("socket_send", "tcp_sendmsg_locked", &["sock *"])],
                costs: None,
            },
            Way {
                family: Family::Function,
                programs: &[on_entry("tcp_send", "tcp_sendmsg_locked", &["sock *", "msghdr *"])],
                costs: Some("writes that wait for room in the send buffer are timed when the call returns"),
            },
        ],
        without: "writes are timed when the call returns, which a busy processor delays",
        when: When::Always,
    },
    Duty {
        name: "arrival of data",
        ways: &[
            Way {
                family: Family::Tracepoint,
                programs: &[tracepoint("socket_arrive", "sk_data_ready", &["sock *"])],
                costs: None,
            },
            Way {
                family: Family::Function,
                programs: &[on_entry("data_arrive", "sock_def_readable", &["sock *"])],
                costs: None,
            },
            Way {
                family: Family::SystemCall,
                programs: &[Program {
                    name: "segment_arrive",
                    kind: Kind::Tracepoint,
                    hook: "tcp_probe",
                    takes: &["sock *", "sk_buff *"],
                    needs: KERNEL_MEMORY,
                }],
                costs: Some("the arrival of data on Unix sockets is not seen"),
            },
        ],
        without: "durations begin when the server reads, and the read delay is unknown",
        when: When::Always,
    },
    Duty {
        name: "connection end",
        ways: &[any_family(&[tracepoint("socket_change", "inet_sock_set_state", &["sock *", "int", "int"])])],
        without: "an abort is seen when the server next reads or writes, not when the client leaves, and ports on \
                  which servers listen are found by the periodic scan",
        when: When::Always,
    },
    Duty {
        name: "sockets freed",
        ways: &[any_family(&[tracepoint("socket_destroy", "tcp_destroy_sock", &["sock *"])])],
        without: "closed sockets leave the table by age",
        when: When::ByAddress,
    },
    Duty {
        name: "end of Unix sockets",
        ways: &[
            Way { family: Family::Function, programs: &[UNIX_CLOSE], costs: None },
            Way {
                family: Family::Function,
                programs: &[OPEN_SOCKETS],
                costs: Some("that a server closed a Unix socket is known within a second, not at once"),
            },
        ],
        without: "that a server closed a Unix socket is known only from the end of its process",
        when: When::Always,
    },
    Duty {
        name: "lost ends",
        ways: &[any_family(&[OPEN_SOCKETS])],
        without: "where events were lost, a request whose end is among them may stay open for an hour",
        when: When::InSocket,
    },
    Duty {
        name: "process events",
        ways: &[any_family(&[
            tracepoint("process_exec", "sched_process_exec", &["task_struct *"]),
            tracepoint("process_fork", "sched_process_fork", &["task_struct *", "task_struct *"]),
        ])],
        without: "new servers and their children are found by the periodic scan: their first requests may be missed",
        when: When::Always,
    },
    Duty {
        name: "process ends",
        ways: &[any_family(&[tracepoint("process_exit", "sched_process_exit", &["task_struct *"])])],
        without: "ended processes are found by the periodic scan",
        when: When::Always,
    },
    Duty {
        name: "skipped calls",
        ways: &[
            Way {
                family: Family::Tracepoint,
                programs: &[
                    Program { name: "socket_read_2", ..SOCKET_READ },
                    Program { name: "socket_write_2", ..SOCKET_WRITE },
                ],
                costs: None,
            },
            Way {
                family: Family::Function,
                programs: &[
                    Program { name: "tcp_read_2", ..TCP_READ },
                    Program { name: "tcp_write_2", ..TCP_WRITE },
                    Program { name: "unix_read_2", ..UNIX_READ },
                    Program { name: "unix_write_2", ..UNIX_WRITE },
                ],
                costs: None,
            },
        ],
        without: "a call that comes while another thread is interrupted in a program is not seen; requests over TCP \
                  say so",
        when: When::Interrupted,
    },
    Duty {
        name: "stalls",
        ways: &[any_family(&[
            tracepoint("sched_switch", "sched_switch", &["_Bool", "task_struct *", "task_struct *"]),
            tracepoint("sched_wakeup", "sched_wakeup", &["task_struct *"]),
            tracepoint("sched_wakeup_new", "sched_wakeup_new", &["task_struct *"]),
        ])],
        without: "why a request was slow is not known",
        when: When::Always,
    },
    Duty {
        name: "reclaim of memory",
        ways: &[any_family(&[
            tracepoint("direct_reclaim_begin", "mm_vmscan_direct_reclaim_begin", &[]),
            tracepoint("direct_reclaim_end", "mm_vmscan_direct_reclaim_end", &[]),
            tracepoint("group_reclaim_begin", "mm_vmscan_memcg_reclaim_begin", &[]),
            tracepoint("group_reclaim_end", "mm_vmscan_memcg_reclaim_end", &[]),
            tracepoint("compaction_begin", "mm_compaction_begin", &[]),
            tracepoint("compaction_end", "mm_compaction_end", &[]),
        ])],
        without: "time in which a thread looks for memory without sleeping is not told from computing",
        when: When::Always,
    },
];

/// The best there is, whatever the family.
const fn any_family(programs: &'static [Program]) -> Way {
    Way { family: Family::SystemCall, programs, costs: None }
}

impl Duty {
    /// Whether it is to be done on this kernel.
    #[must_use]
    pub fn applies(&self, features: &Features) -> bool {
        match self.when {
            When::Always => true,
            When::ByAddress => !features.helpers,
            When::InSocket => features.helpers,
            When::Interrupted => features.interrupted,
        }
    }

    /// Ways that are open to a family, the best first. For the calls themselves that is the family's own.
    pub fn ways_of(&'static self, family: Family) -> impl Iterator<Item = &'static Way> {
        let own = std::ptr::eq(self, &raw const CALLS) || self.when == When::Interrupted;
        self.ways.iter().filter(move |way| if own { way.family == family } else { way.family >= family })
    }
}

/// Every program of every way, each once.
#[must_use]
pub fn programs() -> Vec<&'static Program> {
    let mut programs: Vec<&Program> = Vec::new();
    for program in
        std::iter::once(&CALLS).chain(&DUTIES).flat_map(|duty| duty.ways).flat_map(|way| way.programs)
    {
        if !programs.contains(&program) {
            programs.push(program);
        }
    }
    programs
}
