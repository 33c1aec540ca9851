//! A GPU split into instances: devices of their own with less to tell.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings as nv;

use super::ffi::{Handle, Out};
use super::{Call, Code, INVALID_ARGUMENT, NOT_FOUND, call, gpu_call, supported};
use crate::scenario::gpu::Instance;
use crate::truth::GpuAt;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigMode(device: Handle, current: Out<c_uint>, pending: Out<c_uint>) -> Code {
    gpu_call("nvmlDeviceGetMigMode", device, |gpu| {
        let split = u32::from(supported(gpu.gpu.mig)?);
        current.put(split)?;
        pending.put(split)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: Handle, count: Out<c_uint>) -> Code {
    gpu_call("nvmlDeviceGetMaxMigDeviceCount", device, |gpu| {
        count.put(if gpu.gpu.mig.is_some() { gpu.gpu.mig_devices_max } else { 0 })
    })
}

/// Those that exist now, one after another; the others of the maximum are not found.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: Handle,
    index: c_uint,
    instance: Out<Handle>,
) -> Code {
    gpu_call("nvmlDeviceGetMigDeviceHandleByIndex", device, |gpu| {
        supported(gpu.gpu.mig.filter(|split| *split))?;
        if index >= gpu.gpu.mig_devices_max {
            return Err(INVALID_ARGUMENT);
        }
        let (found, _) = gpu.instances().nth(index as usize).ok_or(NOT_FOUND)?;
        instance.put(supported(Handle::new(gpu.index, Some(found)))?)
    })
}

fn instance_of(call: &Call, device: Handle) -> Result<(GpuAt<'static>, &'static Instance), Code> {
    let (gpu, instance) = call.device(device)?;
    // A whole GPU is no instance.
    Ok((gpu, &gpu.gpu.instance[instance.ok_or(INVALID_ARGUMENT)?]))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuInstanceId(device: Handle, id: Out<c_uint>) -> Code {
    call("nvmlDeviceGetGpuInstanceId", |call| id.put(instance_of(call, device)?.1.gpu_instance))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeInstanceId(device: Handle, id: Out<c_uint>) -> Code {
    call("nvmlDeviceGetComputeInstanceId", |call| id.put(instance_of(call, device)?.1.compute_instance))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceIsMigDeviceHandle(device: Handle, is_instance: Out<c_uint>) -> Code {
    call("nvmlDeviceIsMigDeviceHandle", |call| is_instance.put(call.device(device)?.1.is_some().into()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device: Handle, parent: Out<Handle>) -> Code {
    call("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", |call| {
        let (gpu, _) = instance_of(call, device)?;
        parent.put(supported(Handle::new(gpu.index, None))?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetAttributes_v2(
    device: Handle,
    attributes: Out<nv::nvmlDeviceAttributes_t>,
) -> Code {
    call("nvmlDeviceGetAttributes_v2", |call| {
        let (gpu, instance) = instance_of(call, device)?;
        attributes.put(nv::nvmlDeviceAttributes_t {
            multiprocessorCount: instance.multiprocessors,
            sharedCopyEngineCount: instance.slices,
            sharedDecoderCount: 0,
            sharedEncoderCount: 0,
            sharedJpegCount: 0,
            sharedOfaCount: 0,
            gpuInstanceSliceCount: instance.slices,
            computeInstanceSliceCount: instance.slices,
            memorySizeMB: gpu.instance_memory(instance).total >> 20,
        })
    })
}
