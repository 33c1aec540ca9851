//! The one HTTP request that the verbs need: a GET on loopback.
//!
//! In: address and path. Out: status and body. No redirects, no TLS, no keep-alive: asking as HTTP/1.0 also keeps
//! the answer from coming in chunks.

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The agent answers within 50 ms; a starved machine takes longer.
const LIMIT: Duration = Duration::from_secs(5);
/// A page of the agent at its limit of series is below 2 MiB.
const BODY_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// # Errors
/// When nothing answers in time or the answer is no HTTP.
pub fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    let mut stream =
        TcpStream::connect_timeout(&address, LIMIT).with_context(|| format!("reach {address}"))?;
    stream.set_read_timeout(Some(LIMIT)).context("limit the wait")?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: */*\r\n\r\n")
        .with_context(|| format!("ask {address}{path}"))?;
    let mut text = String::new();
    stream.take(BODY_BYTES_MAX).read_to_string(&mut text).with_context(|| format!("read {address}{path}"))?;
    parse(&text).with_context(|| format!("understand what {address}{path} answers"))
}

/// # Errors
/// As [`get`]; also when the answer is not 200 with such a JSON document.
pub fn get_json<T: DeserializeOwned>(address: SocketAddr, path: &str) -> Result<T> {
    let answer = get(address, path)?;
    if answer.status != 200 {
        bail!("{address}{path} answers with status {}", answer.status);
    }
    serde_json::from_str(&answer.body).with_context(|| format!("read the JSON of {address}{path}"))
}

fn parse(text: &str) -> Result<Answer> {
    let (head, body) = text.split_once("\r\n\r\n").context("find the end of the head")?;
    let status = head.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    Ok(Answer { status: status.context("find the status")?, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_told_apart() {
        let answer = parse("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\nnope\n").unwrap();
        assert_eq!(answer, Answer { status: 503, body: "nope\n".into() });
    }

    #[test]
    fn what_is_no_http_is_an_error() {
        assert!(parse("SSH-2.0-OpenSSH\r\n").is_err());
        assert!(parse("hello world\r\n\r\n").is_err());
    }
}
