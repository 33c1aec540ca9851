//! What is kept of a GPU from tick to tick: counters of the driver's, which stay while it does not answer.
//!
//! In: readings. Out: counters that only rise: one that the driver counts anew, because it was loaded again, goes on from
//! where it was.

use crate::gpu::Reading;
use crate::registry::totals::Rising;

/// A counter that a card may not have.
#[derive(Clone, Copy, Debug, Default)]
struct Counter(Option<Rising>);

impl Counter {
    /// A value that is missing this time is not a counter that went.
    fn set(&mut self, total: Option<u64>) {
        if let Some(total) = total {
            self.0.get_or_insert_default().set(total);
        }
    }

    fn get(self) -> Option<u64> {
        self.0.map(Rising::get)
    }
}

/// Of one GPU.
#[derive(Debug, Default)]
pub struct Kept {
    /// Corrected and uncorrected, each since the driver was loaded and in the life of the board.
    ecc: [Counter; 4],
    pcie_replays: Counter,
    /// Replay, recovery, checksum.
    nvlink: [Counter; 3],
    compute_mode: Option<&'static str>,
}

impl Kept {
    /// Takes what was read. The same reading again changes nothing.
    pub fn set(&mut self, reading: &Reading) {
        let (volatile, aggregate) = (reading.ecc.volatile, reading.ecc.aggregate);
        let totals = [
            volatile.map(|counts| counts.corrected),
            volatile.map(|counts| counts.uncorrected),
            aggregate.map(|counts| counts.corrected),
            aggregate.map(|counts| counts.uncorrected),
        ];
        self.ecc.iter_mut().zip(totals).for_each(|(counter, total)| counter.set(total));
        self.pcie_replays.set(reading.pcie.replays);
        let links = reading.nvlink.unwrap_or_default();
        let totals = [links.replay_errors, links.recovery_errors, links.crc_errors];
        self.nvlink.iter_mut().zip(totals).for_each(|(counter, total)| counter.set(total));
        self.compute_mode = reading.compute_mode.or(self.compute_mode);
    }

    /// Kind, counter, and how many.
    pub fn ecc(&self) -> [(&'static str, &'static str, Option<u64>); 4] {
        let [volatile_corrected, volatile_uncorrected, aggregate_corrected, aggregate_uncorrected] =
            self.ecc.map(Counter::get);
        [
            ("corrected", "volatile", volatile_corrected),
            ("uncorrected", "volatile", volatile_uncorrected),
            ("corrected", "aggregate", aggregate_corrected),
            ("uncorrected", "aggregate", aggregate_uncorrected),
        ]
    }

    pub fn pcie_replays(&self) -> Option<u64> {
        self.pcie_replays.get()
    }

    /// Kind, and how many.
    pub fn nvlink_errors(&self) -> [(&'static str, Option<u64>); 3] {
        let [replay, recovery, crc] = self.nvlink.map(Counter::get);
        [("replay", replay), ("recovery", recovery), ("crc", crc)]
    }

    /// As it was the last time that it was known.
    pub fn compute_mode(&self) -> Option<&'static str> {
        self.compute_mode
    }
}
