//! Which request was that? One state machine per connection turns socket events into records.
//!
//! In: socket events with head and tail of their payload, in the order of their socket.
//! Out: [`record::Observation`]s. Prompt and completion bytes end here: nothing of them is in a record.

mod answer;
mod assembly;
mod connection;
mod counts;
mod document;
mod ends;
mod exchange;
mod framing;
mod http;
mod inbound;
mod json;
mod key;
mod outbound;
#[doc(hidden)]
pub mod readers;
pub mod record;
mod settings;
mod sse;
mod tail;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use inferscope_common::decode::SocketBytes;
use inferscope_common::socket::{SocketEvent, SocketKind};

use crate::clock::BootTime;
use crate::workload::Workload;
use crate::workload::labels::ModelLabels;
use connection::{Close, Connection, Next};
pub use counts::Counts;
use ends::Ends;
use exchange::Outlet;
use record::{Observation, OpenRequest};
pub use settings::{CONNECTIONS_MAX, Settings};

/// Requests under way at once, over all connections.
pub const REQUESTS_MAX: usize = 16_384;
/// Memory that all connections hold at once: 10,000 streams under way, or 32,768 connections at rest. What heads
/// and documents that never end could take is far more.
pub const HELD_BYTES_MAX: usize = 24 << 20;
/// What a connection takes in the table, with the room that a table keeps.
const ENTRY_BYTES: usize = 2 * (size_of::<u64>() + size_of::<Connection>());
/// Of the connections, this part is evicted at a time, so that looking for the oldest costs each little.
const EVICTED_SHARE: usize = 16;

/// What the kernel should do with a socket from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    Keep,
    /// It is no HTTP/1, or no longer: send no more of its events.
    Ignore,
}

/// All connections.
pub struct Connections {
    settings: Settings,
    connections: HashMap<u64, Connection>,
    /// Requests under way on all of them.
    requests: usize,
    /// Memory that all of them hold.
    held: usize,
    counts: Counts,
    ends: Ends,
    /// When the open Unix sockets were last looked at.
    unix_seen: BootTime,
    /// What the request ids of the agent's own requests begin with.
    own: Option<Box<str>>,
}

impl std::fmt::Debug for Connections {
    // By hand: what connections hold back are payload bytes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections")
            .field("connections", &self.connections.len())
            .field("requests", &self.requests)
            .finish_non_exhaustive()
    }
}

impl Connections {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            connections: HashMap::new(),
            requests: 0,
            held: 0,
            counts: Counts::default(),
            ends: Ends::default(),
            unix_seen: BootTime::default(),
            own: None,
        }
    }

    /// A request is stalled when no byte of it has passed for so long.
    pub fn set_stalled_after(&mut self, stalled_after: Duration) {
        self.settings.stalled_after = stalled_after;
    }

    /// Requests whose id (`x-request-id`) begins so are the agent's own: they are counted, and are in nothing else.
    /// What begins so has to be hard to guess, or a client could keep its requests out of what is measured.
    pub fn set_own(&mut self, own: Box<str>) {
        self.own = Some(own);
    }

    /// Takes the next event of a socket. `workload` is that of the process which made it; `None` for what
    /// the kernel says of a socket by itself, which belongs to whoever used the socket before.
    pub fn on_event(
        &mut self,
        event: &SocketBytes<'_>,
        workload: Option<&Arc<Workload>>,
        models: &mut ModelLabels,
        out: &mut Vec<Observation>,
    ) -> Follow {
        self.counts.events += 1;
        if let Some(end) = self.ends.before(&event.event) {
            self.take_end(end, models, out);
        }
        let end = matches!(event.kind, SocketKind::PeerClosed | SocketKind::Reset | SocketKind::Closed);
        if end
            && event.event.tgid == 0
            && let Some(connection) = self.connections.get_mut(&event.event.socket)
            && self.ends.hold(event.event)
        {
            connection.hold_end(event.event.sequence);
            return Follow::Keep;
        }
        self.take(event, workload, models, out)
    }

    /// All that the ring held was taken.
    pub fn on_all_taken(&mut self, now: BootTime, models: &mut ModelLabels, out: &mut Vec<Observation>) {
        for end in self.ends.settled(now) {
            self.take_end(end, models, out);
        }
    }

    fn take_end(&mut self, end: SocketEvent, models: &mut ModelLabels, out: &mut Vec<Observation>) {
        let Ok(kind) = SocketKind::try_from(end.kind) else { return };
        self.take(&SocketBytes { event: end, kind, head: &[], tail: &[] }, None, models, out);
    }

    fn take(
        &mut self,
        event: &SocketBytes<'_>,
        workload: Option<&Arc<Workload>>,
        models: &mut ModelLabels,
        out: &mut Vec<Observation>,
    ) -> Follow {
        let socket = event.event.socket;
        if !self.connections.contains_key(&socket) {
            // A connection that only ends, or waits, had nothing to measure.
            if !matches!(event.kind, SocketKind::Read | SocketKind::Write) {
                self.counts.events_idle += 1;
                return Follow::Keep;
            }
            if workload.is_none() {
                self.counts.events_unclaimed += 1;
                return Follow::Keep;
            }
            if self.connections.len() >= self.settings.connections_max {
                self.make_room(models, out);
            }
            self.held += ENTRY_BYTES;
        }
        let room = self.requests < REQUESTS_MAX;
        let mut entry = match self.connections.entry(socket) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) => {
                let workload = workload.expect("a connection begins with an event of a workload's process");
                entry.insert_entry(Connection::new(event, workload))
            }
        };
        let connection = entry.get_mut();
        if connection.is_ignored() {
            self.counts.events_ignored += 1;
        } else {
            self.counts.events_followed += 1;
        }
        let before = (connection.requests(), connection.held());
        let (counts, own) = (&mut self.counts, self.own.as_deref());
        let mut outlet = Outlet { models, out, counts, own };
        let next = connection.on_event(event, room, &mut outlet);
        self.requests = self.requests + connection.requests() - before.0;
        self.held = self.held + connection.held() - before.1;
        if next == Next::Gone {
            self.held -= ENTRY_BYTES + entry.remove().held();
        } else if self.held > HELD_BYTES_MAX {
            self.make_room(models, out);
        }
        if next == Next::Ignore { Follow::Ignore } else { Follow::Keep }
    }

    /// A process ended, and with it the connections it was the last to read from. The socket events from
    /// before that have to be taken first.
    pub fn on_process_exit(
        &mut self,
        tgid: u32,
        now: BootTime,
        models: &mut ModelLabels,
        out: &mut Vec<Observation>,
    ) {
        let Self { ends, connections, .. } = self;
        let its = |end: &SocketEvent| {
            connections.get(&end.socket).is_some_and(|connection| connection.reader_tgid() == tgid)
        };
        for end in ends.take(its) {
            self.take_end(end, models, out);
        }
        self.close(models, out, |_, connection| {
            (connection.reader_tgid() == tgid).then_some((Close::Exited, now))
        });
    }

    /// Whether a Unix socket has a request under way and was quiet for a second: only a look at the open
    /// sockets tells then whether the server still has it.
    #[must_use]
    pub fn has_quiet_unix(&self, now: BootTime) -> bool {
        self.connections.values().any(|connection| connection.is_quiet_unix(now))
    }

    /// Ends the quiet requests on Unix sockets that are not among the `open` ones: the server closed them at
    /// some time since they were last seen open, which is what is taken for their end.
    pub fn close_unix(
        &mut self,
        open: &HashSet<u64>,
        now: BootTime,
        models: &mut ModelLabels,
        out: &mut Vec<Observation>,
    ) {
        let before = std::mem::replace(&mut self.unix_seen, now);
        self.close(models, out, |socket, connection| {
            let seen = if connection.is_quiet_unix(before) { before } else { connection.last_event() };
            let gone = connection.is_quiet_unix(now) && !open.contains(&socket);
            gone.then_some((Close::Closed, seen))
        });
    }

    /// Sockets of which the end may have been lost: the kernel knows whether they still are.
    #[must_use]
    pub fn maybe_vanished(&self, now: BootTime) -> Vec<u64> {
        let quiet = self.connections.iter().filter(|(_, connection)| connection.may_have_vanished(now));
        quiet.map(|(&socket, _)| socket).collect()
    }

    /// Ends what is left open on sockets that are gone. What they did before has to be taken first.
    pub fn close_vanished(
        &mut self,
        sockets: &HashSet<u64>,
        now: BootTime,
        models: &mut ModelLabels,
        out: &mut Vec<Observation>,
    ) {
        let before = self.connections.len();
        self.close(models, out, |socket, connection| {
            let gone = connection.may_have_vanished(now) && sockets.contains(&socket);
            gone.then_some((Close::Forgotten, connection.last_event()))
        });
        self.counts.connections_vanished += (before - self.connections.len()) as u64;
    }

    /// A while passed: forgets connections and requests without any event for long, and ends those on Unix
    /// sockets whose peer is gone.
    pub fn on_tick(&mut self, now: BootTime, models: &mut ModelLabels, out: &mut Vec<Observation>) {
        self.close(models, out, |_, connection| Some((connection.overdue(now)?, now)));
    }

    /// Inference requests under way.
    #[must_use]
    pub fn open(&self, now: BootTime) -> Vec<OpenRequest> {
        self.connections
            .values()
            .flat_map(|connection| connection.open(now, self.settings.stalled_after, self.own.as_deref()))
            .collect()
    }

    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Connections that are followed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Ends the connections that `how` says are over.
    fn close(
        &mut self,
        models: &mut ModelLabels,
        out: &mut Vec<Observation>,
        how: impl Fn(u64, &Connection) -> Option<(Close, BootTime)>,
    ) {
        let Self { connections, requests, held, counts, own, .. } = self;
        let own = own.as_deref();
        connections.retain(|&socket, connection| {
            let Some((how, time)) = how(socket, connection) else { return true };
            *requests -= connection.requests();
            *held -= ENTRY_BYTES + connection.held();
            connection.close(how, time, &mut Outlet { models, out, counts, own });
            false
        });
    }

    /// Forgets the connections longest without an event, idle ones first, when there is no room.
    fn make_room(&mut self, models: &mut ModelLabels, out: &mut Vec<Observation>) {
        let age = |connection: &Connection| (connection.requests() > 0, connection.last_event());
        let mut ages: Vec<_> = self.connections.values().map(age).collect();
        if ages.is_empty() {
            return;
        }
        let place = (ages.len() / EVICTED_SHARE).min(ages.len() - 1);
        let limit = *ages.select_nth_unstable(place).1;
        let before = self.connections.len();
        self.close(models, out, |_, connection| {
            (age(connection) <= limit).then_some((Close::Forgotten, connection.last_event()))
        });
        self.counts.connections_evicted += (before - self.connections.len()) as u64;
    }
}
