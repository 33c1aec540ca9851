//! Stream sockets of this machine, with one system call of a chosen kind per read or write.
//!
//! In: an address on loopback or a path. Out: [`Stream`]s. Never another host: the tools make load,
//! and load belongs on loopback only.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recv, recvmsg, send, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

/// Connections waiting to be accepted at most.
const BACKLOG: u32 = 1024;

/// Where a server listens: `ADDRESS:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Endpoint {
    /// The port, of a TCP endpoint.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }
}

impl FromStr for Endpoint {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let address: SocketAddr = text.parse().with_context(|| format!("parse address {text}"))?;
        if !address.ip().is_loopback() {
            bail!("{text} is not on loopback, and these tools stay there");
        }
        Ok(Self::Tcp(address))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(out, "{address}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// Which system calls move the bytes: servers differ, and an observer has to see them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calls {
    /// `read` and `write`; several pieces by `writev`.
    #[default]
    ReadWrite,
    /// `recvfrom` and `sendto`; several pieces by `writev`.
    RecvSend,
    /// `recvmsg` and `sendmsg`.
    Message,
    /// `readv` and `writev`, even for one piece.
    Vector,
}

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens at `endpoint`; a socket file left by a dead server is replaced.
    ///
    /// # Errors
    ///
    /// Where the endpoint is taken.
    pub fn bind(endpoint: &Endpoint) -> Result<Self> {
        let context = || format!("listen at {endpoint}");
        match endpoint {
            Endpoint::Tcp(address) => {
                let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                socket.set_reuseaddr(true)?;
                socket.bind(*address).with_context(context)?;
                Ok(Self::Tcp(socket.listen(BACKLOG).with_context(context)?))
            }
            Endpoint::Unix(path) => {
                if std::os::unix::net::UnixStream::connect(path).is_err() {
                    let _ = std::fs::remove_file(path);
                }
                Ok(Self::Unix(UnixListener::bind(path).with_context(context)?))
            }
        }
    }

    /// Where it really listens: port 0 becomes the port that was given.
    ///
    /// # Errors
    ///
    /// Where the kernel does not say.
    pub fn endpoint(&self) -> Result<Endpoint> {
        Ok(match self {
            Self::Tcp(listener) => Endpoint::Tcp(listener.local_addr()?),
            Self::Unix(listener) => {
                let address = listener.local_addr()?;
                Endpoint::Unix(address.as_pathname().context("unnamed socket")?.to_owned())
            }
        })
    }

    /// The next connection.
    ///
    /// # Errors
    ///
    /// As `accept`.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // As servers do: without it small events of a stream wait for each other's acknowledgement.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects; a receive buffer of `receive_buffer` bytes makes a slow client felt early.
    ///
    /// # Errors
    ///
    /// As `connect`.
    pub async fn connect(endpoint: &Endpoint, receive_buffer: Option<u32>) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp(address) => {
                let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                if let Some(bytes) = receive_buffer {
                    socket.set_recv_buffer_size(bytes)?;
                }
                let stream = socket.connect(*address).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Endpoint::Unix(path) => Ok(Self::Unix(UnixStream::connect(path).await?)),
        }
    }

    /// Limits what the kernel holds of unsent bytes.
    ///
    /// # Errors
    ///
    /// As `setsockopt`.
    pub fn set_send_buffer(&self, bytes: usize) -> io::Result<()> {
        socket2::SockRef::from(self).set_send_buffer_size(bytes)
    }

    /// Waits until a read would return.
    ///
    /// # Errors
    ///
    /// Where the runtime is gone.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }

    /// Waits until a write would take bytes.
    ///
    /// # Errors
    ///
    /// Where the runtime is gone.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.writable().await,
            Self::Unix(stream) => stream.writable().await,
        }
    }

    /// One system call that reads; 0 at the peer's end.
    ///
    /// # Errors
    ///
    /// As the call; `WouldBlock` where nothing is there.
    pub fn try_read(&self, calls: Calls, buffer: &mut [u8]) -> io::Result<usize> {
        self.try_io(Interest::READABLE, || read_once(self.as_fd(), calls, buffer))
    }

    /// One system call that writes.
    ///
    /// # Errors
    ///
    /// As the call; `WouldBlock` where nothing fits.
    pub fn try_write(&self, calls: Calls, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, || write_once(self.as_fd(), calls, pieces))
    }

    /// Ends this direction only.
    ///
    /// # Errors
    ///
    /// As `shutdown`.
    pub fn half_close(&self) -> io::Result<()> {
        socket2::SockRef::from(self).shutdown(std::net::Shutdown::Write)
    }

    /// Closes at once, by a reset where the protocol has one.
    pub fn reset(self) {
        // A Unix socket has none; closing one with unread bytes resets the peer anyway.
        let _ = socket2::SockRef::from(&self).set_linger(Some(std::time::Duration::ZERO));
    }

    fn try_io<R>(&self, interest: Interest, call: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        match self {
            Self::Tcp(stream) => stream.try_io(interest, call),
            Self::Unix(stream) => stream.try_io(interest, call),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

fn read_once(fd: BorrowedFd<'_>, calls: Calls, buffer: &mut [u8]) -> io::Result<usize> {
    Ok(match calls {
        Calls::ReadWrite => rustix::io::read(fd, buffer)?,
        Calls::RecvSend => recv(fd, buffer, RecvFlags::empty())?.0,
        Calls::Vector => rustix::io::readv(fd, &mut [IoSliceMut::new(buffer)])?,
        Calls::Message => {
            let mut pieces = [IoSliceMut::new(buffer)];
            recvmsg(fd, &mut pieces, &mut RecvAncillaryBuffer::default(), RecvFlags::empty())?.bytes
        }
    })
}

fn write_once(fd: BorrowedFd<'_>, calls: Calls, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    Ok(match (calls, pieces) {
        (Calls::Message, _) => sendmsg(fd, pieces, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?,
        (Calls::ReadWrite, [piece]) => rustix::io::write(fd, piece)?,
        (Calls::RecvSend, [piece]) => send(fd, piece, SendFlags::NOSIGNAL)?,
        _ => rustix::io::writev(fd, pieces)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_an_endpoint() {
        assert!("127.0.0.1:80".parse::<Endpoint>().is_ok());
        assert!("[::1]:80".parse::<Endpoint>().is_ok());
        assert!("unix:/run/x.sock".parse::<Endpoint>().is_ok());
        for text in ["10.0.0.1:80", "0.0.0.0:80", "[::]:80", "localhost:80"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
