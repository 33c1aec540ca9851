//! A server that answers any bytes with any bytes: what a broken or hostile server would write.
//!
//! In: connections, and a folder of answers. A request says in its query what it wants: `answer=a.b*9.c`, files of the
//! folder in this order, `b` nine times; `after=BYTES`, once so many of it were read; and `spliced=BYTES`, so many of
//! what follows moved into a pipe, which is no read of a socket. Whatever does not say so is read and not answered.
//! Out: the answers. Understands nothing of HTTP, and looks at bytes before it takes them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use inferscope_tests::socket::{Endpoint, Listener};
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Of a request the query stands in its first bytes.
const SEEN_BYTES_MAX: usize = 4096;
/// Looked at before each read.
const PEEKED_BYTES: usize = 64;
/// One read and one write at most.
const BUFFER_BYTES: usize = 128 << 10;
/// A file is written so often at most.
const TIMES_MAX: u64 = 1 << 20;
/// No connection outlives its test.
const SILENCE_MAX: Duration = Duration::from_secs(120);

#[derive(Parser)]
struct Arguments {
    /// Where to listen: ADDRESS:PORT on loopback
    #[arg(long)]
    listen: Endpoint,
    /// The folder of answers
    #[arg(long)]
    answers: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, listen(arguments))
}

async fn listen(arguments: Arguments) -> Result<()> {
    let listener = Listener::bind(&arguments.listen)?;
    println!("listening at {}", listener.endpoint()?);
    let Listener::Tcp(listener) = listener else { anyhow::bail!("a puppet listens on TCP") };
    let answers: Rc<Path> = arguments.answers.into();
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        let answers = Rc::clone(&answers);
        tokio::task::spawn_local(async move {
            if let Err(error) = serve(stream, &answers).await
                && !is_gone(&error)
            {
                eprintln!("puppet: {error:#}");
            }
        });
    }
}

/// A client may go at any moment: that is its test.
fn is_gone(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    matches!(kind, Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
}

/// What a request wants.
struct Wish {
    /// Files, and how often each.
    answer: Vec<(String, u64)>,
    after: u64,
    spliced: usize,
}

async fn serve(mut stream: TcpStream, answers: &Path) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut seen, mut read) = (Vec::new(), 0_u64);
    loop {
        timeout(SILENCE_MAX, stream.peek(&mut [0; PEEKED_BYTES])).await??;
        let length = timeout(SILENCE_MAX, stream.read(&mut buffer)).await??;
        if length == 0 {
            return Ok(());
        }
        read += length as u64;
        let room = SEEN_BYTES_MAX.saturating_sub(seen.len());
        seen.extend_from_slice(&buffer[..length.min(room)]);
        let Some(wish) = wish(&seen) else { continue };
        if wish.spliced > 0 && read == length as u64 {
            timeout(SILENCE_MAX, splice_off(&stream, wish.spliced)).await??;
            read += wish.spliced as u64;
        }
        if read >= wish.after {
            timeout(SILENCE_MAX, answer(&mut stream, answers, &wish.answer)).await??;
            (seen, read) = (Vec::new(), 0);
        }
    }
}

fn wish(seen: &[u8]) -> Option<Wish> {
    let text = String::from_utf8_lossy(seen);
    let query = text.split_once('?')?.1.split_once(' ')?.0.to_owned();
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let answer = value("answer")?.split('.').map(|part| {
        let (name, times) = part.split_once('*').unwrap_or((part, "1"));
        (name.to_owned(), times.parse().unwrap_or(1))
    });
    let after = value("after").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    let spliced = value("spliced").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    Some(Wish { answer: answer.collect(), after, spliced })
}

/// Moves the next bytes of a connection into a pipe, and away.
async fn splice_off(stream: &TcpStream, bytes: usize) -> Result<()> {
    let (drain, pipe) = rustix::pipe::pipe()?;
    let mut left = bytes;
    while left > 0 {
        stream.readable().await?;
        let moved = stream.try_io(Interest::READABLE, || {
            Ok(splice(stream, None, &pipe, None, left, SpliceFlags::NONBLOCK)?)
        });
        match moved {
            Ok(0) => return Ok(()),
            Ok(moved) => {
                left -= moved;
                rustix::io::read(&drain, &mut vec![0; moved])?;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn answer(stream: &mut TcpStream, folder: &Path, parts: &[(String, u64)]) -> Result<()> {
    for (name, times) in parts {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        ensure!(plain && *times <= TIMES_MAX, "no answer is called {name}");
        let bytes = std::fs::read(folder.join(name)).with_context(|| format!("read answer {name}"))?;
        for _ in 0..*times {
            stream.write_all(&bytes).await?;
        }
    }
    Ok(())
}
