//! Bytes of a ring entry -> event. The kernel programs write them; nothing is trusted all the same.

use crate::process::ProcessEvent;
use crate::socket::{SocketEvent, SocketKind};
use crate::stall::{Stall, StallEvent};

/// Why bytes are not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than the header, or than the header says.
    Short,
    /// A kind that no program writes.
    Kind,
}

/// A socket event and the payload bytes that came with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketBytes<'a> {
    /// The header.
    pub event: SocketEvent,
    /// Its kind.
    pub kind: SocketKind,
    /// Bytes from the start of what the call moved.
    pub head: &'a [u8],
    /// Bytes from its end; empty when `head` is all of it.
    pub tail: &'a [u8],
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_ne_bytes(word)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

/// Reads one entry of the EVENTS ring.
///
/// # Errors
/// [`DecodeError`] when the bytes are shorter than they say or of an unknown kind.
pub fn socket(bytes: &[u8]) -> Result<SocketBytes<'_>, DecodeError> {
    let (header, payload) = bytes.split_at_checked(size_of::<SocketEvent>()).ok_or(DecodeError::Short)?;
    let event = SocketEvent {
        time_ns: u64_at(header, 0),
        arrival_ns: u64_at(header, 8),
        socket: u64_at(header, 16),
        offset: u64_at(header, 24),
        tgid: u32_at(header, 32),
        tid: u32_at(header, 36),
        len: u32_at(header, 40),
        sequence: u32_at(header, 44),
        head_len: u16_at(header, 48),
        tail_len: u16_at(header, 50),
        kind: header[52],
        family: header[53],
        flags: header[54],
        padding: header[55],
    };
    let kind = SocketKind::try_from(event.kind).map_err(|_| DecodeError::Kind)?;
    let (head, rest) = payload.split_at_checked(event.head_len.into()).ok_or(DecodeError::Short)?;
    let tail = rest.get(..event.tail_len.into()).ok_or(DecodeError::Short)?;
    Ok(SocketBytes { event, kind, head, tail })
}

/// Reads one entry of the PROCESSES ring.
///
/// # Errors
/// [`DecodeError::Short`] when the bytes are fewer than an event's.
pub fn process(bytes: &[u8]) -> Result<ProcessEvent, DecodeError> {
    if bytes.len() < size_of::<ProcessEvent>() {
        return Err(DecodeError::Short);
    }
    Ok(ProcessEvent {
        time_ns: u64_at(bytes, 0),
        kind: u32_at(bytes, 8),
        tgid: u32_at(bytes, 12),
        parent_tgid: u32_at(bytes, 16),
        port: u32_at(bytes, 20),
    })
}

/// Reads one entry of the STALLS ring.
///
/// # Errors
/// [`DecodeError`] when the bytes are fewer than an event's, or of an unknown kind.
pub fn stall(bytes: &[u8]) -> Result<StallEvent, DecodeError> {
    if bytes.len() < size_of::<StallEvent>() {
        return Err(DecodeError::Short);
    }
    let event = StallEvent {
        start_ns: u64_at(bytes, 0),
        end_ns: u64_at(bytes, 8),
        stalled_ns: u64_at(bytes, 16),
        tgid: u32_at(bytes, 24),
        tid: u32_at(bytes, 28),
        kind: u32_at(bytes, 32),
        padding: 0,
        counts: [40, 44, 48, 52].map(|at| u32_at(bytes, at)),
    };
    Stall::try_from(event.kind).map_err(|_| DecodeError::Kind)?;
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_an_event_or_an_error() {
        for len in 0..200 {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 37) as u8).collect();
            let _ = socket(&bytes);
            let _ = process(&bytes);
        }
        assert_eq!(socket(&[0; 55]), Err(DecodeError::Short));
        assert_eq!(socket(&[0; 56]), Err(DecodeError::Kind));
    }

    #[test]
    fn head_and_tail_are_cut_where_the_header_says() {
        let mut bytes = vec![0; 56];
        bytes[48] = 2;
        bytes[50] = 1;
        bytes[52] = SocketKind::Write as u8;
        bytes.extend_from_slice(b"abc and padding of the ring");
        let decoded = socket(&bytes).unwrap();
        assert_eq!((decoded.head, decoded.tail), (&b"ab"[..], &b"c"[..]));
        assert_eq!(socket(&bytes[..58]), Err(DecodeError::Short));
    }
}
