//! Where a body ends: by length, by chunks, by the end of the connection; against a reader that has all of it.
//!
//! Input: the framing and its length, which part is not seen, where the rest is cut, then the bytes.

use std::ops::Range;

use inferscope::request::readers::{Body, Framing, Piece, Step};

use crate::input::{Cuts, Input};

/// Longest line of the framing that both readers take; the exact limit is the agent's own matter.
const LINE_BYTES_MAX: usize = 4000;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let framing = match input.byte() % 4 {
        0 => Framing::Length(input.word().into()),
        1 => Framing::UntilClose,
        _ => Framing::Chunked,
    };
    let (from, len) = (usize::from(input.word()), usize::from(input.byte()));
    let cuts = input.cuts();
    let bytes = input.rest();
    let hole = from.min(bytes.len())..(from + len).min(bytes.len());
    let long = bytes.split(|byte| *byte == b'\n').any(|line| line.len() > LINE_BYTES_MAX);
    let expected = all_of_it(framing, bytes);
    for cuts in [&Cuts::default(), &cuts, &Cuts::every_byte()] {
        let whole = read(framing, bytes, 0..0, cuts);
        assert!(!whole.missed);
        if !long {
            assert_eq!((&whole.end, &whole.data), (&expected.end, &expected.data));
        }
        holes_are_skipped(&whole, &read(framing, bytes, hole.clone(), cuts), bytes.len());
    }
}

/// Without a missed border, a hole is nothing but bytes that are not known.
fn holes_are_skipped(whole: &Read, holed: &Read, len: usize) {
    assert!(holed.data.len() <= len, "{} bytes of {len}", holed.data.len());
    if holed.missed {
        return;
    }
    assert_eq!((holed.end, holed.data.len()), (whole.end, whole.data.len()));
    let same = |(one, other): (&Option<u8>, &Option<u8>)| one.is_none() || one == other;
    assert!(holed.data.iter().zip(&whole.data).all(same));
}

/// How far a body went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// So many bytes are behind it.
    Done(usize),
    Broken,
    More,
}

/// What was read of a body; a byte that was not seen is none.
#[derive(Debug)]
struct Read {
    data: Vec<Option<u8>>,
    end: End,
    /// A border was.
    missed: bool,
}

fn read(framing: Framing, bytes: &[u8], hole: Range<usize>, cuts: &Cuts) -> Read {
    let mut body = Body::new(framing);
    let mut read = Read { data: Vec::new(), end: End::More, missed: false };
    let mut at = 0;
    for part in cuts.parts(bytes) {
        // Of the part, what is before the hole, in it, and behind it.
        let places =
            [at, hole.start.clamp(at, at + part.len()), hole.end.clamp(at, at + part.len()), at + part.len()];
        let pieces = [
            Piece::Bytes(&bytes[places[0]..places[1]]),
            Piece::Hole((places[2] - places[1]) as u64),
            Piece::Bytes(&bytes[places[2]..places[3]]),
        ];
        for (number, piece) in pieces.into_iter().enumerate() {
            let behind = bytes.len() - places[number + 1];
            if !read.piece(&mut body, piece, number == 0, behind) {
                return read;
            }
        }
        at += part.len();
    }
    read
}

impl Read {
    /// False once the body is over.
    fn piece(&mut self, body: &mut Body, mut piece: Piece<'_>, begins: bool, behind: usize) -> bool {
        loop {
            match body.step(&mut piece, begins) {
                Step::Data(bytes) => self.data.extend(bytes.iter().copied().map(Some)),
                Step::Hole(len) => self.data.extend(std::iter::repeat_n(None, len as usize)),
                Step::ChunkEnds => {}
                Step::BorderMissed => self.missed = true,
                Step::More => return true,
                Step::Broken => self.end = End::Broken,
                Step::Done => self.end = End::Done(piece.len() as usize + behind),
            }
            if self.end != End::More {
                return false;
            }
        }
    }
}

/// The slow oracle: line by line, with everything at hand.
fn all_of_it(framing: Framing, bytes: &[u8]) -> Read {
    let known = |bytes: &[u8]| bytes.iter().copied().map(Some).collect();
    let (data, end) = match framing {
        Framing::UntilClose => (known(bytes), End::More),
        Framing::Length(length) => {
            let length = length as usize;
            let end = if length <= bytes.len() && (length > 0 || !bytes.is_empty()) {
                End::Done(bytes.len() - length)
            } else {
                End::More
            };
            (known(&bytes[..length.min(bytes.len())]), end)
        }
        Framing::Chunked => {
            let (data, end) = chunks(bytes);
            (known(&data), end)
        }
    };
    Read { data, end, missed: false }
}

fn chunks(mut bytes: &[u8]) -> (Vec<u8>, End) {
    let mut data = Vec::new();
    loop {
        let digits = bytes.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits > 15 {
            return (data, End::Broken);
        }
        match bytes.get(digits) {
            None => return (data, End::More),
            Some(b'\r' | b'\n' | b';' | b' ' | b'\t') if digits > 0 => {}
            Some(_) => return (data, End::Broken),
        }
        let text = std::str::from_utf8(&bytes[..digits]).expect("digits are text");
        let size = usize::from_str_radix(text, 16).expect("fifteen digits fit");
        let Some(line) = bytes.iter().position(|byte| *byte == b'\n') else { return (data, End::More) };
        bytes = &bytes[line + 1..];
        if size == 0 {
            return (data, trailer(bytes));
        }
        data.extend(&bytes[..size.min(bytes.len())]);
        if size > bytes.len() {
            return (data, End::More);
        }
        bytes = &bytes[size..];
        let returns = bytes.iter().take_while(|byte| **byte == b'\r').count();
        match bytes.get(returns) {
            None => return (data, End::More),
            Some(b'\n') => bytes = &bytes[returns + 1..],
            Some(_) => return (data, End::Broken),
        }
    }
}

fn trailer(mut bytes: &[u8]) -> End {
    let mut len = 0;
    loop {
        let line = bytes.iter().position(|byte| *byte == b'\n');
        let text = &bytes[..line.unwrap_or(bytes.len())];
        let visible = text.iter().filter(|byte| **byte != b'\r').count();
        len += visible;
        if len > 4096 {
            return End::Broken;
        }
        let Some(line) = line else { return End::More };
        bytes = &bytes[line + 1..];
        if visible == 0 {
            return End::Done(bytes.len());
        }
    }
}
