//! Time. Everything measured is [`BootTime`], the kernel's `CLOCK_BOOTTIME`; wall time is only for
//! what leaves the agent (exemplars, lists), by the offset between the two clocks at that moment.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine booted, suspended time included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(pub u64);

impl BootTime {
    /// The present moment.
    #[must_use]
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        Self(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
    }

    /// Time from `earlier` to this; zero where the kernel's processors disagree by a little.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The wall time of this moment, by the clocks as they stand now.
    #[must_use]
    pub fn to_wall(self) -> SystemTime {
        let ago = Self::now().since(self);
        SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH)
    }
}
