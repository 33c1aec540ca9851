//! Which hooks the kernel has, by the names in its type information.
//!
//! In: a node. Out: findings. What is there may still be refused at load: only a start can tell, and
//! `inferscope_hook_info` does.

use super::btf::Names;
use super::{Cause, Finding, Loss, Node, State};

/// The type information, and what it says about each group of hooks.
pub(super) fn all(node: &Node) -> Vec<Finding> {
    let Some(names) = node.btf() else { return vec![no_btf()] };
    vec![
        Finding::ok("BTF", "/sys/kernel/btf/vmlinux"),
        socket_bytes(&names),
        arrival(&names),
        connection_end(&names),
        process_events(&names),
    ]
}

fn no_btf() -> Finding {
    let loss = Loss {
        costs: "the programs cannot be fitted to this kernel, so none loads; which hooks it has is unknown",
        remedy: "use a kernel built with CONFIG_DEBUG_INFO_BTF=y (all current distributions), and let a \
                 container see the host's /sys",
        cause: Some(Cause::NoBtf),
    };
    Finding::lost("BTF", State::Missing, "no readable /sys/kernel/btf/vmlinux", loss)
}

fn socket_bytes(names: &Names) -> Finding {
    const NAME: &str = "socket bytes";
    if ["sock_send_length", "sock_recv_length"].iter().all(|name| names.has_tracepoint(name)) {
        return Finding::ok(NAME, "tracepoints sock_send_length, sock_recv_length");
    }
    if ["tcp_sendmsg", "tcp_recvmsg"].iter().all(|name| names.has(name)) {
        let loss = Loss {
            costs: "requests are measured only if the kernel lets programs attach to the return of these \
                    functions, which is tried at start; `inferscope_hook_info` says what came of it",
            remedy: "nothing, if it attaches; the tracepoints came with Linux 6.3",
            cause: Some(Cause::SocketFallback),
        };
        return Finding::lost(NAME, State::Degraded, "functions tcp_sendmsg, tcp_recvmsg", loss);
    }
    let loss = Loss {
        costs: "no request is measured",
        remedy: "use a kernel with the tracepoints sock_send_length and sock_recv_length (Linux 6.3)",
        cause: Some(Cause::NoSocketHook),
    };
    Finding::lost(NAME, State::Missing, "no hook", loss)
}

fn arrival(names: &Names) -> Finding {
    const NAME: &str = "arrival of data";
    if names.has_tracepoint("sk_data_ready") {
        return Finding::ok(NAME, "tracepoint sk_data_ready");
    }
    let loss = Loss {
        costs: "a request may be taken to begin when the server reads it, not when it came: without the read \
                delay, durations are shorter than the client's by the time the server was busy",
        remedy: "nothing; the tracepoint came with Linux 6.3",
        cause: Some(Cause::NoArrival),
    };
    if names.has_tracepoint("tcp_probe") {
        return Finding::lost(NAME, State::Degraded, "tracepoint tcp_probe, TCP only", loss);
    }
    Finding::lost(NAME, State::Missing, "no hook", loss)
}

fn connection_end(names: &Names) -> Finding {
    let loss = Loss {
        costs: "an abort is seen when the server next reads or writes, not when the client leaves",
        remedy: "use a kernel with these tracepoints",
        cause: Some(Cause::NoConnectionEnd),
    };
    tracepoints("connection end", names, &["inet_sock_set_state", "tcp_destroy_sock"], loss)
}

fn process_events(names: &Names) -> Finding {
    let loss = Loss {
        costs: "servers and their children are found by looking at /proc from time to time: their first \
                requests may be missed",
        remedy: "use a kernel with these tracepoints",
        cause: Some(Cause::NoProcessEvents),
    };
    let wanted = ["sched_process_exec", "sched_process_fork", "sched_process_exit"];
    tracepoints("process events", names, &wanted, loss)
}

fn tracepoints(name: &'static str, names: &Names, wanted: &[&str], loss: Loss) -> Finding {
    let lacking: Vec<&str> = wanted.iter().copied().filter(|wanted| !names.has_tracepoint(wanted)).collect();
    if lacking.is_empty() {
        return Finding::ok(name, format!("tracepoints {}", wanted.join(", ")));
    }
    let state = if lacking.len() == wanted.len() { State::Missing } else { State::Degraded };
    Finding::lost(name, state, format!("no {}", lacking.join(", no ")), loss)
}
