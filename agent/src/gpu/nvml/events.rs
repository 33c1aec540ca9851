//! Faults (XIDs) as the driver tells them.
//!
//! In: the GPUs of a session. Out: each fault with the GPU's UUID. The calls are made directly: the wrapper frees the
//! whole set where one GPU refuses, and a GPU that fell off the bus does not tell its UUID any more.

use std::sync::Arc;
use std::time::Duration;

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper_sys::bindings::{nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeXidCriticalError};

use super::ask::{Handle, failure};
use super::library::Library;
use crate::clock::BootTime;
use crate::gpu::source::{Events, Failure, Xid};

const WHAT: &str = "faults";

/// The faults of some GPUs.
pub(super) struct Faults {
    library: Arc<Library>,
    set: nvmlEventSet_t,
    gpus: Vec<(Handle, String)>,
}

// SAFETY: the library takes its sets from any thread, and one thread at a time has this.
unsafe impl Send for Faults {}

impl Faults {
    /// Of all of these that tell any.
    pub(super) fn of(library: Arc<Library>, gpus: Vec<(Handle, String)>) -> Result<Self, Failure> {
        let refused = |error: &NvmlError| failure(WHAT, error);
        let set = create(&library).map_err(|error| refused(&error))?;
        let mut faults = Self { library, set, gpus: Vec::new() };
        let mut why = None;
        for (handle, uuid) in gpus {
            match faults.register(handle) {
                Ok(()) => faults.gpus.push((handle, uuid)),
                Err(error) => drop(why.get_or_insert_with(|| refused(&error))),
            }
        }
        match why {
            Some(failure) if faults.gpus.is_empty() => Err(failure),
            _ => Ok(faults),
        }
    }

    fn register(&self, gpu: Handle) -> Result<(), NvmlError> {
        let register = nvml_sym(self.library.nvml().lib().nvmlDeviceRegisterEvents.as_ref())?;
        // SAFETY: both handles are of this library.
        nvml_try(unsafe { register(gpu.0, u64::from(nvmlEventTypeXidCriticalError), self.set) })
    }

    fn wait(&self, wait: Duration) -> Result<nvmlEventData_t, NvmlError> {
        let get = nvml_sym(self.library.nvml().lib().nvmlEventSetWait_v2.as_ref())?;
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        // SAFETY: a C struct of numbers and a handle, for which zero is a value.
        let mut event = unsafe { std::mem::zeroed::<nvmlEventData_t>() };
        // SAFETY: the set is of this library, which writes the struct.
        nvml_try(unsafe { get(self.set, &raw mut event, wait_ms) })?;
        Ok(event)
    }
}

fn create(library: &Library) -> Result<nvmlEventSet_t, NvmlError> {
    let lib = library.nvml().lib();
    let create = nvml_sym(lib.nvmlEventSetCreate.as_ref())?;
    // All that is needed is there, or nothing is begun.
    nvml_sym(lib.nvmlEventSetFree.as_ref())?;
    nvml_sym(lib.nvmlEventSetWait_v2.as_ref())?;
    let mut set = std::ptr::null_mut();
    // SAFETY: the library writes one handle.
    nvml_try(unsafe { create(&raw mut set) })?;
    Ok(set)
}

impl Events for Faults {
    fn next(&mut self, wait: Duration) -> Result<Option<Xid>, Failure> {
        let event = match self.wait(wait) {
            Ok(event) => event,
            Err(NvmlError::Timeout) => return Ok(None),
            Err(error) => return Err(failure(WHAT, &error)),
        };
        if event.eventType != u64::from(nvmlEventTypeXidCriticalError) {
            return Ok(None);
        }
        let gpu = self.gpus.iter().find(|(handle, _)| handle.0 == event.device);
        Ok(gpu.map(|(_, uuid)| Xid { uuid: uuid.clone(), code: event.eventData, at: BootTime::now() }))
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        if let Ok(free) = &self.library.nvml().lib().nvmlEventSetFree {
            // SAFETY: it is of this library and nobody else has it. That it cannot be freed is nobody's to mend.
            let _freed = nvml_try(unsafe { free(self.set) });
        }
    }
}
