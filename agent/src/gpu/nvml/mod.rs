//! The driver's library (NVML), asked through its wrapper, and by itself for what the wrapper cannot read.
//!
//! In: where the library may be ([`Places`]). Out: sessions and GPUs as `source` describes them. What a driver or a card
//! has not is asked once a session; what it refuses this time is `None` this time; an error is never 0.
//!
//! Limits: drivers from 510 on tell who uses a GPU (older ones have other forms of that call); a call may hang, so
//! only threads of their own make any.

#![allow(unsafe_code, reason = "the library speaks C, and some of its calls are not in the wrapper")]
#![allow(
    clippy::redundant_closure_for_method_calls,
    reason = "a method of the wrapper's borrowing type is of one lifetime, a closure of any"
)]

mod ask;
mod device;
mod events;
mod fields;
mod gpm;
mod library;
mod links;
mod mig;
mod session;
mod thermal;
mod throttle;
mod users;
mod wear;

use std::sync::Arc;

use self::library::Library;
pub use self::library::Places;
use self::session::NvmlSession;
use super::source::{Failure, GpuSource, Session};

/// GPUs by the driver's library.
#[derive(Clone, Debug)]
pub struct Nvml {
    places: Places,
}

impl Nvml {
    /// By the library in one of these places, the first that answers.
    #[must_use]
    pub fn new(places: Places) -> Self {
        Self { places }
    }
}

impl GpuSource for Nvml {
    fn open(&self) -> Result<Box<dyn Session>, Failure> {
        let library = Arc::new(Library::open(&self.places)?);
        Ok(Box::new(NvmlSession::new(library)))
    }
}
