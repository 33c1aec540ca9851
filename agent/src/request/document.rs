//! One JSON document of any size, with or without a hole: the body of a request or an answer, or the
//! data of one event.
//!
//! In: its bytes, split anywhere, and how many were not copied. Out: its values, by the scanner from its
//! start up to the first hole, and from the last hole on once its end is known.

use super::json::{Scanner, Token};
use super::key::Key;
use super::tail;

/// Bytes kept from the last hole on: the tail of a write, and as much again.
const WINDOW_BYTES_MAX: usize = 8192;

/// How a document ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// No byte but white space.
    Empty,
    Whole,
    /// Part of it was not seen.
    Holed,
    /// No JSON, or it ended too early.
    Broken,
}

/// A document under way.
pub struct Document {
    scanner: Scanner,
    holed: bool,
    /// The last bytes since the last hole.
    window: Vec<u8>,
}

impl Document {
    pub fn new() -> Self {
        Self { scanner: Scanner::new(), holed: false, window: Vec::new() }
    }

    pub fn feed(&mut self, bytes: &[u8], visit: &mut impl FnMut(&[Key], Token<'_>)) {
        if !self.holed {
            self.scanner.feed(bytes, visit);
            return;
        }
        let kept = &bytes[bytes.len().saturating_sub(WINDOW_BYTES_MAX)..];
        let excess = (self.window.len() + kept.len()).saturating_sub(WINDOW_BYTES_MAX);
        self.window.drain(..excess);
        self.window.extend_from_slice(kept);
    }

    /// The next bytes were not copied.
    pub fn hole(&mut self, visit: &mut impl FnMut(&[Key], Token<'_>)) {
        if !self.holed {
            self.scanner.cut(visit);
            self.holed = true;
        }
        self.window.clear();
    }

    /// The document is over; the next bytes begin another.
    pub fn end(&mut self, visit: &mut impl FnMut(&[Key], Token<'_>)) -> Ended {
        let ended = if self.holed {
            if let Some((at, mut scanner)) = tail::resume(&self.window, &self.scanner) {
                scanner.feed(&self.window[at..], visit);
            }
            self.window = Vec::new();
            self.holed = false;
            Ended::Holed
        } else if self.scanner.is_empty() {
            Ended::Empty
        } else if self.scanner.is_done() {
            Ended::Whole
        } else {
            Ended::Broken
        };
        self.scanner.reset();
        ended
    }

    /// It is complete as it stands: what follows may only be white space.
    pub fn is_done(&self) -> bool {
        !self.holed && self.scanner.is_done()
    }
}
