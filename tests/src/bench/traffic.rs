//! The other end of the watched server: this process, which nobody watches.
//!
//! In: an order. Out: the bytes have passed, one call of the watched process for each that was ordered.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::{Context as _, Result, ensure};

use super::server::{Direction, Order, read_calls, read_head, write_calls};

/// Has the server do what is ordered, and does the other half.
///
/// # Errors
///
/// Where one of the two ends early.
pub(super) fn perform(server: SocketAddr, order: Order) -> Result<()> {
    match order.direction {
        Direction::Write | Direction::WritePieces => {
            let stream = ask(server, order)?;
            read_head(&stream)?;
            read_calls(&stream, &order)
        }
        Direction::Read => {
            let stream = ask(server, order)?;
            ensure!(read_head(&stream)?.contains("100 Continue"), "the server does not want the body");
            write_calls(&stream, &order)?;
            expect_done(&stream)
        }
        Direction::OutWrite | Direction::OutRead => be_called(server, order),
        Direction::Switch => expect_done(&ask(server, order)?),
    }
}

fn ask(server: SocketAddr, order: Order) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(server).context("connect to the server")?;
    stream.set_nodelay(true)?;
    let length = if order.direction == Direction::Read { order.total() } else { 0 };
    let expect = if length > 0 { "expect: 100-continue\r\n" } else { "" };
    let head = format!("{}content-length: {length}\r\n{expect}\r\n", order.head());
    stream.write_all(head.as_bytes()).context("order")?;
    Ok(stream)
}

fn expect_done(stream: &TcpStream) -> Result<()> {
    ensure!(read_head(stream)?.contains("200 OK"), "the server did not do it");
    Ok(())
}

fn be_called(server: SocketAddr, order: Order) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
    let order = Order { port: listener.local_addr()?.port(), ..order };
    let asked = ask(server, order)?;
    let (called, _) = listener.accept().context("be called")?;
    called.set_nodelay(true)?;
    read_head(&called)?;
    if order.direction == Direction::OutRead {
        write_calls(&called, &order)?;
    } else {
        read_calls(&called, &order)?;
    }
    expect_done(&asked)
}

/// Both ends of a connection are this process.
///
/// # Errors
///
/// Where loopback does not work.
pub(super) fn perform_unwatched(calls: u32, bytes: usize) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
    let address = listener.local_addr()?;
    let order = Order { direction: Direction::Write, calls, bytes, port: 0 };
    let reader = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address)?;
        read_calls(&stream, &order)?;
        stream.read(&mut [0]).context("see the end")
    });
    let (stream, _) = listener.accept().context("accept")?;
    stream.set_nodelay(true)?;
    write_calls(&stream, &order)?;
    drop(stream);
    ensure!(reader.join().is_ok_and(|ended| ended.is_ok_and(|left| left == 0)), "the reader ended early");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwatched_bytes_arrive_to_the_last() {
        perform_unwatched(450, 100).unwrap();
    }
}
