//! Stalls of threads: those that are over, from their ring, and the threads as they stand, from their table.
//!
//! No stall wakes the reader. The table is read as a whole, since threads come and go: once a second, and when a
//! request ended.

use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, RingBuf};
use inferscope_common::decode;
use inferscope_common::stall::{StallEvent, Thread};

use super::batch;
use super::ring::take;

/// [`Thread`] as the map library wants it.
#[repr(transparent)]
#[derive(Clone, Copy, Default)]
struct ThreadValue(Thread);

// SAFETY: Thread is repr(C), of integers, without implicit padding.
unsafe impl aya::Pod for ThreadValue {}

/// Ring and table, read side.
pub struct Stalls {
    ring: RingBuf<MapData>,
    threads: Map,
    undecodable: u64,
}

impl Stalls {
    /// Takes both out of the loaded object.
    ///
    /// # Errors
    /// The object has no such maps.
    pub fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let threads = ebpf.take_map("THREADS").context("the kernel object has no map THREADS")?;
        Ok(Self { ring: take(ebpf, "STALLS")?, threads, undecodable: 0 })
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

    /// Entries of the ring that were no event.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// Every thread that is followed, by number, as it stands.
    ///
    /// # Errors
    /// The kernel refuses to read the table.
    pub fn threads(&self) -> Result<Vec<(u32, Thread)>> {
        let Map::HashMap(table) = &self.threads else { bail!("THREADS is no hash table") };
        let entries =
            batch::entries::<u32, ThreadValue>(table.fd().as_fd()).context("read the table of threads")?;
        Ok(entries.into_iter().map(|(tid, ThreadValue(thread))| (tid, thread)).collect())
    }

    /// Forgets threads: those of processes that are watched no longer.
    ///
    /// # Errors
    /// The kernel refuses to change the table.
    pub fn forget(&mut self, tids: impl IntoIterator<Item = u32>) -> Result<()> {
        let mut table = HashMap::<_, u32, ThreadValue>::try_from(&mut self.threads)?;
        for tid in tids {
            // It may have ended meanwhile.
            let _ = table.remove(&tid);
        }
        Ok(())
    }
}
