//! The kernel tables: who is watched, what sockets are taken for, what the programs counted.

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use inferscope_common::counter::Counters;
use inferscope_common::socket::SocketState;
use inferscope_common::watch::{TGID_COUNT, bit};

/// [`SocketState`] as the map library wants it.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct StateValue(SocketState);

// SAFETY: SocketState is repr(C), of integers, without implicit padding.
unsafe impl aya::Pod for StateValue {}

/// Every table that the agent reads or writes.
pub struct Tables {
    watched: Array<MapData, u64>,
    ports: Array<MapData, u64>,
    sockets: HashMap<MapData, u64, StateValue>,
    overruled: HashMap<MapData, u64, u8>,
    counters: PerCpuArray<MapData, Counters>,
}

impl Tables {
    /// Takes the tables out of the loaded object.
    ///
    /// # Errors
    /// The object has no such maps.
    pub fn new(ebpf: &mut Ebpf) -> Result<Self> {
        Ok(Self {
            watched: Array::try_from(take(ebpf, "WATCHED")?)?,
            ports: Array::try_from(take(ebpf, "PORTS")?)?,
            sockets: HashMap::try_from(take(ebpf, "SOCKETS")?)?,
            overruled: HashMap::try_from(take(ebpf, "OVERRULED")?)?,
            counters: PerCpuArray::try_from(take(ebpf, "COUNTERS")?)?,
        })
    }

    /// Watches a process, or no longer.
    ///
    /// # Errors
    /// The kernel refuses to change the table.
    pub fn set_watched(&mut self, tgid: u32, on: bool) -> Result<()> {
        if tgid >= TGID_COUNT {
            anyhow::bail!("process {tgid} is beyond what a kernel can give");
        }
        set_bit(&mut self.watched, bit(tgid), on).with_context(|| format!("watch process {tgid}"))
    }

    /// Notes a TCP port as one on which a watched process listens, or no longer.
    ///
    /// # Errors
    /// The kernel refuses to change the table.
    pub fn set_served(&mut self, port: u16, on: bool) -> Result<()> {
        set_bit(&mut self.ports, bit(port.into()), on).with_context(|| format!("note port {port}"))
    }

    /// Has the kernel leave a socket alone, within its next few events.
    ///
    /// # Errors
    /// The kernel refuses to change the table.
    pub fn ignore_socket(&mut self, socket: u64) -> Result<()> {
        self.overruled.insert(socket, 1, 0).context("give a socket its verdict")
    }

    /// Whether a socket that is known by its address still is: a TCP socket is forgotten when it is gone.
    ///
    /// # Errors
    /// The kernel refuses to read the table.
    pub fn knows_socket(&self, socket: u64) -> Result<bool> {
        match self.sockets.get(&socket, 0) {
            Ok(_) => Ok(true),
            Err(MapError::KeyNotFound) => Ok(false),
            Err(error) => Err(error).context("look up a socket"),
        }
    }

    /// The sums of all counters over all processors, in the order of their index.
    ///
    /// # Errors
    /// The kernel refuses to read the table.
    pub fn counters(&self) -> Result<Counters> {
        let mut sums = Counters::default();
        for processor in self.counters.get(&0, 0).context("read kernel counters")?.iter() {
            sums.iter_mut().zip(processor).for_each(|(sum, count)| *sum += count);
        }
        Ok(sums)
    }
}

fn set_bit(bitmap: &mut Array<MapData, u64>, (word, mask): (u32, u64), on: bool) -> Result<()> {
    let bits = bitmap.get(&word, 0)?;
    let changed = if on { bits | mask } else { bits & !mask };
    if changed != bits {
        bitmap.set(word, changed, 0)?;
    }
    Ok(())
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map> {
    ebpf.take_map(name).with_context(|| format!("the kernel object has no map {name}"))
}
