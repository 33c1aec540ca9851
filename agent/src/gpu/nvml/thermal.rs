//! Temperatures and their limits.
//!
//! In: the GPU, and fields. Out: degrees Celsius. Newer cards tell limits as margins below their own; these are made
//! temperatures here, from a temperature and a margin of the same moment.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{TemperatureSensor, TemperatureThreshold};
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper_sys::bindings::{nvmlMarginTemperature_t, nvmlTemperature_t};

use super::ask::Asker;
use super::fields::Fields;
use crate::gpu::source::Failure;

pub(super) const MEMORY: u32 = 82;
/// Margins at which a limit is reached; signed.
pub(super) const LIMITS: [u32; 2] = [SHUTDOWN, SLOWDOWN];
const SHUTDOWN: u32 = 193;
const SLOWDOWN: u32 = 194;

/// First version of a struct whose version is its size and its number.
const VERSION_1: usize = 1 << 24;

/// Temperatures that do not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) slowdown: Option<i32>,
    pub(super) shutdown: Option<i32>,
    /// From here on the driver may slow it down.
    operating: Option<i32>,
}

pub(super) fn temperature(asker: &mut Asker) -> Result<Option<i32>, Failure> {
    // The older call is to be withdrawn.
    const NEW: &str = "temperature (new)";
    let temperature = asker.ask(NEW, new_temperature)?;
    if temperature.is_some() || !asker.is_absent(NEW) {
        return Ok(temperature);
    }
    let degrees = asker.ask("temperature", |device| device.temperature(TemperatureSensor::Gpu))?;
    // Below zero it is a large number.
    Ok(degrees.map(u32::cast_signed))
}

/// Degrees to the nearest slowdown.
pub(super) fn margin(
    asker: &mut Asker,
    temperature: Option<i32>,
    limits: &Limits,
) -> Result<Option<i32>, Failure> {
    let told = asker.ask("margin", told_margin)?;
    let nearest = limits.slowdown.into_iter().chain(limits.operating).min();
    Ok(told.or_else(|| Some(nearest? - temperature?)))
}

/// The limits, where they are known now; else `before`.
pub(super) fn limits(
    asker: &mut Asker,
    fields: &Fields,
    temperature: Option<i32>,
    before: Limits,
) -> Result<Limits, Failure> {
    let mut threshold = |what, kind| -> Result<Option<i32>, Failure> {
        Ok(asker.ask(what, |device| device.temperature_threshold(kind))?.map(u32::cast_signed))
    };
    let older = Limits {
        slowdown: threshold("threshold: slowdown", TemperatureThreshold::Slowdown)?,
        shutdown: threshold("threshold: shutdown", TemperatureThreshold::Shutdown)?,
        operating: threshold("threshold: operating", TemperatureThreshold::GpuMax)?,
    };
    let (slowdown, shutdown) = (fields.whole::<i32>(SLOWDOWN), fields.whole::<i32>(SHUTDOWN));
    if slowdown.is_none() && shutdown.is_none() {
        return Ok(older);
    }
    // All are whole degrees: they belong together only where nothing changed meanwhile.
    let margin = asker.ask("margin", told_margin)?;
    let after = self::temperature(asker)?;
    let steady = temperature.filter(|&before| after == Some(before));
    let Some((temperature, margin)) = steady.zip(margin) else {
        let known = before != Limits::default();
        return Ok(if known { before } else { older });
    };
    let at = |limit: Option<i32>| limit.map(|limit| temperature + margin - limit);
    Ok(Limits {
        slowdown: at(slowdown).or(older.slowdown),
        shutdown: at(shutdown).or(older.shutdown),
        operating: older.operating,
    })
}

fn new_temperature(device: &Device<'_>) -> Result<i32, NvmlError> {
    let get = nvml_sym(device.nvml().lib().nvmlDeviceGetTemperatureV.as_ref())?;
    let version = version_1(size_of::<nvmlTemperature_t>());
    let mut answer = nvmlTemperature_t { version, sensorType: 0, temperature: 0 };
    // SAFETY: the handle is of this library, which gets the struct of the version that it is told.
    nvml_try(unsafe { get(device.handle(), &raw mut answer) })?;
    Ok(answer.temperature)
}

fn told_margin(device: &Device<'_>) -> Result<i32, NvmlError> {
    let get = nvml_sym(device.nvml().lib().nvmlDeviceGetMarginTemperature.as_ref())?;
    let version = version_1(size_of::<nvmlMarginTemperature_t>());
    let mut answer = nvmlMarginTemperature_t { version, marginTemperature: 0 };
    // SAFETY: the handle is of this library, which gets the struct of the version that it is told.
    nvml_try(unsafe { get(device.handle(), &raw mut answer) })?;
    Ok(answer.marginTemperature)
}

fn version_1(size: usize) -> u32 {
    u32::try_from(size | VERSION_1).unwrap_or_default()
}
