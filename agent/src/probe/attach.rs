//! Which program goes to which hook, and what it costs when one cannot.
//!
//! The choice is made by what the running kernel's BTF has, never by its version. A program that does
//! not load or attach is absent, whatever the error; the others go on.

use anyhow::{Context as _, Result};
use aya::programs::{BtfTracePoint, Iter};
use aya::{Btf, Ebpf};
use tracing::{debug, warn};

use super::btf::KernelTypes;

/// One program and its hook.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Name of the program.
    pub program: &'static str,
    /// Tracepoint it is attached to, as a BTF tracepoint.
    pub hook: &'static str,
    /// Without it the agent measures no request at all.
    pub required: bool,
    /// What is lost without it.
    pub without: &'static str,
}

/// Every program. The socket tracepoints of 6.3 and later; further hooks for older kernels share the
/// capture of these.
pub const PLANS: [Plan; 9] = [
    Plan {
        program: "socket_read",
        hook: "sock_recv_length",
        required: true,
        without: "no requests are measured",
    },
    Plan {
        program: "socket_write",
        hook: "sock_send_length",
        required: true,
        without: "no requests are measured",
    },
    Plan {
        program: "socket_send",
        hook: "tcp_sendmsg_locked",
        required: false,
        without: "writes are timed when the call returns, which a busy processor delays",
    },
    Plan {
        program: "socket_arrive",
        hook: "sk_data_ready",
        required: false,
        without: "durations begin when the server reads, and the read delay is unknown",
    },
    Plan {
        program: "socket_change",
        hook: "inet_sock_set_state",
        required: false,
        without: "ends of connections are known from reads only",
    },
    Plan {
        program: "socket_destroy",
        hook: "tcp_destroy_sock",
        required: false,
        without: "closed sockets leave the table by age",
    },
    Plan {
        program: "process_exec",
        hook: "sched_process_exec",
        required: false,
        without: "new servers are found by the periodic scan",
    },
    Plan {
        program: "process_fork",
        hook: "sched_process_fork",
        required: false,
        without: "new processes of a server are found by the periodic scan",
    },
    Plan {
        program: "process_exit",
        hook: "sched_process_exit",
        required: false,
        without: "ended processes are found by the periodic scan",
    },
];

/// The program that lists the sockets which watched processes hold; read by [`super::Probe::open_sockets`].
pub const OPEN_SOCKETS: Plan = Plan {
    program: "open_sockets",
    hook: "task_file",
    required: false,
    without: "that a server closed a Unix socket is known only from the end of its process",
};

/// A plan and what became of it.
#[derive(Clone, Debug)]
pub struct Hook {
    pub plan: Plan,
    /// Why the program is absent; `None` when it is attached.
    pub absent: Option<String>,
}

/// Loads and attaches every program that the kernel can take.
pub fn attach_all(ebpf: &mut Ebpf, types: &KernelTypes, btf: &Btf) -> Vec<Hook> {
    let hook = |plan: Plan, result: Result<()>| {
        match &result {
            Ok(()) => debug!(program = plan.program, hook = plan.hook, "attached"),
            Err(error) => {
                warn!(program = plan.program, hook = plan.hook, "not attached, {}: {error:#}", plan.without);
            }
        }
        Hook { plan, absent: result.err().map(|error| format!("{error:#}")) }
    };
    let mut hooks: Vec<Hook> = PLANS.iter().map(|&plan| hook(plan, attach(ebpf, plan, types, btf))).collect();
    hooks.push(hook(OPEN_SOCKETS, load_iterator(ebpf, btf)));
    hooks
}

/// An iterator is attached anew for each pass.
fn load_iterator(ebpf: &mut Ebpf, btf: &Btf) -> Result<()> {
    let program: &mut Iter =
        ebpf.program_mut(OPEN_SOCKETS.program).context("program is not in the object")?.try_into()?;
    program.load(OPEN_SOCKETS.hook, btf).context("load")
}

fn attach(ebpf: &mut Ebpf, plan: Plan, types: &KernelTypes, btf: &Btf) -> Result<()> {
    if !types.has_tracepoint(plan.hook) {
        anyhow::bail!("the kernel has no tracepoint {}", plan.hook);
    }
    let program: &mut BtfTracePoint =
        ebpf.program_mut(plan.program).context("program is not in the object")?.try_into()?;
    program.load(plan.hook, btf).context("load")?;
    program.attach().context("attach")?;
    Ok(())
}
