//! Bodies: where they end, and which raw byte each of their own bytes came from.

use anyhow::{Result, bail};

use super::Framing;

/// Longest size line of a chunk, its line end included.
const SIZE_LINE_BYTES_MAX: usize = 34;

/// A body without its framing.
#[derive(Clone, Debug, Default)]
pub struct Body {
    pub bytes: Vec<u8>,
    /// For each run of body bytes: offset after it in the body, and offset after it in the raw stream.
    runs: Vec<(usize, usize)>,
}

impl Body {
    fn push(&mut self, bytes: &[u8], raw_end: usize) {
        if !bytes.is_empty() {
            self.bytes.extend_from_slice(bytes);
            self.runs.push((self.bytes.len(), raw_end));
        }
    }

    /// Offset in the raw stream of the body's byte at `offset`.
    ///
    /// # Panics
    ///
    /// Where the body has no such byte.
    #[must_use]
    pub fn raw_offset(&self, offset: usize) -> usize {
        let index = self.runs.partition_point(|&(end, _)| end <= offset);
        let (end, raw_end) = self.runs[index];
        raw_end - (end - offset)
    }
}

/// Reads one body from a raw stream that grows.
#[derive(Debug)]
pub struct BodyReader {
    framing: Framing,
    /// Offset in the raw stream up to which it has been read.
    pub position: usize,
    pub body: Body,
    done: bool,
}

impl BodyReader {
    /// A body whose first raw byte is at `position`.
    #[must_use]
    pub fn new(framing: Framing, position: usize) -> Self {
        Self { framing, position, body: Body::default(), done: framing == Framing::Length(0) }
    }

    /// Reads on in `raw`, the whole stream so far; true once the body is whole.
    ///
    /// # Errors
    ///
    /// Where the chunk framing is broken.
    pub fn advance(&mut self, raw: &[u8]) -> Result<bool> {
        while !self.done {
            let moved = match self.framing {
                Framing::Length(length) => self.take(raw, length - self.body.bytes.len()),
                Framing::UntilClose => self.take(raw, usize::MAX),
                Framing::Chunked => self.take_chunk(raw)?,
            };
            if let Framing::Length(length) = self.framing {
                self.done = self.body.bytes.len() == length;
            }
            if !moved {
                break;
            }
        }
        Ok(self.done)
    }

    fn take(&mut self, raw: &[u8], length_max: usize) -> bool {
        let available = &raw[self.position..];
        let taken = &available[..available.len().min(length_max)];
        self.position += taken.len();
        self.body.push(taken, self.position);
        !taken.is_empty()
    }

    /// Takes a whole chunk: one in pieces waits, since the times come from the raw offsets anyway.
    fn take_chunk(&mut self, raw: &[u8]) -> Result<bool> {
        let rest = &raw[self.position..];
        let Some(line) = rest.iter().take(SIZE_LINE_BYTES_MAX).position(|&byte| byte == b'\n') else {
            if rest.len() >= SIZE_LINE_BYTES_MAX {
                bail!("chunk size line too long");
            }
            return Ok(false);
        };
        let Some(size) = chunk_size(&rest[..line]) else { bail!("bad chunk size") };
        let end = line + 1 + size + 2;
        if rest.len() < end {
            return Ok(false);
        }
        if &rest[end - 2..end] != b"\r\n" {
            bail!("chunk without its line end");
        }
        self.body.push(&rest[line + 1..line + 1 + size], self.position + line + 1 + size);
        self.position += end;
        self.done = size == 0;
        Ok(true)
    }
}

fn chunk_size(line: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(line).ok()?;
    let digits = text.split(';').next()?.trim();
    usize::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_in_any_split_give_the_same_body() {
        let raw = b"5\r\nhello\r\n1;x=y\r\n \r\n5\r\nworld\r\n0\r\n\r\nNEXT";
        for step in 1..raw.len() {
            let mut reader = BodyReader::new(Framing::Chunked, 0);
            let mut seen = 0;
            while !reader.advance(&raw[..seen]).unwrap() {
                seen = (seen + step).min(raw.len());
            }
            assert_eq!(reader.body.bytes, b"hello world");
            assert_eq!(&raw[reader.position..], b"NEXT");
            assert_eq!(raw[reader.body.raw_offset(10)], b'd');
            assert_eq!(raw[reader.body.raw_offset(0)], b'h');
        }
    }

    #[test]
    fn a_length_ends_where_it_says() {
        let mut reader = BodyReader::new(Framing::Length(3), 2);
        assert!(!reader.advance(b"..ab").unwrap());
        assert!(reader.advance(b"..abcd").unwrap());
        assert_eq!((reader.body.bytes.as_slice(), reader.position), (b"abc".as_slice(), 5));
    }

    #[test]
    fn broken_chunks_are_refused() {
        for raw in [b"zz\r\n".as_slice(), b"1\r\nabc", &[b'1'; 64]] {
            assert!(BodyReader::new(Framing::Chunked, 0).advance(raw).is_err());
        }
    }
}
