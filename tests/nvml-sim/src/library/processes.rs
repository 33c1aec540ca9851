//! Who uses a GPU.

use std::ffi::{c_uint, c_ulonglong};
use std::time::{SystemTime, UNIX_EPOCH};

use nvml_wrapper_sys::bindings as nv;

use super::ffi::{Handle, Out};
use super::{Code, NOT_FOUND, NOT_SUPPORTED, call, gpu_call};
use crate::truth::{GpuAt, User};

/// What the driver does not tell: all ones.
const NOT_AVAILABLE: c_ulonglong = c_ulonglong::MAX;
const NO_INSTANCE: c_uint = c_uint::MAX;
/// How often the driver takes a sample of a process, microseconds.
const SAMPLE_US: u64 = 1_000_000;

/// Those of an instance, or of all the GPU.
fn listed(gpu: &GpuAt<'_>, instance: Option<usize>) -> Vec<nv::nvmlProcessInfo_t> {
    let own = instance.map(|index| gpu.gpu.instance[index].gpu_instance);
    let users = gpu.users().into_iter().filter(|user| own.is_none() || user.gpu_instance == own);
    users
        .map(|user| nv::nvmlProcessInfo_t {
            pid: user.pid,
            usedGpuMemory: user.memory_bytes.unwrap_or(NOT_AVAILABLE),
            gpuInstanceId: user.gpu_instance.unwrap_or(NO_INSTANCE),
            computeInstanceId: user.gpu_instance.map_or(NO_INSTANCE, |_| 0),
        })
        .collect()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: Handle,
    count: Out<c_uint>,
    infos: Out<nv::nvmlProcessInfo_t>,
) -> Code {
    call("nvmlDeviceGetComputeRunningProcesses_v3", |call| {
        let (gpu, instance) = call.device(device)?;
        infos.put_all(count, &listed(&gpu, instance))
    })
}

/// The second version has the same struct.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v2(
    device: Handle,
    count: Out<c_uint>,
    infos: Out<nv::nvmlProcessInfo_t>,
) -> Code {
    call("nvmlDeviceGetComputeRunningProcesses_v2", |call| {
        let (gpu, instance) = call.device(device)?;
        infos.put_all(count, &listed(&gpu, instance))
    })
}

/// The first one knew no instances.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses(
    device: Handle,
    count: Out<c_uint>,
    infos: Out<nv::nvmlProcessInfo_v1_t>,
) -> Code {
    call("nvmlDeviceGetComputeRunningProcesses", |call| {
        let (gpu, instance) = call.device(device)?;
        let old = |info: &nv::nvmlProcessInfo_t| nv::nvmlProcessInfo_v1_t {
            pid: info.pid,
            usedGpuMemory: info.usedGpuMemory,
        };
        infos.put_all(count, &listed(&gpu, instance).iter().map(old).collect::<Vec<_>>())
    })
}

/// Nothing draws in a scenario.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: Handle,
    count: Out<c_uint>,
    infos: Out<nv::nvmlProcessInfo_t>,
) -> Code {
    call("nvmlDeviceGetGraphicsRunningProcesses_v3", |call| {
        call.device(device)?;
        infos.put_all(count, &[])
    })
}

/// One sample of each process that has a load, as of the last whole second.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetProcessUtilization(
    device: Handle,
    samples: Out<nv::nvmlProcessUtilizationSample_t>,
    count: Out<c_uint>,
    last_seen_us: c_ulonglong,
) -> Code {
    gpu_call("nvmlDeviceGetProcessUtilization", device, |gpu| {
        if gpu.gpu.mig == Some(true) {
            return Err(NOT_SUPPORTED);
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let taken_us = u64::try_from(since_epoch.as_micros()).unwrap_or(0) / SAMPLE_US * SAMPLE_US;
        if taken_us <= last_seen_us {
            return Err(NOT_FOUND);
        }
        let found: Vec<_> = gpu.users().iter().filter_map(|user| sample(user, taken_us)).collect();
        if found.is_empty() { Err(NOT_FOUND) } else { samples.put_all(count, &found) }
    })
}

fn sample(user: &User, taken_us: u64) -> Option<nv::nvmlProcessUtilizationSample_t> {
    Some(nv::nvmlProcessUtilizationSample_t {
        pid: user.pid,
        timeStamp: taken_us,
        smUtil: user.sm_percent?,
        memUtil: 0,
        encUtil: 0,
        decUtil: 0,
    })
}
