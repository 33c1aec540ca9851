//! The two rings: bytes the kernel programs left -> events.
//!
//! Nothing wakes the reader (a wake-up costs ten times the program that asks for it): the pipeline
//! looks at a steady pace, and the rings hold what comes in between.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use inferscope_common::decode::{self, SocketBytes};
use inferscope_common::process::ProcessEvent;

/// Both rings, read side.
pub struct Rings {
    sockets: RingBuf<MapData>,
    processes: RingBuf<MapData>,
    undecodable: Undecodable,
}

/// Entries that were no event, by ring: 0 unless kernel and agent disagree on the layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undecodable {
    pub sockets: u64,
    pub processes: u64,
}

impl Rings {
    /// Takes the rings out of the loaded object.
    ///
    /// # Errors
    /// The object has no such maps.
    pub fn new(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            sockets: take(ebpf, "EVENTS")?,
            processes: take(ebpf, "PROCESSES")?,
            undecodable: Undecodable::default(),
        })
    }

    /// Hands on the process events that wait. Bounded by the ring's size.
    pub fn drain_processes(&mut self) -> Vec<ProcessEvent> {
        let mut events = Vec::new();
        while let Some(bytes) = self.processes.next() {
            match decode::process(&bytes) {
                Ok(event) => events.push(event),
                Err(_) => self.undecodable.processes += 1,
            }
        }
        events
    }

    /// Hands up to `max` waiting socket events to `each`; returns how many entries there were.
    pub fn drain_sockets(&mut self, max: usize, mut each: impl FnMut(&SocketBytes<'_>)) -> usize {
        for taken in 0..max {
            let Some(bytes) = self.sockets.next() else { return taken };
            match decode::socket(&bytes) {
                Ok(event) => each(&event),
                Err(_) => self.undecodable.sockets += 1,
            }
        }
        max
    }

    /// Entries that were no event.
    #[must_use]
    pub fn undecodable(&self) -> Undecodable {
        self.undecodable
    }
}

pub(super) fn take(ebpf: &mut Ebpf, name: &str) -> Result<RingBuf<MapData>> {
    let map = ebpf.take_map(name).with_context(|| format!("the kernel object has no map {name}"))?;
    Ok(RingBuf::try_from(map)?)
}
