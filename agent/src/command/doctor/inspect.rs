//! What the kernel and the permissions allow: one function per thing that is looked at.
//!
//! In: a node. Out: findings. Hooks have a file of their own.

use super::{Cause, Finding, Loss, Node, State, hooks};
use crate::lifecycle::lock;
use crate::probe::attach::Outcome;
use crate::probe::features;

/// Oldest kernel whose programs of this kind load.
const KERNEL_OLDEST: (u32, u32) = (5, 10);
/// From here on maps are charged to the cgroup, not to the limit of locked memory.
const KERNEL_CHARGES_CGROUP: (u32, u32) = (5, 11);
/// The kernel's first namespaces have fixed numbers (include/linux/proc_ns.h).
const FIRST_PID_NAMESPACE: u64 = 4_026_531_836;
const FIRST_USER_NAMESPACE: u64 = 4_026_531_837;

/// Bits of a capability set (include/uapi/linux/capability.h).
const CAP_DAC_OVERRIDE: u32 = 1;
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Everything, what stops the agent first.
pub(super) fn all(node: &Node, tried: Option<&[Outcome]>) -> Vec<Finding> {
    let mut findings = vec![kernel(node), machine(node), load_permission(node), read_permission(node)];
    findings.push(process_numbers(node));
    findings.extend(hooks::all(node, tried));
    findings.extend([lockdown(node), memory_lock(node), kprobes(node), cgroup(node), pressure(node)]);
    findings.extend([unprivileged(node), agent(node)]);
    findings
}

fn kernel(node: &Node) -> Finding {
    let release = node.proc("sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned());
    if node.version().is_some_and(|version| version >= KERNEL_OLDEST) {
        return Finding::ok("kernel", release);
    }
    let loss = Loss {
        costs: "the kernel programs do not load",
        remedy: "run on Linux 5.10 or later (Debian 11, Ubuntu 22.04, RHEL 9)",
        cause: Some(Cause::KernelTooOld),
    };
    Finding::lost("kernel", State::Missing, release, loss)
}

fn machine(node: &Node) -> Finding {
    if node.arch == "x86_64" {
        return Finding::ok("processor", "x86_64");
    }
    let loss = Loss {
        costs: "the agent is built for this processor, but was never tested on it",
        remedy: "compare its numbers with a client's before you rely on them",
        cause: Some(Cause::UntestedMachine),
    };
    Finding::lost("processor", State::Degraded, format!("{}, untested", node.arch), loss)
}

fn has(capabilities: u64, capability: u32) -> bool {
    capabilities >> capability & 1 == 1
}

fn load_permission(node: &Node) -> Finding {
    const NAME: &str = "load programs";
    let held = node.capabilities().unwrap_or_default();
    let wanted = [("CAP_BPF", CAP_BPF), ("CAP_PERFMON", CAP_PERFMON)];
    let lacking: Vec<&str> = wanted
        .into_iter()
        // Before they were split off, CAP_SYS_ADMIN was both; it still is.
        .filter(|&(_, capability)| !has(held, capability) && !has(held, CAP_SYS_ADMIN))
        .map(|(name, _)| name)
        .collect();
    let first_namespace = node.namespace("user").is_none_or(|number| number == FIRST_USER_NAMESPACE);
    if lacking.is_empty() && first_namespace {
        return Finding::ok(NAME, "CAP_BPF and CAP_PERFMON");
    }
    let loss = Loss {
        costs: "no kernel program loads, so nothing is measured",
        remedy: "run as root, by the shipped unit, or in a container with CAP_BPF and CAP_PERFMON added \
                 (not in a user namespace)",
        cause: Some(Cause::NoPermission),
    };
    let found = if lacking.is_empty() {
        "capabilities of a user namespace, which the kernel does not accept here".to_owned()
    } else {
        format!("no {}", lacking.join(", no "))
    };
    Finding::lost(NAME, State::Missing, found, loss)
}

fn read_permission(node: &Node) -> Finding {
    const NAME: &str = "read processes";
    let held = node.capabilities().unwrap_or_default();
    let read = has(held, CAP_DAC_READ_SEARCH) || has(held, CAP_DAC_OVERRIDE);
    if has(held, CAP_SYS_PTRACE) && read {
        return Finding::ok(NAME, "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH");
    }
    let loss = Loss {
        costs: "the sockets of other users' processes are hidden: a server may be found by its command line \
                only, and rules by port do not match it",
        remedy: "add CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, as the shipped unit does",
        cause: Some(Cause::NoProcessRead),
    };
    Finding::lost(NAME, State::Degraded, "own processes only", loss)
}

fn process_numbers(node: &Node) -> Finding {
    const NAME: &str = "process numbers";
    if node.namespace("pid").is_none_or(|number| number == FIRST_PID_NAMESPACE) {
        return Finding::ok(NAME, "the host's");
    }
    let loss = Loss {
        costs: "kernel programs report the host's process numbers, which match no process seen here: no \
                server is found, and a second agent on the node is not noticed",
        remedy: "give the container the host's process namespace (`hostPID: true`, `--pid=host`)",
        cause: Some(Cause::PrivateProcessNumbers),
    };
    Finding::lost(NAME, State::Missing, "those of a container", loss)
}

/// What a mode forbids shows in the hooks.
fn lockdown(node: &Node) -> Finding {
    let mode = features::lockdown(&node.sys.join("kernel/security/lockdown"));
    Finding::ok("lockdown", mode.unwrap_or_else(|| "none that is shown".to_owned()))
}

fn memory_lock(node: &Node) -> Finding {
    const NAME: &str = "locked memory";
    if node.version().is_none_or(|version| version >= KERNEL_CHARGES_CGROUP) {
        return Finding::ok(NAME, "not charged for maps since Linux 5.11");
    }
    if node.memory_lock() == Some(u64::MAX) {
        return Finding::ok(NAME, "unlimited");
    }
    let held = node.capabilities().unwrap_or_default();
    if has(held, CAP_SYS_RESOURCE) {
        return Finding::ok(NAME, "limited, which CAP_SYS_RESOURCE lifts at start");
    }
    let loss = Loss {
        costs: "the kernel's tables do not fit, so no program loads",
        remedy: "`LimitMEMLOCK=infinity` in the unit (the shipped one has it), `ulimit -l unlimited`, or \
                 CAP_SYS_RESOURCE",
        cause: Some(Cause::MemoryLock),
    };
    let found = match node.memory_lock() {
        Some(bytes) => format!("limited to {} KiB", bytes / 1024),
        None => "limit unknown".to_owned(),
    };
    Finding::lost(NAME, State::Missing, found, loss)
}

fn kprobes(node: &Node) -> Finding {
    if node.has_sys("bus/event_source/devices/kprobe") {
        return Finding::ok("kprobes", "available");
    }
    let loss =
        Loss { costs: "nothing: no program of this version needs one", remedy: "nothing", cause: None };
    Finding::lost("kprobes", State::Missing, "none on this kernel", loss)
}

fn cgroup(node: &Node) -> Finding {
    if node.has_sys("fs/cgroup/cgroup.controllers") {
        return Finding::ok("cgroup", "v2");
    }
    let hybrid = node.has_sys("fs/cgroup/unified/cgroup.controllers");
    let found = match (hybrid, node.has_sys("fs/cgroup/memory")) {
        (true, _) => "v1, with v2 beside it for names",
        (false, true) => "v1",
        (false, false) => "none mounted",
    };
    let loss = Loss {
        costs: "requests are measured all the same; pressure of a single workload is told by v2 only",
        remedy: "boot with systemd.unified_cgroup_hierarchy=1 when you want it",
        cause: None,
    };
    let state = if found == "none mounted" { State::Missing } else { State::Degraded };
    Finding::lost("cgroup", state, found, loss)
}

fn pressure(node: &Node) -> Finding {
    // The files are there even where `psi=0` forbids to open them.
    if node.proc("pressure/memory").is_some() {
        return Finding::ok("pressure", "/proc/pressure");
    }
    let loss = Loss {
        costs: "requests are measured all the same; the kernel tells no stalls for memory",
        remedy: "boot with psi=1 when you want them",
        cause: None,
    };
    Finding::lost("pressure", State::Missing, "off", loss)
}

/// Two switches that only bind who lacks the capabilities above; shown, because they are the first that one asks for.
fn unprivileged(node: &Node) -> Finding {
    let shown = |path| node.proc(path).unwrap_or_else(|| "absent".to_owned());
    let bpf = shown("sys/kernel/unprivileged_bpf_disabled");
    let perf = shown("sys/kernel/perf_event_paranoid");
    Finding::ok(
        "unprivileged use",
        format!(
            "unprivileged_bpf_disabled {bpf}, perf_event_paranoid {perf}: CAP_BPF and CAP_PERFMON suffice"
        ),
    )
}

fn agent(node: &Node) -> Finding {
    let found = node.namespace("pid").and_then(|number| lock::holder(&node.proc, number));
    Finding::ok(
        "agent",
        match found {
            Some(holder) => format!("runs (tgid {})", holder.tgid),
            None => "does not run".to_owned(),
        },
    )
}
