//! Where a message body ends: by length, by chunks, or by the end of the connection.
//!
//! In: pieces of one direction behind a head. Out: the same without the framing, step by step. A hole is
//! skipped by count; where it swallowed the border of a chunk, the next unmistakable one is looked for.

use memchr::{memchr, memchr_iter};

use super::assembly::Piece;

/// Longest chunk size in hexadecimal digits.
const SIZE_DIGITS_MAX: u32 = 15;
/// Longest chunk extension or trailer, so that a broken stream is found out.
const LINE_BYTES_MAX: usize = 4096;
/// What an event begins with. Behind a chunk size line nothing in JSON text looks like it, since line ends
/// are escaped there.
const EVENT_STARTS: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// A body under way.
pub struct Body {
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Length {
        left: u64,
    },
    UntilClose,
    /// Chunked: in the size line, before any extension.
    Size {
        value: u64,
        digits: u32,
    },
    /// Behind the size: an extension, up to the line end.
    SizeEnd {
        value: u64,
        len: usize,
    },
    Data {
        left: u64,
    },
    /// The line end behind the data.
    DataEnd,
    /// Behind the last chunk: `line` bytes of the present trailer line, `len` of all.
    Trailer {
        line: usize,
        len: usize,
    },
    /// A border was missed.
    Lost,
    Done,
}

/// What the next bytes of a body are.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    Data(&'a [u8]),
    /// Data that was not copied.
    Hole(u64),
    /// A chunk of data is complete.
    ChunkEnds,
    /// The border of a chunk was in what was not copied.
    BorderMissed,
    /// The body is complete; what is left of the piece is behind it.
    Done,
    Broken,
    /// The piece is used up.
    More,
}

impl Body {
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(left) => State::Length { left },
            Framing::Chunked => State::Size { value: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    pub fn ends_at_close(&self) -> bool {
        matches!(self.state, State::UntilClose)
    }

    pub fn is_chunked(&self) -> bool {
        !matches!(self.state, State::Length { .. } | State::UntilClose)
    }

    /// A border was missed, and none found since.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// Takes the next step from the front of `piece`. `begins`: the piece begins a call.
    pub fn step<'a>(&mut self, piece: &mut Piece<'a>, begins: bool) -> Step<'a> {
        loop {
            let step = match self.state {
                State::Done | State::Length { left: 0 } => Some(Step::Done),
                _ if piece.is_empty() => Some(Step::More),
                State::UntilClose => Some(data(piece.take(u64::MAX))),
                State::Length { left } => {
                    let taken = piece.take(left);
                    self.state = State::Length { left: left - taken.len() };
                    Some(data(taken))
                }
                State::Data { left } => {
                    let taken = piece.take(left);
                    let left = left - taken.len();
                    self.state = if left == 0 { State::DataEnd } else { State::Data { left } };
                    Some(data(taken))
                }
                State::Lost => Some(self.look_for_border(piece, begins)),
                _ => self.frame(piece),
            };
            if let Some(step) = step {
                return step;
            }
        }
    }

    /// Framing between the data of chunks; `None` to go on.
    fn frame<'a>(&mut self, piece: &mut Piece<'a>) -> Option<Step<'a>> {
        let Piece::Bytes(bytes) = *piece else {
            self.state = State::Lost;
            piece.clear();
            return Some(Step::BorderMissed);
        };
        let mut at = 0;
        let mut step = None;
        while at < bytes.len() && step.is_none() {
            let byte = bytes[at];
            at += 1;
            (self.state, step) = self.frame_byte(byte);
            if matches!(self.state, State::Data { .. } | State::Done) {
                break;
            }
        }
        *piece = Piece::Bytes(&bytes[at..]);
        step
    }

    fn frame_byte<'a>(&self, byte: u8) -> (State, Option<Step<'a>>) {
        let broken = (State::Lost, Some(Step::Broken));
        match (self.state, byte) {
            (State::Size { value, digits }, _) if byte.is_ascii_hexdigit() && digits < SIZE_DIGITS_MAX => {
                (State::Size { value: value << 4 | u64::from(hex(byte)), digits: digits + 1 }, None)
            }
            (State::Size { value, digits }, b'\r' | b'\n' | b';' | b' ' | b'\t') if digits > 0 => {
                let end = State::SizeEnd { value, len: 0 };
                if byte == b'\n' { (after_size(value), None) } else { (end, None) }
            }
            (State::SizeEnd { value, .. }, b'\n') => (after_size(value), None),
            (State::SizeEnd { value, len }, _) if len < LINE_BYTES_MAX => {
                (State::SizeEnd { value, len: len + 1 }, None)
            }
            (State::DataEnd, b'\r') => (State::DataEnd, None),
            (State::DataEnd, b'\n') => (State::Size { value: 0, digits: 0 }, Some(Step::ChunkEnds)),
            (State::Trailer { line: 0, .. }, b'\n') => (State::Done, None),
            (State::Trailer { line, len }, b'\r') => (State::Trailer { line, len }, None),
            (State::Trailer { len, .. }, b'\n') => (State::Trailer { line: 0, len }, None),
            (State::Trailer { line, len }, _) if len < LINE_BYTES_MAX => {
                (State::Trailer { line: line + 1, len: len + 1 }, None)
            }
            _ => broken,
        }
    }

    /// Behind a missed border: the next one that nothing else can be.
    fn look_for_border<'a>(&mut self, piece: &mut Piece<'a>, begins: bool) -> Step<'a> {
        let Piece::Bytes(bytes) = *piece else {
            piece.clear();
            return Step::More;
        };
        let here = begins.then_some(0);
        let later = memchr_iter(b'\n', bytes).filter(|at| *at > 0 && bytes[at - 1] == b'\r').map(|at| at + 1);
        let Some(at) = here.into_iter().chain(later).find(|at| is_border(&bytes[*at..])) else {
            piece.clear();
            return Step::More;
        };
        *piece = Piece::Bytes(&bytes[at..]);
        self.state = State::Size { value: 0, digits: 0 };
        Step::BorderMissed
    }
}

fn data(taken: Piece<'_>) -> Step<'_> {
    match taken {
        Piece::Bytes(bytes) => Step::Data(bytes),
        Piece::Hole(len) => Step::Hole(len),
    }
}

fn after_size(value: u64) -> State {
    if value == 0 { State::Trailer { line: 0, len: 0 } } else { State::Data { left: value } }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// `bytes` begin with the size line of a chunk that holds an event, or are the last chunk and nothing more.
fn is_border(bytes: &[u8]) -> bool {
    let Some(line) = memchr(b'\n', &bytes[..bytes.len().min(18)]) else { return false };
    let Some(digits) = bytes[..line].strip_suffix(b"\r") else { return false };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return false;
    }
    let rest = &bytes[line + 1..];
    if digits.iter().all(|digit| *digit == b'0') {
        return rest == b"\r\n";
    }
    EVENT_STARTS.iter().any(|start| rest.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Data bytes, what else happened, and what is left behind the body.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Read {
        data: String,
        steps: Vec<&'static str>,
        left: usize,
    }

    fn read(framing: Framing, pieces: &[Piece<'_>]) -> Read {
        let mut body = Body::new(framing);
        let mut read = Read::default();
        for piece in pieces {
            let mut piece = *piece;
            loop {
                match body.step(&mut piece, true) {
                    Step::Data(bytes) => read.data.push_str(std::str::from_utf8(bytes).unwrap()),
                    Step::Hole(len) => read.data.push_str(&"~".repeat(len as usize)),
                    Step::ChunkEnds => read.steps.push("chunk"),
                    Step::BorderMissed => read.steps.push("missed"),
                    Step::Broken => {
                        read.steps.push("broken");
                        return read;
                    }
                    Step::More => break,
                    Step::Done => {
                        read.steps.push("done");
                        read.left = piece.len() as usize;
                        return read;
                    }
                }
            }
        }
        read
    }

    fn check(framing: Framing, bytes: &str, data: &str, steps: &[&str], left: usize) {
        let expected = Read { data: data.into(), steps: steps.iter().map(|step| leak(step)).collect(), left };
        assert_eq!(read(framing, &[Piece::Bytes(bytes.as_bytes())]), expected, "{bytes:?}");
        for at in 0..bytes.len() - left {
            let (first, second) = bytes.as_bytes().split_at(at);
            assert_eq!(
                read(framing, &[Piece::Bytes(first), Piece::Bytes(second)]),
                expected,
                "{bytes:?} at {at}"
            );
        }
    }

    fn leak(step: &str) -> &'static str {
        ["chunk", "missed", "broken", "done"].into_iter().find(|known| *known == step).unwrap()
    }

    #[test]
    fn a_length_is_counted() {
        check(Framing::Length(3), "abcGET", "abc", &["done"], 3);
        check(Framing::Length(0), "GET", "", &["done"], 3);
        check(Framing::UntilClose, "abc", "abc", &[], 0);
    }

    #[test]
    fn chunks_are_joined() {
        check(
            Framing::Chunked,
            "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nHTTP",
            "abc0123456789",
            &["chunk", "chunk", "done"],
            4,
        );
    }

    #[test]
    fn extensions_and_trailers_are_skipped() {
        check(
            Framing::Chunked,
            "3;a=\"b\"\r\nabc\r\n0;x\r\nt: 1\r\nu: 2\r\n\r\nH",
            "abc",
            &["chunk", "done"],
            1,
        );
    }

    #[test]
    fn line_ends_without_cr_are_taken() {
        check(Framing::Chunked, "3\nabc\n0\n\n", "abc", &["chunk", "done"], 0);
    }

    #[test]
    fn what_is_no_chunk_is_broken() {
        check(Framing::Chunked, "x", "", &["broken"], 0);
        check(Framing::Chunked, "\r\n", "", &["broken"], 0);
        check(Framing::Chunked, "3\r\nabcd", "abc", &["broken"], 0);
        check(Framing::Chunked, "1111111111111111111111\r\n", "", &["broken"], 0);
    }

    fn check_holes(pieces: &[Piece<'_>], data: &str, steps: &[&str]) {
        let read = read(Framing::Chunked, pieces);
        assert_eq!((&*read.data, &read.steps[..]), (data, steps));
    }

    #[test]
    fn a_hole_inside_a_chunk_is_skipped() {
        check_holes(
            &[Piece::Bytes(b"8\r\nab"), Piece::Hole(4), Piece::Bytes(b"gh\r\n0\r\n\r\n")],
            "ab~~~~gh",
            &["chunk", "done"],
        );
    }

    #[test]
    fn a_hole_over_a_border_ends_at_the_next_event_or_at_the_last_chunk() {
        check_holes(
            &[Piece::Bytes(b"8\r\nab"), Piece::Hole(40), Piece::Bytes(b"xx\n\n\r\n5\r\ndata:\r\n0\r\n\r\n")],
            "ab~~~~~~data:",
            &["missed", "missed", "chunk", "done"],
        );
        check_holes(
            &[Piece::Bytes(b"8\r\nab"), Piece::Hole(40), Piece::Bytes(b"xx\n\n\r\n0\r\n\r\n")],
            "ab~~~~~~",
            &["missed", "missed", "done"],
        );
        check_holes(
            &[
                Piece::Bytes(b"8\r\nab"),
                Piece::Hole(40),
                Piece::Bytes(b"\\r\\n5\\r\\ndata: 5\r\nx"),
                Piece::Bytes(b"5\r\ndata:"),
            ],
            "ab~~~~~~data:",
            &["missed", "missed"],
        );
    }
}
