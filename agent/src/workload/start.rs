//! One run of a server: where it listens, and what its label is made of.
//!
//! In: what was found about a server, and what its processes listen on. Out: the ports to watch, the moment
//! it first listened, the text of a label. Reads nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::cgroup::Place;
use super::node::Listeners;
use super::pod::{self, Pod};
use super::rules::Server;
use super::{Role, ServerKind, Workload};
use crate::clock::BootTime;

/// TCP ports of one server that are watched.
pub const PORTS_MAX: usize = 64;

/// One run of a server.
#[derive(Debug)]
pub struct Start {
    pub workload: Arc<Workload>,
    pub server: Server,
    pub leader: u32,
    /// Processes of it that run.
    pub processes: usize,
    /// Where clients reach it, as far as is known.
    pub ports: BTreeSet<u16>,
    /// It listens where its clients connect.
    pub listens: bool,
    /// When that began; `None` too when it was so as the server was found.
    pub listening: Option<BootTime>,
    /// It was seen while it did not listen.
    pub seen_quiet: bool,
    /// Its engines that run.
    pub engines: usize,
    /// One of them has ended, and none began since.
    pub engine_lost: bool,
    /// What it had started before it was watched may not be known.
    pub new: bool,
    /// Its listeners have to be read again.
    pub due: bool,
    /// The same, and soon: one of them was closed.
    pub closed: bool,
}

impl Start {
    #[must_use]
    pub fn new(workload: Arc<Workload>, server: Server, leader: u32) -> Self {
        Self {
            workload,
            server,
            leader,
            processes: 0,
            ports: BTreeSet::new(),
            listens: false,
            listening: None,
            seen_quiet: false,
            engines: 0,
            engine_lost: false,
            new: true,
            due: true,
            closed: false,
        }
    }

    /// A process of it that may serve clients began to listen on `port`.
    pub fn listens_on(&mut self, port: u16, now: BootTime) {
        let mut ports = std::mem::take(&mut self.ports);
        ports.insert(port);
        self.set_ports(ports, now);
    }

    /// What its processes listen on, read anew.
    pub fn listens_only_on(&mut self, found: Listeners, now: BootTime) {
        let Listeners { ports, paths } = found;
        let by_path = self.server.uds.as_ref().is_some_and(|own| paths.contains(own));
        let serves = by_path || self.is_served_by(&ports);
        self.listens &= serves;
        self.set_ports(ports, now);
        if by_path {
            self.serves(now);
        }
        self.seen_quiet |= !serves;
        self.due = false;
        self.closed = false;
    }

    /// The role of a child of it that has no title. A server that a rule names forks workers which hold its
    /// listener; the built-in ones say what their children are, and not all that hold it serve.
    #[must_use]
    pub fn role_by_listening(&self, found: &Listeners) -> Option<Role> {
        let serves = self.server.kind == ServerKind::OpenAi && self.is_served_by(&found.ports);
        serves.then_some(Role::Api)
    }

    /// What one of its processes does has changed; it ended where it does nothing any more.
    pub fn change_role(&mut self, before: Option<Role>, after: Option<Role>) {
        let is_engine = |role| role == Some(Role::Engine);
        match (is_engine(before), is_engine(after)) {
            (false, true) => {
                self.engines += 1;
                self.engine_lost = false;
            }
            (true, false) => {
                self.engines -= 1;
                self.engine_lost = true;
            }
            _ => {}
        }
    }

    fn is_served_by(&self, ports: &BTreeSet<u16>) -> bool {
        match self.server.port {
            Some(own) => ports.contains(&own),
            None => self.server.uds.is_none() && !ports.is_empty(),
        }
    }

    fn set_ports(&mut self, mut ports: BTreeSet<u16>, now: BootTime) {
        let serves = self.is_served_by(&ports);
        if serves {
            // A server has inner ports as well (where its processes meet): once its own is there, they go.
            ports.retain(|&port| self.server.port.is_none_or(|own| port == own));
        }
        self.ports = ports.into_iter().take(PORTS_MAX).collect();
        if serves {
            self.serves(now);
        }
    }

    fn serves(&mut self, now: BootTime) {
        if !self.listens {
            self.listens = true;
            self.listening = self.listening.or(self.seen_quiet.then_some(now));
        }
    }
}

/// What a workload's label is made of: the rule's name, else the pod's owner, else the unit, else the kind
/// and where it listens.
#[must_use]
pub fn base(server: &Server, place: &Place, pod: &Pod) -> String {
    if let Some(name) = &server.name {
        return name.clone();
    }
    let kind = match door(server) {
        Some(door) => format!("{}-{door}", server.kind.label()),
        None => server.kind.label().to_owned(),
    };
    match (&pod.namespace, pod.name.as_deref().map(pod::owner), &place.unit) {
        (Some(namespace), Some(owner), _) => format!("{namespace}/{owner}"),
        (None, Some(owner), _) => owner.to_owned(),
        (Some(namespace), None, _) => format!("{namespace}/{kind}"),
        (None, None, Some(unit)) => unit.clone(),
        (None, None, None) => kind,
    }
}

/// Where it listens, as part of a label: `8000`, `uds-NAME`.
#[must_use]
pub fn door(server: &Server) -> Option<String> {
    let stem = |path: &str| Path::new(path).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    match (&server.uds, server.port) {
        (Some(path), _) => Some(format!("uds-{}", stem(path).unwrap_or_default())),
        (None, port) => port.map(|port| port.to_string()),
    }
}
