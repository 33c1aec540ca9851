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

impl Inbound {
    /// Memory it holds, in bytes.
    pub fn held(&self) -> usize {
        match self {
            Self::Seek | Self::Idle => 0,
            Self::Head(head) => size_of::<Head>() + head.buffer.held(),
            Self::Body(body) => size_of::<RequestBody>() + body.document.as_ref().map_or(0, Document::held),
        }
    }
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
        let bytes = &bytes[blank..];
        *piece = Piece::Bytes(bytes);
        if bytes.is_empty() {
            return Inbound::Idle;
        }
        if begins_request(bytes) {
            return self.begin_head(piece, call, outlet);
        }
        piece.clear();
        if self.exchanges.is_empty() {
            self.outbound = Outbound::Seek;
        }
        self.failed(ParseFailure::RequestHead, outlet);
        Inbound::Seek
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
                self.remove(id, outlet);
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
            _ => self.remove(head.id, outlet),
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
        let body = RequestBody {
            id,
            body: Body::new(head.framing),
            document: readable.then(Document::new),
            json: head.media == Media::Json,
        };
        if head.framing == Framing::Length(0) {
            self.request_ends(body, outlet)
        } else {
            Inbound::Body(Box::new(body))
        }
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
                Step::Data(bytes) => self.name_model(request.id, request.feed(bytes), outlet),
                Step::Hole(_) => self.name_model(request.id, request.hole(), outlet),
                Step::ChunkEnds => {}
                Step::Done => return self.request_ends(*request, outlet),
                Step::More => return Inbound::Body(request),
                Step::BorderMissed => return self.request_lost(&request, piece),
                Step::Broken => {
                    self.failed(ParseFailure::Chunk, outlet);
                    return self.request_lost(&request, piece);
                }
            }
        }
    }

    /// Where it ends cannot be told; its times are not touched by that.
    fn request_lost(&mut self, request: &RequestBody, piece: &mut Piece<'_>) -> Inbound {
        piece.clear();
        if let Some(exchange) = self.exchange(request.id) {
            exchange.request_complete = true;
        }
        Inbound::Seek
    }

    fn request_ends(&mut self, mut request: RequestBody, outlet: &mut Outlet<'_>) -> Inbound {
        let (ended, model) = request.end();
        if ended == Ended::Broken && request.json {
            outlet.counts.failure(ParseFailure::Json);
        }
        self.name_model(request.id, model, outlet);
        if let Some(exchange) = self.exchange(request.id) {
            exchange.request_complete = true;
        }
        Inbound::Idle
    }

    fn name_model(&mut self, id: u64, model: Option<Box<str>>, outlet: &mut Outlet<'_>) {
        if let (Some(model), Some(exchange)) = (model, self.exchange(id)) {
            exchange.asked_for(model, outlet.models);
        }
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
            Outbound::Body(ref answer) => answer.is_lost() || self.writes_unsure(),
        };
        if !over {
            return;
        }
        while self.exchanges.front().is_some_and(|front| front.id != id) {
            self.abandon_front(outlet);
        }
        self.answers_from_here();
    }
}

impl RequestBody {
    /// These return the model, when its name is complete.
    fn feed(&mut self, bytes: &[u8]) -> Option<Box<str>> {
        let mut model = None;
        self.document.as_mut()?.feed(bytes, &mut |path, token| see(&mut model, path, &token));
        model
    }

    fn hole(&mut self) -> Option<Box<str>> {
        let mut model = None;
        self.document.as_mut()?.hole(&mut |path, token| see(&mut model, path, &token));
        model
    }

    fn end(&mut self) -> (Ended, Option<Box<str>>) {
        let mut model = None;
        let Some(document) = &mut self.document else { return (Ended::Empty, None) };
        (document.end(&mut |path, token| see(&mut model, path, &token)), model)
    }
}

fn see(model: &mut Option<Box<str>>, path: &[Key], token: &Token<'_>) {
    if let ([Key::Model], Token::Text(text)) = (path, token) {
        *model = model_name(text);
    }
}
