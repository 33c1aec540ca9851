//! The watched server: writes and reads of known number and size, on command.
//!
//! In: `POST /DIRECTION/CALLS/BYTES[/PORT]` (see [`Order`]). Out: exactly so many system calls of exactly
//! so many bytes. Blocking, a thread a connection: nothing but those calls passes through the kernel.

use std::io::{IoSlice, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::scheduler::hand_over;

/// Calls between two pauses, and how long they are: no more bytes than the agent's ring holds.
const BURST: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);
/// Pieces of a vectored write; the Rust front end of vLLM writes up to so many.
pub(super) const PIECES: usize = 48;
const HEAD_BYTES_MAX: usize = 4096;
/// Bounds of an order.
const CALLS_MAX: u32 = 1_000_000;
const BYTES_MAX: usize = 1 << 20;

/// Who moves bytes, and on what kind of socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// The server answers in so many writes.
    Write,
    /// The same, each write of [`PIECES`] pieces.
    WritePieces,
    /// The client uploads, and the server reads.
    Read,
    /// The server calls PORT and writes there: not a request to it.
    OutWrite,
    /// The server calls PORT and reads there.
    OutRead,
    /// Two threads of the server hand a byte to and fro, so often.
    Switch,
}

impl Direction {
    const NAMES: [(&'static str, Self); 6] = [
        ("write", Self::Write),
        ("write-pieces", Self::WritePieces),
        ("read", Self::Read),
        ("out-write", Self::OutWrite),
        ("out-read", Self::OutRead),
        ("switch", Self::Switch),
    ];
}

/// So many calls of so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) direction: Direction,
    pub(super) calls: u32,
    pub(super) bytes: usize,
    /// Where the server shall call, or 0.
    pub(super) port: u16,
}

impl Order {
    pub(super) fn head(&self) -> String {
        let name =
            Direction::NAMES.iter().find(|(_, one)| *one == self.direction).map_or("", |(name, _)| name);
        let Self { calls, bytes, port, .. } = self;
        format!("POST /{name}/{calls}/{bytes}/{port} HTTP/1.1\r\nhost: bench\r\n")
    }

    /// Bytes of all calls together.
    pub(super) fn total(&self) -> u64 {
        u64::from(self.calls) * self.bytes as u64
    }
}

impl FromStr for Order {
    type Err = anyhow::Error;

    fn from_str(target: &str) -> Result<Self> {
        let parts: Vec<_> = target.split('/').collect();
        let ["", name, calls, bytes, port] = parts[..] else { bail!("no order: {target}") };
        let known = Direction::NAMES.iter().find(|(known, _)| *known == name);
        let &(_, direction) = known.with_context(|| format!("no direction is called {name}"))?;
        let order = Self { direction, calls: calls.parse()?, bytes: bytes.parse()?, port: port.parse()? };
        ensure!(
            order.calls <= CALLS_MAX && (1..=BYTES_MAX).contains(&order.bytes),
            "out of bounds: {target}"
        );
        Ok(order)
    }
}

/// Listens on a free port of loopback, says which, and serves until it is ended.
///
/// # Errors
///
/// Where it cannot listen.
pub fn serve() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
    println!("listening at {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream.context("accept a connection")?;
        std::thread::spawn(move || {
            if let Err(error) = obey(&stream) {
                eprintln!("bench server: {error:#}");
            }
        });
    }
    Ok(())
}

fn obey(mut stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true).context("send at once")?;
    let head = read_head(stream)?;
    let order: Order = head.split(' ').nth(1).unwrap_or_default().parse()?;
    match order.direction {
        Direction::Write | Direction::WritePieces => {
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", order.total())?;
            return write_calls(stream, &order);
        }
        Direction::Read => {
            write!(stream, "HTTP/1.1 100 Continue\r\n\r\n")?;
            read_calls(stream, &order)?;
        }
        Direction::OutWrite | Direction::OutRead => call_out(&order)?,
        Direction::Switch => hand_over(order.calls)?,
    }
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").context("answer")
}

/// A connection on which this process asks: the first bytes say so.
fn call_out(order: &Order) -> Result<()> {
    let mut out = TcpStream::connect((Ipv4Addr::LOCALHOST, order.port)).context("call out")?;
    out.set_nodelay(true)?;
    out.write_all(b"POST / HTTP/1.1\r\n\r\n")?;
    if order.direction == Direction::OutWrite {
        write_calls(&out, order)?;
        return out.shutdown(Shutdown::Write).context("end the call");
    }
    read_calls(&out, order)
}

/// Writes so often, with pauses.
pub(super) fn write_calls(mut stream: &TcpStream, order: &Order) -> Result<()> {
    let block = vec![b'x'; order.bytes];
    let pieces: Vec<_> = block.chunks(order.bytes.div_ceil(PIECES)).map(IoSlice::new).collect();
    for call in 1..=order.calls {
        let written = if order.direction == Direction::WritePieces {
            stream.write_vectored(&pieces)?
        } else {
            stream.write(&block)?
        };
        ensure!(written == order.bytes, "a write was cut short at {written} bytes");
        if call % BURST == 0 {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Reads until as much has come as so many calls bring, never more than one call's bytes at once.
pub(super) fn read_calls(mut stream: &TcpStream, order: &Order) -> Result<()> {
    let mut block = vec![0; order.bytes];
    let mut left = order.total();
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(order.bytes);
        let read = stream.read(&mut block[..size])?;
        ensure!(read > 0, "the peer ended {left} bytes too early");
        left -= read as u64;
    }
    Ok(())
}

/// Reads a head byte by byte, so that nothing after it is taken.
pub(super) fn read_head(mut stream: &TcpStream) -> Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(stream.read(&mut byte)? == 1, "the peer ended within a head");
        head.push(byte[0]);
        ensure!(head.len() <= HEAD_BYTES_MAX, "a head without an end");
    }
    String::from_utf8(head).context("read a head")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_arrives_as_it_was_given() {
        for (_, direction) in Direction::NAMES {
            let order = Order { direction, calls: 7, bytes: 256, port: 9 };
            let target = order.head().split(' ').nth(1).unwrap().to_owned();
            assert_eq!(target.parse::<Order>().unwrap(), order);
        }
        assert!("/write/1/0/0".parse::<Order>().is_err());
        assert!("/write/4000000000/1/0".parse::<Order>().is_err());
        assert!("/else/1/1/0".parse::<Order>().is_err());
    }
}
