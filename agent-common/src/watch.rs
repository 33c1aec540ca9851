//! The bitmaps that every program asks first: is this process watched, is this port a server's?

/// Process numbers a Linux kernel can give (`PID_MAX_LIMIT`, 64 bit).
pub const TGID_COUNT: u32 = 1 << 22;
/// Words of the WATCHED bitmap: 512 KiB for all of them.
pub const WATCHED_WORDS: u32 = TGID_COUNT / 64;
/// Bits of the FILTER: a process number's lowest 15.
pub const FILTER_BITS: u32 = 1 << 15;
/// Words of the FILTER: 4 KiB, which the kernel keeps among its large pages. The whole bitmap lies on
/// small ones, which a virtual machine looks up anew at almost every call, for 60 to 90 ns.
pub const FILTER_WORDS: u32 = FILTER_BITS / 64;
/// Unix sockets on which watched processes were seen to serve: their listeners, at most.
pub const UNIX_LISTENERS_MAX: u32 = 256;
/// Words of the PORTS bitmap: 8 KiB for all TCP ports.
pub const PORTS_WORDS: u32 = 65_536 / 64;

/// Word and mask of number `index` in a bitmap of 64-bit words.
#[inline(always)]
pub const fn bit(index: u32) -> (u32, u64) {
    (index / 64, 1 << (index % 64))
}

/// Word and mask of a process in the FILTER, shared with every 32,768th process.
#[inline(always)]
pub const fn filter_bit(tgid: u32) -> (u32, u64) {
    bit(tgid % FILTER_BITS)
}

/// The other processes that share a bit of the FILTER with this one.
pub fn namesakes(tgid: u32) -> impl Iterator<Item = u32> {
    let first = tgid % FILTER_BITS;
    (0..TGID_COUNT / FILTER_BITS).map(move |turn| first + turn * FILTER_BITS).filter(move |&one| one != tgid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namesakes_share_their_bit_and_nobody_else_does() {
        let shared: Vec<_> = namesakes(40_000).collect();
        assert_eq!(shared.len(), 127);
        assert!(shared.iter().all(|&one| one != 40_000 && filter_bit(one) == filter_bit(40_000)));
        assert_ne!(filter_bit(40_001), filter_bit(40_000));
    }

    #[test]
    fn bits_of_neighbours_do_not_overlap() {
        assert_eq!(bit(0), (0, 1));
        assert_eq!(bit(63), (0, 1 << 63));
        assert_eq!(bit(64), (1, 1));
        assert_eq!(bit(TGID_COUNT - 1).0, WATCHED_WORDS - 1);
    }
}
