//! One connection: reads requests, plays their plans, notes what happened.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bytes::{Buf as _, Bytes};
use inferscope::clock::BootTime;
use tokio::time::{Instant, sleep_until};

use crate::socket::{Calls, Stream};
use crate::transcript::{BodyReader, Outcome, RequestHead, Track, request_head};

use super::plan::{Plan, Step, plan};
use super::serve::Shared;
use super::{Ask, Ending, Route, Script, Served, Write};

/// One read of the Python front end's server.
const READ_BYTES: usize = 256_000;
/// Bytes kept of requests that wait their turn: a client that sends more is read later.
const INBOX_BYTES_MAX: usize = 32 << 20;
/// Pieces of one system call at most, the kernel's own limit.
const PIECES_MAX: usize = 1024;

/// What the server read and has not answered, and the socket it came from.
pub(super) struct Connection {
    stream: Option<Stream>,
    number: u64,
    shared: Arc<Shared>,
    inbox: Track,
    /// Bytes of the inbox that belong to requests already taken.
    taken: usize,
    peer: Peer,
    calls: Calls,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Open,
    Closed,
    Reset,
}

/// A request, read to its end or to the client's.
struct Request {
    head: RequestHead,
    body: Vec<u8>,
    first_read_ns: u64,
    whole_ns: u64,
    whole: bool,
}

impl Connection {
    pub(super) fn new(stream: Stream, number: u64, shared: Arc<Shared>) -> Self {
        Self {
            stream: Some(stream),
            number,
            shared,
            inbox: Track::default(),
            taken: 0,
            peer: Peer::Open,
            calls: Calls::default(),
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Serves until either side ends the connection.
    pub(super) async fn serve(mut self, first_read_after: Duration) -> Result<()> {
        let mut look_away = first_read_after;
        for nth in 0.. {
            if self.inbox.bytes.len() == self.taken && !look_away.is_zero() {
                self.stream()?.readable().await?;
                tokio::time::sleep(look_away).await;
            }
            let Some(request) = self.next_request().await? else { break };
            let script = self.shared.script_for(&request.head, self.number, nth);
            look_away = Duration::from_micros(script.next_read_after_us);
            self.calls = script.calls;
            if !self.answer(request, &script, nth).await? {
                break;
            }
        }
        Ok(())
    }

    fn stream(&self) -> io::Result<&Stream> {
        self.stream.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// The next request; one that the client broke off comes as it is.
    async fn next_request(&mut self) -> Result<Option<Request>> {
        let head = loop {
            if let Some(head) = request_head(&self.inbox.bytes[self.taken..])? {
                break head;
            }
            if !self.read_more().await? {
                return Ok(None);
            }
        };
        let start = self.taken;
        if head.expects_continue {
            self.write_continue().await?;
        }
        let mut reader = BodyReader::new(head.framing, start + head.length);
        let mut whole = reader.advance(&self.inbox.bytes)?;
        while !whole && self.read_more().await? {
            whole = reader.advance(&self.inbox.bytes)?;
        }
        let end = reader.position;
        let request = Request {
            head,
            body: reader.body.bytes,
            first_read_ns: self.inbox.time_of(start).unwrap_or_default(),
            whole_ns: self.inbox.time_before(end).unwrap_or_default(),
            whole,
        };
        self.take_until(end);
        Ok(Some(request))
    }

    /// Forgets the bytes of requests taken, unless some of the next one are there already.
    fn take_until(&mut self, end: usize) {
        self.taken = end;
        if self.taken == self.inbox.bytes.len() {
            self.inbox = Track::default();
            self.taken = 0;
        }
    }

    async fn write_continue(&self) -> Result<()> {
        let stream = self.stream()?;
        stream.writable().await?;
        stream.try_write(self.calls, &[IoSlice::new(b"HTTP/1.1 100 Continue\r\n\r\n")])?;
        Ok(())
    }

    /// Waits for bytes and reads once; false at the client's end. Never returns while the inbox is full.
    async fn read_more(&mut self) -> Result<bool> {
        if self.peer != Peer::Open {
            return Ok(false);
        }
        if !self.inbox_has_room() {
            std::future::pending::<()>().await;
        }
        loop {
            let stream = self.stream.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
            stream.readable().await?;
            if self.read_once()? {
                return Ok(self.peer == Peer::Open);
            }
        }
    }

    fn inbox_has_room(&self) -> bool {
        self.inbox.bytes.len() - self.taken <= INBOX_BYTES_MAX
    }

    /// Reads what is there; false where nothing was, whatever the readiness said.
    fn read_once(&mut self) -> Result<bool> {
        let stream = self.stream.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        // Before the call: it wakes a client that waits for room, and loses the processor to it.
        let at = BootTime::now().0;
        match stream.try_read(self.calls, &mut self.buffer) {
            Ok(0) => self.peer = Peer::Closed,
            Ok(length) => self.inbox.push(at, &self.buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(_) => self.peer = Peer::Reset,
        }
        Ok(true)
    }

    /// Plays the answer and logs it; false where the connection is over.
    async fn answer(&mut self, request: Request, script: &Script, nth: u32) -> Result<bool> {
        let ask = Ask::new(&request.head, &request.body, self.shared.next_response_number());
        let plan =
            if ask.route.is_scripted() { plan(script, &ask) } else { self.shared.plain_answer(ask.route) };
        if let Some(bytes) = script.send_buffer_bytes {
            self.stream()?.set_send_buffer(bytes)?;
        }
        let streams = ask.route.is_streamed() && ask.stream;
        let mut player = Player { asked_ns: streams.then_some(request.first_read_ns), ..Player::default() };
        let ended =
            if request.whole { self.play(&plan, script, &mut player).await? } else { Ended::ByClient };
        let keeps =
            ended == Ended::Complete && !plan.closes && !request.head.closes && self.peer == Peer::Open;
        let ended_ns = BootTime::now().0;
        if !keeps {
            self.stream = None;
        }
        let status = match ask.route {
            Route::Unknown => 404,
            route if route.is_scripted() => script.status,
            _ => 200,
        };
        let streamed = streams && status < 300;
        self.shared.log.push(Served {
            request_id: request.head.request_id,
            connection: self.number,
            nth,
            path: request.head.path,
            model: ask.model,
            status: (!player.writes.is_empty()).then_some(status),
            outcome: outcome(ended, status, streamed && script.ending == Ending::ErrorEvent),
            streamed,
            first_read_ns: request.first_read_ns,
            whole_ns: request.whole_ns,
            ended_ns,
            writes: player.writes,
            send_wait_ns: player.send_wait_ns,
        });
        Ok(keeps)
    }

    async fn play(&mut self, plan: &Plan, script: &Script, player: &mut Player) -> Result<Ended> {
        for step in &plan.steps {
            match step {
                Step::Wait(time) => {
                    if !self.wait(*time, script).await? {
                        return Ok(Ended::ByClient);
                    }
                }
                Step::Write { pieces, deltas } => {
                    if !self.write(pieces, *deltas, script, player).await? {
                        return Ok(Ended::ByClient);
                    }
                }
                Step::Close { reset } => {
                    let stream = self.stream.take();
                    if let Some(stream) = stream.filter(|_| *reset) {
                        stream.reset();
                    }
                    return Ok(Ended::ByServer);
                }
            }
        }
        Ok(Ended::Complete)
    }

    /// Waits, and notices a client that leaves meanwhile: then false.
    async fn wait(&mut self, time: Duration, script: &Script) -> Result<bool> {
        let due = Instant::now() + time;
        loop {
            if self.client_left(script) {
                return Ok(false);
            }
            tokio::select! {
                () = sleep_until(due) => return Ok(true),
                more = self.read_more(), if self.peer == Peer::Open => { more?; }
            }
        }
    }

    fn client_left(&self, script: &Script) -> bool {
        match self.peer {
            Peer::Open => false,
            Peer::Closed => !script.answers_half_closed,
            Peer::Reset => true,
        }
    }

    /// One scripted write: one system call where the socket takes all. False where the client left.
    async fn write(
        &mut self,
        pieces: &[Bytes],
        deltas: u32,
        script: &Script,
        player: &mut Player,
    ) -> Result<bool> {
        if deltas > 0
            && let Some(asked_ns) = player.asked_ns.take()
        {
            self.shared.first_tokens.note(BootTime::now().0 - asked_ns);
        }
        let mut left: Vec<Bytes> = pieces.to_vec();
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        let mut note = Write {
            began_ns: BootTime::now().0,
            ended_ns: 0,
            bytes,
            pieces: u32::try_from(pieces.len()).unwrap_or(u32::MAX),
            calls: 0,
            deltas,
        };
        let mut waits_since = None;
        while !left.is_empty() {
            let slices: Vec<_> = left.iter().take(PIECES_MAX).map(|piece| IoSlice::new(piece)).collect();
            match self.stream()?.try_write(script.calls, &slices) {
                Ok(length) => {
                    note.calls += 1;
                    let now = BootTime::now().0;
                    player.send_wait_ns += now - waits_since.take().unwrap_or(now);
                    consume(&mut left, length);
                    if !left.is_empty() {
                        waits_since = Some(now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    waits_since.get_or_insert(BootTime::now().0);
                    if !self.wait_writable(script).await? {
                        return Ok(false);
                    }
                }
                Err(_) => {
                    self.peer = Peer::Reset;
                    return Ok(false);
                }
            }
        }
        note.ended_ns = BootTime::now().0;
        player.writes.push(note);
        Ok(true)
    }

    async fn wait_writable(&mut self, script: &Script) -> Result<bool> {
        if self.client_left(script) {
            return Ok(false);
        }
        if self.peer != Peer::Open {
            self.stream()?.writable().await?;
            return Ok(true);
        }
        let stream = self.stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        // Both directions of one socket: readiness is awaited on the stream, reading happens after.
        let readable = tokio::select! {
            ready = stream.writable() => { ready?; false }
            ready = stream.readable(), if self.inbox_has_room() => { ready?; true }
        };
        self.stream = Some(stream);
        if readable {
            // Not more than what is there: a wait for the client would keep the answer from it.
            self.read_once()?;
        }
        Ok(!self.client_left(script))
    }
}

/// What playing a plan brought about.
#[derive(Default)]
struct Player {
    writes: Vec<Write>,
    send_wait_ns: u64,
    /// When the request came, of a stream without a token yet.
    asked_ns: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Complete,
    ByClient,
    ByServer,
}

fn consume(pieces: &mut Vec<Bytes>, mut length: usize) {
    let mut gone = 0;
    for piece in pieces.iter_mut() {
        let part = length.min(piece.len());
        piece.advance(part);
        length -= part;
        if !piece.is_empty() {
            break;
        }
        gone += 1;
    }
    pieces.drain(..gone);
}

fn outcome(ended: Ended, status: u16, error_event: bool) -> Outcome {
    match (ended, status) {
        (Ended::ByClient, _) => Outcome::ClientAbort,
        (Ended::ByServer, _) => Outcome::ServerReset,
        (Ended::Complete, 429) => Outcome::Rejected,
        (Ended::Complete, 400..500) => Outcome::ClientError,
        (Ended::Complete, 500..) => Outcome::ServerError,
        (Ended::Complete, _) if error_event => Outcome::ServerError,
        (Ended::Complete, _) => Outcome::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consumed_bytes_leave_the_rest() {
        let check = |length: usize, expected: &[&'static str]| {
            let mut pieces = vec![Bytes::from("abc"), Bytes::from(""), Bytes::from("de")];
            consume(&mut pieces, length);
            assert_eq!(pieces, expected);
        };
        check(0, &["abc", "", "de"]);
        check(2, &["c", "", "de"]);
        check(4, &["e"]);
        check(5, &[]);
    }
}
