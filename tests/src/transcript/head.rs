//! Heads of requests and responses, and how long their bodies are.

use anyhow::{Context as _, Result};

/// Header fields of one head at most.
const HEADERS_MAX: usize = 64;

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(usize),
    Chunked,
    /// The connection ends with it.
    UntilClose,
}

/// Head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Bytes of the head, the empty line included.
    pub length: usize,
    pub method: String,
    /// Without the query.
    pub path: String,
    pub framing: Framing,
    pub request_id: Option<String>,
    pub expects_continue: bool,
    /// `connection: close`.
    pub closes: bool,
    headers: Vec<(String, Vec<u8>)>,
}

impl RequestHead {
    /// First value of the header, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }
}

/// Head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    pub length: usize,
    pub status: u16,
    pub framing: Framing,
    pub event_stream: bool,
    pub closes: bool,
}

/// Reads the head at the start of `bytes`; `None` while it is not whole.
///
/// # Errors
///
/// Where the bytes are no HTTP/1 request.
pub fn request_head(bytes: &[u8]) -> Result<Option<RequestHead>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes).context("parse request head")? else {
        return Ok(None);
    };
    let headers = owned(request.headers);
    let path = request.path.unwrap_or_default();
    Ok(Some(RequestHead {
        length,
        method: request.method.unwrap_or_default().to_owned(),
        path: path.split('?').next().unwrap_or_default().to_owned(),
        framing: framing(&headers)?.unwrap_or(Framing::Length(0)),
        request_id: text(&headers, "x-request-id").map(str::to_owned),
        expects_continue: text(&headers, "expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue")),
        closes: closes(&headers),
        headers,
    }))
}

/// Reads the head at the start of `bytes`; `None` while it is not whole.
///
/// # Errors
///
/// Where the bytes are no HTTP/1 response.
pub fn response_head(bytes: &[u8]) -> Result<Option<ResponseHead>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes).context("parse response head")? else {
        return Ok(None);
    };
    let headers = owned(response.headers);
    let status = response.code.unwrap_or_default();
    let bodiless = status < 200 || status == 204 || status == 304;
    let framing =
        if bodiless { Framing::Length(0) } else { framing(&headers)?.unwrap_or(Framing::UntilClose) };
    Ok(Some(ResponseHead {
        length,
        status,
        framing,
        event_stream: text(&headers, "content-type").is_some_and(|v| v.starts_with("text/event-stream")),
        closes: closes(&headers) || framing == Framing::UntilClose,
    }))
}

fn owned(headers: &[httparse::Header<'_>]) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|header| (header.name.to_owned(), header.value.to_vec())).collect()
}

fn text<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a str> {
    let (_, value) = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    std::str::from_utf8(value).ok()
}

fn framing(headers: &[(String, Vec<u8>)]) -> Result<Option<Framing>> {
    if text(headers, "transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked")) {
        return Ok(Some(Framing::Chunked));
    }
    let Some(length) = text(headers, "content-length") else { return Ok(None) };
    Ok(Some(Framing::Length(length.trim().parse().context("parse content-length")?)))
}

fn closes(headers: &[(String, Vec<u8>)]) -> bool {
    text(headers, "connection").is_some_and(|v| v.eq_ignore_ascii_case("close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_of_response() {
        let check = |head: &str, expected: Framing| {
            let head = response_head(head.as_bytes()).unwrap().unwrap();
            assert_eq!(head.framing, expected);
        };
        check("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", Framing::Length(12));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Framing::Chunked);
        check("HTTP/1.1 200 OK\r\n\r\n", Framing::UntilClose);
        check("HTTP/1.1 100 Continue\r\n\r\n", Framing::Length(0));
    }

    #[test]
    fn a_head_in_two_parts_is_not_whole_before_the_second() {
        let head = b"POST /v1/completions?x=1 HTTP/1.1\r\nX-Request-Id: a\r\nExpect: 100-continue\r\n\r\n";
        assert_eq!(request_head(&head[..40]).unwrap(), None);
        let head = request_head(head).unwrap().unwrap();
        assert_eq!((head.path.as_str(), head.request_id.as_deref()), ("/v1/completions", Some("a")));
        assert!(head.expects_continue);
    }
}
