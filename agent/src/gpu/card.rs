//! What is known of a GPU beyond its newest reading: sums since the agent began, and who uses it.

use std::sync::Arc;

use super::source::THROTTLE_CAUSES;

/// Where the energy of a GPU is from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EnergySource {
    /// The card's own counter.
    #[default]
    Counter,
    /// Its power, over the time between readings.
    Integrated,
}

impl EnergySource {
    /// Value of the label `source`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Integrated => "integrated",
        }
    }
}

/// Sums since the agent began, which only rise, whatever the driver does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// For how long each cause held clocks down.
    pub throttled_ns: [u64; THROTTLE_CAUSES],
    /// Whether that is known of it.
    pub throttle_known: [bool; THROTTLE_CAUSES],
    pub energy_millijoules: Option<u64>,
    pub energy_source: EnergySource,
}

/// A workload that has processes on a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    pub workload: Arc<str>,
    /// Of all its processes; `None`: nobody may know.
    pub memory_bytes: Option<u64>,
    /// Percent of the time in which their kernels ran, lately; not on a split GPU.
    pub sm_percent: Option<u32>,
}
