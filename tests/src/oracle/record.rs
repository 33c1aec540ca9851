//! The agent's records, from its HTTP API.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::socket::Endpoint;
use crate::transcript::{BodyReader, response_head};

/// Records asked for in one call.
const PAGE: usize = 1000;
/// Calls at most.
const PAGES_MAX: usize = 10_000;
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// One request as the agent measured it. What the agent does not say is the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentRecord {
    pub seq: u64,
    pub workload: Option<String>,
    pub model: Option<String>,
    pub route: Option<String>,
    pub status: Option<u16>,
    pub outcome: Option<String>,
    pub streamed: Option<bool>,
    pub duration_seconds: f64,
    pub ttft_seconds: Option<f64>,
    pub read_delay_seconds: Option<f64>,
    pub send_wait_seconds: Option<f64>,
    pub chunks: u64,
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    pub gaps: Option<Gaps>,
    pub confidence: Option<f64>,
    pub empty: Option<bool>,
    pub request_id: Option<String>,
    pub response_id: Option<String>,
    /// Why it is incomplete.
    pub incomplete: Option<String>,
}

/// Times between writes with deltas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gaps {
    pub count: u64,
    pub sum_seconds: f64,
    pub max_seconds: f64,
}

/// Number of the agent's newest record; 0 where it has none.
///
/// # Errors
///
/// Where the agent does not answer, or not with records.
pub fn newest_record(agent: SocketAddr) -> Result<u64> {
    let page = parse_page(&http_get(&Endpoint::Tcp(agent), "/api/v1/requests?limit=1")?)
        .context("read the agent's records")?;
    Ok(page.requests.iter().map(|record| record.seq).max().unwrap_or(0))
}

/// All records after number `after`.
///
/// # Errors
///
/// Where the agent does not answer, or not with records.
pub fn fetch_records(agent: SocketAddr, mut after: u64) -> Result<Vec<AgentRecord>> {
    let mut records = Vec::new();
    for _ in 0..PAGES_MAX {
        let body = http_get(&Endpoint::Tcp(agent), &format!("/api/v1/requests?after={after}&limit={PAGE}"))?;
        let page = parse_page(&body).context("read the agent's records")?;
        if page.missed > 0 {
            bail!("the agent no longer keeps {} of its records after number {after}", page.missed);
        }
        let Some(last) = page.requests.iter().map(|record| record.seq).max().filter(|last| *last > after)
        else {
            return Ok(records);
        };
        after = last;
        records.extend(page.requests);
    }
    bail!("the agent's list of requests does not end");
}

/// One answer of the agent.
#[derive(Deserialize)]
struct Page {
    requests: Vec<AgentRecord>,
    /// Records after the one asked for that the agent no longer keeps.
    #[serde(default)]
    missed: u64,
}

fn parse_page(body: &[u8]) -> Result<Page> {
    serde_json::from_slice(body).context("parse page of records")
}

/// Body of a `GET` that is answered with 200.
///
/// # Errors
///
/// Where it is not.
pub fn http_get(server: &Endpoint, path: &str) -> Result<Vec<u8>> {
    http_get_as(server, path, "*/*")
}

/// The same, of a page that is served in several formats.
///
/// # Errors
///
/// Where it is not.
pub fn http_get_as(server: &Endpoint, path: &str, accept: &str) -> Result<Vec<u8>> {
    let context = || format!("get {path} from {server}");
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    let bytes = ask(server, &request).with_context(context)?;
    let Some(head) = response_head(&bytes).with_context(context)? else { bail!("{}: no answer", context()) };
    if head.status != 200 {
        bail!("{}: status {}", context(), head.status);
    }
    let mut reader = BodyReader::new(head.framing, head.length);
    reader.advance(&bytes).with_context(context)?;
    Ok(reader.body.bytes)
}

/// Sends, and reads to the end.
fn ask(server: &Endpoint, request: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match server {
        Endpoint::Tcp(address) => {
            let mut stream = TcpStream::connect_timeout(address, ANSWER_TIME_MAX)?;
            stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_end(&mut bytes)?;
        }
        Endpoint::Unix(path) => {
            let mut stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
            stream.write_all(request.as_bytes())?;
            stream.read_to_end(&mut bytes)?;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_of_a_page_are_passed_over() {
        let text = r#"{"next":2,"missed":1,"requests":[{"seq":1,"gaps":{"count":2,"later":1},"later":true,"ttft_seconds":null}]}"#;
        let page = parse_page(text.as_bytes()).unwrap();
        assert_eq!((page.missed, page.requests[0].gaps.unwrap().count), (1, 2));
        assert!(parse_page(br#"{"error":"x"}"#).is_err());
    }
}
