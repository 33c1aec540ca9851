//! The API process of the laboratory's server: one event loop that reads requests, has the engine answer them, and
//! streams what it says.
//!
//! In: POSTs with `"max_tokens": N` in their body. Out: event streams of N tokens in the OpenAI wire format, with usage.
//! SIGUSR1: the event loop computes for half a second and does nothing else.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::engine::spin;

/// What SIGUSR1 asks for.
pub const BLOCKS: Duration = Duration::from_millis(500);
/// Longest head and body of a request.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Tokens of a request that does not say how many.
const TOKENS: u32 = 16;

/// Its own numbers: one, which is enough to be known by.
const METRICS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: 28\r\n\r\n\
                       vllm:num_requests_waiting 0\n";

/// What a client wants.
enum Asked {
    Tokens(u32),
    Metrics,
}

/// One thing that the engine said of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Token,
    End,
}

/// How it answers.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes that the kernel may hold for a client that does not read.
    pub send_buffer: Option<u32>,
    /// Bytes of text in each token.
    pub text_bytes: usize,
}

struct Shared {
    engine: UnixStream,
    next: AtomicU64,
    /// Who waits for what the engine says.
    answers: watch::Sender<HashMap<u64, UnboundedSender<Said>>>,
    options: Options,
}

/// Serves at `listener` with the engine at the other end of `engine`, until SIGTERM.
///
/// # Errors
///
/// Where the engine ends, or the socket breaks.
pub async fn serve(listener: TcpListener, engine: UnixStream, options: Options) -> Result<()> {
    let reader = BufReader::new(engine.try_clone().context("clone the engine's socket")?);
    let (said, mut says) = unbounded_channel();
    std::thread::Builder::new().name("receiver".to_owned()).spawn(move || receive(reader, &said))?;
    let shared =
        Arc::new(Shared { engine, next: AtomicU64::new(0), answers: watch::Sender::default(), options });
    let (mut blocks, mut ends) = (signal(SignalKind::user_defined1())?, signal(SignalKind::terminate())?);
    loop {
        tokio::select! {
            _ = ends.recv() => return Ok(()),
            _ = blocks.recv() => spin(BLOCKS),
            line = says.recv() => {
                let (number, what) = line.context("the engine has ended")?;
                shared.answers.send_modify(|answers| {
                    if let Some(answer) = answers.get(&number) {
                        let _gone = answer.send(what);
                    }
                    if what == Said::End {
                        answers.remove(&number);
                    }
                });
            }
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("accept")?;
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    // A client that leaves is no fault of the server's.
                    let _ = connection(stream, &shared).await;
                });
            }
        }
    }
}

/// Listens at a port of loopback.
///
/// # Errors
///
/// Where there is none.
pub fn listen(address: std::net::SocketAddr) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("listen at {address}"))?;
    Ok(socket.listen(1024)?)
}

fn receive(reader: BufReader<UnixStream>, said: &UnboundedSender<(u64, Said)>) {
    for line in reader.lines().map_while(Result::ok) {
        let Some((what, number)) = line.split_once(' ') else { continue };
        let Ok(number) = number.parse() else { continue };
        let what = if what == "end" { Said::End } else { Said::Token };
        if said.send((number, what)).is_err() {
            return;
        }
    }
}

async fn connection(mut stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    if let Some(bytes) = shared.options.send_buffer {
        socket2::SockRef::from(&stream).set_send_buffer_size(bytes as usize)?;
    }
    let mut inbox = Vec::new();
    while let Some(asked) = request(&mut stream, &mut inbox).await? {
        let Asked::Tokens(tokens) = asked else {
            stream.write_all(METRICS.as_bytes()).await?;
            continue;
        };
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let (answer, mut said) = unbounded_channel();
        shared.answers.send_modify(|answers| drop(answers.insert(number, answer)));
        (&shared.engine)
            .write_all(format!("begin {number} {tokens}\n").as_bytes())
            .context("tell the engine")?;
        respond(&mut stream, number, tokens, shared.options.text_bytes, &mut said).await?;
    }
    Ok(())
}

/// Reads one request. `None` at the client's end.
async fn request(stream: &mut TcpStream, inbox: &mut Vec<u8>) -> Result<Option<Asked>> {
    loop {
        if let Some(taken) = whole(inbox) {
            let text = String::from_utf8_lossy(&inbox[..taken]).into_owned();
            inbox.drain(..taken);
            if text.starts_with("GET /metrics ") {
                return Ok(Some(Asked::Metrics));
            }
            let tokens = number_after(&text, "\"max_tokens\":").unwrap_or(u64::from(TOKENS));
            return Ok(Some(Asked::Tokens(tokens.clamp(1, 10_000) as u32)));
        }
        anyhow::ensure!(inbox.len() < REQUEST_BYTES_MAX, "a request that long is not served");
        if stream.read_buf(inbox).await? == 0 {
            return Ok(None);
        }
    }
}

/// Length of the request at the beginning of `inbox`, once it is whole.
fn whole(inbox: &[u8]) -> Option<usize> {
    let head = inbox.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&inbox[..head]).to_ascii_lowercase();
    let length = number_after(&text, "content-length:").unwrap_or(0);
    let end = head + usize::try_from(length).ok()?;
    (inbox.len() >= end).then_some(end)
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text[text.find(name)? + name.len()..].trim_start();
    let end = rest.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

async fn respond(
    stream: &mut TcpStream,
    number: u64,
    tokens: u32,
    text_bytes: usize,
    said: &mut UnboundedReceiver<Said>,
) -> Result<()> {
    stream
        .write_all(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await?;
    let text = "x".repeat(text_bytes);
    while let Some(what) = said.recv().await {
        let event = match what {
            Said::Token => format!(
                r#"{{"id":"lab-{number}","model":"lab","choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#
            ),
            Said::End => format!(
                r#"{{"id":"lab-{number}","model":"lab","choices":[],"usage":{{"prompt_tokens":100,"completion_tokens":{tokens}}}}}"#
            ),
        };
        chunk(stream, &format!("data: {event}\n\n")).await?;
        if what == Said::End {
            break;
        }
    }
    chunk(stream, "data: [DONE]\n\n").await?;
    Ok(stream.write_all(b"0\r\n\r\n").await?)
}

async fn chunk(stream: &mut TcpStream, text: &str) -> Result<()> {
    Ok(stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await?)
}
