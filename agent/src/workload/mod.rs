//! Who is it? Finds the inference servers of the node, follows their processes, and names them.
//!
//! In: `/proc`, cgroup paths, process events. Out: [`Workload`]s with bounded labels, and which
//! processes and ports to watch. Does not see requests.
//!
//! A server is found when it runs (exec) or by a scan of `/proc`, which is also the safety net for lost
//! events. From then on every process below it is its own, whatever it runs; what started it is not.

pub mod cgroup;
pub mod facts;
#[cfg(test)]
pub(crate) mod fake_proc;
mod follow;
pub mod labels;
pub mod node;
pub mod pod;
pub mod process;
pub mod rules;
mod scan;
mod start;
mod within;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use inferscope_common::process::{ProcessEvent, ProcessKind};
use serde::{Deserialize, Serialize};

use self::labels::WorkloadLabels;
use self::node::{Birth, Node};
use self::rules::Rules;
use self::start::Start;
use crate::clock::BootTime;

pub use self::node::Roots;
pub use self::rules::{Rule, Settings};

/// Time between two scans of `/proc`.
pub const SCAN_INTERVAL: Duration = Duration::from_secs(10);
/// Processes followed at once, of all workloads together: 16 servers with 8 GPUs and all their helpers.
pub const PROCESSES_MAX: usize = 4096;
/// Processes known to belong to nobody, between two scans.
const UNKNOWN_MAX: usize = 1024;
/// Generations looked through for an ancestor.
const GENERATIONS_MAX: usize = 64;

/// Which server program a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerKind {
    Vllm,
    Sglang,
    LlamaCpp,
    /// RHEL AI: the `rhaiis` unit or `ilab model serve`.
    RhelAi,
    /// Any other server of the OpenAI wire format, named by a rule.
    #[serde(rename = "openai")]
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

impl Role {
    /// Value of the label `role`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Engine => "engine",
            Self::Worker => "worker",
        }
    }
}

/// One inference server and its processes. A restarted server is another value with the same label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Value of the label `workload`: the rule's name, else namespace/pod owner, else the unit, else
    /// kind and port. The same after a restart. Bounded length and characters.
    pub label: Arc<str>,
    pub kind: ServerKind,
    pub namespace: Option<Arc<str>>,
    /// Name of its pod, else the pod's uid.
    pub pod: Option<Arc<str>>,
    pub container: Option<Arc<str>>,
    pub unit: Option<Arc<str>>,
    /// When its first process began (`/proc/TGID/stat`).
    pub started: BootTime,
}

/// Why a workload does not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Down {
    /// None of its processes runs.
    NoProcess,
    /// It does not listen where its clients connect.
    NotListening,
    /// An engine of it has ended.
    EngineLost,
    /// A signal or a debugger has stopped a process that clients need.
    Stopped,
    /// It does nothing while every request waits.
    Unanswered,
}

impl Down {
    /// Text for the API.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NoProcess => "no_process",
            Self::NotListening => "not_listening",
            Self::EngineLost => "engine_lost",
            Self::Stopped => "stopped",
            Self::Unanswered => "unanswered",
        }
    }
}

/// A workload as it stands at a tick.
#[derive(Clone, Debug)]
pub struct WorkloadState {
    pub workload: Arc<Workload>,
    /// A process of it runs.
    pub up: bool,
    /// It listens where its clients connect.
    pub listens: bool,
    /// An engine of it has ended, and the rest runs on.
    pub engine_lost: bool,
    /// When it first listened, this start. `None` too when it already did as it was found.
    pub listening: Option<BootTime>,
    /// Why it does not serve; `None` where it does.
    pub down: Option<Down>,
}

/// What a look at the node changed. No number is in both of two opposite lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Processes to watch from now on.
    pub watch: Vec<u32>,
    /// Processes that ended, or that there is no room for.
    pub unwatch: Vec<u32>,
    /// TCP ports on which clients reach a workload.
    pub listen_ports: Vec<u16>,
    pub unlisten_ports: Vec<u16>,
    /// Servers that started or were found, one entry for each start.
    pub appeared: Vec<Arc<Workload>>,
    /// Workloads that are forgotten: their series go.
    pub gone: Vec<Arc<Workload>>,
}

/// What did not fit or could not be read, counted since the agent's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overflow {
    /// Servers that found no free slot; counted at each look as long as it lasts.
    pub workloads: u64,
    /// Processes of workloads beyond [`PROCESSES_MAX`]; counted at each look as long as it lasts.
    pub processes: u64,
    /// Scans that could not read `/proc`.
    pub scans_failed: u64,
}

/// The inference servers of this node.
#[derive(Debug)]
pub struct Workloads {
    settings: Settings,
    node: Node,
    rules: Rules,
    labels: WorkloadLabels,
    known: Vec<Known>,
    starts: HashMap<u64, Start>,
    processes: HashMap<u32, Process>,
    /// Processes that belong to no workload, asked for since the last scan.
    unknown: HashSet<u32>,
    /// Processes that a scan has looked at; true: one may yet be a server, by listening.
    strangers: HashMap<u32, bool>,
    ports: BTreeSet<u16>,
    overflow: Overflow,
    scans: u64,
    starts_made: u64,
    /// Of the event or scan that is being taken.
    now: BootTime,
    /// What changed since changes were last handed out.
    changes: Changes,
}

/// One label: a server with all its restarts, and the copies of it that run side by side.
#[derive(Debug)]
struct Known {
    /// Of the newest start.
    workload: Arc<Workload>,
    starts: Vec<u64>,
    down_since: BootTime,
}

#[derive(Debug)]
struct Process {
    start: u64,
    workload: Arc<Workload>,
    /// With the tgid, the process's identity.
    began: u64,
    role: Option<Role>,
}

impl Workloads {
    /// # Errors
    /// A rule that cannot be used.
    pub fn new(settings: Settings, roots: Roots) -> Result<Self> {
        Ok(Self {
            rules: Rules::new(&settings.rules)?,
            labels: WorkloadLabels::new(settings.workloads_max),
            settings,
            node: Node::new(roots),
            known: Vec::new(),
            starts: HashMap::new(),
            processes: HashMap::new(),
            unknown: HashSet::new(),
            strangers: HashMap::new(),
            ports: BTreeSet::new(),
            overflow: Overflow::default(),
            scans: 0,
            starts_made: 0,
            now: BootTime::default(),
            changes: Changes::default(),
        })
    }

    /// Goes on with other settings. Servers that run keep what they were found by.
    ///
    /// # Errors
    /// A rule that cannot be used; the settings stay as they were.
    pub fn reload(&mut self, settings: Settings) -> Result<()> {
        self.rules = Rules::new(&settings.rules)?;
        self.labels.set_slots(settings.workloads_max);
        self.settings = settings;
        self.scans = 0;
        Ok(())
    }

    /// Takes one process event. Every exec of the node comes here, and costs one read of a command line.
    pub fn on_process(&mut self, event: &ProcessEvent, now: BootTime) -> Changes {
        self.now = now;
        match ProcessKind::try_from(event.kind) {
            Ok(ProcessKind::Exec) => self.on_exec(event.tgid),
            Ok(ProcessKind::Fork) => self.on_fork(event.tgid, event.parent_tgid),
            Ok(ProcessKind::Exit) => self.on_exit(event.tgid),
            Ok(ProcessKind::Listen) => self.on_listen(event),
            Ok(ProcessKind::Unlisten) => self.on_unlisten(event.tgid),
            Err(_) => {}
        }
        self.take_changes()
    }

    /// The workload that `tgid` belongs to, and its role there. Asked for every socket event.
    pub fn find(&mut self, tgid: u32) -> Option<(Arc<Workload>, Option<Role>)> {
        if let Some(process) = self.processes.get(&tgid) {
            return Some((process.workload.clone(), process.role));
        }
        self.resolve(tgid)?;
        let process = self.processes.get(&tgid)?;
        Some((process.workload.clone(), process.role))
    }

    /// Every workload that runs or is not yet forgotten.
    #[must_use]
    pub fn states(&self) -> Vec<WorkloadState> {
        let state = |known: &Known| {
            let newest = known.starts.last().and_then(|start| self.starts.get(start));
            WorkloadState {
                workload: known.workload.clone(),
                up: newest.is_some(),
                listens: known.starts.iter().any(|start| self.starts[start].listens),
                engine_lost: known.starts.iter().any(|start| self.starts[start].engine_lost),
                listening: newest.and_then(|start| start.listening),
                down: None,
            }
        };
        self.known.iter().map(state).collect()
    }

    /// The newest start of each workload that runs: its label and its first process.
    #[must_use]
    pub fn leaders(&self) -> Vec<(Arc<str>, u32)> {
        let leader = |known: &Known| {
            let newest = self.starts.get(known.starts.last()?)?;
            Some((known.workload.label.clone(), newest.leader))
        };
        self.known.iter().filter_map(leader).collect()
    }

    /// Where each workload that runs can be asked by the agent: its label and a port on loopback. Those in a network
    /// namespace of their own, and those on Unix sockets, are left out.
    #[must_use]
    pub fn doors(&self) -> Vec<(Arc<str>, u16)> {
        let own = self.node.net_namespace(std::process::id());
        let door = |known: &Known| {
            let newest = self.starts.get(known.starts.last()?)?;
            let port = *newest.ports.first()?;
            let reached = own.is_some() && self.node.net_namespace(newest.leader) == own;
            reached.then(|| (known.workload.label.clone(), port))
        };
        self.known.iter().filter_map(door).collect()
    }

    /// Processes that are followed.
    #[must_use]
    pub fn followed(&self) -> usize {
        self.processes.len()
    }

    /// What did not fit so far.
    #[must_use]
    pub fn overflow(&self) -> Overflow {
        self.overflow
    }

    /// The processes of a workload by label, with their roles.
    pub fn processes(&self, label: &str) -> impl Iterator<Item = (u32, Option<Role>)> {
        let of = move |process: &Process| *process.workload.label == *label;
        self.processes
            .iter()
            .filter(move |(_, process)| of(process))
            .map(|(&tgid, process)| (tgid, process.role))
    }

    /// Adopts an unknown process whose ancestor is followed.
    fn resolve(&mut self, tgid: u32) -> Option<()> {
        if self.unknown.contains(&tgid) {
            return None;
        }
        let birth = self.node.birth(tgid);
        let Some((birth, start)) = birth.and_then(|birth| Some((birth, self.start_above(birth)?))) else {
            self.set_unknown(tgid);
            return None;
        };
        self.add(tgid, birth.began, start);
        self.read_role(tgid);
        Some(())
    }

    /// It is nobody's, until a scan or an event says otherwise.
    fn set_unknown(&mut self, tgid: u32) {
        if self.unknown.len() >= UNKNOWN_MAX {
            self.unknown.clear();
        }
        self.unknown.insert(tgid);
    }

    /// The start that the nearest followed ancestor belongs to.
    fn start_above(&self, birth: Birth) -> Option<u64> {
        let mut parent = birth.parent;
        for _ in 0..GENERATIONS_MAX {
            let birth = (parent > 1).then(|| self.node.birth(parent))??;
            if let Some(process) = self.processes.get(&parent)
                && process.began == birth.began
            {
                return Some(process.start);
            }
            parent = birth.parent;
        }
        None
    }

    fn take_changes(&mut self) -> Changes {
        let ports: BTreeSet<u16> = self.starts.values().flat_map(|start| &start.ports).copied().collect();
        self.changes.listen_ports = ports.difference(&self.ports).copied().collect();
        self.changes.unlisten_ports = self.ports.difference(&ports).copied().collect();
        self.ports = ports;
        std::mem::take(&mut self.changes)
    }
}

#[cfg(test)]
mod tests;
