//! Which inference servers run on the node now.
//!
//! In: a node. Out: the servers that the agent would follow, found and labelled as it does. Reads no rules of the
//! configuration, so rules and names of the operator's own are left out, which the text says.

use serde::Serialize;

use super::{Finding, Node};
use crate::clock::BootTime;
use crate::workload::{Overflow, Roots, Settings, Workloads};

/// One inference server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Value of the label `workload`.
    pub label: String,
    /// Which program it is: `vllm`, `sglang`, ...
    pub kind: &'static str,
}

/// What a look at the node found.
pub(super) struct Found {
    pub(super) servers: Vec<Server>,
    overflow: Overflow,
}

pub(super) fn find(node: &Node) -> Found {
    let roots = Roots { proc: node.proc.clone() };
    let mut workloads =
        Workloads::new(Settings::default(), roots).expect("no rule is given, so none is wrong");
    workloads.scan(BootTime::now());
    let states = workloads.states();
    let running = states.iter().map(|state| &state.workload);
    let mut servers: Vec<Server> = running
        .map(|workload| Server { label: workload.label.to_string(), kind: workload.kind.label() })
        .collect();
    servers.sort_by(|one, other| one.label.cmp(&other.label));
    Found { servers, overflow: workloads.overflow() }
}

/// For information: a node without servers has nothing that is wrong.
pub(super) fn finding(found: &Found) -> Finding {
    let mut parts: Vec<String> =
        found.servers.iter().map(|server| format!("{} ({})", server.label, server.kind)).collect();
    match found.overflow {
        Overflow { scans_failed: 1.., .. } => parts.push("unknown, /proc cannot be read".to_owned()),
        Overflow { workloads: beyond @ 1.., .. } => {
            parts.push(format!("{beyond} more than `limits.workloads` has by default"));
        }
        _ if parts.is_empty() => {
            parts.push("none by the built-in rules; one that starts is followed".to_owned());
        }
        _ => {}
    }
    Finding::ok("servers", parts.join(", "))
}
