//! Asks HTTP servers for pages: an agent for those of its API, a server of models for its metrics and for answers.
//!
//! In: who is asked and as whom, paths and limits. Out: the bytes of the answers, or what failed and why. An answer is bounded
//! in time and size, its head included, whoever gives it. HTTP/1.1, over TLS where the address says so, one connection for
//! each call.

pub mod credentials;

use std::error::Error as _;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::http::request;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

pub use hyper::StatusCode;

use self::credentials::Credentials;

/// What is read of an answer that is no page, for what it says.
const ERROR_BYTES_MAX: usize = 4096;
/// Longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Speaks TLS.
    secure: bool,
    /// A name or a number, that of IPv6 without brackets.
    host: String,
    port: u16,
    /// As the header `host` has it.
    authority: String,
    /// What stands before each path, without a slash at its end: of a proxy that serves several nodes.
    base: String,
}

impl Address {
    /// Of `HOST`, `HOST:PORT`, or the same after `http://` or `https://` and before a path.
    ///
    /// # Errors
    /// Why the text is none of these.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = whole.parse().map_err(|error| format!("{error}"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("only http:// and https:// are understood".to_owned()),
        };
        let (Some(host), Some(authority), None) = (uri.host(), uri.authority(), uri.query()) else {
            return Err("it has no host, or a query".to_owned());
        };
        // Else a port that is no number would be taken for none.
        let port = match (authority.as_str() == host, uri.port_u16()) {
            (true, _) => default_port,
            (false, Some(port)) if !authority.as_str().contains('@') => port,
            _ => return Err("after the host there is no port".to_owned()),
        };
        let base = uri.path().trim_end_matches('/').to_owned();
        let authority = format!("{host}:{port}");
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err("the host is empty".to_owned());
        }
        Ok(Self { secure, host, port, authority, base })
    }
}

impl Address {
    /// Whether TLS is spoken there.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let (host, port) = (address.ip().to_string(), address.port());
        Self { secure: false, host, port, authority: address.to_string(), base: String::new() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.base)
    }
}

/// Who is asked, and as whom.
#[derive(Clone, Debug)]
pub struct Server {
    pub address: Address,
    pub credentials: Credentials,
}

impl Server {
    /// What every request begins with.
    fn request(&self, request: request::Builder) -> request::Builder {
        let request = request.header(HOST, &self.address.authority);
        match self.credentials.authorization() {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        }
    }
}

impl From<Address> for Server {
    fn from(address: Address) -> Self {
        Self { address, credentials: Credentials::default() }
    }
}

impl From<SocketAddr> for Server {
    fn from(address: SocketAddr) -> Self {
        Address::from(address).into()
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// What an answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For all answers of one [`get`], the connection included.
    pub time: Duration,
    /// For each answer.
    pub bytes: usize,
}

/// There is no answer. What the server said may be in it: to be cleaned before a terminal sees it.
#[derive(Debug)]
pub struct Failure {
    /// The page, or only the server where it is not one page's fault.
    pub url: String,
    pub why: Why,
}

/// What was in the way.
#[derive(Debug)]
pub enum Why {
    /// The server cannot be connected to.
    Connect(io::Error),
    /// It does not speak TLS, or not as the one that it should be.
    Tls(io::Error),
    /// Not all answers came within this time.
    Late(Duration),
    /// What answers speaks otherwise, or its head does not end.
    NotHttp,
    Closed,
    Broken(String),
    /// The status is not 200; with the first bytes of what the answer says.
    Status(StatusCode, Vec<u8>),
    /// The answer has more bytes than these.
    TooLong(usize),
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.url, self.why)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "{error}"),
            Self::Tls(error) => write!(f, "no TLS with it: {error}"),
            Self::Late(time) => write!(f, "there was no whole answer within {} s", time.as_secs_f64()),
            Self::NotHttp => f.write_str("what answers there does not speak HTTP/1.1"),
            Self::Closed => f.write_str("the connection was closed before the answer was complete"),
            Self::Broken(error) => f.write_str(error),
            Self::Status(status, _) => write!(f, "it answered {status}"),
            Self::TooLong(bytes) => write!(f, "its answer is longer than {bytes} bytes"),
        }
    }
}

impl From<hyper::Error> for Why {
    fn from(error: hyper::Error) -> Self {
        if error.is_parse() {
            return Self::NotHttp;
        }
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        let ends_early = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::UnexpectedEof);
        if ends_early || error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            return Self::Closed;
        }
        // With its causes: by itself the library says only where it happened.
        Self::Broken(format!("{:#}", anyhow::Error::from(error)))
    }
}

/// The pages at `paths` in the form `accept`, asked for one after the other over one connection.
///
/// # Errors
/// No connection, no whole answer within the limits, or one whose status is not 200.
pub async fn get(
    server: &Server,
    paths: &[&str],
    accept: &str,
    limits: Limits,
) -> Result<Vec<Vec<u8>>, Failure> {
    let at = |path: &str, why| Failure { url: format!("{server}{path}"), why };
    let all = async {
        let (mut sender, _driver) = connect(server).await.map_err(|why| at("", why))?;
        let mut answers = Vec::with_capacity(paths.len());
        for path in paths {
            let request = server
                .request(Request::get(format!("{}{path}", server.address.base)))
                .header(ACCEPT, accept)
                .body(String::new())
                .map_err(|error| at(path, Why::Broken(error.to_string())))?;
            let answer = exchange(&mut sender, request, limits.bytes).await;
            answers.push(answer.map_err(|why| at(path, why))?);
        }
        Ok(answers)
    };
    timeout(limits.time, all).await.unwrap_or_else(|_late| Err(at("", Why::Late(limits.time))))
}

/// The answer to a question in JSON, with more headers.
///
/// # Errors
/// As [`get`].
pub async fn post(
    server: &Server,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
    limits: Limits,
) -> Result<Vec<u8>, Failure> {
    let at = |why| Failure { url: format!("{server}{path}"), why };
    let one = async {
        let (mut sender, _driver) = connect(server).await?;
        let plain = server
            .request(Request::post(format!("{}{path}", server.address.base)))
            .header(CONTENT_TYPE, "application/json");
        let request = headers.iter().fold(plain, |request, (name, value)| request.header(*name, *value));
        let request = request.body(body).map_err(|error| Why::Broken(error.to_string()))?;
        exchange(&mut sender, request, limits.bytes).await
    };
    timeout(limits.time, one).await.unwrap_or(Err(Why::Late(limits.time))).map_err(at)
}

/// A connection, and the task that drives it: dropped, it ends, whatever it waits for.
async fn connect(server: &Server) -> Result<(SendRequest<String>, JoinSet<hyper::Result<()>>), Why> {
    let Address { secure, host, port, .. } = &server.address;
    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(Why::Connect)?;
    if *secure {
        speak(server.credentials.shake(host, stream).await.map_err(Why::Tls)?).await
    } else {
        speak(stream).await
    }
}

async fn speak<S>(stream: S) -> Result<(SendRequest<String>, JoinSet<hyper::Result<()>>), Why>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    Ok((sender, driver))
}

async fn exchange(
    sender: &mut SendRequest<String>,
    request: Request<String>,
    bytes_max: usize,
) -> Result<Vec<u8>, Why> {
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    if status != StatusCode::OK {
        let said = read(response.into_body(), ERROR_BYTES_MAX).await;
        return Err(Why::Status(status, said.unwrap_or_default()));
    }
    read(response.into_body(), bytes_max).await
}

async fn read(mut body: Incoming, bytes_max: usize) -> Result<Vec<u8>, Why> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame?.into_data() else { continue };
        if data.len() > bytes_max - bytes.len() {
            return Err(Why::TooLong(bytes_max));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
