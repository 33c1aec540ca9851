//! A whole kernel table in a few calls (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6), for which the map library has no way: one
//! call for each entry, as it does, would cost the agent more than all else it does in a second.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use aya::Pod;

/// The command's number, of `enum bpf_cmd`.
const LOOKUP_BATCH: libc::c_long = 24;
/// Entries of one call.
const BATCH: usize = 1024;

/// The part of `union bpf_attr` that the command reads and writes.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Every entry of a hash table. What comes or goes meanwhile may be in it or not.
///
/// # Errors
/// The kernel refuses.
pub fn entries<K: Pod + Default, V: Pod + Default>(map: BorrowedFd<'_>) -> io::Result<Vec<(K, V)>> {
    let (mut keys, mut values) = (vec![K::default(); BATCH], vec![V::default(); BATCH]);
    let (mut found, mut at, mut next) = (Vec::new(), None, 0_u32);
    loop {
        let mut attributes = Attributes {
            in_batch: at.as_ref().map_or(0, |at: &u32| std::ptr::from_ref(at) as u64),
            out_batch: std::ptr::from_mut(&mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: BATCH as u32,
            map_fd: map.as_raw_fd() as u32,
            ..Attributes::default()
        };
        // SAFETY: the kernel writes at most `count` keys and values, of the sizes that the table was made with, which
        // are those of the types, into buffers that live and have room for them, and one u32 to `out_batch`.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, &raw mut attributes, size_of::<Attributes>())
        };
        let error = (result < 0).then(io::Error::last_os_error);
        let last = error.as_ref().is_some_and(|error| error.raw_os_error() == Some(libc::ENOENT));
        match error {
            Some(error) if !last => return Err(error),
            _ => {}
        }
        let taken = attributes.count as usize;
        found.extend(keys.iter().copied().zip(values.iter().copied()).take(taken));
        if last {
            return Ok(found);
        }
        at = Some(next);
    }
}
