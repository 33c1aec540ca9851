//! The byte stream of one direction of a socket, put together from events.
//!
//! In: the events of one direction, each with its offset, a head and a tail. Out: pieces in order: bytes,
//! and holes whose length is known. A hole is what the kernel did not copy, or what lost events carried.

use inferscope_common::decode::SocketBytes;
use inferscope_common::socket::{FLAG_NO_BYTES, FLAG_PIECES};

/// The next part of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    Bytes(&'a [u8]),
    /// So many bytes are not known.
    Hole(u64),
}

impl<'a> Piece<'a> {
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Hole(len) => *len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn clear(&mut self) {
        *self = Self::Hole(0);
    }

    /// Splits off the first `len` bytes, or all if there are fewer.
    pub fn take(&mut self, len: u64) -> Piece<'a> {
        match self {
            Self::Bytes(bytes) => {
                let at = usize::try_from(len).unwrap_or(usize::MAX).min(bytes.len());
                let (taken, rest) = bytes.split_at(at);
                *self = Self::Bytes(rest);
                Piece::Bytes(taken)
            }
            Self::Hole(hole) => {
                let taken = len.min(*hole);
                *hole -= taken;
                Piece::Hole(taken)
            }
        }
    }
}

/// One direction of a socket.
#[derive(Default)]
pub struct Flow {
    /// Offset of the next byte; `None` before the first event.
    next: Option<u64>,
}

/// What an event adds to its direction.
pub struct Addition<'a> {
    /// Bytes that passed before it in events that did not arrive; `None` where the count began again.
    pub lost_bytes: Option<u64>,
    /// Head, hole and tail of the call; empty where there is none.
    pub pieces: [Piece<'a>; 3],
}

impl Flow {
    /// Adds an event of this direction.
    pub fn add<'a>(&mut self, event: &SocketBytes<'a>) -> Addition<'a> {
        let header = &event.event;
        let lost_bytes = header.offset.checked_sub(self.next.unwrap_or(header.offset));
        self.next = Some(header.offset.saturating_add(header.len.into()));
        Addition { lost_bytes, pieces: pieces(event) }
    }
}

fn pieces<'a>(event: &SocketBytes<'a>) -> [Piece<'a>; 3] {
    let SocketBytes { event: header, head, tail, .. } = *event;
    let len = u64::from(header.len);
    let copied = (head.len() + tail.len()) as u64;
    // More than the call moved: not what the kernel promises, so nothing of it is believed.
    if header.flags & FLAG_NO_BYTES != 0 || copied > len {
        [Piece::Hole(len), Piece::Hole(0), Piece::Hole(0)]
    } else if header.flags & FLAG_PIECES != 0 {
        // The tail is that of the pieces looked at, not of the call.
        [Piece::Bytes(head), Piece::Hole(len - head.len() as u64), Piece::Hole(0)]
    } else {
        [Piece::Bytes(head), Piece::Hole(len - copied), Piece::Bytes(tail)]
    }
}

#[cfg(test)]
mod tests {
    use inferscope_common::socket::{SocketEvent, SocketKind};

    use super::*;

    fn check(header: SocketEvent, head: &[u8], tail: &[u8], expected: (Option<u64>, &str)) {
        let mut flow = Flow { next: Some(100) };
        let addition = flow.add(&SocketBytes { event: header, kind: SocketKind::Read, head, tail });
        let mut text = String::new();
        for piece in addition.pieces {
            match piece {
                Piece::Bytes(bytes) => text.push_str(std::str::from_utf8(bytes).unwrap()),
                Piece::Hole(len) => text.push_str(&"~".repeat(len as usize)),
            }
        }
        assert_eq!((addition.lost_bytes, &*text), expected);
        assert_eq!(flow.next, Some(header.offset + u64::from(header.len)));
    }

    const EVENT: SocketEvent = SocketEvent {
        time_ns: 0,
        arrival_ns: 0,
        socket: 0,
        offset: 100,
        tgid: 0,
        tid: 0,
        len: 6,
        sequence: 0,
        head_len: 0,
        tail_len: 0,
        kind: 1,
        family: 2,
        flags: 0,
        padding: 0,
    };

    #[test]
    fn what_was_not_copied_is_a_hole() {
        check(EVENT, b"abcdef", b"", (Some(0), "abcdef"));
        check(EVENT, b"abcd", b"ef", (Some(0), "abcdef"));
        check(EVENT, b"ab", b"f", (Some(0), "ab~~~f"));
        check(EVENT, b"", b"", (Some(0), "~~~~~~"));
    }

    #[test]
    fn an_offset_says_what_was_lost() {
        check(SocketEvent { offset: 130, ..EVENT }, b"abcdef", b"", (Some(30), "abcdef"));
        check(SocketEvent { offset: 99, ..EVENT }, b"abcdef", b"", (None, "abcdef"));
    }

    #[test]
    fn bytes_that_cannot_be_trusted_are_a_hole() {
        check(SocketEvent { flags: FLAG_NO_BYTES, ..EVENT }, b"abc", b"", (Some(0), "~~~~~~"));
        check(SocketEvent { flags: FLAG_PIECES, ..EVENT }, b"abc", b"d", (Some(0), "abc~~~"));
        check(EVENT, b"abcd", b"efg", (Some(0), "~~~~~~"));
    }
}
