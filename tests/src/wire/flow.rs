//! From TCP segments to connections, byte by byte.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, bail};

use crate::transcript::{Closed, Track};

use super::packet::Segment;

/// Bytes of a capture at most: all of them are held.
const BYTES_MAX: usize = 2 << 30;

/// One connection.
#[derive(Clone, Debug, Default)]
pub struct Flow {
    pub client_port: u16,
    pub requests: Track,
    pub responses: Track,
}

/// Connections of one server. One address of loopback is assumed: ports tell clients apart.
pub(super) struct Flows {
    port: u16,
    open: HashMap<u16, Halves>,
    done: Vec<Flow>,
    bytes: usize,
    /// A byte of a connection never came.
    holes: usize,
}

struct Halves {
    client: Half,
    server: Half,
}

/// One direction while it is put together.
#[derive(Default)]
struct Half {
    /// Sequence number of the next byte; set by the SYN.
    next: Option<u32>,
    track: Track,
    /// Segments that came early, by their distance from the first byte.
    early: BTreeMap<u64, (u64, Vec<u8>)>,
    /// Distance of `next` from the first byte: sequence numbers wrap, this does not.
    position: u64,
}

impl Flows {
    pub(super) fn new(port: u16) -> Self {
        Self { port, open: HashMap::new(), done: Vec::new(), bytes: 0, holes: 0 }
    }

    pub(super) fn take(&mut self, segment: &Segment<'_>) {
        let from_client = segment.to_port == self.port;
        let client_port = if from_client { segment.from_port } else { segment.to_port };
        self.bytes += segment.bytes.len();
        if from_client && segment.syn && !segment.ack {
            self.begin(client_port, segment.sequence);
        }
        // A connection from before the capture has no known start.
        let Some(halves) = self.open.get_mut(&client_port) else { return };
        if self.bytes <= BYTES_MAX {
            let half = if from_client { &mut halves.client } else { &mut halves.server };
            half.take(segment);
        }
    }

    /// A new connection; one that had the port before is over. A repeated SYN begins nothing.
    fn begin(&mut self, client_port: u16, sequence: u32) {
        let repeated = self.open.get(&client_port).is_some_and(|halves| {
            halves.client.next == Some(sequence.wrapping_add(1)) && halves.client.position == 0
        });
        if repeated {
            return;
        }
        let halves = Halves { client: Half::default(), server: Half::default() };
        if let Some(before) = self.open.insert(client_port, halves) {
            self.end(client_port, before);
        }
    }

    fn end(&mut self, client_port: u16, halves: Halves) {
        let early = halves.client.early.len() + halves.server.early.len();
        self.holes += usize::from(early > 0);
        self.done.push(Flow { client_port, requests: halves.client.track, responses: halves.server.track });
    }

    pub(super) fn finish(mut self) -> Result<Vec<Flow>> {
        for (client_port, halves) in std::mem::take(&mut self.open) {
            self.end(client_port, halves);
        }
        if self.bytes > BYTES_MAX {
            bail!("the capture has more than {BYTES_MAX} bytes");
        }
        if self.holes > 0 {
            bail!("{} connections of the capture miss bytes", self.holes);
        }
        Ok(self.done)
    }
}

impl Half {
    fn take(&mut self, segment: &Segment<'_>) {
        if segment.syn {
            self.next.get_or_insert(segment.sequence.wrapping_add(1));
            return;
        }
        if segment.rst {
            self.track.close(Closed { at: segment.at_ns, reset: true });
            return;
        }
        if let Some(next) = self.next.filter(|_| !segment.bytes.is_empty()) {
            // Half the number space lies ahead, half behind.
            let ahead = i64::from(segment.sequence.wrapping_sub(next).cast_signed());
            self.place(self.position.wrapping_add_signed(ahead), segment.at_ns, segment.bytes);
        }
        if segment.fin {
            self.track.close(Closed { at: segment.at_ns, reset: false });
        }
    }

    fn place(&mut self, position: u64, at_ns: u64, bytes: &[u8]) {
        if position > self.position {
            // The first of a repeated segment tells when its bytes passed.
            self.early.entry(position).or_insert_with(|| (at_ns, bytes.to_vec()));
            return;
        }
        self.append(position, at_ns, bytes);
        while let Some(entry) = self.early.first_entry().filter(|entry| *entry.key() <= self.position) {
            let (position, (at_ns, bytes)) = entry.remove_entry();
            self.append(position, at_ns, &bytes);
        }
    }

    /// Adds what is new of bytes that start at or before the next one.
    fn append(&mut self, position: u64, at_ns: u64, bytes: &[u8]) {
        let known = usize::try_from(self.position - position).unwrap_or(usize::MAX);
        let Some(new) = bytes.get(known..).filter(|new| !new.is_empty()) else { return };
        self.track.push(at_ns, new);
        self.position += new.len() as u64;
        let length = u32::try_from(new.len()).expect("a segment is shorter than 4 GiB");
        self.next = self.next.map(|next| next.wrapping_add(length));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: u16 = 80;

    fn segment(at_ns: u64, from_client: bool, sequence: u32, bytes: &[u8]) -> Segment<'_> {
        let (from_port, to_port) = if from_client { (5000, PORT) } else { (PORT, 5000) };
        Segment { at_ns, from_port, to_port, sequence, syn: false, ack: true, fin: false, rst: false, bytes }
    }

    fn begun(sequence: u32) -> Flows {
        let mut flows = Flows::new(PORT);
        flows.take(&Segment { syn: true, ack: false, ..segment(1, true, sequence, b"") });
        flows.take(&Segment { syn: true, ..segment(2, false, 100, b"") });
        flows
    }

    #[test]
    fn repeated_and_early_segments_give_each_byte_once() {
        // The numbers wrap in the middle.
        let first = u32::MAX - 2;
        let mut flows = begun(first);
        let at = |offset: u32| first.wrapping_add(1 + offset);
        flows.take(&segment(10, true, at(0), b"ab"));
        flows.take(&segment(12, true, at(4), b"ef"));
        flows.take(&segment(14, true, at(0), b"ab"));
        flows.take(&segment(16, true, at(1), b"bcd"));
        flows.take(&segment(18, true, at(4), b"ef"));
        flows.take(&Segment { fin: true, ..segment(20, true, at(6), b"") });
        let done = flows.finish().unwrap();
        assert_eq!(done[0].requests.bytes, b"abcdef");
        let times: Vec<_> = (0..6).map(|offset| done[0].requests.time_of(offset).unwrap()).collect();
        assert_eq!(times, [10, 10, 16, 16, 12, 12]);
        assert_eq!(done[0].requests.closed, Some(Closed { at: 20, reset: false }));
    }

    #[test]
    fn a_hole_is_refused() {
        let mut flows = begun(0);
        flows.take(&segment(10, true, 3, b"x"));
        assert!(flows.finish().is_err());
    }

    #[test]
    fn a_port_used_again_is_another_connection() {
        let mut flows = begun(0);
        flows.take(&segment(10, true, 1, b"one"));
        flows.take(&Segment { syn: true, ack: false, ..segment(20, true, 70, b"") });
        flows.take(&segment(21, true, 71, b"two"));
        let mut found: Vec<_> = flows.finish().unwrap().into_iter().map(|flow| flow.requests.bytes).collect();
        found.sort();
        assert_eq!(found, [b"one", b"two"]);
    }
}
