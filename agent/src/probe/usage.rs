//! How many entries does a kernel table hold? For tests of long runs: the kernel tells a table's size only.
//!
//! In: the name of a hash table. Out: its entries, counted one by one. Not for the agent's own paths.

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData, loaded_maps};
use inferscope_common::socket::{SOCKETS_MAX, SocketState};

/// Bytes of a value of the SOCKETS table.
type SocketBytes = [u8; size_of::<SocketState>()];

/// Entries of the newest SOCKETS table on this node, whoever made it; `None` where there is none. Needs
/// CAP_SYS_ADMIN, and a system call for each entry.
///
/// # Errors
/// The kernel refuses to read it.
pub fn sockets_followed() -> Result<Option<usize>> {
    let tables = loaded_maps().filter_map(Result::ok).filter(|info| info.name() == b"SOCKETS");
    let Some(newest) = tables.map(|info| info.id()).max() else { return Ok(None) };
    let data = MapData::from_id(newest).context("open the table of sockets")?;
    let table: HashMap<MapData, u64, SocketBytes> = Map::LruHashMap(data).try_into()?;
    // A key that goes while its follower is asked for begins the walk anew: it is cut where the table ends.
    Ok(Some(table.keys().filter(Result::is_ok).take(SOCKETS_MAX as usize).count()))
}
