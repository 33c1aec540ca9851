//! The engine of the laboratory's server: one loop that makes a token for every request under way at each step.
//!
//! In: lines `begin N TOKENS` from the API process, through a thread that reads them. Out: lines `token N` and `end N`,
//! through a thread that writes them: so a token passes the threads that it passes in a real server.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{Advice, OFlags};

use super::mapping::{Mapping, PAGE_BYTES};

/// One step: so long it waits for a device, and so long it computes.
const WAITS: Duration = Duration::from_millis(8);
const COMPUTES: Duration = Duration::from_millis(2);
/// Read from a disk at each step, where it reads.
const BLOCK_BYTES: usize = 1 << 20;

/// What the loop does at each step beside computing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Takes so many MiB of memory, uses and returns them.
    Memory(usize),
    /// Uses pages of a file that are not in memory any more.
    Map(PathBuf),
    /// Reads a file past the page cache.
    Direct(PathBuf),
}

impl FromStr for Work {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some(("memory", mib)) => Ok(Self::Memory(mib.parse().context("a number of MiB")?)),
            Some(("map", path)) => Ok(Self::Map(path.into())),
            Some(("direct", path)) => Ok(Self::Direct(path.into())),
            _ => bail!("work is memory:MIB, map:PATH or direct:PATH, not {text}"),
        }
    }
}

/// Serves the API process at the other end of `socket` until that ends.
///
/// # Errors
///
/// Where the socket breaks, or the work cannot be done.
pub fn run(socket: UnixStream, work: Option<&Work>) -> Result<()> {
    let (asked, requests) = mpsc::channel();
    let reader = BufReader::new(socket.try_clone().context("clone the socket")?);
    std::thread::Builder::new().name("input".to_owned()).spawn(move || take(reader, &asked))?;
    let (made, tokens) = mpsc::channel::<String>();
    std::thread::Builder::new().name("output".to_owned()).spawn(move || hand_out(socket, &tokens))?;
    let mut work = work.map(Worker::new).transpose()?;
    let mut under_way: Vec<(u64, u32)> = Vec::new();
    loop {
        if !take_new(&requests, &mut under_way) {
            return Ok(());
        }
        step(work.as_mut())?;
        for (number, left) in &mut under_way {
            *left -= 1;
            let line = if *left == 0 {
                format!("token {number}\nend {number}\n")
            } else {
                format!("token {number}\n")
            };
            if made.send(line).is_err() {
                return Ok(());
            }
        }
        under_way.retain(|(_, left)| *left > 0);
    }
}

/// Waits for a request where there is none; false at the end.
fn take_new(requests: &Receiver<(u64, u32)>, under_way: &mut Vec<(u64, u32)>) -> bool {
    loop {
        let wait = if under_way.is_empty() { Duration::from_secs(3600) } else { Duration::ZERO };
        match requests.recv_timeout(wait) {
            Ok(request) => under_way.push(request),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

fn take(reader: BufReader<UnixStream>, asked: &Sender<(u64, u32)>) {
    for line in reader.lines().map_while(Result::ok) {
        let mut words = line.split(' ').skip(1).filter_map(|word| word.parse::<u64>().ok());
        let (Some(number), Some(tokens)) = (words.next(), words.next()) else { continue };
        if asked.send((number, tokens.clamp(1, 10_000) as u32)).is_err() {
            return;
        }
    }
}

fn hand_out(mut socket: UnixStream, tokens: &Receiver<String>) {
    while let Ok(line) = tokens.recv() {
        if socket.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

fn step(work: Option<&mut Worker>) -> Result<()> {
    std::thread::sleep(WAITS);
    spin(COMPUTES);
    work.map_or(Ok(()), Worker::work)
}

/// Computes for so long of its own processor time.
pub fn spin(time: Duration) {
    let own = || {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let began = own();
    // One that gets no processor must end, too.
    let late = Instant::now() + time * 1000;
    while own() - began < time && Instant::now() < late {
        std::hint::spin_loop();
    }
}

/// What the work needs while it goes on.
struct Worker {
    kind: Work,
    file: Option<File>,
    buffer: Vec<u8>,
    /// Where it is in the file.
    at: u64,
}

impl Worker {
    fn new(work: &Work) -> Result<Self> {
        let file = match work {
            Work::Memory(_) => None,
            Work::Map(path) => Some(File::open(path).with_context(|| format!("open {}", path.display()))?),
            Work::Direct(path) => {
                let flags = OFlags::RDONLY | OFlags::DIRECT;
                let opened = rustix::fs::open(path, flags, rustix::fs::Mode::empty());
                Some(opened.with_context(|| format!("open {}", path.display()))?.into())
            }
        };
        Ok(Self { kind: work.clone(), file, buffer: vec![0; 2 * BLOCK_BYTES], at: 0 })
    }

    fn work(&mut self) -> Result<()> {
        match (&self.kind, &self.file) {
            (Work::Memory(mib), _) => {
                Mapping::used(mib << 20)?;
            }
            (Work::Map(_), Some(file)) => {
                // Through the page cache, of which nothing is left: what a page fault does, block by block.
                rustix::fs::fadvise(file, 0, None, Advice::DontNeed).context("drop what is cached")?;
                self.at = touch(file, self.at)?;
            }
            (Work::Direct(_), Some(file)) => {
                let offset = self.buffer.as_ptr().align_offset(PAGE_BYTES);
                let block = &mut self.buffer[offset..offset + BLOCK_BYTES];
                let read = rustix::io::pread(file, block, self.at).context("read past the cache")?;
                self.at = if read < BLOCK_BYTES { 0 } else { self.at + BLOCK_BYTES as u64 };
            }
            _ => {}
        }
        Ok(())
    }
}

/// Uses some pages of a file through a mapping, each far from the last; returns where it goes on.
fn touch(file: &File, at: u64) -> Result<u64> {
    let length = file.metadata().context("read the file's length")?.len();
    let mut sum = 0_u8;
    let mut place = at;
    let map = Mapping::of(file, length)?;
    for _ in 0..16 {
        place = (place + (1 << 20) + PAGE_BYTES as u64) % length.max(1);
        sum = sum.wrapping_add(map.byte(place as usize));
    }
    std::hint::black_box(sum);
    Ok(place)
}
