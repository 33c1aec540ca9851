//! Reads arrays of numbers as NumPy stores them (`.npy`, versions 1 to 3), strictly and bounded.
//!
//! In: a file's bytes and how many there are. Out: its numbers, flat and in C order, or why not. Nothing in a file is
//! evaluated, no object is built (no pickle), and memory is taken for bytes that are there, never for a shape that
//! promises them. What NumPy would read but is no array of real numbers (records, complex numbers, texts, dates,
//! archives) is refused.

mod header;
mod number;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

pub use number::Kind;

use header::Header;

/// Numbers of one file: 80 MiB of them in memory, and two files are held at a time.
pub const VALUES_MAX: u64 = 10 << 20;
/// NumPy reads no longer header either.
pub const HEADER_BYTES_MAX: usize = 10_000;
const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Read at once; a multiple of every number's size.
const CHUNK_BYTES: usize = 64 << 10;

/// The numbers of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// How they were stored.
    pub kind: Kind,
    /// In C order. Each is exact but for integers beyond 2^53.
    pub values: Vec<f64>,
}

/// Why there are no numbers.
#[derive(Debug)]
pub enum NpyError {
    /// Shorter than it says: somebody may still be writing it.
    Unfinished(&'static str),
    /// Never going to be read as it is.
    Refused(String),
    /// The file could not be read at all.
    Read(io::Error),
}

impl std::fmt::Display for NpyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unfinished(what) => write!(f, "the file is cut off in its {what}: it may still be written"),
            Self::Refused(why) => f.write_str(why),
            Self::Read(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for NpyError {}

impl From<io::Error> for NpyError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

/// Reads the array in the plain file at `path`.
///
/// # Errors
/// It is no plain file, or cannot be read, or is no array of real numbers, or not yet a whole one.
pub fn read_file(path: &Path) -> Result<Array, NpyError> {
    // A pipe or a device would hold the reader for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(NpyError::Refused("not a plain file".to_owned()));
    }
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    read(file, length)
}

/// Reads the array in `length` bytes.
///
/// # Errors
/// As [`read_file`].
pub fn read(mut bytes: impl Read, length: u64) -> Result<Array, NpyError> {
    let (header, read) = read_header(&mut bytes)?;
    let count = header.count().filter(|count| *count <= VALUES_MAX).ok_or_else(|| {
        NpyError::Refused(format!("its shape {:?} has more than {VALUES_MAX} numbers", header.shape))
    })?;
    let expected = count * header.kind.bytes() as u64;
    let there = length.saturating_sub(read);
    if there < expected {
        return Err(NpyError::Unfinished("numbers"));
    }
    if there > expected {
        return Err(NpyError::Refused(format!("{} bytes follow its numbers", there - expected)));
    }
    let values = read_values(&mut bytes, &header, count)?;
    let values = if header.fortran_order { in_c_order(values, &header.shape) } else { values };
    Ok(Array { kind: header.kind, values })
}

/// The header, and how many bytes it took with all before it.
fn read_header(bytes: &mut impl Read) -> Result<(Header, u64), NpyError> {
    let mut magic = [0; 6];
    let got = fill(bytes, &mut magic)?;
    if magic[..got] != MAGIC[..got] {
        return Err(NpyError::Refused(no_array(&magic[..got])));
    }
    let mut version = [0; 2];
    if got < magic.len() || fill(bytes, &mut version)? < version.len() {
        return Err(NpyError::Unfinished("first bytes"));
    }
    let width = match version {
        [1, 0] => 2,
        [2 | 3, 0] => 4,
        [major, minor] => {
            return Err(NpyError::Refused(format!("version {major}.{minor} of the format is not known")));
        }
    };
    let mut length = [0; 4];
    if fill(bytes, &mut length[..width])? < width {
        return Err(NpyError::Unfinished("first bytes"));
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > HEADER_BYTES_MAX {
        return Err(NpyError::Refused(format!(
            "its header has {length} bytes, {HEADER_BYTES_MAX} are the most"
        )));
    }
    let mut text = vec![0; length];
    if fill(bytes, &mut text)? < length {
        return Err(NpyError::Unfinished("header"));
    }
    let header = header::parse(&text).map_err(NpyError::Refused)?;
    Ok((header, (magic.len() + version.len() + width + length) as u64))
}

fn no_array(start: &[u8]) -> String {
    let what = if start.starts_with(b"PK") {
        "an archive (np.savez): save one array with np.save"
    } else {
        "no .npy file"
    };
    format!("it is {what}")
}

fn read_values(bytes: &mut impl Read, header: &Header, count: u64) -> Result<Vec<f64>, NpyError> {
    let mut left = count as usize * header.kind.bytes();
    let mut values = Vec::with_capacity(count as usize);
    let mut chunk = vec![0; CHUNK_BYTES.min(left)];
    while left > 0 {
        let part = CHUNK_BYTES.min(left);
        if fill(bytes, &mut chunk[..part])? < part {
            return Err(NpyError::Unfinished("numbers"));
        }
        header.kind.decode(header.big_endian, &chunk[..part], &mut values).map_err(NpyError::Refused)?;
        left -= part;
    }
    Ok(values)
}

/// Reads until `buffer` is full or nothing is left; says how much there was.
fn fill(bytes: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match bytes.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// Numbers stored with the first index running fastest, as if the last one did.
fn in_c_order(stored: Vec<f64>, shape: &[u64]) -> Vec<f64> {
    if shape.len() < 2 || stored.is_empty() {
        return stored;
    }
    let mut strides = Vec::with_capacity(shape.len());
    let mut stride = 1;
    for length in shape {
        strides.push(stride);
        stride *= *length as usize;
    }
    let mut index = vec![0_u64; shape.len()];
    let mut at = 0;
    let mut ordered = Vec::with_capacity(stored.len());
    for _ in 0..stored.len() {
        ordered.push(stored[at]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis] as usize;
            index[axis] = 0;
        }
    }
    ordered
}

#[cfg(test)]
mod tests;
