//! Parts of a split GPU (MIG).
//!
//! In: a GPU. Out: its instances. Their handles die when instances are changed, so they are fetched anew each time.

use nvml_wrapper::Device;
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper_sys::bindings::nvmlDevice_t;

use super::ask::Asker;
use super::users::{Bytes, of_part, users};
use crate::gpu::source::{Failure, Instance, Memory};

/// Instances of one GPU, at most: it has seven slices.
const INSTANCES_MAX: u32 = 16;
const ENABLED: u32 = 1;
/// What comes before the profile in an instance's name: `NVIDIA H100 80GB HBM3 MIG 1g.10gb`.
const BEFORE_PROFILE: &str = " MIG ";

/// Whether the GPU is split.
///
/// # Errors
/// The GPU or the library is gone.
pub(super) fn is_split(asker: &mut Asker) -> Result<bool, Failure> {
    Ok(asker.ask("MIG mode", |gpu| gpu.mig_mode())?.is_some_and(|mode| mode.current == ENABLED))
}

/// The instances, and the memory of every process on any of them.
///
/// # Errors
/// The GPU or the library is gone.
pub(super) fn instances(asker: &mut Asker) -> Result<(Vec<Instance>, Bytes), Failure> {
    const PART: &str = "MIG instance";
    let count = asker.ask("MIG instances, at most", |gpu| gpu.mig_device_count())?.unwrap_or_default();
    let (mut instances, mut all) = (Vec::new(), Bytes::new());
    for index in 0..count.min(INSTANCES_MAX) {
        // Not every place has one, and one may go at any time.
        let found = asker.ask_part(PART, false, |device| match device.mig_device_by_index(index) {
            Err(NvmlError::NotFound | NvmlError::InvalidArg) => Ok(None),
            other => other.and_then(|part| instance(&part)).map(Some),
        })?;
        let Some(Some((instance, bytes))) = found else { continue };
        for (tgid, bytes) in bytes {
            let user = all.entry(tgid).or_default();
            *user = user.zip(bytes).map(|(one, other)| one + other).or(*user).or(bytes);
        }
        instances.push(instance);
    }
    Ok((instances, all))
}

fn instance(part: &Device<'_>) -> Result<(Instance, Bytes), NvmlError> {
    let uuid = part.uuid()?;
    let lib = part.nvml().lib();
    // What is not told is `None`; that the GPU is gone is told by the GPU itself.
    let bytes = of_part(part).ok();
    let instance = Instance {
        uuid,
        profile: part.name().ok().and_then(|name| profile(&name)).unwrap_or_default(),
        gpu_instance: number(part, lib.nvmlDeviceGetGpuInstanceId.as_ref()),
        compute_instance: number(part, lib.nvmlDeviceGetComputeInstanceId.as_ref()),
        memory: memory(part).ok(),
        users: bytes.clone().map(users),
    };
    Ok((instance, bytes.unwrap_or_default()))
}

fn profile(name: &str) -> Option<String> {
    name.split_once(BEFORE_PROFILE).map(|(_gpu, profile)| profile.trim().to_owned())
}

type Get = unsafe extern "C" fn(nvmlDevice_t, *mut u32) -> u32;

fn number<E>(part: &Device<'_>, get: Result<&Get, E>) -> Option<u32> {
    let mut number = 0;
    // SAFETY: the handle is of this library, which writes one number.
    let answer = unsafe { get.ok()?(part.handle(), &raw mut number) };
    nvml_try(answer).ok().map(|()| number)
}

/// Of a GPU or a part of it.
pub(super) fn memory(device: &Device<'_>) -> Result<Memory, NvmlError> {
    match device.memory_info() {
        Ok(info) => Ok(Memory { used: info.used, total: info.total, reserved: Some(info.reserved) }),
        // Before driver 510. What it calls used has what is reserved among it.
        Err(NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound) => old_memory(device),
        Err(other) => Err(other),
    }
}

fn old_memory(device: &Device<'_>) -> Result<Memory, NvmlError> {
    let get = nvml_sym(device.nvml().lib().nvmlDeviceGetMemoryInfo.as_ref())?;
    // SAFETY: a C struct of numbers, for which zero is a value.
    let mut info = unsafe { std::mem::zeroed::<nvml_wrapper_sys::bindings::nvmlMemory_t>() };
    // SAFETY: the handle is of this library, which writes the struct.
    nvml_try(unsafe { get(device.handle(), &raw mut info) })?;
    Ok(Memory { used: info.used, total: info.total, reserved: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_the_end_of_the_name() {
        assert_eq!(profile("NVIDIA A100-SXM4-40GB MIG 3g.20gb").as_deref(), Some("3g.20gb"));
        assert_eq!(profile("NVIDIA H100 80GB HBM3 MIG 1c.2g.20gb+me").as_deref(), Some("1c.2g.20gb+me"));
        assert_eq!(profile("NVIDIA H100 80GB HBM3"), None);
    }
}
