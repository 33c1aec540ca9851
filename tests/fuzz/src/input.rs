//! Takes an input apart: a few bytes of choices first, then the bytes to be read.
//!
//! An input that is too short has zeros for choices, so that every input is one.

/// Places at which an input may be cut.
const CUTS_MAX: usize = 15;

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number of cuts, and the place of each: what the rest is to be cut at.
    pub fn cuts(&mut self) -> Cuts {
        let count = usize::from(self.byte()) % (CUTS_MAX + 1);
        Cuts { places: (0..count).map(|_| self.word().into()).collect(), every: false }
    }

    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.bytes
    }
}

/// Where bytes are cut.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    places: Vec<usize>,
    every: bool,
}

impl Cuts {
    /// Between any two bytes.
    #[must_use]
    pub fn every_byte() -> Self {
        Self { places: Vec::new(), every: true }
    }

    /// `bytes` in parts, none of them empty.
    pub fn parts<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut places: Vec<usize> = self.places.iter().map(|place| place % (bytes.len() + 1)).collect();
        if self.every {
            places.extend(1..bytes.len());
        }
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let pairs: Vec<(usize, usize)> = places.windows(2).map(|pair| (pair[0], pair[1])).collect();
        pairs.into_iter().filter(|(from, to)| from < to).map(move |(from, to)| &bytes[from..to])
    }
}
