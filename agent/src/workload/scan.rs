//! The scan of `/proc`: at the agent's start, and every ten seconds for what no event told.
//!
//! In: the node. Out: the same [`Changes`] as an event's. Most scans read only the processes that the
//! scan before did not see: a node has thousands, and each costs two reads (20 us).

use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use super::node::{Birth, ListenTable, Listeners, Node};
use super::rules::{Candidate, Server, Verdict};
use super::{Changes, GENERATIONS_MAX, Process, Role, Workloads};
use crate::clock::BootTime;

/// Every so many scans look at all processes and listeners again.
const FULL_EVERY: u64 = 6;

/// A process that this scan looked at.
struct Fresh {
    birth: Birth,
    server: Option<Server>,
}

/// Listeners of the network namespaces, each read once in a scan.
#[derive(Default)]
struct Tables {
    read: HashMap<PathBuf, Rc<ListenTable>>,
}

impl Tables {
    fn of(&mut self, node: &Node, tgid: u32) -> Rc<ListenTable> {
        match node.net_namespace(tgid) {
            Some(name) => self.read.entry(name).or_insert_with(|| Rc::new(node.listen_table(tgid))).clone(),
            None => Rc::new(node.listen_table(tgid)),
        }
    }

    /// What `tgid` listens on.
    fn listeners(&mut self, node: &Node, tgid: u32) -> Listeners {
        let table = self.of(node, tgid);
        node.listeners(tgid, &table)
    }
}

impl Workloads {
    /// Looks at the node. At start, and every [`super::SCAN_INTERVAL`].
    pub fn scan(&mut self, now: BootTime) -> Changes {
        self.now = now;
        let Ok(tgids) = self.node.tgids() else {
            self.overflow.scans_failed += 1;
            return self.take_changes();
        };
        let full = self.scans.is_multiple_of(FULL_EVERY);
        self.scans += 1;
        self.unknown.clear();
        let mut tables = Tables::default();
        self.remove_ended();
        let fresh = self.look_at(&tgids, full, &mut tables);
        self.enter_servers(&fresh);
        self.adopt(&fresh);
        self.read_roles(full);
        self.read_listeners(full, &mut tables);
        self.forget_absent();
        self.take_changes()
    }

    /// Takes in what new servers had started before they were watched: what they start later is an event. To be called
    /// until it finds no more, each time after what it found is watched.
    pub fn find_children(&mut self, now: BootTime) -> Changes {
        self.now = now;
        let new: Vec<u64> = self.starts.iter().filter(|(_, start)| start.new).map(|(&id, _)| id).collect();
        for id in new {
            let mut found = 0;
            let mut parents = vec![self.starts[&id].leader];
            while let Some(parent) = parents.pop() {
                for child in self.node.children(parent) {
                    found += usize::from(self.adopt_child(child, id));
                    // One of another server's, or that there is no room for, is not gone into.
                    if self.processes.get(&child).is_some_and(|process| process.start == id) {
                        parents.push(child);
                    }
                }
            }
            if let Some(start) = self.starts.get_mut(&id) {
                start.new = found > 0;
            }
        }
        self.take_changes()
    }

    fn adopt_child(&mut self, child: u32, start: u64) -> bool {
        if self.processes.contains_key(&child) {
            return false;
        }
        let Some(birth) = self.node.birth(child) else { return false };
        self.unknown.remove(&child);
        self.strangers.remove(&child);
        self.add(child, birth.began, start);
        self.read_role(child);
        self.processes.contains_key(&child)
    }

    /// Looks at what servers listen on that are not known to. After new processes are watched: what they
    /// listened on before is found here, what they listen on later is an event.
    pub fn find_listeners(&mut self, now: BootTime) -> Changes {
        self.now = now;
        self.read_listeners(false, &mut Tables::default());
        self.take_changes()
    }

    /// The same, where a listener was closed or a process that held one has gone. Once a second, whatever a server does.
    pub fn find_closed(&mut self, now: BootTime) -> Changes {
        if !self.starts.values().any(|start| start.closed) {
            return Changes::default();
        }
        self.find_listeners(now)
    }

    fn remove_ended(&mut self) {
        let ended = |(&tgid, process): (&u32, &Process)| match self.node.birth(tgid) {
            Some(birth) if birth.began == process.began => birth.zombie && !self.node.has_other_thread(tgid),
            _ => true,
        };
        let ended: Vec<u32> =
            self.processes.iter().filter(|&entry| ended(entry)).map(|(&tgid, _)| tgid).collect();
        for tgid in ended {
            self.remove(tgid);
        }
    }

    /// Reads the processes that are not followed and not known to be strangers.
    fn look_at(&mut self, tgids: &[u32], full: bool, tables: &mut Tables) -> HashMap<u32, Fresh> {
        let mut strangers = HashMap::with_capacity(tgids.len());
        let mut fresh = HashMap::new();
        for &tgid in tgids.iter().filter(|tgid| !self.processes.contains_key(tgid)) {
            if !full && self.strangers.get(&tgid) == Some(&false) {
                strangers.insert(tgid, false);
                continue;
            }
            let Some(birth) = self.node.birth(tgid) else { continue };
            let verdict = self.judge(tgid);
            let waits = matches!(verdict, Verdict::IfListening(..));
            let server = match verdict {
                Verdict::Server(server) => Some(server),
                Verdict::IfListening(ways) => {
                    let listens = |port| {
                        tables.of(&self.node, tgid).has_port(port)
                            && tables.listeners(&self.node, tgid).ports.contains(&port)
                    };
                    first_listening(ways, listens)
                }
                Verdict::No => None,
            };
            // A server that finds no slot now is asked again at the next scan.
            strangers.insert(tgid, waits || server.is_some());
            fresh.insert(tgid, Fresh { birth, server });
        }
        self.strangers = strangers;
        fresh
    }

    fn judge(&self, tgid: u32) -> Verdict {
        match self.node.command(tgid) {
            Some(command) if self.rules.may_match(&command) => {
                self.rules.judge(&Candidate::new(&self.node, tgid, &command))
            }
            _ => Verdict::No,
        }
    }

    /// Outer servers first, so that a server within another is found in it; by port among those, so that
    /// labels do not depend on the order of process numbers.
    fn enter_servers(&mut self, fresh: &HashMap<u32, Fresh>) {
        let mut servers: Vec<_> = fresh
            .iter()
            .filter_map(|(&tgid, fresh)| Some((tgid, fresh.birth, fresh.server.clone()?)))
            .map(|(tgid, birth, server)| {
                (servers_above(fresh, birth), server.port, birth.began, tgid, birth, server)
            })
            .collect();
        servers.sort_by_key(|&(depth, port, began, tgid, ..)| (depth, port, began, tgid));
        for (.., tgid, birth, server) in servers {
            self.enter(tgid, birth, server);
        }
    }

    /// Takes in what runs below a followed process.
    fn adopt(&mut self, fresh: &HashMap<u32, Fresh>) {
        for (&tgid, process) in fresh {
            if self.processes.contains_key(&tgid) {
                continue;
            }
            let above = ancestors(fresh, process.birth).find_map(|tgid| self.processes.get(&tgid));
            if let Some(start) = above.map(|process| process.start) {
                self.add(tgid, process.birth.began, start);
            }
        }
        self.strangers.retain(|tgid, _| !self.processes.contains_key(tgid));
    }

    /// A process says what it is some time after it began: vLLM's change their title.
    fn read_roles(&mut self, full: bool) {
        let open = self.processes.iter().filter(|(_, process)| full || process.role.is_none());
        let open: Vec<u32> = open.map(|(&tgid, _)| tgid).collect();
        for tgid in open {
            self.read_role(tgid);
        }
    }

    fn read_listeners(&mut self, full: bool, tables: &mut Tables) {
        let due = self.starts.iter().filter(|(_, start)| full || start.due || !start.listens);
        let due: Vec<u64> = due.map(|(&id, _)| id).collect();
        for id in due {
            let found = self.listeners_of(id, tables);
            if let Some(start) = self.starts.get_mut(&id) {
                start.listens_only_on(found, self.now);
            }
        }
    }

    fn listeners_of(&mut self, id: u64, tables: &mut Tables) -> Listeners {
        let mut all = Listeners::default();
        let Some(start) = self.starts.get(&id) else { return all };
        let outer = |process: &Process| !matches!(process.role, Some(Role::Engine | Role::Worker));
        for (&tgid, process) in self.processes.iter_mut().filter(|(_, of)| of.start == id && outer(of)) {
            let found = tables.listeners(&self.node, tgid);
            process.role = process.role.or_else(|| start.role_by_listening(&found));
            all.ports.extend(found.ports);
            all.paths.extend(found.paths);
        }
        all
    }

    fn forget_absent(&mut self) {
        let absent = self.known.iter().filter(|known| {
            known.starts.is_empty() && self.now.since(known.down_since) >= self.settings.forget_after
        });
        let absent: Vec<_> = absent.map(|known| known.workload.label.clone()).collect();
        for label in absent {
            self.forget(&label);
        }
    }
}

fn first_listening(ways: Vec<(u16, Server)>, mut listens: impl FnMut(u16) -> bool) -> Option<Server> {
    ways.into_iter().find(|&(port, _)| listens(port)).map(|(_, server)| server)
}

/// The parents of a process, as far as this scan looked at them.
fn ancestors(fresh: &HashMap<u32, Fresh>, birth: Birth) -> impl Iterator<Item = u32> {
    let parent = |tgid: &u32| fresh.get(tgid).map(|fresh| fresh.birth.parent);
    std::iter::successors(Some(birth.parent), parent).take(GENERATIONS_MAX)
}

fn servers_above(fresh: &HashMap<u32, Fresh>, birth: Birth) -> usize {
    ancestors(fresh, birth)
        .filter(|tgid| fresh.get(tgid).is_some_and(|process| process.server.is_some()))
        .count()
}
