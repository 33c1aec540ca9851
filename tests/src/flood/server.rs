//! The server: writes each event by itself, at once, and counts its calls.
//!
//! In: `POST` with or without [`EVENTS_HEADER`], `GET` of anything. Out: answers, and [`Counted`] at the end.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::transcript::{RequestHead, request_head};

use super::{EVENTS_HEADER, EVENTS_MAX, GAP_HEADER, GAP_MAX, STREAM_END};

/// The model that every answer names.
pub const SERVED_MODEL: &str = "flood";
const READ_BYTES: usize = 16 << 10;
/// Clients that have left are noticed in this time.
const CLOSED_MAX: Duration = Duration::from_secs(5);

/// What the server did, by system call; each is one event of a socket that is followed from its first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Reads that brought bytes.
    pub reads: u64,
    /// Reads that brought the client's end.
    pub ends: u64,
    pub writes: u64,
    pub accepted: u64,
    /// Connections that the client closed and then the server: two changes of the socket each.
    pub closed: u64,
    pub requests: u64,
    pub events: u64,
}

impl Counted {
    /// Events of sockets that an observer in the kernel sees.
    #[must_use]
    pub fn socket_events(&self) -> u64 {
        self.reads + self.ends + self.writes + 2 * self.closed
    }
}

#[derive(Debug, Default)]
struct Counters {
    reads: AtomicU64,
    ends: AtomicU64,
    writes: AtomicU64,
    accepted: AtomicU64,
    closed: AtomicU64,
    requests: AtomicU64,
    events: AtomicU64,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Listens on a free port of loopback, says which, serves until it is told to end, and says what it counted.
///
/// # Errors
///
/// Where it cannot listen.
pub fn serve() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
    println!("listening at {}", listener.local_addr()?);
    let counters = Arc::new(Counters::default());
    let shared = Arc::clone(&counters);
    std::thread::spawn(move || accept(&listener, &shared));
    wait_for_end()?;
    wait_until_closed(&counters);
    println!("{}", serde_json::to_string(&counters.read())?);
    Ok(())
}

fn wait_for_end() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        signal(SignalKind::terminate())?.recv().await;
        Ok(())
    })
}

/// The clients have gone; what is left to do for it takes a moment.
fn wait_until_closed(counters: &Counters) {
    let began = Instant::now();
    while counters.read().closed < counters.read().accepted && began.elapsed() < CLOSED_MAX {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn accept(listener: &TcpListener, counters: &Arc<Counters>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        add(&counters.accepted);
        let counters = Arc::clone(counters);
        std::thread::spawn(move || {
            if let Err(error) = (Connection { stream, counters, asked: Vec::new() }).serve() {
                eprintln!("flood server: {error:#}");
            }
        });
    }
}

impl Counters {
    fn read(&self) -> Counted {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            reads: get(&self.reads),
            ends: get(&self.ends),
            writes: get(&self.writes),
            accepted: get(&self.accepted),
            closed: get(&self.closed),
            requests: get(&self.requests),
            events: get(&self.events),
        }
    }
}

struct Connection {
    stream: TcpStream,
    counters: Arc<Counters>,
    asked: Vec<u8>,
}

impl Connection {
    fn serve(mut self) -> Result<()> {
        self.stream.set_nodelay(true).context("send at once")?;
        while let Some(head) = self.next_request()? {
            add(&self.counters.requests);
            self.answer(&head)?;
        }
        let Self { stream, counters, .. } = self;
        drop(stream);
        add(&counters.closed);
        Ok(())
    }

    /// The next request, its body left out; `None` at the client's end.
    fn next_request(&mut self) -> Result<Option<RequestHead>> {
        let mut buffer = [0; READ_BYTES];
        loop {
            if let Some(head) = request_head(&self.asked)? {
                let length = head.header("content-length").map_or(Ok(0), str::parse::<usize>)?;
                if self.asked.len() >= head.length + length {
                    self.asked.drain(..head.length + length);
                    return Ok(Some(head));
                }
            }
            let read = self.stream.read(&mut buffer).context("read a request")?;
            if read == 0 {
                add(&self.counters.ends);
                ensure!(self.asked.is_empty(), "the client ended within a request");
                return Ok(None);
            }
            add(&self.counters.reads);
            self.asked.extend_from_slice(&buffer[..read]);
        }
    }

    fn answer(&mut self, head: &RequestHead) -> Result<()> {
        let Some(events) = head.header(EVENTS_HEADER) else {
            let body = if head.method == "GET" { String::new() } else { whole() };
            return self.write(&with_length(&body));
        };
        let events = events.parse::<u32>().context("read how many events")?.min(EVENTS_MAX);
        self.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        )?;
        let gap = head.header(GAP_HEADER).map_or(Ok(0), str::parse).context("read the gap between events")?;
        let gap = Duration::from_micros(gap).min(GAP_MAX);
        let event = event();
        for _ in 0..events {
            std::thread::sleep(gap);
            self.write(&event)?;
            add(&self.counters.events);
        }
        self.write(STREAM_END)
    }

    /// One system call, unless the socket takes less.
    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let written = self.stream.write(bytes).context("answer")?;
            add(&self.counters.writes);
            bytes = &bytes[written..];
        }
        Ok(())
    }
}

fn with_length(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn whole() -> String {
    format!(
        r#"{{"id":"chatcmpl-flood","object":"chat.completion","model":"{SERVED_MODEL}","choices":[{{"index":0,"message":{{"role":"assistant","content":"text"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":3,"completion_tokens":1}}}}"#
    )
}

/// An event with a delta, as one chunk, of the size that vLLM writes.
fn event() -> Vec<u8> {
    let data = format!(
        "data: {{\"id\":\"chatcmpl-flood\",\"object\":\"chat.completion.chunk\",\"created\":1795554937,\"model\":\
         \"{SERVED_MODEL}\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"tokens\"}},\"logprobs\":null,\
         \"finish_reason\":null}}]}}\n\n"
    );
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}
