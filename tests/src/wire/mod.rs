//! What passed on the wire, with the kernel's own packet times: the truth that measurements are
//! compared with.
//!
//! In: the TCP port of a server on loopback. Out: [`Exchange`]s with packet times (`CLOCK_REALTIME`:
//! only differences mean anything). A capture that lost a packet is refused. Unix sockets do not
//! pass here.

mod capture;
mod flow;
mod packet;

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::transcript::{Exchange, exchanges};

pub use capture::{Capture, Captured};
pub use flow::Flow;

/// Reads a capture file.
///
/// # Errors
///
/// Where the file is no capture of TCP on loopback, or a connection in it is no HTTP/1.
pub fn read(path: &Path, port: u16) -> Result<Vec<Exchange>> {
    let mut found = Vec::new();
    for flow in flows(path, port)? {
        let context = || format!("read connection of client port {}", flow.client_port);
        found.extend(exchanges(&flow.requests, &flow.responses).with_context(context)?);
    }
    found.sort_by_key(|exchange| exchange.started_ns);
    Ok(found)
}

/// The connections of a capture file that began in it, byte by byte.
///
/// # Errors
///
/// Where the file is no capture of TCP on loopback.
pub fn flows(path: &Path, port: u16) -> Result<Vec<Flow>> {
    let mut flows = flow::Flows::new(port);
    packet::read_all(path, |segment| flows.take(&segment))?;
    flows.finish()
}
