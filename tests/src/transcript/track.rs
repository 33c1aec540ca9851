//! The bytes of one direction of a connection, and when each of them passed.

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Nanoseconds, on the clock of the track.
    pub at: u64,
    /// By a reset, not by an end of stream.
    pub reset: bool,
}

/// One direction of a connection. Times are nanoseconds on one clock: only differences mean anything.
#[derive(Clone, Debug, Default)]
pub struct Track {
    pub bytes: Vec<u8>,
    /// For each part that passed: the offset after it, and its time. Offsets rise.
    marks: Vec<(usize, u64)>,
    pub closed: Option<Closed>,
    /// A reset was seen, even after the end of the stream: the peer wrote to somebody who had gone.
    pub was_reset: bool,
}

impl Track {
    /// Adds what passed at `at`.
    pub fn push(&mut self, at: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes.extend_from_slice(bytes);
            self.marks.push((self.bytes.len(), at));
        }
    }

    /// When the byte at `offset` passed; `None` where it has not.
    #[must_use]
    pub fn time_of(&self, offset: usize) -> Option<u64> {
        let index = self.marks.partition_point(|&(end, _)| end <= offset);
        self.marks.get(index).map(|&(_, at)| at)
    }

    /// When the last byte before `offset` passed.
    #[must_use]
    pub fn time_before(&self, offset: usize) -> Option<u64> {
        self.time_of(offset.checked_sub(1)?)
    }

    /// Lengths and times of the parts, in order.
    pub fn parts(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let mut start = 0;
        self.marks.iter().map(move |&(end, at)| {
            let length = end - start;
            start = end;
            (length, at)
        })
    }

    /// Keeps the first end that is seen.
    pub fn close(&mut self, closed: Closed) {
        self.was_reset |= closed.reset;
        self.closed.get_or_insert(closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_the_time_of_its_part() {
        let mut track = Track::default();
        track.push(10, b"ab");
        track.push(20, b"");
        track.push(30, b"c");
        assert_eq!([0, 1, 2, 3].map(|offset| track.time_of(offset)), [Some(10), Some(10), Some(30), None]);
        assert_eq!(track.time_before(0), None);
        assert_eq!(track.time_before(3), Some(30));
        assert_eq!(track.parts().collect::<Vec<_>>(), [(2, 10), (1, 30)]);
    }
}
