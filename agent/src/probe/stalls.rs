//! Stalls of threads: those that are over, from their ring, and those under way, from the table of threads.
//!
//! No stall wakes the reader. The table is read as a whole, since threads come and go: once a second, and when a
//! request ended while one of its threads was held up.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{HashMap, MapData, RingBuf};
use inferscope_common::decode;
use inferscope_common::stall::{Stall, StallEvent, State, Thread};

use super::ring::take;

/// [`Thread`] as the map library wants it.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct ThreadValue(Thread);

// SAFETY: Thread is repr(C), of integers, without implicit padding.
unsafe impl aya::Pod for ThreadValue {}

/// Ring and table, read side.
pub struct Stalls {
    ring: RingBuf<MapData>,
    threads: HashMap<MapData, u32, ThreadValue>,
    undecodable: u64,
}

/// A stall that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnderWay {
    pub tgid: u32,
    pub tid: u32,
    pub kind: Stall,
    /// When it began, in nanoseconds since boot.
    pub since_ns: u64,
}

impl Stalls {
    /// Takes both out of the loaded object.
    ///
    /// # Errors
    /// The object has no such maps.
    pub fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let threads = ebpf.take_map("THREADS").context("the kernel object has no map THREADS")?;
        Ok(Self { ring: take(ebpf, "STALLS")?, threads: HashMap::try_from(threads)?, undecodable: 0 })
    }

    /// Hands up to `max` waiting events to `each`; returns how many entries there were.
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(&StallEvent)) -> usize {
        for taken in 0..max {
            let Some(bytes) = self.ring.next() else { return taken };
            match decode::stall(&bytes) {
                Ok(event) => each(&event),
                Err(_) => self.undecodable += 1,
            }
        }
        max
    }

    /// What holds threads up now.
    ///
    /// # Errors
    /// The kernel refuses to read the table.
    pub fn under_way(&self) -> Result<Vec<UnderWay>> {
        let mut found = Vec::new();
        for entry in self.threads.iter() {
            let (tid, ThreadValue(thread)) = entry.context("read the table of threads")?;
            if let Some(kind) = kind_of(&thread) {
                found.push(UnderWay { tgid: thread.tgid, tid, kind, since_ns: thread.since_ns });
            }
        }
        Ok(found)
    }

    /// Forgets the threads of processes that are watched no longer; returns how many those were.
    ///
    /// # Errors
    /// The kernel refuses to change the table.
    pub fn forget(&mut self, watched: impl Fn(u32) -> bool) -> Result<usize> {
        let entries = self.threads.iter().filter_map(Result::ok);
        let gone: Vec<u32> =
            entries.filter(|(_, thread)| !watched(thread.0.tgid)).map(|(tid, _)| tid).collect();
        for tid in &gone {
            // It may have ended meanwhile.
            let _ = self.threads.remove(tid);
        }
        Ok(gone.len())
    }
}

fn kind_of(thread: &Thread) -> Option<Stall> {
    const STATES: [(State, Stall); 5] = [
        (State::Stopped, Stall::Stopped),
        (State::Throttled, Stall::CpuThrottle),
        (State::Waits, Stall::RunQueue),
        (State::Reclaims, Stall::MemoryReclaim),
        (State::Io, Stall::BlockIo),
    ];
    STATES.iter().find(|(state, _)| *state as u32 == thread.state).map(|(_, kind)| *kind)
}
