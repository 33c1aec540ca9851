//! The kinds of numbers that a file may hold, and how their bytes are read.

/// How a number was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    /// Of this many bytes: 1, 2, 4 or 8.
    Signed(u8),
    Unsigned(u8),
    /// Of 2, 4 or 8 bytes.
    Float(u8),
}

impl Kind {
    /// From NumPy's letters, such as `<f8`; with whether the largest byte comes first.
    pub(super) fn parse(text: &str) -> Option<(Self, bool)> {
        let [order, letter, size] = *text.as_bytes() else { return None };
        let size = size.checked_sub(b'0')?;
        let kind = match (letter, size) {
            (b'b', 1) => Self::Bool,
            (b'i', 1 | 2 | 4 | 8) => Self::Signed(size),
            (b'u', 1 | 2 | 4 | 8) => Self::Unsigned(size),
            (b'f', 2 | 4 | 8) => Self::Float(size),
            _ => return None,
        };
        let big_endian = match (order, size) {
            (b'|', 1) | (b'<', _) => false,
            (b'>', _) => true,
            _ => return None,
        };
        Some((kind, big_endian))
    }

    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float(_))
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::Signed(size) | Self::Unsigned(size) | Self::Float(size) => usize::from(size),
        }
    }

    /// Appends the numbers of `bytes`, a multiple of one number's.
    pub(super) fn decode(self, big_endian: bool, bytes: &[u8], out: &mut Vec<f64>) -> Result<(), String> {
        match self {
            Self::Bool => {
                if let Some(other) = bytes.iter().find(|byte| **byte > 1) {
                    return Err(format!("it holds a bool that is neither 0 nor 1 but {other}"));
                }
                out.extend(bytes.iter().map(|byte| f64::from(*byte)));
            }
            Self::Signed(1) => out.extend(bytes.iter().map(|byte| f64::from(byte.cast_signed()))),
            Self::Unsigned(1) => out.extend(bytes.iter().map(|byte| f64::from(*byte))),
            Self::Signed(2) => each(bytes, big_endian, out, |raw| f64::from(i16::from_le_bytes(raw))),
            Self::Signed(4) => each(bytes, big_endian, out, |raw| f64::from(i32::from_le_bytes(raw))),
            Self::Signed(_) => each(bytes, big_endian, out, |raw| i64::from_le_bytes(raw) as f64),
            Self::Unsigned(2) => each(bytes, big_endian, out, |raw| f64::from(u16::from_le_bytes(raw))),
            Self::Unsigned(4) => each(bytes, big_endian, out, |raw| f64::from(u32::from_le_bytes(raw))),
            Self::Unsigned(_) => each(bytes, big_endian, out, |raw| u64::from_le_bytes(raw) as f64),
            Self::Float(2) => each(bytes, big_endian, out, |raw| from_half(u16::from_le_bytes(raw))),
            Self::Float(4) => each(bytes, big_endian, out, |raw| f64::from(f32::from_le_bytes(raw))),
            Self::Float(_) => each(bytes, big_endian, out, f64::from_le_bytes),
        }
        Ok(())
    }
}

fn each<const SIZE: usize>(
    bytes: &[u8],
    big_endian: bool,
    out: &mut Vec<f64>,
    number: impl Fn([u8; SIZE]) -> f64,
) {
    let (numbers, _none) = bytes.as_chunks::<SIZE>();
    out.extend(numbers.iter().map(|raw| {
        let mut raw = *raw;
        if big_endian {
            raw.reverse();
        }
        number(raw)
    }));
}

/// A number of 16 bits: 1 of sign, 5 of exponent, 10 of fraction.
fn from_half(bits: u16) -> f64 {
    let fraction = f64::from(bits & 0x3ff);
    let size = match (bits >> 10) & 0x1f {
        0 => fraction * 2_f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        exponent => (1024.0 + fraction) * 2_f64.powi(i32::from(exponent) - 25),
    };
    if bits & 0x8000 == 0 { size } else { -size }
}
