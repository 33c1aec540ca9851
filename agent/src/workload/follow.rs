//! How servers and their processes come and go: what an event means, and the books that are kept.
//!
//! In: process events, servers that were found. Out: the state of [`Workloads`] and its changes. What is
//! read of the node is in `node`, what counts as a server in `rules`.

use std::sync::Arc;

use inferscope_common::process::ProcessEvent;

use super::node::Birth;
use super::pod::Pod;
use super::rules::{Candidate, Server, Verdict};
use super::start::{self, Start};
use super::{Known, PROCESSES_MAX, Process, Role, Workload, Workloads, labels, process};
use crate::clock::BootTime;

impl Workloads {
    pub(super) fn on_exec(&mut self, tgid: u32) {
        self.unknown.remove(&tgid);
        self.strangers.remove(&tgid);
        if let Some((start, began)) = self.processes.get(&tgid).map(|process| (process.start, process.began))
        {
            if self.node.birth(tgid).is_some_and(|birth| birth.began != began) {
                self.remove(tgid);
            } else {
                self.read_role(tgid);
                // It stays where it is, unless a rule may name it.
                if self.starts[&start].leader == tgid || self.rules.is_empty() {
                    return;
                }
            }
        }
        let Some(command) = self.node.command(tgid).filter(|command| self.rules.may_match(command)) else {
            return;
        };
        let verdict = self.rules.judge(&Candidate::new(&self.node, tgid, &command));
        let (Verdict::Server(server), Some(birth)) = (verdict, self.node.birth(tgid)) else { return };
        self.enter(tgid, birth, server);
        let start = self.processes.get(&tgid).and_then(|process| self.starts.get_mut(&process.start));
        if let Some(start) = start.filter(|start| start.leader == tgid) {
            // What has just begun to run does not listen yet.
            start.seen_quiet = true;
        }
    }

    pub(super) fn on_fork(&mut self, child: u32, parent: u32) {
        self.unknown.remove(&child);
        self.strangers.remove(&child);
        let Some(birth) = self.node.birth(child) else { return };
        match self.processes.get(&child) {
            // A scan was faster.
            Some(process) if process.began == birth.began => return,
            // The number is given again: the end of who had it was not seen.
            Some(_) => self.remove(child),
            None => {}
        }
        if self.find(parent).is_some() {
            self.add(child, birth.began, self.processes[&parent].start);
        } else if self.find(child).is_none() {
            self.unwatch(child);
        }
    }

    pub(super) fn on_exit(&mut self, tgid: u32) {
        self.strangers.remove(&tgid);
        self.remove(tgid);
        // The kernel watches every child of a watched process: also one that has gone before it was looked at.
        self.unwatch(tgid);
        // It may still be there to be found.
        self.set_unknown(tgid);
    }

    fn unwatch(&mut self, tgid: u32) {
        if !self.changes.unwatch.contains(&tgid) {
            self.changes.unwatch.push(tgid);
        }
    }

    /// One of its listeners is closed; whether another is left is looked at when listeners are read the next time.
    pub(super) fn on_unlisten(&mut self, tgid: u32) {
        let start = self.processes.get(&tgid).and_then(|process| self.starts.get_mut(&process.start));
        if let Some(start) = start {
            start.due = true;
            start.closed = true;
        }
    }

    pub(super) fn on_listen(&mut self, event: &ProcessEvent) {
        let Ok(port) = u16::try_from(event.port) else { return };
        if self.find(event.tgid).is_none() {
            return;
        }
        if self.processes[&event.tgid].role.is_none() {
            self.read_role(event.tgid);
        }
        let process = &self.processes[&event.tgid];
        if matches!(process.role, Some(Role::Engine | Role::Worker)) {
            return;
        }
        if let Some(start) = self.starts.get_mut(&process.start) {
            start.listens_on(port, BootTime(event.time_ns));
        }
    }

    /// A server of its own, or one more process of the one that it was found in.
    pub(super) fn enter(&mut self, tgid: u32, birth: Birth, server: Server) {
        match self.start_above(birth) {
            // What `ilab model serve` runs is the same server.
            Some(outer) if server.name.is_none() || server.name == self.starts[&outer].server.name => {
                if !self.processes.contains_key(&tgid) {
                    self.add(tgid, birth.began, outer);
                    self.read_role(tgid);
                }
            }
            _ => {
                self.remove(tgid);
                self.begin(tgid, birth, server);
            }
        }
    }

    /// A server starts.
    pub(super) fn begin(&mut self, leader: u32, birth: Birth, server: Server) {
        if self.processes.len() >= PROCESSES_MAX {
            self.overflow.processes += 1;
            return;
        }
        let place = self.node.place(leader);
        let pod = if place.in_pod { Pod::of(&self.node, leader) } else { Pod::default() };
        let Some(label) = self.take_label(&server, &start::base(&server, &place, &pod)) else {
            self.overflow.workloads += 1;
            return;
        };
        let text = |text: Option<String>| text.map(|text| labels::label_text(&text).into());
        let workload = Arc::new(Workload {
            label,
            kind: server.kind,
            namespace: text(pod.namespace),
            pod: text(pod.name.or(place.pod_uid)),
            container: text(place.container),
            unit: text(place.unit),
            started: self.node.moment(birth.began),
        });
        let id = self.starts_made;
        self.starts_made += 1;
        self.starts.insert(id, Start::new(workload.clone(), server, leader));
        self.add(leader, birth.began, id);
        self.read_role(leader);
        self.changes.appeared.push(workload.clone());
        match self.known.iter_mut().find(|known| known.workload.label == workload.label) {
            Some(known) => {
                known.workload = workload;
                known.starts.push(id);
            }
            None => self.known.push(Known { workload, starts: vec![id], down_since: self.now }),
        }
    }

    /// A label, if need be that of the workload that has been down longest.
    pub(super) fn take_label(&mut self, server: &Server, base: &str) -> Option<Arc<str>> {
        let door = start::door(server);
        let known = &self.known;
        let runs = |label: &str| known.iter().any(|k| *k.workload.label == *label && !k.starts.is_empty());
        if let Some(label) = self.labels.label(base, door.as_deref(), runs) {
            return Some(label);
        }
        let down = self.known.iter().filter(|known| known.starts.is_empty());
        let oldest = down.min_by_key(|known| known.down_since)?.workload.clone();
        self.forget(&oldest.label);
        self.labels.label(base, door.as_deref(), |_| true)
    }

    pub(super) fn forget(&mut self, label: &str) {
        self.labels.release(label);
        let (gone, kept) = self.known.drain(..).partition(|known| *known.workload.label == *label);
        self.known = kept;
        self.changes.gone.extend(gone.into_iter().map(|known: Known| known.workload));
    }

    pub(super) fn add(&mut self, tgid: u32, began: u64, start: u64) {
        if self.processes.len() >= PROCESSES_MAX {
            // A child is watched by the kernel already.
            self.overflow.processes += 1;
            self.changes.unwatch.push(tgid);
            return;
        }
        let Some(of) = self.starts.get_mut(&start) else { return };
        of.processes += 1;
        self.processes.insert(tgid, Process { start, workload: of.workload.clone(), began, role: None });
        self.changes.unwatch.retain(|&other| other != tgid);
        self.changes.watch.push(tgid);
    }

    pub(super) fn remove(&mut self, tgid: u32) {
        let Some(process) = self.processes.remove(&tgid) else { return };
        self.changes.watch.retain(|&other| other != tgid);
        self.changes.unwatch.push(tgid);
        let Some(start) = self.starts.get_mut(&process.start) else { return };
        start.processes -= 1;
        start.change_role(process.role, None);
        start.due = true;
        start.closed |= process.role == Some(Role::Api);
        if start.processes > 0 {
            return;
        }
        self.starts.remove(&process.start);
        for known in &mut self.known {
            if known.workload.label == process.workload.label {
                known.starts.retain(|&id| id != process.start);
                known.down_since = self.now;
            }
        }
    }

    pub(super) fn read_role(&mut self, tgid: u32) {
        let Some(process) = self.processes.get_mut(&tgid) else { return };
        let Some(start) = self.starts.get_mut(&process.start) else { return };
        let command = self.node.command(tgid).unwrap_or_default();
        let said = process::role(&process::arguments(&command));
        let role = said.or((start.leader == tgid).then_some(Role::Api));
        start.change_role(process.role, role);
        process.role = role;
    }
}
