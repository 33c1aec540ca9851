//! The answers of one connection, in the order they are written.
//!
//! In: pieces of what the server wrote. Out: what each answer says, to the exchange it belongs to, and
//! the moment it is complete.

use super::assembly::Piece;
use super::connection::{Call, Connection, begins_response};
use super::document::{Document, Ended};
use super::exchange::{Exchange, Outlet};
use super::framing::{Body, Framing, Step};
use super::http::{self, HeadBuffer, Media, ResponseHead};
use super::record::{Incomplete, ParseFailure};
use super::sse::Events;

/// Where the direction stands.
pub enum Outbound {
    /// A border was missed: waits for a write that begins with an answer, or for the next request.
    Seek,
    /// Between answers, or in a head.
    Head(HeadBuffer),
    Body(Box<AnswerBody>),
}

impl Default for Outbound {
    fn default() -> Self {
        Self::Head(HeadBuffer::default())
    }
}

impl Outbound {
    /// Whether the present answer is complete cannot be told.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Seek => true,
            Self::Head(_) => false,
            Self::Body(answer) => answer.is_lost(),
        }
    }

    /// Memory it holds, in bytes.
    pub fn held(&self) -> usize {
        match self {
            Self::Seek => 0,
            Self::Head(buffer) => buffer.held(),
            Self::Body(answer) => size_of::<AnswerBody>() + answer.content.held(),
        }
    }
}

/// A body under way.
pub struct AnswerBody {
    body: Body,
    content: Content,
    chunk: Chunk,
    /// The stream said that it is over.
    done: bool,
}

enum Content {
    /// Nothing in it matters.
    Opaque,
    Json {
        document: Document,
        said: bool,
    },
    Events(Events),
}

/// What is known of the chunk under way: a hole inside one that holds one event swallows no border.
#[derive(Default)]
struct Chunk {
    events: u32,
    hole: bool,
    /// It began inside an event.
    continues: bool,
}

impl Connection {
    pub(super) fn write_piece(&mut self, mut piece: Piece<'_>, call: Call, outlet: &mut Outlet<'_>) {
        while !piece.is_empty() && !self.is_ignored() {
            self.outbound = match std::mem::replace(&mut self.outbound, Outbound::Seek) {
                Outbound::Seek => self.seek_answer(&mut piece, call, outlet),
                Outbound::Head(head) => self.write_head(head, &mut piece, call, outlet),
                Outbound::Body(answer) => self.write_body(answer, &mut piece, call, outlet),
            };
        }
    }

    fn seek_answer(&mut self, piece: &mut Piece<'_>, call: Call, outlet: &mut Outlet<'_>) -> Outbound {
        if call.begins
            && let Piece::Bytes(bytes) = piece
            && begins_response(bytes)
        {
            // The answer whose end was missed is over when the next begins.
            if self.exchanges.front().is_some_and(|front| front.status().is_some()) {
                self.abandon_front(outlet);
            }
            if !self.exchanges.is_empty() {
                return Outbound::default();
            }
        }
        piece.clear();
        Outbound::Seek
    }

    fn write_head(
        &mut self,
        mut buffer: HeadBuffer,
        piece: &mut Piece<'_>,
        call: Call,
        outlet: &mut Outlet<'_>,
    ) -> Outbound {
        let Some(front) = self.exchanges.front_mut() else {
            piece.clear();
            if !self.lossy {
                self.failed(ParseFailure::UnexpectedResponse, outlet);
            }
            return Outbound::Seek;
        };
        let parsed = match *piece {
            Piece::Bytes(bytes) => buffer.feed(bytes, http::response, ParseFailure::ResponseHead),
            Piece::Hole(_) => Err(ParseFailure::ResponseHead),
        };
        let used = match parsed {
            Ok(Some((_, len))) => len as u64,
            Ok(None) | Err(_) => piece.len(),
        };
        front.wrote(piece.take(used).len(), call);
        match parsed {
            Ok(Some((head, _))) => self.answer_begins(head, call, outlet),
            Ok(None) => Outbound::Head(buffer),
            Err(reason) => {
                // After a loss the fault is not the server's.
                let fault = front.incomplete.is_none();
                front.lost(Incomplete::BorderMissed);
                piece.clear();
                if fault {
                    self.failed(reason, outlet);
                }
                Outbound::Seek
            }
        }
    }

    fn answer_begins(&mut self, mut head: ResponseHead, call: Call, outlet: &mut Outlet<'_>) -> Outbound {
        let Some(front) = self.exchanges.front_mut() else { return Outbound::Seek };
        if (100..200).contains(&head.status) && head.status != 101 {
            return Outbound::default();
        }
        front.answered(&mut head);
        if head.status == 101 || front.connect() && front.is_success() {
            self.complete_front(call.time(), outlet);
            let reason = if head.to_http2 { ParseFailure::Http2 } else { ParseFailure::Upgrade };
            self.failed(reason, outlet);
            self.ignore(outlet);
            return Outbound::Seek;
        }
        let bodiless = matches!(head.status, 204 | 304) || front.head_only();
        if bodiless || head.framing == Framing::Length(0) {
            self.complete_front(call.time(), outlet);
            return Outbound::default();
        }
        let inference = front.route().is_inference() && front.is_success();
        if inference && head.encoded {
            outlet.counts.failure(ParseFailure::ContentEncoding);
        }
        let content = if inference { Content::of(&head) } else { Content::Opaque };
        front.unreadable |= matches!(content, Content::Opaque);
        Outbound::Body(Box::new(AnswerBody {
            body: Body::new(head.framing),
            content,
            chunk: Chunk::default(),
            done: false,
        }))
    }

    fn write_body(
        &mut self,
        mut answer: Box<AnswerBody>,
        piece: &mut Piece<'_>,
        call: Call,
        outlet: &mut Outlet<'_>,
    ) -> Outbound {
        loop {
            let Some(front) = self.exchanges.front_mut() else { return Outbound::Seek };
            let before = piece.len();
            let step = answer.body.step(piece, call.begins);
            front.wrote(before - piece.len(), call);
            match step {
                Step::Data(bytes) => answer.feed(bytes, front, outlet),
                Step::Hole(_) => answer.hole(front),
                Step::ChunkEnds => answer.chunk_ends(front),
                Step::BorderMissed => answer.border_missed(front),
                Step::More => return Outbound::Body(answer),
                Step::Done => {
                    if answer.finish(front) == Ended::Broken {
                        outlet.counts.failure(ParseFailure::Json);
                    }
                    self.complete_front(call.time(), outlet);
                    return Outbound::default();
                }
                Step::Broken => {
                    front.lost(Incomplete::BorderMissed);
                    piece.clear();
                    self.failed(ParseFailure::Chunk, outlet);
                    return Outbound::Seek;
                }
            }
        }
    }
}

impl Exchange {
    fn wrote(&mut self, bytes: u64, call: Call) {
        self.response_bytes = self.response_bytes.saturating_add(bytes);
        self.last_byte = call.time();
    }
}

impl Content {
    fn of(head: &ResponseHead) -> Self {
        match head.media {
            _ if head.encoded => Self::Opaque,
            Media::Events => Self::Events(Events::new()),
            Media::Json => Self::Json { document: Document::new(), said: true },
            Media::Unsaid => Self::Json { document: Document::new(), said: false },
            Media::Other => Self::Opaque,
        }
    }

    fn held(&self) -> usize {
        match self {
            Self::Opaque => 0,
            Self::Json { document, .. } => document.held(),
            Self::Events(events) => events.held(),
        }
    }
}

impl AnswerBody {
    pub fn ends_at_close(&self) -> bool {
        self.body.ends_at_close()
    }

    pub fn is_lost(&self) -> bool {
        self.body.is_lost()
    }

    /// What it holds says that it is complete, whatever its framing.
    pub fn is_complete(&self) -> bool {
        match &self.content {
            Content::Opaque => false,
            Content::Json { document, .. } => document.is_done(),
            Content::Events(_) => self.done,
        }
    }

    /// The body is complete: the facts of a document that is no stream.
    pub fn finish(&mut self, exchange: &mut Exchange) -> Ended {
        let Content::Json { document, said } = &mut self.content else { return Ended::Whole };
        let ended = document.end(&mut |path, token| exchange.answer.see(path, token));
        exchange.answer.document_ends(ended);
        if *said { ended } else { Ended::Whole }
    }

    fn feed(&mut self, bytes: &[u8], exchange: &mut Exchange, outlet: &mut Outlet<'_>) {
        match &mut self.content {
            Content::Opaque => {}
            Content::Json { document, .. } => {
                document.feed(bytes, &mut |path, token| exchange.answer.see(path, token));
            }
            Content::Events(events) => {
                events.feed(bytes, &mut exchange.answer);
                let tally = events.take_tally();
                exchange.deltas(tally.deltas);
                exchange.error |= tally.errors > 0;
                self.done |= tally.done;
                self.chunk.events += tally.events;
                (0..tally.broken).for_each(|_| outlet.counts.failure(ParseFailure::Json));
            }
        }
    }

    fn hole(&mut self, exchange: &mut Exchange) {
        match &mut self.content {
            Content::Opaque => {}
            Content::Json { document, .. } => {
                document.hole(&mut |path, token| exchange.answer.see(path, token));
            }
            Content::Events(events) => {
                events.hole(&mut exchange.answer);
                self.chunk.hole = true;
                if !self.body.is_chunked() {
                    exchange.lost(Incomplete::BorderMissed);
                }
            }
        }
    }

    fn chunk_ends(&mut self, exchange: &mut Exchange) {
        let chunk = std::mem::take(&mut self.chunk);
        let Content::Events(events) = &self.content else { return };
        let one_event = chunk.events == 1 && !chunk.continues && events.at_border();
        if chunk.hole && !one_event {
            exchange.lost(Incomplete::BorderMissed);
        }
        self.chunk.continues = !events.at_border();
    }

    fn border_missed(&mut self, exchange: &mut Exchange) {
        exchange.lost(Incomplete::BorderMissed);
        self.chunk = Chunk::default();
        match &mut self.content {
            Content::Opaque => {}
            Content::Json { document, .. } => {
                document.hole(&mut |path, token| exchange.answer.see(path, token));
            }
            Content::Events(events) => events.restart(&mut exchange.answer),
        }
    }
}
