//! The library of the GPU driver, simulated: a scenario says what is true of which GPU and when.
//!
//! As a shared library it stands in for the driver's, with the same symbols. As a crate it tells tests the truth that
//! the shared library answers by, and where that one lies. Neither is ever part of the agent.

mod library;
mod place;
pub mod scenario;
pub mod truth;

pub use crate::library::meter::Spent;
pub use crate::place::{Installed, install, install_aged, library, without_symbols};
pub use crate::scenario::preset;
pub use crate::scenario::{Cause, Scenario};
pub use crate::truth::{At, GpuAt};

/// Names the scenario: a file, or one that comes with the library.
pub const SCENARIO_VARIABLE: &str = "NVML_SIM_SCENARIO";

/// Nanoseconds since boot, by the clock that scenarios and the agent go by.
#[must_use]
pub fn boot_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let whole = u64::try_from(now.tv_sec).unwrap_or(0) * scenario::timeline::SECOND;
    whole + u64::try_from(now.tv_nsec).unwrap_or(0)
}
