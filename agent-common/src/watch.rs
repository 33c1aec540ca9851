//! The two bitmaps that every program asks first: is this process watched, is this port a server's?

/// Process numbers a Linux kernel can give (`PID_MAX_LIMIT`, 64 bit).
pub const TGID_COUNT: u32 = 1 << 22;
/// Words of the WATCHED bitmap: 512 KiB for all of them.
pub const WATCHED_WORDS: u32 = TGID_COUNT / 64;
/// Unix sockets on which watched processes were seen to serve: their listeners, at most.
pub const UNIX_LISTENERS_MAX: u32 = 256;
/// Words of the PORTS bitmap: 8 KiB for all TCP ports.
pub const PORTS_WORDS: u32 = 65_536 / 64;

/// Word and mask of number `index` in a bitmap of 64-bit words.
#[inline(always)]
pub const fn bit(index: u32) -> (u32, u64) {
    (index / 64, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_neighbours_do_not_overlap() {
        assert_eq!(bit(0), (0, 1));
        assert_eq!(bit(63), (0, 1 << 63));
        assert_eq!(bit(64), (1, 1));
        assert_eq!(bit(TGID_COUNT - 1).0, WATCHED_WORDS - 1);
    }
}
