//! The clients: each thread asks on a connection of its own, again as soon as it has its answer.
//!
//! In: [`Load`]. Out: what was made, and the connections, still open where that was asked for.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::transcript::{BodyReader, response_head};

use super::{EVENTS_HEADER, GAP_HEADER, STREAM_END};

const READ_BYTES: usize = 256 << 10;
/// A server that answers nothing for so long has stopped.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A chat answered by a stream of so many events, each so long after what was written before it.
    Stream { events: u32, gap: Duration },
    /// A chat answered whole.
    Whole,
    /// A health check.
    Health,
}

/// So many connections that each make so many requests, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub name: &'static str,
    pub ask: Ask,
    pub connections: usize,
    pub requests: usize,
    /// Pause before each request.
    pub pause: Duration,
    /// The connections stay open, and are given back.
    pub keeps: bool,
}

/// What a load came to.
#[derive(Debug, Default)]
pub struct Made {
    /// Ids of the requests that were answered in full, which are all.
    pub ids: Vec<String>,
    pub kept: Vec<Client>,
    pub took: Duration,
}

impl Load {
    /// Makes several loads at once and waits for their ends.
    ///
    /// # Errors
    ///
    /// Where a request is not answered in full.
    pub fn make_all(loads: &[Self], server: SocketAddr) -> Result<Vec<Made>> {
        let started: Vec<_> = loads.iter().map(|load| load.start(server)).collect();
        let ends = started.into_iter().map(|threads| {
            let mut made = Made::default();
            for thread in threads {
                let (ids, client, took) = thread.join().map_err(|_| anyhow!("a client panicked"))??;
                made.ids.extend(ids);
                made.kept.extend(client);
                made.took = made.took.max(took);
            }
            Ok(made)
        });
        ends.collect()
    }

    fn start(self, server: SocketAddr) -> Vec<std::thread::JoinHandle<Result<Run>>> {
        (0..self.connections).map(|number| std::thread::spawn(move || self.run(number, server))).collect()
    }

    fn run(self, number: usize, server: SocketAddr) -> Result<Run> {
        let began = Instant::now();
        let mut client = Client::connect(server)?;
        let mut ids = Vec::with_capacity(self.requests);
        for request in 0..self.requests {
            std::thread::sleep(self.pause);
            let id = format!("{}-{number}-{request}", self.name);
            client.ask(self.ask, &id)?;
            ids.push(id);
        }
        Ok((ids, self.keeps.then_some(client), began.elapsed()))
    }
}

type Run = (Vec<String>, Option<Client>, Duration);

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// # Errors
    ///
    /// Where the server is not there.
    pub fn connect(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).context("connect to the server")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        Ok(Self { stream, buffer: vec![0; READ_BYTES] })
    }

    /// Makes one request and reads the whole answer.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub fn ask(&mut self, ask: Ask, id: &str) -> Result<()> {
        self.stream.write_all(request(ask, id).as_bytes()).with_context(|| format!("ask {id}"))?;
        let answered = if matches!(ask, Ask::Stream { .. }) { self.read_stream() } else { self.read_whole() };
        answered.with_context(|| format!("answer of {id}"))
    }

    /// The next request comes after the answer, so the end of a stream is the end of what there is to read.
    fn read_stream(&mut self) -> Result<()> {
        let mut last = [0; STREAM_END.len()];
        while last != STREAM_END {
            let read = self.read()?;
            let bytes = &self.buffer[read.saturating_sub(last.len())..read];
            last.rotate_left(bytes.len());
            last[STREAM_END.len() - bytes.len()..].copy_from_slice(bytes);
        }
        Ok(())
    }

    fn read_whole(&mut self) -> Result<()> {
        let mut bytes = Vec::new();
        loop {
            let read = self.read()?;
            bytes.extend_from_slice(&self.buffer[..read]);
            let Some(head) = response_head(&bytes)? else { continue };
            if BodyReader::new(head.framing, head.length).advance(&bytes)? {
                return Ok(());
            }
        }
    }

    fn read(&mut self) -> Result<usize> {
        let read = self.stream.read(&mut self.buffer)?;
        ensure!(read > 0, "the server ended the connection");
        Ok(read)
    }
}

fn request(ask: Ask, id: &str) -> String {
    let common = format!("host: localhost\r\nx-request-id: {id}\r\n");
    let (more, stream) = match ask {
        Ask::Health => return format!("GET /health HTTP/1.1\r\n{common}\r\n"),
        Ask::Stream { events, gap } => {
            (format!("{EVENTS_HEADER}: {events}\r\n{GAP_HEADER}: {}\r\n", gap.as_micros()), true)
        }
        Ask::Whole => (String::new(), false),
    };
    let body =
        format!(r#"{{"model":"flood","stream":{stream},"messages":[{{"role":"user","content":"hello"}}]}}"#);
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\n{common}{more}content-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
}
