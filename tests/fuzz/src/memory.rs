//! How many bytes of memory a reader holds.
//!
//! The count is that of the whole process: where several targets run side by side, they take turns.

use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Bytes that are allocated now.
#[must_use]
pub fn held() -> usize {
    ALLOCATOR.current_usage()
}
