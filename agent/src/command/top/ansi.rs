//! Colours as the oldest terminals know them.
//!
//! In: what the terminal library writes, which names each of the 16 colours by its number among 256 (`38;5;1`). Out: the
//! same with the codes of the 16 (`31`): a terminal that has no 256 takes `5` for blinking and `1` for bold. And what is
//! drawn at once is written at once.

use std::io::{Result, Write};
use std::mem::take;

/// Longest sequence that is looked at, in bytes; a longer one is passed on as it is.
const SEQUENCE_MAX: usize = 64;
/// What is held back until it is flushed, in bytes.
const READY_MAX: usize = 64 * 1024;

/// The writer.
#[derive(Debug)]
pub struct Sixteen<W: Write> {
    to: W,
    ready: Vec<u8>,
    /// A sequence that is not complete yet.
    sequence: Vec<u8>,
}

impl<W: Write> Sixteen<W> {
    /// Writes to `to`.
    #[must_use]
    pub fn new(to: W) -> Self {
        Self { to, ready: Vec::new(), sequence: Vec::new() }
    }

    fn take(&mut self, byte: u8) {
        if self.sequence.is_empty() && byte != 0x1b {
            self.ready.push(byte);
            return;
        }
        self.sequence.push(byte);
        let begun = self.sequence.len();
        let is_over = match begun {
            1 => false,
            2 => byte != b'[',
            _ => (0x40..=0x7e).contains(&byte) || begun >= SEQUENCE_MAX,
        };
        if is_over {
            let sequence = take(&mut self.sequence);
            self.ready.extend(translated(&sequence).unwrap_or(sequence));
        }
    }
}

impl<W: Write> Write for Sixteen<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        bytes.iter().for_each(|byte| self.take(*byte));
        if self.ready.len() > READY_MAX {
            self.to.write_all(&take(&mut self.ready))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.to.write_all(&take(&mut self.ready))?;
        self.to.flush()
    }
}

/// A sequence of colours in the codes of the 16; `None` of any other sequence. Colours of underlines, which are younger
/// still and not used here, are left out.
fn translated(sequence: &[u8]) -> Option<Vec<u8>> {
    let codes = sequence.strip_prefix(b"\x1b[")?.strip_suffix(b"m")?;
    let codes: Option<Vec<u16>> =
        std::str::from_utf8(codes).ok()?.split(';').map(|code| code.parse().ok()).collect();
    let codes = codes?;
    let mut kept: Vec<String> = Vec::new();
    let mut rest = codes.as_slice();
    while let [code, after @ ..] = rest {
        rest = after;
        match (code, after) {
            (38 | 48 | 58, [5, colour, after @ ..]) => {
                rest = after;
                match (code, colour) {
                    (58, _) => {}
                    (_, 0..8) => kept.push((code - 8 + colour).to_string()),
                    (_, 8..16) => kept.push((code + 52 + colour - 8).to_string()),
                    _ => kept.push(format!("{code};5;{colour}")),
                }
            }
            (59, _) => {}
            _ => kept.push(code.to_string()),
        }
    }
    // Without codes it would be a reset.
    let sequence = if kept.is_empty() { String::new() } else { format!("\x1b[{}m", kept.join(";")) };
    Some(sequence.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_become_those_of_16_however_they_are_split() {
        for (written, expected) in [
            ("\x1b[38;5;1;49mred", "\x1b[31;49mred"),
            ("\x1b[38;5;8;48;5;15m", "\x1b[90;107m"),
            ("\x1b[38;5;7;48;5;0m", "\x1b[37;40m"),
            ("\x1b[38;5;9m", "\x1b[91m"),
            ("\x1b[38;5;200m", "\x1b[38;5;200m"),
            ("\x1b[39m\x1b[49m\x1b[59m\x1b[0m", "\x1b[39m\x1b[49m\x1b[0m"),
            ("\x1b[58;5;3m", ""),
            ("\x1b[1m\x1b[7m\x1b[27m", "\x1b[1m\x1b[7m\x1b[27m"),
            ("\x1b[m", "\x1b[m"),
            ("\x1b[24;73H\x1b[?25l\x1b[?1049h", "\x1b[24;73H\x1b[?25l\x1b[?1049h"),
            ("─\x1b7x\x1b[38;2;1;2;3m", "─\x1b7x\x1b[38;2;1;2;3m"),
        ] {
            for part in 1..=written.len() {
                let mut out = Vec::new();
                let mut writer = Sixteen::new(&mut out);
                for bytes in written.as_bytes().chunks(part) {
                    writer.write_all(bytes).unwrap();
                }
                writer.flush().unwrap();
                assert_eq!(String::from_utf8_lossy(&out), expected, "{written:?} by {part}");
            }
        }
    }

    #[test]
    fn what_has_no_end_is_passed_on() {
        let long = format!("\x1b[{}", "1;".repeat(1000));
        let mut out = Vec::new();
        let mut writer = Sixteen::new(&mut out);
        writer.write_all(long.as_bytes()).unwrap();
        writer.flush().unwrap();
        assert_eq!(out, long.as_bytes());
        let mut out = Vec::new();
        Sixteen::new(&mut out).write_all(&[b'x'; READY_MAX + 1]).unwrap();
        assert_eq!(out.len(), READY_MAX + 1, "nothing is kept without bound");
    }
}
