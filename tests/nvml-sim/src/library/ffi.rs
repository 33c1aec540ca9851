//! What crosses the border to C: handles that are never followed, and room to write answers into.

use std::ffi::{CStr, OsStr, c_char, c_uint, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use nvml_wrapper_sys::bindings as nv;

use super::{Answer, Code, INSUFFICIENT_SIZE, INVALID_ARGUMENT};
use crate::scenario::GPUS_MAX;

/// Instances of a GPU that have handles.
const INSTANCES_MAX: usize = 63;
/// Bytes, each of whose addresses is a handle: a pointer of this library's own, always the same for a GPU. The first
/// of each row is the GPU, the others are its instances.
static HANDLES: [[u8; INSTANCES_MAX + 1]; GPUS_MAX] = [[0; INSTANCES_MAX + 1]; GPUS_MAX];

/// A device. Compared, never followed.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Handle(*const c_void);

impl Handle {
    pub(super) fn new(gpu: usize, instance: Option<usize>) -> Option<Self> {
        let row = HANDLES.get(gpu)?;
        row.get(instance.map_or(0, |instance| instance + 1)).map(|byte| Self(std::ptr::from_ref(byte).cast()))
    }

    /// As structs of the header have it.
    pub(super) fn raw(self) -> nv::nvmlDevice_t {
        self.0.cast_mut().cast()
    }

    /// Which GPU, and which of its instances.
    pub(super) fn decode(self) -> Option<(usize, Option<usize>)> {
        let offset = self.0.addr().checked_sub(HANDLES.as_ptr().addr())?;
        let (gpu, place) = (offset / (INSTANCES_MAX + 1), offset % (INSTANCES_MAX + 1));
        (gpu < GPUS_MAX).then(|| (gpu, place.checked_sub(1)))
    }
}

/// Room for an answer, or for several.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    pub(super) fn put(self, value: T) -> Answer {
        if self.0.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: who calls a function of this library hands room for one value, as its header says.
        unsafe { self.0.write(value) };
        Ok(())
    }

    /// What stands there, of calls that take something in the same place.
    pub(super) fn get(self) -> Result<T, Code> {
        if self.0.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: as above; and it is filled, since these calls read it.
        Ok(unsafe { self.0.read() })
    }

    /// The room behind the first one, of calls that are told how many there are.
    pub(super) fn nth(self, index: usize) -> Self {
        Self(self.0.wrapping_add(index))
    }

    /// As a list, whose room is told in `count`; what does not fit is an error that says how much is needed.
    pub(super) fn put_all(self, count: Out<c_uint>, values: &[T]) -> Answer {
        let room = if self.0.is_null() { 0 } else { count.get()? as usize };
        count.put(values.len() as c_uint)?;
        if room < values.len() {
            return Err(INSUFFICIENT_SIZE);
        }
        values.iter().enumerate().try_for_each(|(index, value)| self.nth(index).put(*value))
    }
}

impl Out<c_char> {
    /// With the zero at its end, if that fits into so many bytes.
    pub(super) fn put_text(self, length: c_uint, text: &str) -> Answer {
        if text.len() >= length as usize {
            return Err(INSUFFICIENT_SIZE);
        }
        let bytes = text.bytes().chain([0]);
        bytes.enumerate().try_for_each(|(index, byte)| self.nth(index).put(byte as c_char))
    }
}

/// Text from C.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Text(*const c_char);

impl Text {
    pub(super) fn get(self) -> Result<String, Code> {
        if self.0.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: who calls hands text that ends in a zero, as the header says.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map(str::to_owned).map_err(|_| INVALID_ARGUMENT)
    }
}

/// An array of a struct, filled with text and zeros.
pub(super) fn text_of<const N: usize>(text: &str) -> [c_char; N] {
    let mut array = [0; N];
    // The last one stays the zero that ends it.
    array.iter_mut().take(N - 1).zip(text.bytes()).for_each(|(place, byte)| *place = byte as c_char);
    array
}

/// The number that tells a struct's layout: its size, and which version of it.
pub(super) const fn version_of<T>(version: u32) -> c_uint {
    size_of::<T>() as c_uint | version << 24
}

/// Where this library lies, if it was loaded from a file.
pub(super) fn own_path() -> Option<PathBuf> {
    // SAFETY: all zeros is a value of this struct of pointers.
    let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: the address is of this library, `found` outlives the call.
    let known = unsafe { libc::dladdr(HANDLES.as_ptr().cast(), &raw mut found) };
    if known == 0 || found.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the loader's name of a library ends in a zero and stays while that is loaded.
    let name = unsafe { CStr::from_ptr(found.dli_fname) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}
