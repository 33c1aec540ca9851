//! The socket event: one read, write or end of a watched connection, as the kernel saw it.
//!
//! In the ring an event is a [`SocketEvent`] followed by `head_len` bytes from the start of what the
//! call moved and `tail_len` bytes from its end. What lies between was not copied.

/// Most bytes copied from the start of one read or write: a request head with its tokens, or the
/// events of one response write.
pub const HEAD_BYTES_MAX: usize = 4096;

/// Most bytes copied from the end of one read: the members that follow the messages of a long prompt.
pub const READ_TAIL_BYTES_MAX: usize = 1024;

/// Most bytes copied from the end of one write: with the head, a write of 48 pieces is seen whole.
pub const WRITE_TAIL_BYTES_MAX: usize = 4096;

/// Size of the EVENTS ring: five seconds of 20,000 writes/s of 230 bytes and 500 requests/s.
pub const EVENTS_BYTES: u32 = 32 << 20;

/// Sockets followed at once where they are known by address. The table is an LRU: a socket beyond this
/// pushes out the one that has been quiet longest, and its next event says so by a sequence that begins again.
/// Elsewhere what is known of a socket lies in the socket itself, and only its memory limit bounds it.
pub const SOCKETS_MAX: u32 = 32_768;

/// Sockets that the agent has given up on and the kernel does not know of yet.
pub const OVERRULED_MAX: u32 = 1024;

/// Pieces of one `readv`, `writev`, `recvmsg` or `sendmsg` that are looked at; the Rust front end of
/// vLLM writes up to 48. A call with more is marked [`FLAG_PIECES`].
pub const PIECES_MAX: u32 = 64;

/// What happened. Values of [`SocketEvent::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SocketKind {
    /// The process took `len` > 0 bytes from the socket.
    Read = 1,
    /// The process handed `len` > 0 bytes to the socket.
    Write = 2,
    /// The process offered bytes and the socket took none (EAGAIN).
    WriteBlocked = 3,
    /// The peer sent its end of stream: it writes no more, and may still read.
    PeerClosed = 4,
    /// The peer reset the connection, or it timed out.
    Reset = 5,
    /// The process closed the socket or its sending side.
    Closed = 6,
}

impl TryFrom<u8> for SocketKind {
    type Error = u8;

    fn try_from(value: u8) -> Result<Self, u8> {
        Ok(match value {
            1 => Self::Read,
            2 => Self::Write,
            3 => Self::WriteBlocked,
            4 => Self::PeerClosed,
            5 => Self::Reset,
            6 => Self::Closed,
            other => return Err(other),
        })
    }
}

/// The call moved fewer bytes than the process offered (writes only).
pub const FLAG_SHORT: u8 = 1;
/// The payload could not be copied, or not all of `head_len + tail_len`: only the length is known.
pub const FLAG_NO_BYTES: u8 = 2;
/// The call had more pieces than [`PIECES_MAX`]; what is copied stops there.
pub const FLAG_PIECES: u8 = 4;
/// First event of this socket that the kernel programs saw; what passed before it is unknown.
pub const FLAG_FIRST: u8 = 8;

/// Address family of a Unix socket, as in [`SocketEvent::family`].
pub const FAMILY_UNIX: u8 = 1;
/// Address family of IPv4.
pub const FAMILY_INET: u8 = 2;
/// Address family of IPv6.
pub const FAMILY_INET6: u8 = 10;

/// Header of one event in the EVENTS ring.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketEvent {
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`) when the call moved its last bytes, or the state changed.
    /// Of a write, when the kernel took them; where it cannot tell, when the call returned: a thread that
    /// loses its processor in between makes that late.
    pub time_ns: u64,
    /// Reads: nanoseconds since boot when the bytes became readable; 0 when the kernel could not tell.
    pub arrival_ns: u64,
    /// The socket, never reused: its cookie (its address where the kernel has no cookie).
    pub socket: u64,
    /// Bytes that passed in this event's direction before it, counted since [`FLAG_FIRST`], those of calls that no
    /// program saw included where TCP's own position tells.
    pub offset: u64,
    /// Process of the call; of a state change that the kernel made by itself, 0.
    pub tgid: u32,
    /// Thread of the call; 0 like `tgid`.
    pub tid: u32,
    /// Bytes the call moved; 0 for what is neither a read nor a write.
    pub len: u32,
    /// Number of this event among those of its socket, lost ones and calls that no program saw included: a gap is
    /// a loss. Two events that two processors make at once may carry the same number.
    pub sequence: u32,
    /// Bytes that follow this header from the start of what was moved.
    pub head_len: u16,
    /// Bytes that follow those from its end.
    pub tail_len: u16,
    /// A [`SocketKind`].
    pub kind: u8,
    /// Address family: 1, 2 or 10.
    pub family: u8,
    /// `FLAG_*`.
    pub flags: u8,
    /// Zero.
    pub padding: u8,
}

const _: () = assert!(size_of::<SocketEvent>() == 56 && align_of::<SocketEvent>() == 8);

/// What the kernel programs know of a socket; value of the tables STORAGE and SOCKETS.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketState {
    /// Bytes read since the socket was first seen.
    pub read_bytes: u64,
    /// Bytes written since the socket was first seen.
    pub written_bytes: u64,
    /// When unread bytes became readable, nanoseconds since boot; 0 when none wait or none are known.
    pub arrival_ns: u64,
    /// When the newest bytes became readable, nanoseconds since boot: what a read leaves behind is at
    /// most this new.
    pub newest_arrival_ns: u64,
    /// When the call that is under way last took bytes to send, nanoseconds since boot; 0 when none is, or
    /// the kernel cannot tell.
    pub sending_ns: u64,
    /// When the peer closed or reset before the first bytes decided the verdict, nanoseconds since boot; else 0.
    pub peer_closed_ns: u64,
    /// Events numbered so far.
    pub sequence: u32,
    /// A [`Verdict`].
    pub verdict: u32,
    /// Weight of calls whose bytes were not HTTP while the verdict was open.
    pub strikes: u32,
    /// `POSITION_*`: which of the two positions below are known.
    pub positions: u32,
    /// TCP's own position in what was read, after the last event that read.
    pub read_position: u32,
    /// The same of what was written.
    pub write_position: u32,
}

/// [`SocketState::read_position`] is known.
pub const POSITION_READ: u32 = 1;
/// [`SocketState::write_position`] is known.
pub const POSITION_WRITE: u32 = 2;

const _: () = assert!(size_of::<SocketState>() == 72 && align_of::<SocketState>() == 8);

/// Copies of programs that take bytes, and as many places in which events are put together: each kernel needs the
/// first so many of them.
pub const SLOTS: u32 = 8;
/// One to read and one to write.
pub const SLOTS_PLAIN: u32 = 2;
/// Both twice.
pub const SLOTS_INTERRUPTED: u32 = 4;

/// What a socket is taken for. Values of [`SocketState::verdict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Verdict {
    /// Not known yet: no call's first bytes decided it.
    Open = 0,
    /// An inbound connection that began with what HTTP or TLS begins with: events are sent.
    Inbound = 1,
    /// Anything else (the server's own connections, ZeroMQ, NCCL): nothing more is done.
    Ignored = 2,
}

/// Strikes after which an open verdict becomes [`Verdict::Ignored`].
pub const STRIKES_MAX: u32 = 4096;
/// Strikes of a read that does not begin like a request: 64 of them decide. A connection older than
/// the agent may be in the middle of a long prompt, which takes a front end about ten reads.
pub const READ_STRIKES: u32 = 64;
/// Strikes of a write: a response older than the agent may have thousands left.
pub const WRITE_STRIKES: u32 = 1;

/// What the first bytes of a call look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// An HTTP request line, the HTTP/2 preface or a TLS hello (or as much of one as there is).
    Request,
    /// An HTTP status line.
    Response,
    /// Neither.
    Other,
}

const METHODS: [u32; 9] = [
    prefix(b"GET "),
    prefix(b"POST"),
    prefix(b"PUT "),
    prefix(b"HEAD"),
    prefix(b"OPTI"),
    prefix(b"DELE"),
    prefix(b"PATC"),
    prefix(b"CONN"),
    prefix(b"PRI "),
];

const fn prefix(bytes: &[u8; 4]) -> u32 {
    u32::from_be_bytes(*bytes)
}

/// Looks at the first `len` (at most four are used) bytes of a call, `first` in big-endian order with
/// zeros after what there is.
#[inline(always)]
pub fn opening(first: u32, len: u32) -> Opening {
    if len == 0 {
        return Opening::Other;
    }
    // A client may send its request byte by byte: what there is has to match.
    let shift = if len >= 4 { 0 } else { 8 * (4 - len) };
    let mut i = 0;
    while i < METHODS.len() {
        if (METHODS[i] ^ first) >> shift == 0 {
            return Opening::Request;
        }
        i += 1;
    }
    // A TLS record of type handshake, version 3.x.
    if len >= 2 && first >> 16 == 0x1603 {
        return Opening::Request;
    }
    if (prefix(b"HTTP") ^ first) >> shift == 0 {
        return Opening::Response;
    }
    Opening::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Opening) {
        let mut first = [0; 4];
        let len = bytes.len().min(4);
        first[..len].copy_from_slice(&bytes[..len]);
        assert_eq!(opening(u32::from_be_bytes(first), bytes.len() as u32), expected, "{bytes:?}");
    }

    #[test]
    fn request_lines_open_a_connection() {
        for method in [
            "GET / ",
            "POST /v1",
            "PUT ",
            "HEAD /",
            "OPTIONS",
            "DELETE",
            "PATCH",
            "CONNECT",
            "PRI * HTTP/2.0",
        ] {
            check(method.as_bytes(), Opening::Request);
        }
    }

    #[test]
    fn a_request_split_after_any_byte_still_opens() {
        for end in 1..=4 {
            check(&b"POST"[..end], Opening::Request);
            check(&b"GET /"[..end], Opening::Request);
        }
    }

    #[test]
    fn what_is_not_a_request_does_not_open() {
        check(b"HTTP/1.1 200 OK", Opening::Response);
        check(b"\xff\0\0\0\0\0\0\0\x01\x7f", Opening::Other); // ZeroMQ's greeting
        check(b"POSX", Opening::Other);
        check(b"dd\r\ndata: ", Opening::Other);
        check(b"\x16\x03\x01\x02\0", Opening::Request);
        check(b"", Opening::Other);
    }
}
