//! What the parts of a GPU do, on Hopper and later (GPM): the mean between two samples.

use std::sync::Arc;

use nvml_wrapper::Device;
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::{NvmlError, nvml_try};
use nvml_wrapper::gpm::{GpmSample, gpm_metrics_get};
use nvml_wrapper_sys::bindings::nvmlGpmSample_t;

use super::ask::Asker;
use super::library::Library;
use crate::gpu::source::{Failure, Profile};

const METRICS: [GpmMetricId; 4] =
    [GpmMetricId::SmUtil, GpmMetricId::SmOccupancy, GpmMetricId::AnyTensorUtil, GpmMetricId::DramBwUtil];
const PERCENT: f64 = 100.0;

/// Samples of one GPU.
#[derive(Default)]
pub(super) struct Gpm {
    before: Option<Sample>,
}

impl Gpm {
    /// The mean since this was called before.
    ///
    /// # Errors
    /// The GPU or the library is gone.
    pub(super) fn read(&mut self, asker: &mut Asker) -> Result<Option<Profile>, Failure> {
        const SUPPORT: &str = "profile";
        if asker.ask(SUPPORT, supported)?.is_none() {
            return Ok(None);
        }
        let library = asker.library().clone();
        let now = asker.ask("profile sample", |device| Ok(Sample::of(library, device.gpm_sample()?)))?;
        let (before, now) = (self.before.take(), now);
        let profile = match (&before, &now) {
            (Some(before), Some(now)) => {
                asker.ask("profile metrics", |device| profile(device, before, now))?
            }
            _ => None,
        };
        self.before = now;
        Ok(profile)
    }
}

fn supported(device: &Device<'_>) -> Result<(), NvmlError> {
    let lib = device.nvml().lib();
    // Without its end a sample could not be given back.
    if lib.nvmlGpmSampleFree.is_err() || !device.gpm_support()? {
        return Err(NvmlError::NotSupported);
    }
    Ok(())
}

fn profile(device: &Device<'_>, before: &Sample, now: &Sample) -> Result<Profile, NvmlError> {
    let nvml = device.nvml();
    // SAFETY: both are of this library and stay whole; the borrowed forms are forgotten, so neither is freed twice.
    let (first, second) =
        unsafe { (GpmSample::from_handle(nvml, before.raw), GpmSample::from_handle(nvml, now.raw)) };
    let metrics = gpm_metrics_get(nvml, &first, &second, &METRICS);
    first.into_handle();
    second.into_handle();
    let mut parts = metrics?.into_iter().map(|metric| part(metric.ok()?.value));
    let mut next = || parts.next().flatten();
    Ok(Profile { sm_active: next(), sm_occupancy: next(), tensor_active: next(), memory_active: next() })
}

/// A part of 1; `None` of what is no number.
fn part(percent: f64) -> Option<f64> {
    percent.is_finite().then(|| (percent / PERCENT).clamp(0.0, 1.0))
}

/// One sample, given back when it is dropped.
struct Sample {
    library: Arc<Library>,
    raw: nvmlGpmSample_t,
}

// SAFETY: the library takes its samples from any thread, and one thread at a time has this.
unsafe impl Send for Sample {}

impl Sample {
    fn of(library: Arc<Library>, sample: GpmSample<'_>) -> Self {
        Self { library, raw: sample.into_handle() }
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        if let Ok(free) = &self.library.nvml().lib().nvmlGpmSampleFree {
            // SAFETY: it is of this library and nobody else has it. That it cannot be freed is nobody's to mend.
            let _freed = nvml_try(unsafe { free(self.raw) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_parts_of_one() {
        assert_eq!(part(50.0), Some(0.5));
        assert_eq!(part(100.4), Some(1.0));
        assert_eq!(part(f64::NAN), None);
    }
}
