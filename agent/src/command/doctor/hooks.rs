//! Which hooks the kernel has, by its type information.
//!
//! In: a node. Out: findings. What is there may still be refused at load: only a start can tell, and
//! `inferscope_hook_info` does. No hook has a substitute in this version. The iterator over open files is not
//! looked for: it came with 5.11, so every kernel that has the tracepoints of sockets has it.

use super::{Cause, Finding, Loss, Node, State};
use crate::probe::btf::KernelTypes;

const SOCKET_BYTES: &[&str] = &["sock_recv_length", "sock_send_length"];
const ARRIVAL: &[&str] = &["sk_data_ready"];
const SEND_TIME: &[&str] = &["tcp_sendmsg_locked"];
const CONNECTION_END: &[&str] = &["inet_sock_set_state", "tcp_destroy_sock"];
const PROCESS_EVENTS: &[&str] = &["sched_process_exec", "sched_process_fork", "sched_process_exit"];

/// The type information, and what it says about each group of hooks.
pub(super) fn all(node: &Node) -> Vec<Finding> {
    match node.kernel_types() {
        Ok(types) => vec![
            Finding::ok("BTF", "/sys/kernel/btf/vmlinux"),
            socket_bytes(&types),
            arrival(&types),
            send_time(&types),
            connection_end(&types),
            process_events(&types),
        ],
        Err(error) => vec![no_btf(&error)],
    }
}

fn no_btf(error: &anyhow::Error) -> Finding {
    let loss = Loss {
        costs: "the programs cannot be fitted to this kernel, so none loads; which hooks it has is unknown",
        remedy: "use a kernel built with CONFIG_DEBUG_INFO_BTF=y (all current distributions), and let a \
                 container see the host's /sys",
        cause: Some(Cause::NoBtf),
    };
    Finding::lost("BTF", State::Missing, format!("{error:#}"), loss)
}

fn socket_bytes(types: &KernelTypes) -> Finding {
    let loss = Loss {
        costs: "no request can be measured, and `inferscope run` refuses to start",
        remedy: "use a kernel with both tracepoints: Linux 6.3 or later (Debian 13, Ubuntu 24.04, RHEL 10)",
        cause: Some(Cause::NoSocketHook),
    };
    let finding = tracepoints("socket bytes", types, SOCKET_BYTES, loss);
    // One without the other measures no request either.
    let state = if finding.state == State::Ok { State::Ok } else { State::Missing };
    Finding { state, ..finding }
}

fn arrival(types: &KernelTypes) -> Finding {
    let loss = Loss {
        costs: "a request is taken to begin when the server reads it, not when it came: without the read \
                delay, durations are shorter than the client's by the time the server was busy",
        remedy: "use a kernel with this tracepoint: Linux 6.3 or later",
        cause: Some(Cause::NoArrival),
    };
    tracepoints("arrival of data", types, ARRIVAL, loss)
}

fn send_time(types: &KernelTypes) -> Finding {
    let loss = Loss {
        costs: "a write is timed when the call returns: on a busy processor up to milliseconds after the \
                client got its bytes",
        remedy: "nothing where processors are not full; else a kernel with this tracepoint: Linux 6.16 or later",
        cause: Some(Cause::NoSendTime),
    };
    tracepoints("time of writes", types, SEND_TIME, loss)
}

fn connection_end(types: &KernelTypes) -> Finding {
    let loss = Loss {
        costs: "an abort is seen when the server next reads or writes, not when the client leaves",
        remedy: "use a kernel with these tracepoints",
        cause: Some(Cause::NoConnectionEnd),
    };
    tracepoints("connection end", types, CONNECTION_END, loss)
}

fn process_events(types: &KernelTypes) -> Finding {
    let loss = Loss {
        costs: "servers and their children are found by looking at /proc from time to time: their first \
                requests may be missed",
        remedy: "use a kernel with these tracepoints",
        cause: Some(Cause::NoProcessEvents),
    };
    tracepoints("process events", types, PROCESS_EVENTS, loss)
}

fn tracepoints(name: &'static str, types: &KernelTypes, wanted: &[&str], loss: Loss) -> Finding {
    let lacking: Vec<&str> = wanted.iter().copied().filter(|wanted| !types.has_tracepoint(wanted)).collect();
    if lacking.is_empty() {
        return Finding::ok(name, format!("tracepoints {}", wanted.join(", ")));
    }
    let state = if lacking.len() == wanted.len() { State::Missing } else { State::Degraded };
    Finding::lost(name, state, format!("no {}", lacking.join(", no ")), loss)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::attach::PLANS;

    #[test]
    fn what_is_looked_for_is_what_the_programs_attach_to() {
        let mut wanted = [SOCKET_BYTES, ARRIVAL, SEND_TIME, CONNECTION_END, PROCESS_EVENTS].concat();
        let mut attached = PLANS.map(|plan| plan.hook).to_vec();
        wanted.sort_unstable();
        attached.sort_unstable();
        attached.dedup();
        assert_eq!(wanted, attached);
        let required = PLANS.iter().filter(|plan| plan.required).map(|plan| plan.hook);
        assert_eq!(required.collect::<Vec<_>>(), SOCKET_BYTES);
    }
}
