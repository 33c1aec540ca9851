//! Who is it? Finds the inference servers of the node, follows their processes, and names them.
//!
//! In: `/proc`, cgroup paths, process events. Out: [`Workload`]s with bounded labels, and which
//! processes to watch. Does not see requests.

pub mod labels;

use std::sync::Arc;

use crate::clock::BootTime;

/// Which server program a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServerKind {
    Vllm,
    Sglang,
    LlamaCpp,
    /// RHEL AI: the `rhaiis` unit or `ilab model serve`.
    RhelAi,
    /// Any other server of the OpenAI wire format, named by a rule.
    OpenAi,
}

/// What a process of a workload does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads and writes the clients' sockets.
    Api,
    /// Schedules the model (vLLM's `EngineCore`).
    Engine,
    /// Runs the model.
    Worker,
}

/// One inference server and its processes. Compared by label: a restarted server is the same workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Value of the label `workload`: the rule's name, else namespace/pod owner, else the unit, else
    /// kind and port. The same after a restart. Bounded length and characters.
    pub label: Arc<str>,
    pub kind: ServerKind,
    pub namespace: Option<Arc<str>>,
    pub pod: Option<Arc<str>>,
    pub container: Option<Arc<str>>,
    pub unit: Option<Arc<str>>,
    /// When its first process began (`/proc/TGID/stat`).
    pub started: BootTime,
}
