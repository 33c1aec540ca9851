//! The agent's records, from its HTTP API.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::transcript::{BodyReader, response_head};

/// Records asked for in one call.
const PAGE: usize = 1000;
/// Calls at most.
const PAGES_MAX: usize = 10_000;
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// One request as the agent measured it. What the agent does not say is the default.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
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
    pub gaps_count: Option<u64>,
    pub gaps_sum_seconds: Option<f64>,
    pub gap_max_seconds: Option<f64>,
    pub confidence: Option<f64>,
    pub empty: Option<bool>,
    pub request_id: Option<String>,
    pub response_id: Option<String>,
    /// Why it is incomplete.
    pub incomplete: Option<String>,
}

/// All records after number `after`.
///
/// # Errors
///
/// Where the agent does not answer, or not with records.
pub fn fetch_records(agent: SocketAddr, mut after: u64) -> Result<Vec<AgentRecord>> {
    let mut records = Vec::new();
    for _ in 0..PAGES_MAX {
        let body = http_get(agent, &format!("/api/v1/requests?after={after}&limit={PAGE}"))?;
        let page = parse_page(&body).context("read the agent's records")?;
        let Some(last) = page.iter().map(|record| record.seq).max().filter(|last| *last > after) else {
            return Ok(records);
        };
        after = last;
        records.extend(page);
    }
    bail!("the agent's list of requests does not end");
}

/// A page is a list, or an object with one list in it.
fn parse_page(body: &[u8]) -> Result<Vec<AgentRecord>> {
    let value: Value = serde_json::from_slice(body).context("parse JSON")?;
    let list = match value {
        Value::Array(list) => list,
        Value::Object(fields) => match fields.into_iter().find_map(|(_, field)| match field {
            Value::Array(list) => Some(list),
            _ => None,
        }) {
            Some(list) => list,
            None => bail!("no list of records"),
        },
        _ => bail!("no list of records"),
    };
    list.into_iter().map(|record| serde_json::from_value(record).context("read record")).collect()
}

/// Body of a `GET` that is answered with 200.
///
/// # Errors
///
/// Where it is not.
pub fn http_get(server: SocketAddr, path: &str) -> Result<Vec<u8>> {
    let context = || format!("get {path} from {server}");
    let mut stream = TcpStream::connect_timeout(&server, ANSWER_TIME_MAX).with_context(context)?;
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).with_context(context)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).with_context(context)?;
    let Some(head) = response_head(&bytes).with_context(context)? else { bail!("{}: no answer", context()) };
    if head.status != 200 {
        bail!("{}: status {}", context(), head.status);
    }
    let mut reader = BodyReader::new(head.framing, head.length);
    reader.advance(&bytes).with_context(context)?;
    Ok(reader.body.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_lists_or_hold_one() {
        let check = |text: &str, expected: Option<usize>| {
            assert_eq!(parse_page(text.as_bytes()).ok().map(|page| page.len()), expected, "{text}");
        };
        check(r#"[{"seq":1,"duration_seconds":0.5,"later":true}]"#, Some(1));
        check(r#"{"next":2,"requests":[{"seq":1,"ttft_seconds":null}]}"#, Some(1));
        check(r#"{"requests":[]}"#, Some(0));
        check(r#"{"error":"x"}"#, None);
        check("3", None);
    }
}
