//! Asks the HTTP server of an agent, here or on another node: the other end of this room.
//!
//! In: an address and paths. Out: the bytes of the answers, or one sentence that says what failed, why, and what to do.
//! An answer is bounded in time and size, whoever gives it. Plain HTTP/1.1: the agent serves no TLS.

use std::error::Error as _;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::str::FromStr;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{ACCEPT, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::PORT;

/// What is read of an answer that is no page, for what it says.
const ERROR_BYTES_MAX: usize = 4096;
/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Where an agent serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or a number, that of IPv6 without brackets.
    host: String,
    port: u16,
    /// As the header `host` has it.
    authority: String,
    /// What stands before each path, without a slash at its end: of a proxy that serves several nodes.
    base: String,
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = whole.parse().map_err(|error| format!("{error}; {EXPECTED}"))?;
        if uri.scheme_str() != Some("http") {
            return Err(format!("only http:// is understood, the agent serves no TLS; {EXPECTED}"));
        }
        let (Some(host), Some(authority), None) = (uri.host(), uri.authority(), uri.query()) else {
            return Err(EXPECTED.to_owned());
        };
        // Else a port that is no number would be taken for none.
        let port = match (authority.as_str() == host, uri.port_u16()) {
            (true, _) => PORT,
            (false, Some(port)) if !authority.as_str().contains('@') => port,
            _ => return Err(EXPECTED.to_owned()),
        };
        let base = uri.path().trim_end_matches('/').to_owned();
        let authority = format!("{host}:{port}");
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(EXPECTED.to_owned());
        }
        Ok(Self { host, port, authority, base })
    }
}

const EXPECTED: &str = "expected http://HOST:PORT, for example http://127.0.0.1:9940";

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.base)
    }
}

/// What an answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For all answers of one [`ask`], the connection included.
    pub time: Duration,
    /// For each answer.
    pub bytes: usize,
}

/// Why there is no answer. What others said may be in it: to be cleaned before a terminal sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    what: String,
    why: String,
    remedy: &'static str,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.what, self.why, self.remedy)
    }
}

const START: &str =
    "start the agent there (`inferscope run`), or name the address that it listens on (`export.listen`)";
const LATE: &str = "the node may be short of processor time or the network slow: try again";
const OTHER: &str =
    "name the address of an inferscope agent, whose port is 9940 unless `export.listen` says otherwise";
const OLDER: &str = "name an inferscope agent that is at least as new as this program";

/// The pages at `paths`, asked for one after the other over one connection.
///
/// # Errors
/// No connection, no whole answer within the limits, or one whose status is not 200.
pub async fn ask(address: &Address, paths: &[&str], limits: Limits) -> Result<Vec<Vec<u8>>, Failure> {
    match timeout(limits.time, ask_all(address, paths, limits.bytes)).await {
        Ok(answers) => answers,
        Err(_late) => {
            let why = format!("there was no whole answer within {} s", limits.time.as_secs_f64());
            Err(address.failure("", why, LATE))
        }
    }
}

async fn ask_all(address: &Address, paths: &[&str], bytes_max: usize) -> Result<Vec<Vec<u8>>, Failure> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await;
    let stream = stream.map_err(|error| address.failure("", error.to_string(), START))?;
    let mut connect = Builder::new();
    connect.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = connect
        .handshake::<_, String>(TokioIo::new(stream))
        .await
        .map_err(|error| address.broken("", &error))?;
    // Ends with this function, whatever it waits for.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let mut answers = Vec::with_capacity(paths.len());
    for path in paths {
        answers.push(ask_one(&mut sender, address, path, bytes_max).await?);
    }
    Ok(answers)
}

async fn ask_one(
    sender: &mut SendRequest<String>,
    address: &Address,
    path: &str,
    bytes_max: usize,
) -> Result<Vec<u8>, Failure> {
    let request = Request::get(format!("{}{path}", address.base))
        .header(HOST, &address.authority)
        .header(ACCEPT, "application/json")
        .body(String::new())
        .map_err(|error| address.failure(path, error.to_string(), EXPECTED))?;
    let broken = |error| address.broken(path, &error);
    sender.ready().await.map_err(broken)?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    if status != StatusCode::OK {
        let said = read(response.into_body(), ERROR_BYTES_MAX).await.ok().flatten();
        return Err(address.refused(path, status, said.as_deref().unwrap_or_default()));
    }
    let answer = read(response.into_body(), bytes_max).await.map_err(broken)?;
    let too_long = || format!("its answer is longer than {bytes_max} bytes");
    answer.ok_or_else(|| address.failure(path, too_long(), OTHER))
}

/// The whole of `body`; `None` where it is longer than `bytes_max`.
async fn read(mut body: Incoming, bytes_max: usize) -> hyper::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame?.into_data() else { continue };
        if data.len() > bytes_max - bytes.len() {
            return Ok(None);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Some(bytes))
}

impl Address {
    /// That what `path` answers is not what an agent would.
    #[must_use]
    pub fn not_understood(&self, path: &str, why: String) -> Failure {
        self.failure(path, why, OTHER)
    }

    fn failure(&self, path: &str, why: String, remedy: &'static str) -> Failure {
        Failure { what: format!("no answer of an agent from {self}{path}"), why, remedy }
    }

    fn broken(&self, path: &str, error: &hyper::Error) -> Failure {
        let why = if error.is_parse() {
            "what answers there does not speak HTTP/1.1"
        } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            "the connection was closed before the answer was complete"
        } else {
            return self.failure(path, chain(error), LATE);
        };
        self.failure(path, why.to_owned(), OTHER)
    }

    /// Its status is not 200; an agent says why in JSON.
    fn refused(&self, path: &str, status: StatusCode, said: &[u8]) -> Failure {
        let said: Option<serde_json::Value> = serde_json::from_slice(said).ok();
        let reason = said.as_ref().and_then(|said| said["error"].as_str());
        let why = match reason {
            Some(reason) => format!("it answered {status} ({reason})"),
            None => format!("it answered {status}"),
        };
        let remedy = match status {
            StatusCode::NOT_FOUND => OLDER,
            status if status.is_server_error() => LATE,
            _ => OTHER,
        };
        self.failure(path, why, remedy)
    }
}

/// The error and its causes: the library says only where it happened.
fn chain(error: &hyper::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push_str(&format!(": {error}"));
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests;
