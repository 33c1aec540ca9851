//! A file in memory, the one way to have the kernel read a page because somebody used it; and memory that is the
//! kernel's again at once, which an allocator would keep.

#![allow(
    unsafe_code,
    reason = "no safe function maps a file, for another process may cut it short meanwhile"
)]

use std::ffi::c_void;
use std::fs::File;
use std::ptr::null_mut;

use anyhow::{Context as _, Result, ensure};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

pub const PAGE_BYTES: usize = 4096;

/// A file that is mapped while this lives. It must not be cut meanwhile: the lab's files are its own.
pub struct Mapping {
    start: *mut c_void,
    length: usize,
}

impl Mapping {
    /// Maps the first `length` bytes.
    ///
    /// # Errors
    ///
    /// Where there are none, or the kernel refuses.
    pub fn of(file: &File, length: u64) -> Result<Self> {
        ensure!(length > 0, "an empty file has no pages");
        let length = usize::try_from(length).context("the file is too long")?;
        // SAFETY: a new mapping at a place of the kernel's choice, to read only.
        let start = unsafe { mmap(null_mut(), length, ProtFlags::READ, MapFlags::PRIVATE, file, 0) };
        Ok(Self { start: start.context("map the file")?, length })
    }

    /// New memory of `length` bytes, of which each page is used once.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses.
    pub fn used(length: usize) -> Result<Self> {
        // SAFETY: a new mapping at a place of the kernel's choice.
        let start = unsafe {
            mmap_anonymous(null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        };
        let start = start.context("map memory")?;
        for place in (0..length).step_by(PAGE_BYTES) {
            // SAFETY: within the mapping, which nobody else knows.
            unsafe { start.cast::<u8>().add(place).write_volatile(1) };
        }
        Ok(Self { start, length })
    }

    /// The byte at a place, read now.
    ///
    /// # Panics
    ///
    /// Where it is beyond the end.
    #[must_use]
    pub fn byte(&self, place: usize) -> u8 {
        assert!(place < self.length, "{place} of {}", self.length);
        // SAFETY: within the mapping, which lives as long as this.
        unsafe { self.start.cast::<u8>().add(place).read_volatile() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `of`, and nobody has a reference into it.
        let _ = unsafe { munmap(self.start, self.length) };
    }
}
