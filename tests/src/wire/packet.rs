//! From a capture file to TCP segments.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use etherparse::{SlicedPacket, TransportSlice};
use pcap_file::DataLink;
use pcap_file::pcap::PcapReader;

/// One TCP segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) at_ns: u64,
    pub(super) from_port: u16,
    pub(super) to_port: u16,
    pub(super) sequence: u32,
    pub(super) syn: bool,
    pub(super) ack: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    pub(super) bytes: &'a [u8],
}

/// Hands every TCP segment of the file on, in the order of the capture.
pub(super) fn read_all(path: &Path, mut take: impl FnMut(Segment<'_>)) -> Result<()> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut reader = PcapReader::new(BufReader::with_capacity(1 << 20, file)).context("read capture")?;
    if reader.header().datalink != DataLink::ETHERNET {
        bail!("capture of {:?}, not of loopback", reader.header().datalink);
    }
    while let Some(packet) = reader.next_packet() {
        let packet = packet.context("read packet")?;
        if packet.data.len() < packet.orig_len as usize {
            bail!("packet of {} bytes was cut to {}", packet.orig_len, packet.data.len());
        }
        let at_ns = u64::try_from(packet.timestamp.as_nanos()).context("time of packet")?;
        let sliced = SlicedPacket::from_ethernet(&packet.data).context("take packet apart")?;
        if let Some(TransportSlice::Tcp(tcp)) = &sliced.transport {
            take(Segment {
                at_ns,
                from_port: tcp.source_port(),
                to_port: tcp.destination_port(),
                sequence: tcp.sequence_number(),
                syn: tcp.syn(),
                ack: tcp.ack(),
                fin: tcp.fin(),
                rst: tcp.rst(),
                bytes: tcp.payload(),
            });
        }
    }
    Ok(())
}
