//! The two rings: bytes the kernel programs left -> events.
//!
//! No socket event wakes the reader (a wake-up costs ten times the program that asks for it): the pipeline
//! looks at a steady pace, and the rings hold what comes in between. A process event does.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use inferscope_common::decode::{self, SocketBytes};
use inferscope_common::process::ProcessEvent;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Both rings, read side.
pub struct Rings {
    sockets: RingBuf<MapData>,
    processes: RingBuf<MapData>,
    undecodable: Undecodable,
}

/// Rings when a process event comes after all before it were taken.
#[derive(Debug)]
pub struct Bell {
    ring: AsyncFd<OwnedFd>,
}

impl Bell {
    /// Waits until it rings. Nothing is lost when the future is dropped before it is ready.
    pub async fn rung(&self) {
        match self.ring.readable().await {
            // It has to ring again before it is ready again, so what there is has to be taken now.
            Ok(mut ready) => ready.clear_ready(),
            // A runtime that ends rings no more.
            Err(_ends) => std::future::pending().await,
        }
    }
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

    /// What waits for process events.
    ///
    /// # Errors
    /// Not inside a runtime, or the kernel refuses.
    pub fn process_bell(&self) -> Result<Bell> {
        let ring = self.processes.as_fd().try_clone_to_owned().context("copy the descriptor of a ring")?;
        // SAFETY: the descriptor is the bell's own, and open as long as it is registered.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        Ok(Bell { ring: ring.context("wait for process events")? })
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
