//! One socket: its two directions, the requests under way on it, and how it ends.
//!
//! In: its events in order. Out: observations, by way of [`Exchange`]. After lost events it goes on at the
//! next border that is certain; what was under way then is marked incomplete.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use inferscope_common::decode::SocketBytes;
use inferscope_common::socket::{
    FAMILY_UNIX, FLAG_FIRST, FLAG_NO_BYTES, FLAG_SHORT, Opening, SocketKind, opening,
};

use super::assembly::{Addition, Flow, Piece};
use super::document::Ended;
use super::exchange::{Ending, Exchange, FirstRead, Outlet};
use super::inbound::Inbound;
use super::outbound::Outbound;
use super::record::{Incomplete, OpenRequest, ParseFailure};
use crate::clock::BootTime;
use crate::workload::Workload;

/// Requests read and not answered on one connection; more are refused and counted.
const EXCHANGES_MAX: usize = 64;
/// Failures without an answered request between them, after which a connection is not followed any more.
const FAILURES_MAX: u8 = 8;
/// A Unix socket tells no close: an answer that has not gone on for so long after its peer closed is aborted.
const UNIX_GRACE: Duration = Duration::from_secs(1);
/// A socket on which nothing happened for so long may be gone: its end was lost.
const VANISHED_GRACE: Duration = Duration::from_secs(1);
/// A request without any event for so long is taken for over: its end was lost.
const REQUEST_IDLE_MAX: Duration = Duration::from_secs(60 * 60);
/// A connection without a request and without an event for so long is forgotten: the next request on it
/// is recognised all the same.
const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(10 * 60);

/// The state of one socket.
pub struct Connection {
    workload: Arc<Workload>,
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
    pub(super) exchanges: VecDeque<Box<Exchange>>,
    reads: Flow,
    writes: Flow,
    next_id: u64,
    last_event: BootTime,
    last_write: BootTime,
    peer_closed: Option<BootTime>,
    /// When the socket took less than it was offered, unless it has taken bytes since.
    blocked: Option<BootTime>,
    /// Number that the next event should have.
    sequence: u32,
    /// Number of an end that has arrived and is not in its place yet.
    held_end: Option<u32>,
    reader_tgid: u32,
    family: u8,
    failures: u8,
    /// No event was taken yet.
    fresh: bool,
    /// Not followed any more; what is left of its events is passed over.
    ignored: bool,
    /// Requests may have passed unseen, so an answer without a request is no fault of the peer.
    pub(super) lossy: bool,
    /// Events were lost since the last write: the answer may be complete.
    writes_unsure: bool,
}

/// The call at hand.
#[derive(Clone, Copy)]
pub struct Call {
    pub first_read: FirstRead,
    /// The piece at hand begins it.
    pub begins: bool,
    /// Another request can be followed.
    pub room: bool,
}

impl Call {
    pub fn time(&self) -> BootTime {
        self.first_read.time
    }
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Keep,
    /// No event of it is wanted any more.
    Ignore,
    /// It ended.
    Gone,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The server closed it.
    Closed,
    /// The peer reset it, or is gone from a Unix socket.
    Reset,
    /// The server's process ended.
    Exited,
    /// It is forgotten.
    Forgotten,
}

/// An idle connection is to cost next to nothing: there may be tens of thousands.
const _: () = assert!(size_of::<Connection>() <= 256);

impl Connection {
    /// The connection of `event`, its first that is known of.
    pub fn new(event: &SocketBytes<'_>, workload: &Arc<Workload>) -> Self {
        let header = &event.event;
        let from_start =
            header.flags & FLAG_FIRST != 0 && event.kind == SocketKind::Read && begins_request(event.head);
        let (inbound, outbound) =
            if from_start { (Inbound::Idle, Outbound::default()) } else { (Inbound::Seek, Outbound::Seek) };
        Self {
            workload: workload.clone(),
            inbound,
            outbound,
            exchanges: VecDeque::new(),
            reads: Flow::default(),
            writes: Flow::default(),
            next_id: 0,
            last_event: BootTime(header.time_ns),
            last_write: BootTime(header.time_ns),
            peer_closed: None,
            blocked: None,
            sequence: header.sequence,
            held_end: None,
            reader_tgid: header.tgid,
            family: header.family,
            failures: 0,
            fresh: true,
            ignored: false,
            lossy: !from_start,
            writes_unsure: false,
        }
    }

    pub fn on_event(&mut self, event: &SocketBytes<'_>, room: bool, outlet: &mut Outlet<'_>) -> Next {
        let header = &event.event;
        let time = BootTime(header.time_ns);
        self.last_event = time;
        if self.ignored {
            let over = matches!(event.kind, SocketKind::Closed | SocketKind::Reset);
            return if over { Next::Gone } else { Next::Ignore };
        }
        self.count_lost(event, outlet);
        if header.flags & FLAG_NO_BYTES != 0 {
            self.no_bytes(outlet);
        }
        match event.kind {
            SocketKind::Read => self.on_read(event, call(event, room), outlet),
            SocketKind::Write => self.on_write(event, call(event, room), outlet),
            SocketKind::WriteBlocked => {
                self.blocked.get_or_insert(time);
            }
            SocketKind::PeerClosed => {
                self.peer_closed.get_or_insert(time);
            }
            SocketKind::Closed | SocketKind::Reset => {
                let how = if event.kind == SocketKind::Reset { Close::Reset } else { Close::Closed };
                self.close(how, time, outlet);
                return Next::Gone;
            }
        }
        if self.exchanges.is_empty() && self.exchanges.capacity() > 4 {
            self.exchanges = VecDeque::new();
        }
        if self.ignored { Next::Ignore } else { Next::Keep }
    }

    /// Bytes passed that could not be copied: harmless inside a body, and all that is ever seen of a
    /// connection served by io_uring.
    fn no_bytes(&mut self, outlet: &mut Outlet<'_>) {
        if matches!(self.inbound, Inbound::Seek) {
            self.failed(ParseFailure::NoBytes, outlet);
        } else {
            outlet.counts.failure(ParseFailure::NoBytes);
        }
    }

    /// The end that carries this number has arrived, and is held until its time has come.
    pub fn hold_end(&mut self, sequence: u32) {
        self.held_end = Some(sequence);
    }

    /// A gap in the numbers is a loss; numbers that begin again are those of a kernel that forgot the socket. Two
    /// events that two processors made at once may carry the same number.
    fn count_lost(&mut self, event: &SocketBytes<'_>, outlet: &mut Outlet<'_>) {
        let number = event.event.sequence;
        let mut lost = number.wrapping_sub(self.sequence);
        let first = event.event.flags & FLAG_FIRST != 0 && !std::mem::take(&mut self.fresh);
        let behind = lost > u32::MAX / 2;
        if !first && behind && (lost == u32::MAX || event.event.tgid == 0) {
            return;
        }
        if let Some(held) = self.held_end
            && (held == number || (!behind && held.wrapping_sub(self.sequence) < lost))
        {
            lost -= u32::from(held != number);
            self.held_end = None;
        }
        self.sequence = number.wrapping_add(1);
        if first || behind {
            outlet.counts.connections_forgotten += 1;
            self.reads = Flow::default();
            self.writes = Flow::default();
            self.start_over();
        } else if lost > 0 {
            outlet.counts.events_missed += u64::from(lost);
            self.events_lost();
        }
    }

    /// How much passed since the last event is unknown.
    fn start_over(&mut self) {
        self.events_lost();
        self.inbound = Inbound::Seek;
        self.outbound = Outbound::Seek;
    }

    fn events_lost(&mut self) {
        for exchange in &mut self.exchanges {
            exchange.lost(Incomplete::EventsLost);
        }
        self.lossy = true;
        self.writes_unsure = true;
    }

    fn on_read(&mut self, event: &SocketBytes<'_>, mut call: Call, outlet: &mut Outlet<'_>) {
        self.reader_tgid = event.event.tgid;
        let addition = self.reads.add(event);
        let lost_bytes = self.lost_bytes(&addition);
        self.read_piece(Piece::Hole(lost_bytes), call, outlet);
        for (number, piece) in addition.pieces.into_iter().enumerate() {
            call.begins = number == 0;
            self.read_piece(piece, call, outlet);
        }
    }

    fn on_write(&mut self, event: &SocketBytes<'_>, mut call: Call, outlet: &mut Outlet<'_>) {
        let time = call.time();
        let blocked = self.blocked.take();
        if let Some(front) = self.exchanges.front_mut() {
            front.writer_tid = event.event.tid;
            front.send_wait += blocked.map_or(Duration::ZERO, |since| time.since(since));
        }
        if event.event.flags & FLAG_SHORT != 0 {
            self.blocked = Some(time);
        }
        self.last_write = time;
        let addition = self.writes.add(event);
        let lost_bytes = self.lost_bytes(&addition);
        self.writes_unsure = false;
        self.write_piece(Piece::Hole(lost_bytes), call, outlet);
        for (number, piece) in addition.pieces.into_iter().enumerate() {
            call.begins = number == 0;
            self.write_piece(piece, call, outlet);
        }
        if let Some(front) = self.exchanges.front_mut() {
            front.write_ends(time, outlet);
        }
    }

    fn lost_bytes(&mut self, addition: &Addition<'_>) -> u64 {
        match addition.lost_bytes {
            None => {
                self.start_over();
                0
            }
            Some(0) => 0,
            Some(lost) => {
                self.events_lost();
                lost
            }
        }
    }

    /// A request begins; `None` when no more can be followed.
    pub(super) fn begin(&mut self, call: Call, outlet: &mut Outlet<'_>) -> Option<u64> {
        if !call.room || self.exchanges.len() >= EXCHANGES_MAX {
            outlet.counts.requests_refused += 1;
            self.lossy = true;
            return None;
        }
        outlet.counts.requests_begun += 1;
        let id = self.next_id;
        self.next_id += 1;
        self.exchanges.push_back(Box::new(Exchange::new(id, self.workload.clone(), call.first_read)));
        Some(id)
    }

    /// The request `id`, unless it was answered already.
    pub(super) fn exchange(&mut self, id: u64) -> Option<&mut Exchange> {
        self.exchanges.iter_mut().rev().find(|exchange| exchange.id == id).map(Box::as_mut)
    }

    /// Request `id` turned out to be none.
    pub(super) fn remove(&mut self, id: u64, outlet: &mut Outlet<'_>) {
        let before = self.exchanges.len();
        self.exchanges.retain(|exchange| exchange.id != id);
        outlet.counts.requests_void += (before - self.exchanges.len()) as u64;
        if self.exchanges.is_empty() {
            self.outbound = Outbound::Seek;
        }
    }

    /// Bytes were not understood.
    pub(super) fn failed(&mut self, reason: ParseFailure, outlet: &mut Outlet<'_>) {
        outlet.counts.failure(reason);
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_MAX {
            self.ignore(outlet);
        }
    }

    /// Nothing more of this connection can be understood.
    pub(super) fn ignore(&mut self, outlet: &mut Outlet<'_>) {
        while !self.exchanges.is_empty() {
            self.abandon_front(outlet);
        }
        self.ignored = true;
        self.inbound = Inbound::Seek;
        self.outbound = Outbound::Seek;
    }

    pub(super) fn is_ignored(&self) -> bool {
        self.ignored
    }

    /// The first request is answered.
    pub(super) fn complete_front(&mut self, time: BootTime, outlet: &mut Outlet<'_>) {
        self.failures = 0;
        if let Some(front) = self.exchanges.pop_front() {
            // Answered before its head was complete: the server did not understand it either.
            if !front.head_seen() {
                self.inbound = Inbound::Seek;
                outlet.counts.failure(ParseFailure::RequestHead);
            }
            front.finish(time, Ending::Answered, outlet);
        }
    }

    /// The answers so far are over, and the next write belongs to the request that is first now.
    pub(super) fn answers_from_here(&mut self) {
        self.outbound = Outbound::default();
        self.lossy = false;
        // What was written in events that were lost before now is no hole in what follows.
        if std::mem::take(&mut self.writes_unsure) {
            self.writes = Flow::default();
        }
    }

    pub(super) fn writes_unsure(&self) -> bool {
        self.writes_unsure
    }

    /// The first request cannot be followed to its end.
    pub(super) fn abandon_front(&mut self, outlet: &mut Outlet<'_>) {
        let Some(mut front) = self.exchanges.pop_front() else { return };
        if !front.head_seen() {
            outlet.counts.requests_unfinished += 1;
            return;
        }
        front.lost(Incomplete::BorderMissed);
        let end = front.last_byte;
        front.finish(end, Ending::Unseen, outlet);
    }

    /// The connection ends at `time`, and with it what is under way.
    pub fn close(&mut self, how: Close, time: BootTime, outlet: &mut Outlet<'_>) {
        if how == Close::Forgotten {
            self.events_lost();
        }
        let unseen = self.writes_unsure || self.outbound.is_lost();
        if !unseen && self.answer_ends_here(how, outlet) {
            self.outbound = Outbound::Seek;
            self.complete_front(self.last_write, outlet);
        }
        let (end, ending) = match (how, self.peer_closed) {
            (_, Some(peer_closed)) => (peer_closed, Ending::ClientAbort),
            (Close::Reset, None) => (time, Ending::ClientAbort),
            (_, None) => (time, Ending::ServerReset),
        };
        while let Some(front) = self.exchanges.front() {
            if unseen || !front.head_seen() {
                self.abandon_front(outlet);
            } else if let Some(front) = self.exchanges.pop_front() {
                front.finish(end, ending, outlet);
            }
        }
    }

    /// An answer whose end is that of the connection, and nothing says that it was cut.
    fn answer_ends_here(&mut self, how: Close, outlet: &mut Outlet<'_>) -> bool {
        let Outbound::Body(answer) = &mut self.outbound else { return false };
        let Some(front) = self.exchanges.front_mut() else { return false };
        if !answer.ends_at_close() {
            return false;
        }
        let complete = answer.is_complete() || how == Close::Closed && self.peer_closed.is_none();
        if complete && answer.finish(front) == Ended::Broken {
            outlet.counts.failure(ParseFailure::Json);
        }
        complete
    }

    /// Whether it is a Unix socket with a request under way, and was quiet for a while.
    pub fn is_quiet_unix(&self, now: BootTime) -> bool {
        self.family == FAMILY_UNIX && !self.exchanges.is_empty() && now.since(self.last_event) >= UNIX_GRACE
    }

    /// Whether its end may have been lost: a request is under way, no event came for a while, and the
    /// kernel tells of closed TCP sockets only once.
    pub fn may_have_vanished(&self, now: BootTime) -> bool {
        self.family != FAMILY_UNIX
            && !self.exchanges.is_empty()
            && now.since(self.last_event) >= VANISHED_GRACE
    }

    /// How it would have to end at `now`, were it only for time.
    pub fn overdue(&self, now: BootTime) -> Option<Close> {
        let idle = now.since(self.last_event);
        if self.family == FAMILY_UNIX && self.peer_closed.is_some() && idle >= UNIX_GRACE {
            Some(Close::Reset)
        } else if idle >= if self.exchanges.is_empty() { CONNECTION_IDLE_MAX } else { REQUEST_IDLE_MAX } {
            Some(Close::Forgotten)
        } else {
            None
        }
    }

    pub fn open<'a>(
        &'a self,
        now: BootTime,
        stalled_after: Duration,
        own: Option<&'a str>,
    ) -> impl Iterator<Item = OpenRequest> + 'a {
        let inference = self
            .exchanges
            .iter()
            .enumerate()
            .filter(move |(_, exchange)| exchange.route().is_inference() && !exchange.is_own(own));
        inference.map(move |(place, exchange)| {
            exchange.open(now, stalled_after, place == 0 && self.blocked.is_some())
        })
    }

    pub fn requests(&self) -> usize {
        self.exchanges.len()
    }

    /// Memory it holds beside itself, in bytes.
    pub fn held(&self) -> usize {
        let exchanges: usize = self.exchanges.iter().map(|exchange| exchange.held()).sum();
        exchanges + self.inbound.held() + self.outbound.held()
    }

    pub fn last_event(&self) -> BootTime {
        self.last_event
    }

    /// Whose read was the last.
    pub fn reader_tgid(&self) -> u32 {
        self.reader_tgid
    }
}

/// The call of `event`.
fn call(event: &SocketBytes<'_>, room: bool) -> Call {
    let header = &event.event;
    let time = BootTime(header.time_ns);
    // An arrival after its read is none.
    let arrival = (header.arrival_ns != 0 && header.arrival_ns <= header.time_ns)
        .then_some(BootTime(header.arrival_ns));
    let first_read = FirstRead { time, arrival, socket: header.socket, tgid: header.tgid, tid: header.tid };
    Call { first_read, begins: false, room }
}

/// `bytes` begin like a request, as far as there are any.
pub fn begins_request(bytes: &[u8]) -> bool {
    !bytes.is_empty() && opens(bytes) == Opening::Request
}

/// `bytes` begin like an answer, as far as there are any.
pub fn begins_response(bytes: &[u8]) -> bool {
    !bytes.is_empty() && opens(bytes) == Opening::Response
}

fn opens(bytes: &[u8]) -> Opening {
    let mut first = [0; 4];
    let len = bytes.len().min(4);
    first[..len].copy_from_slice(&bytes[..len]);
    opening(u32::from_be_bytes(first), len as u32)
}
