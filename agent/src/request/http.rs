//! Heads of HTTP/1 messages: what of them matters.
//!
//! In: bytes that begin a message. Out: the facts of its head, and how its body is framed. Parsed by
//! httparse; header values other than those named here are not kept.

use httparse::{EMPTY_HEADER, Header, ParserConfig, Request, Response};

use super::framing::Framing;
use super::record::{IDENTITY_BYTES_MAX, OtherRoute, ParseFailure, Route};

/// Longest head that is put together from parts.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// A record of type handshake, version 3.x.
const TLS_HELLO: &[u8] = b"\x16\x03";
/// Most header lines of a head.
const HEADERS_MAX: usize = 128;

/// The head of a request.
pub struct RequestHead {
    pub route: Route,
    /// HEAD: the answer has no body.
    pub head_only: bool,
    /// CONNECT: a 2xx answer makes it a tunnel.
    pub connect: bool,
    pub framing: Framing,
    pub media: Media,
    /// Its bytes are compressed.
    pub encoded: bool,
    pub request_id: Option<Box<str>>,
    pub trace_id: Option<Box<str>>,
}

/// The head of an answer.
pub struct ResponseHead {
    pub status: u16,
    /// As the headers say; some statuses and HEAD have none whatever they say.
    pub framing: Framing,
    pub media: Media,
    pub encoded: bool,
    /// `upgrade: h2c`.
    pub to_http2: bool,
    pub request_id: Option<Box<str>>,
}

/// What a body is, by `content-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    Json,
    Events,
    /// No `content-type`: JSON if it looks like it.
    Unsaid,
    Other,
}

/// A head and its length, or `None` when it is not all there.
pub type Parsed<T> = Result<Option<(T, usize)>, ParseFailure>;

/// # Errors
/// What the bytes are instead of a request.
pub fn request(bytes: &[u8]) -> Parsed<RequestHead> {
    if let Some(failure) = other_protocol(bytes) {
        return Err(failure);
    }
    if is_cut(bytes, TLS_HELLO) {
        return Ok(None);
    }
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let len = match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(ParseFailure::RequestHead),
    };
    let method = request.method.unwrap_or_default();
    // The body of a request cannot end with the connection.
    let fields = Fields::of(request.headers)
        .filter(|fields| fields.framing != Some(Framing::UntilClose))
        .ok_or(ParseFailure::RequestHead)?;
    let head = RequestHead {
        route: route(method, request.path.unwrap_or_default()),
        head_only: method == "HEAD",
        connect: method == "CONNECT",
        framing: fields.framing.unwrap_or(Framing::Length(0)),
        media: fields.media,
        encoded: fields.encoded,
        request_id: fields.request_id,
        trace_id: fields.trace_id,
    };
    Ok(Some((head, len)))
}

/// The facts of a request line, where the rest of the head is not known.
pub fn request_line(bytes: &[u8]) -> Option<RequestHead> {
    let line = &bytes[..memchr::memchr(b'\n', bytes)?];
    let whole = [line.strip_suffix(b"\r").unwrap_or(line), b"\r\n\r\n"].concat();
    request(&whole).ok().flatten().map(|(head, _)| head)
}

/// # Errors
/// [`ParseFailure::ResponseHead`] when the bytes are no response.
pub fn response(bytes: &[u8]) -> Parsed<ResponseHead> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut response = Response::new(&mut headers);
    let len = match ParserConfig::default().parse_response(&mut response, bytes) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(ParseFailure::ResponseHead),
    };
    let fields = Fields::of(response.headers).ok_or(ParseFailure::ResponseHead)?;
    let head = ResponseHead {
        status: response.code.ok_or(ParseFailure::ResponseHead)?,
        framing: fields.framing.unwrap_or(Framing::UntilClose),
        media: fields.media,
        encoded: fields.encoded,
        to_http2: fields.to_http2,
        request_id: fields.request_id,
    };
    Ok(Some((head, len)))
}

/// All that there is of what begins so is a part of it.
fn is_cut(bytes: &[u8], beginning: &[u8]) -> bool {
    bytes.len() < beginning.len() && beginning.starts_with(bytes)
}

/// TLS and HTTP/2, by the first bytes of a connection.
fn other_protocol(bytes: &[u8]) -> Option<ParseFailure> {
    const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2";
    if bytes.starts_with(TLS_HELLO) {
        Some(ParseFailure::Tls)
    } else if bytes.starts_with(HTTP2_PREFACE) {
        Some(ParseFailure::Http2)
    } else {
        None
    }
}

/// The header lines that matter to either direction.
struct Fields {
    framing: Option<Framing>,
    media: Media,
    encoded: bool,
    to_http2: bool,
    request_id: Option<Box<str>>,
    trace_id: Option<Box<str>>,
}

impl Fields {
    /// `None` when the lengths contradict each other.
    fn of(headers: &[Header<'_>]) -> Option<Self> {
        let mut fields = Self {
            framing: None,
            media: Media::Unsaid,
            encoded: false,
            to_http2: false,
            request_id: None,
            trace_id: None,
        };
        for header in headers {
            fields.take(header.name, header.value)?;
        }
        Some(fields)
    }

    fn take(&mut self, name: &str, value: &[u8]) -> Option<()> {
        let is = |expected: &str| name.eq_ignore_ascii_case(expected);
        // Told apart by length first: a head has a dozen lines that do not matter.
        match name.len() {
            14 if is("content-length") => {
                let length = Framing::Length(std::str::from_utf8(value).ok()?.trim().parse().ok()?);
                match self.framing {
                    None => self.framing = Some(length),
                    // Transfer-Encoding wins over a length, whichever comes first.
                    Some(Framing::Length(_)) if self.framing != Some(length) => return None,
                    Some(_) => {}
                }
            }
            17 if is("transfer-encoding") => {
                let chunked = last_token(value).eq_ignore_ascii_case(b"chunked");
                self.framing = Some(if chunked { Framing::Chunked } else { Framing::UntilClose });
            }
            12 if is("content-type") => self.media = media(value),
            16 if is("content-encoding") => {
                self.encoded = !value.trim_ascii().eq_ignore_ascii_case(b"identity");
            }
            7 if is("upgrade") => self.to_http2 = value.trim_ascii().eq_ignore_ascii_case(b"h2c"),
            12 if is("x-request-id") => self.request_id = identity(value),
            11 if is("traceparent") => self.trace_id = trace_id(value),
            _ => {}
        }
        Some(())
    }
}

fn last_token(value: &[u8]) -> &[u8] {
    value.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii()
}

fn media(value: &[u8]) -> Media {
    let kind = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if kind.eq_ignore_ascii_case(b"text/event-stream") {
        Media::Events
    } else if kind.eq_ignore_ascii_case(b"application/json") || kind.to_ascii_lowercase().ends_with(b"+json")
    {
        Media::Json
    } else {
        Media::Other
    }
}

/// Printable ASCII of `value`, bounded.
pub fn identity(value: &[u8]) -> Option<Box<str>> {
    let kept: String = value
        .iter()
        .filter(|byte| byte.is_ascii_graphic())
        .take(IDENTITY_BYTES_MAX)
        .map(|byte| char::from(*byte))
        .collect();
    (!kept.is_empty()).then(|| kept.into())
}

/// The second part of `version-trace-parent-flags`.
fn trace_id(value: &[u8]) -> Option<Box<str>> {
    let id = value.trim_ascii().split(|byte| *byte == b'-').nth(1)?;
    let valid =
        id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit) && id.iter().any(|digit| *digit != b'0');
    valid.then(|| identity(id)).flatten()
}

/// Where `target` leads. Only a POST is inference.
fn route(method: &str, target: &str) -> Route {
    let path = path_of(target);
    let bare = path.strip_prefix("/v1").or_else(|| path.strip_prefix("/v2")).unwrap_or(path);
    let other = match bare {
        "/health" | "/healthz" | "/ping" | "/livez" | "/readyz" | "/health_generate" => OtherRoute::Health,
        "/metrics" => OtherRoute::Metrics,
        "/tokenize" | "/detokenize" | "/messages/count_tokens" => OtherRoute::Tokenize,
        "/docs" | "/redoc" | "/openapi.json" => OtherRoute::Docs,
        _ if bare == "/models" || bare.starts_with("/models/") => OtherRoute::Models,
        _ => OtherRoute::Rest,
    };
    if method != "POST" {
        return Route::Other(other);
    }
    match bare {
        "/chat/completions" => Route::ChatCompletions,
        "/completions" => Route::Completions,
        "/responses" => Route::Responses,
        "/messages" => Route::Messages,
        "/embeddings" => Route::Embeddings,
        "/score" => Route::Score,
        "/rerank" => Route::Rerank,
        "/pooling" => Route::Pooling,
        "/classify" => Route::Classify,
        "/generate" => Route::Generate,
        _ if bare.starts_with("/audio/") => Route::Audio,
        _ => Route::Other(other),
    }
}

/// Path of a request target: no query, no final slash, no `http://host` of an absolute form.
fn path_of(target: &str) -> &str {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    let path = target.split(['?', '#']).next().unwrap_or_default();
    path.strip_suffix('/').unwrap_or(path)
}

/// A head that arrives in parts.
#[derive(Default)]
pub struct HeadBuffer {
    bytes: Vec<u8>,
}

impl HeadBuffer {
    /// Adds `piece` and parses when the head may be complete; returns it with how many bytes of `piece`
    /// belong to it.
    ///
    /// # Errors
    /// That of `parse`, or `too_long`.
    pub fn feed<T>(
        &mut self,
        piece: &[u8],
        parse: impl Fn(&[u8]) -> Parsed<T>,
        too_long: ParseFailure,
    ) -> Parsed<T> {
        if self.bytes.is_empty() {
            let parsed = parse(piece)?;
            if parsed.is_none() {
                self.keep(piece, too_long)?;
            }
            return Ok(parsed);
        }
        let before = self.bytes.len();
        let room = HEAD_BYTES_MAX - before;
        self.bytes.extend_from_slice(&piece[..piece.len().min(room)]);
        // A head sent byte by byte is not parsed at each of them.
        let parsed = if before < 16 || ends_within(&self.bytes, before) { parse(&self.bytes)? } else { None };
        match parsed {
            Some((head, len)) => Ok(Some((head, len - before))),
            None if piece.len() > room => Err(too_long),
            None => Ok(None),
        }
    }

    fn keep(&mut self, piece: &[u8], too_long: ParseFailure) -> Result<(), ParseFailure> {
        if piece.len() > HEAD_BYTES_MAX {
            return Err(too_long);
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Memory it holds, in bytes.
    pub fn held(&self) -> usize {
        self.bytes.capacity()
    }

    /// The bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A blank line ends in `bytes[from..]`.
fn ends_within(bytes: &[u8], from: usize) -> bool {
    let start = from.saturating_sub(3);
    memchr::memchr_iter(b'\n', &bytes[start..])
        .any(|at| matches!(bytes[start + at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::record::OtherRoute::{Docs, Health, Metrics, Models, Rest, Tokenize};

    fn request_of(lines: &str) -> Result<RequestHead, ParseFailure> {
        let bytes = format!("{}\r\n\r\n", lines.trim().replace('\n', "\r\n"));
        request(bytes.as_bytes()).map(|parsed| parsed.expect("the head is complete").0)
    }

    fn response_of(lines: &str) -> ResponseHead {
        let bytes = format!("{}\r\n\r\n", lines.trim().replace('\n', "\r\n"));
        response(bytes.as_bytes()).unwrap().unwrap().0
    }

    fn check_route(line: &str, expected: Route) {
        assert_eq!(request_of(&format!("{line} HTTP/1.1")).unwrap().route, expected, "{line}");
    }

    #[test]
    fn only_a_post_to_an_inference_route_is_inference() {
        check_route("POST /v1/chat/completions", Route::ChatCompletions);
        check_route("POST /v1/chat/completions?a=b", Route::ChatCompletions);
        check_route("POST http://host:8000/v1/completions", Route::Completions);
        check_route("POST /completions/", Route::Completions);
        check_route("POST /v1/responses", Route::Responses);
        check_route("POST /v1/messages", Route::Messages);
        check_route("POST /v2/rerank", Route::Rerank);
        check_route("POST /v1/audio/transcriptions", Route::Audio);
        check_route("POST /generate", Route::Generate);
        check_route("GET /v1/chat/completions", Route::Other(Rest));
        check_route("OPTIONS /v1/chat/completions", Route::Other(Rest));
        check_route("GET /v1/responses/resp_1", Route::Other(Rest));
        check_route("POST /v1/responses/resp_1/cancel", Route::Other(Rest));
        check_route("POST /x?/v1/chat/completions", Route::Other(Rest));
    }

    #[test]
    fn other_routes_are_named() {
        check_route("GET /health", Route::Other(Health));
        check_route("GET /metrics", Route::Other(Metrics));
        check_route("GET /v1/models", Route::Other(Models));
        check_route("POST /tokenize", Route::Other(Tokenize));
        check_route("POST /v1/messages/count_tokens", Route::Other(Tokenize));
        check_route("GET /openapi.json", Route::Other(Docs));
        check_route("GET /", Route::Other(Rest));
        check_route("OPTIONS *", Route::Other(Rest));
    }

    fn check_framing(headers: &str, expected: Option<Framing>) {
        let framing = request_of(&format!("POST / HTTP/1.1\n{headers}")).ok().map(|head| head.framing);
        assert_eq!(framing, expected, "{headers}");
    }

    #[test]
    fn bodies_are_framed_as_the_headers_say() {
        check_framing("host: h", Some(Framing::Length(0)));
        check_framing("Content-Length: 12", Some(Framing::Length(12)));
        check_framing("content-length: 12\ncontent-length: 12", Some(Framing::Length(12)));
        check_framing("content-length: 12\ncontent-length: 13", None);
        check_framing("content-length: -1", None);
        check_framing("transfer-encoding: gzip, Chunked", Some(Framing::Chunked));
        check_framing("content-length: 3\ntransfer-encoding: chunked", Some(Framing::Chunked));
        check_framing("transfer-encoding: chunked\ncontent-length: 3", Some(Framing::Chunked));
        check_framing("transfer-encoding: gzip", None);
    }

    #[test]
    fn an_answer_without_length_ends_with_the_connection() {
        assert_eq!(response_of("HTTP/1.1 200 OK\nx: y").framing, Framing::UntilClose);
        assert_eq!(response_of("HTTP/1.0 200\ncontent-length: 0").framing, Framing::Length(0));
    }

    #[test]
    fn media_and_encodings_are_recognised() {
        let head = response_of(
            "HTTP/1.1 200 OK\nContent-Type: Text/Event-Stream; charset=utf-8\ncontent-encoding: gzip",
        );
        assert_eq!((head.media, head.encoded), (Media::Events, true));
        let head = response_of(
            "HTTP/1.1 200 OK\ncontent-type: application/problem+json\ncontent-encoding: identity",
        );
        assert_eq!((head.media, head.encoded), (Media::Json, false));
        assert_eq!(response_of("HTTP/1.1 200 OK\ncontent-type: audio/mpeg").media, Media::Other);
        assert_eq!(response_of("HTTP/1.1 200 OK").media, Media::Unsaid);
    }

    fn check_identity(headers: &str, request_id: Option<&str>, trace_id: Option<&str>) {
        let head = request_of(&format!("POST / HTTP/1.1\n{headers}")).unwrap();
        assert_eq!(
            (head.request_id.as_deref(), head.trace_id.as_deref()),
            (request_id, trace_id),
            "{headers}"
        );
    }

    #[test]
    fn identities_are_bounded_and_printable() {
        check_identity("X-Request-Id: abc", Some("abc"), None);
        check_identity("x-request-id: a\u{e9} b\tc", Some("abc"), None);
        check_identity(
            &format!("x-request-id: {}", "x".repeat(500)),
            Some(&"x".repeat(IDENTITY_BYTES_MAX)),
            None,
        );
        check_identity("x-request-id: \u{e9}", None, None);
        let id = "0af7651916cd43dd8448eb211c80319c";
        check_identity(&format!("traceparent: 00-{id}-b7ad6b7169203331-01"), None, Some(id));
        check_identity("traceparent: 00-00000000000000000000000000000000-b7ad6b7169203331-01", None, None);
        check_identity("traceparent: garbage", None, None);
    }

    fn check_failure(bytes: &[u8], expected: ParseFailure) {
        assert_eq!(request(bytes).err(), Some(expected), "{bytes:?}");
    }

    #[test]
    fn other_protocols_are_told_from_broken_heads() {
        check_failure(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ParseFailure::Http2);
        check_failure(b"\x16\x03\x01\x02\0\x01\0", ParseFailure::Tls);
        check_failure(b"POST /\x01 HTTP/1.1\r\n\r\n", ParseFailure::RequestHead);
        check_failure(b"GET / HTTP/9.9\r\n\r\n", ParseFailure::RequestHead);
    }

    #[test]
    fn a_head_may_be_split_anywhere() {
        let whole = b"POST /v1/completions HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}next";
        let head_len = whole.len() - 6;
        for at in 1..head_len {
            let mut buffer = HeadBuffer::default();
            assert!(buffer.feed(&whole[..at], request, ParseFailure::RequestHead).unwrap().is_none());
            let (head, len) = buffer.feed(&whole[at..], request, ParseFailure::RequestHead).unwrap().unwrap();
            assert_eq!((head.route, at + len), (Route::Completions, head_len));
        }
    }

    #[test]
    fn a_head_that_never_ends_is_refused() {
        let mut buffer = HeadBuffer::default();
        let mut feed = |line: &str| buffer.feed(line.as_bytes(), request, ParseFailure::RequestHead);
        assert!(feed("GET / HTTP/1.1\r\n").unwrap().is_none());
        let header = format!("a: {}\r\n", "b".repeat(100));
        let refused = (0..).map(|_| feed(&header)).position(|fed| fed.is_err());
        assert_eq!(refused, Some((HEAD_BYTES_MAX - 16) / header.len()));
    }
}
