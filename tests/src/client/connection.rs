//! One connection of the client: sends, reads, and stamps every byte.

use std::io::{self, IoSlice};
use std::time::Duration;

use anyhow::{Result, bail};
use inferscope::clock::BootTime;
use tokio::time::{Instant, sleep, timeout_at};

use crate::socket::{Calls, Endpoint, Stream};
use crate::transcript::{BodyReader, Closed, Exchange, Track, exchanges, response_head};

use super::plan::{Leave, Manner, Planned};

const READ_BYTES: usize = 128 << 10;
/// A connection that has moved this much is retired, so that a long run does not keep it all.
const TRACK_BYTES_MAX: usize = 32 << 20;
/// A server closes connections that rest; a little earlier nothing is under way.
const IDLE_MAX: Duration = Duration::from_secs(2);
/// Small, so that the server soon feels a client that does not read.
const SLOW_RECEIVE_BUFFER: u32 = 4096;

/// An open connection and all that passed on it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Option<Stream>,
    sent: Track,
    received: Track,
    /// Bytes of `received` that belong to responses already read.
    answered: usize,
    used: Instant,
    buffer: Vec<u8>,
}

impl Connection {
    pub(super) async fn open(endpoint: &Endpoint, slow: bool) -> io::Result<Self> {
        let stream = Stream::connect(endpoint, slow.then_some(SLOW_RECEIVE_BUFFER)).await?;
        Ok(Self {
            stream: Some(stream),
            sent: Track::default(),
            received: Track::default(),
            answered: 0,
            used: Instant::now(),
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Can carry another request: open, rested not for long, and nothing has come unasked.
    pub(super) fn is_usable(&mut self) -> bool {
        let Some(stream) = self.stream.as_ref() else { return false };
        let nothing = stream.try_read(Calls::RecvSend, &mut self.buffer);
        if !nothing.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            return false;
        }
        self.bytes() < TRACK_BYTES_MAX && self.used.elapsed() < IDLE_MAX
    }

    /// Closes, and gives what passed.
    pub(super) fn finish(mut self) -> Result<Vec<Exchange>> {
        self.close();
        exchanges(&self.sent, &self.received)
    }

    pub(super) fn bytes(&self) -> usize {
        self.sent.bytes.len() + self.received.bytes.len()
    }

    /// Makes one request, or a pair in one write, and reads the answers.
    pub(super) async fn perform(&mut self, requests: &[Planned], time_max: Duration) {
        let deadline = Instant::now() + time_max;
        let manner = requests[0].manner;
        let kept = match timeout_at(deadline, self.converse(requests)).await {
            Ok(Ok(keeps)) => keeps,
            // Whatever went wrong shows in what passed.
            Ok(Err(_)) | Err(_) => false,
        };
        self.used = Instant::now();
        if !kept || manner.own_connection {
            self.close();
        }
    }

    async fn converse(&mut self, requests: &[Planned]) -> Result<bool> {
        let manner = requests[0].manner;
        self.send_all(requests).await?;
        sleep(manner.looks_away).await;
        let Some((leave, after)) = manner.leave else { return self.read_answers(requests.len()).await };
        let due = Instant::now() + after;
        if let Ok(answered) = timeout_at(due, self.read_answers(requests.len())).await {
            return answered;
        }
        match leave {
            Leave::Close => self.close(),
            Leave::Reset => self.reset(),
            Leave::HalfClose => {
                self.stream()?.half_close()?;
                self.sent.close(Closed { at: BootTime::now().0, reset: false });
                return self.read_answers(requests.len()).await;
            }
        }
        Ok(false)
    }

    async fn send_all(&mut self, requests: &[Planned]) -> Result<()> {
        let manner = requests[0].manner;
        let (head, body) = requests[0].bytes();
        if manner.expects_continue {
            self.send(&head).await?;
            self.read_continue().await?;
            return self.send(&body).await;
        }
        let mut bytes = [head, body].concat();
        for next in &requests[1..] {
            let (head, body) = next.bytes();
            bytes.extend_from_slice(&head);
            bytes.extend_from_slice(&body);
        }
        self.send_in_parts(&bytes, &manner).await
    }

    async fn send_in_parts(&mut self, bytes: &[u8], manner: &Manner) -> Result<()> {
        let size = bytes.len().div_ceil(manner.parts.max(1));
        for (index, part) in bytes.chunks(size).enumerate() {
            if index > 0 {
                sleep(manner.part_gap).await;
            }
            self.send(part).await?;
        }
        Ok(())
    }

    async fn send(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            // Before the call: the server may have the bytes before it returns.
            let at = BootTime::now().0;
            match self.stream()?.try_write(Calls::RecvSend, &[IoSlice::new(bytes)]) {
                Ok(length) => {
                    self.sent.push(at, &bytes[..length]);
                    bytes = &bytes[length..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stream()?.writable().await?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn read_continue(&mut self) -> Result<()> {
        loop {
            if let Some(head) = response_head(&self.received.bytes[self.answered..])? {
                if head.status == 100 {
                    self.answered += head.length;
                }
                return Ok(());
            }
            if !self.read_more().await? {
                bail!("closed instead of continuing");
            }
        }
    }

    /// Reads so many responses; false where the server closes after them.
    async fn read_answers(&mut self, count: usize) -> Result<bool> {
        for _ in 0..count {
            if !self.read_answer().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn read_answer(&mut self) -> Result<bool> {
        let head = loop {
            match response_head(&self.received.bytes[self.answered..])? {
                Some(head) if head.status >= 200 => break head,
                Some(head) => self.answered += head.length,
                None if self.read_more().await? => {}
                None => return Ok(false),
            }
        };
        let mut reader = BodyReader::new(head.framing, self.answered + head.length);
        while !reader.advance(&self.received.bytes)? {
            if !self.read_more().await? {
                return Ok(false);
            }
        }
        self.answered = reader.position;
        Ok(!head.closes)
    }

    /// Waits for bytes and reads once; false at the server's end.
    async fn read_more(&mut self) -> Result<bool> {
        loop {
            let Some(stream) = self.stream.as_ref() else { bail!("already closed") };
            stream.readable().await?;
            let result = stream.try_read(Calls::RecvSend, &mut self.buffer);
            let at = BootTime::now().0;
            match result {
                Ok(0) => self.received.close(Closed { at, reset: false }),
                Ok(length) => {
                    self.received.push(at, &self.buffer[..length]);
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => self.received.close(Closed { at, reset: true }),
            }
            return Ok(false);
        }
    }

    pub(super) fn close(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.sent.close(Closed { at: BootTime::now().0, reset: false });
            drop(stream);
        }
        self.buffer = Vec::new();
    }

    fn reset(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.sent.close(Closed { at: BootTime::now().0, reset: true });
            stream.reset();
        }
    }

    fn stream(&self) -> io::Result<&Stream> {
        self.stream.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}
