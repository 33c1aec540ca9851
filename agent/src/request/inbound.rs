//! The requests of one connection, in the order they are read.
//!
//! In: pieces of what the server read. Out: an exchange for each request, with what its head and body say.

use super::answer::model_name;
use super::assembly::Piece;
use super::connection::{Call, Connection, begins_request};
use super::document::{Document, Ended};
use super::exchange::Outlet;
use super::framing::{Body, Framing, Step};
use super::http::{self, HeadBuffer, Media, RequestHead};
use super::json::Token;
use super::key::Key;
use super::outbound::Outbound;
use super::record::{Incomplete, ParseFailure};

/// Where the direction stands.
pub enum Inbound {
    /// A border was missed: waits for a read that begins with a request.
    Seek,
    /// Between requests.
    Idle,
    Head(Box<Head>),
    Body(Box<RequestBody>),
}

/// A head under way.
pub struct Head {
    buffer: HeadBuffer,
    id: u64,
}

/// A body under way.
pub struct RequestBody {
    id: u64,
    body: Body,
    /// Where the body may name the model.
    document: Option<Document>,
    /// It says that it is JSON.
    json: bool,
    model: Option<Box<str>>,
}

impl Connection {
    pub(super) fn read_piece(&mut self, mut piece: Piece<'_>, call: Call, outlet: &mut Outlet<'_>) {
        while !piece.is_empty() && !self.is_ignored() {
            self.inbound = match std::mem::replace(&mut self.inbound, Inbound::Seek) {
                Inbound::Seek => self.seek_request(&mut piece, call, outlet),
                Inbound::Idle => self.next_request(&mut piece, call, outlet),
                Inbound::Head(head) => self.read_head(head, &mut piece, call, outlet),
                Inbound::Body(body) => self.read_body(body, &mut piece, call, outlet),
            };
        }
    }

    fn seek_request(&mut self, piece: &mut Piece<'_>, call: Call, outlet: &mut Outlet<'_>) -> Inbound {
        if call.begins
            && let Piece::Bytes(bytes) = piece
            && begins_request(bytes)
        {
            return self.begin_head(piece, call, outlet);
        }
        piece.clear();
        Inbound::Seek
    }

    fn next_request(&mut self, piece: &mut Piece<'_>, call: Call, outlet: &mut Outlet<'_>) -> Inbound {
        let Piece::Bytes(bytes) = *piece else {
            // Requests may have passed in what was not copied.
            self.lossy = true;
            piece.clear();
            return Inbound::Seek;
        };
        // Line ends between requests are allowed, and belong to none.
        let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        *piece = Piece::Bytes(&bytes[blank..]);
        if piece.is_empty() { Inbound::Idle } else { self.begin_head(piece, call, outlet) }
    }

    fn begin_head(&mut self, piece: &mut Piece<'_>, call: Call, outlet: &mut Outlet<'_>) -> Inbound {
        let Some(id) = self.begin(call, outlet) else {
            piece.clear();
            return Inbound::Seek;
        };
        Inbound::Head(Box::new(Head { buffer: HeadBuffer::default(), id }))
    }

    fn read_head(
        &mut self,
        mut head: Box<Head>,
        piece: &mut Piece<'_>,
        call: Call,
        outlet: &mut Outlet<'_>,
    ) -> Inbound {
        let id = head.id;
        let parsed = match *piece {
            Piece::Bytes(bytes) => head.buffer.feed(bytes, http::request, ParseFailure::RequestHead),
            Piece::Hole(_) => return self.head_cut(&head, piece, outlet),
        };
        match parsed {
            Ok(Some((parsed, len))) => {
                self.count_read(id, piece.take(len as u64).len(), call);
                self.head_complete(id, parsed, outlet)
            }
            Ok(None) => {
                self.count_read(id, piece.len(), call);
                piece.clear();
                Inbound::Head(head)
            }
            Err(reason) => {
                piece.clear();
                self.remove(id);
                self.failed(reason, outlet);
                if matches!(reason, ParseFailure::Tls | ParseFailure::Http2) {
                    self.ignore(outlet);
                }
                Inbound::Seek
            }
        }
    }

    /// Part of a head was not copied: its first line may still say what it asks for.
    fn head_cut(&mut self, head: &Head, piece: &mut Piece<'_>, outlet: &mut Outlet<'_>) -> Inbound {
        piece.clear();
        let asked = http::request_line(head.buffer.bytes());
        match (asked, self.exchange(head.id)) {
            (Some(mut asked), Some(exchange)) => {
                exchange.asked(&mut asked);
                exchange.lost(Incomplete::BorderMissed);
                self.resume_answers(head.id, outlet);
            }
            _ => self.remove(head.id),
        }
        self.failed(ParseFailure::RequestHead, outlet);
        Inbound::Seek
    }

    fn head_complete(&mut self, id: u64, mut head: RequestHead, outlet: &mut Outlet<'_>) -> Inbound {
        if let Some(exchange) = self.exchange(id) {
            exchange.asked(&mut head);
        }
        self.resume_answers(id, outlet);
        let inference = head.route.is_inference();
        if inference && head.encoded {
            outlet.counts.failure(ParseFailure::ContentEncoding);
        }
        let readable = inference && !head.encoded && matches!(head.media, Media::Json | Media::Unsaid);
        let body = Box::new(RequestBody {
            id,
            body: Body::new(head.framing),
            document: readable.then(Document::new),
            json: head.media == Media::Json,
            model: None,
        });
        if head.framing == Framing::Length(0) { self.request_ends(body, outlet) } else { Inbound::Body(body) }
    }

    fn read_body(
        &mut self,
        mut request: Box<RequestBody>,
        piece: &mut Piece<'_>,
        call: Call,
        outlet: &mut Outlet<'_>,
    ) -> Inbound {
        loop {
            let before = piece.len();
            let step = request.body.step(piece, call.begins);
            self.count_read(request.id, before - piece.len(), call);
            match step {
                Step::Data(bytes) => request.feed(bytes),
                Step::Hole(_) => request.hole(),
                Step::ChunkEnds => {}
                Step::Done => return self.request_ends(request, outlet),
                Step::More => return Inbound::Body(request),
                // The rest of it cannot be told from the next request; its times are not touched by that.
                Step::BorderMissed => {
                    piece.clear();
                    return Inbound::Seek;
                }
                Step::Broken => {
                    piece.clear();
                    self.failed(ParseFailure::Chunk, outlet);
                    return Inbound::Seek;
                }
            }
        }
    }

    fn request_ends(&mut self, mut request: Box<RequestBody>, outlet: &mut Outlet<'_>) -> Inbound {
        if request.end() == Ended::Broken && request.json {
            outlet.counts.failure(ParseFailure::Json);
        }
        if let Some(exchange) = self.exchange(request.id) {
            exchange.request_ends(request.model, outlet.models);
        }
        Inbound::Idle
    }

    fn count_read(&mut self, id: u64, bytes: u64, call: Call) {
        if let Some(exchange) = self.exchange(id) {
            exchange.request_bytes = exchange.request_bytes.saturating_add(bytes);
            exchange.last_byte = call.time();
        }
    }

    /// Request `id` is certain. A client sends one at a time unless it pipelines: where the borders of the
    /// answers were lost, those before it are over.
    fn resume_answers(&mut self, id: u64, outlet: &mut Outlet<'_>) {
        let before = || self.exchanges.iter().take_while(|exchange| exchange.id != id);
        let over = match self.outbound {
            Outbound::Seek => true,
            Outbound::Head(_) => before().all(|exchange| exchange.incomplete == Some(Incomplete::EventsLost)),
            Outbound::Body(ref answer) => answer.is_lost(),
        };
        if !over {
            return;
        }
        while self.exchanges.front().is_some_and(|front| front.id != id) {
            self.abandon_front(outlet);
        }
        self.outbound = Outbound::default();
        self.lossy = false;
    }
}

impl RequestBody {
    fn feed(&mut self, bytes: &[u8]) {
        let model = &mut self.model;
        if let Some(document) = &mut self.document {
            document.feed(bytes, &mut |path, token| see(model, path, &token));
        }
    }

    fn hole(&mut self) {
        let model = &mut self.model;
        if let Some(document) = &mut self.document {
            document.hole(&mut |path, token| see(model, path, &token));
        }
    }

    fn end(&mut self) -> Ended {
        let model = &mut self.model;
        self.document
            .as_mut()
            .map_or(Ended::Empty, |document| document.end(&mut |path, token| see(model, path, &token)))
    }
}

fn see(model: &mut Option<Box<str>>, path: &[Key], token: &Token<'_>) {
    if let ([Key::Model], Token::Text(text)) = (path, token) {
        *model = model_name(text);
    }
}
