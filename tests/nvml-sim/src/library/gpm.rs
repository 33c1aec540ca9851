//! Profiling metrics (GPM): two samples, and the mean of what happened between them.

use std::collections::BTreeMap;
use std::ffi::{c_uint, c_void};

use nvml_wrapper_sys::bindings as nv;

use super::ffi::{Handle, Out};
use super::{
    ARGUMENT_VERSION_MISMATCH, Answer, Code, INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS, call, gpu_call,
    locked, supported,
};
use crate::scenario::gpu::Profile;
use crate::scenario::timeline::Timeline;
use crate::truth::{At, GpuAt};

/// Samples by the numbers that stand for their pointers; `None` before one is taken.
#[derive(Default)]
pub(super) struct Samples {
    next: usize,
    taken: BTreeMap<usize, Option<Sample>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Sample {
    gpu: usize,
    gpu_instance: Option<u32>,
    ns: u64,
}

/// A sample's handle. Compared, never followed.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct SampleHandle(*const c_void);

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmQueryDeviceSupport(device: Handle, support: Out<nv::nvmlGpmSupport_t>) -> Code {
    gpu_call("nvmlGpmQueryDeviceSupport", device, |gpu| {
        let version = support.get()?.version;
        if version != nv::NVML_GPM_SUPPORT_VERSION {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        support.put(nv::nvmlGpmSupport_t { version, isSupportedDevice: gpu.gpu.gpm.is_some().into() })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleAlloc(sample: Out<SampleHandle>) -> Code {
    call("nvmlGpmSampleAlloc", |call| {
        let mut samples = locked(&call.simulation.samples);
        samples.next += 1;
        let number = samples.next;
        samples.taken.insert(number, None);
        sample.put(SampleHandle(std::ptr::without_provenance(number)))
    })
}

/// Also after the driver went: who frees has to be able to.
#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleFree(sample: SampleHandle) -> Code {
    let known = super::SIMULATION
        .get()
        .and_then(|simulation| locked(&simulation.samples).taken.remove(&sample.0.addr()));
    if known.is_some() { SUCCESS } else { INVALID_ARGUMENT }
}

fn take(call: &super::Call, gpu: &GpuAt<'_>, gpu_instance: Option<u32>, sample: SampleHandle) -> Answer {
    supported(gpu.profile(gpu_instance))?;
    let mut samples = locked(&call.simulation.samples);
    let place = samples.taken.get_mut(&sample.0.addr()).ok_or(INVALID_ARGUMENT)?;
    *place = Some(Sample { gpu: gpu.index, gpu_instance, ns: gpu.at.ns });
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleGet(device: Handle, sample: SampleHandle) -> Code {
    call("nvmlGpmSampleGet", |call| {
        let (gpu, instance) = call.device(device)?;
        if instance.is_some() { Err(NOT_SUPPORTED) } else { take(call, &gpu, None, sample) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmMigSampleGet(device: Handle, gpu_instance: c_uint, sample: SampleHandle) -> Code {
    call("nvmlGpmMigSampleGet", |call| {
        let (gpu, instance) = call.device(device)?;
        if instance.is_some() { Err(INVALID_ARGUMENT) } else { take(call, &gpu, Some(gpu_instance), sample) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmMetricsGet(request: Out<nv::nvmlGpmMetricsGet_t>) -> Code {
    call("nvmlGpmMetricsGet", |call| {
        let mut asked = request.get()?;
        if asked.version != nv::NVML_GPM_METRICS_GET_VERSION {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        let samples = locked(&call.simulation.samples);
        let taken = |sample: nv::nvmlGpmSample_t| samples.taken.get(&sample.addr()).copied().flatten();
        let (first, last) = taken(asked.sample1).zip(taken(asked.sample2)).ok_or(INVALID_ARGUMENT)?;
        if (first.gpu, first.gpu_instance) != (last.gpu, last.gpu_instance) || first.ns >= last.ns {
            return Err(INVALID_ARGUMENT);
        }
        let gpu = At::new(&call.simulation.scenario, last.ns).gpu(last.gpu).ok_or(INVALID_ARGUMENT)?;
        let profile = supported(gpu.profile(last.gpu_instance))?;
        let metrics = asked.metrics.get_mut(..asked.numMetrics as usize).ok_or(INVALID_ARGUMENT)?;
        for metric in metrics {
            let mean =
                of_metric(profile, metric.metricId).and_then(|line| gpu.profile_percent(line, first.ns));
            metric.nvmlReturn = if mean.is_some() { SUCCESS } else { NOT_SUPPORTED };
            metric.value = mean.unwrap_or(0.0);
        }
        request.put(asked)
    })
}

fn of_metric(profile: &Profile, id: nv::nvmlGpmMetricId_t) -> Option<&Timeline> {
    match id {
        nv::nvmlGpmMetricId_t_NVML_GPM_METRIC_GRAPHICS_UTIL => profile.graphics_percent.as_ref(),
        nv::nvmlGpmMetricId_t_NVML_GPM_METRIC_SM_UTIL => profile.sm_percent.as_ref(),
        nv::nvmlGpmMetricId_t_NVML_GPM_METRIC_SM_OCCUPANCY => profile.sm_occupancy_percent.as_ref(),
        nv::nvmlGpmMetricId_t_NVML_GPM_METRIC_ANY_TENSOR_UTIL => profile.tensor_percent.as_ref(),
        nv::nvmlGpmMetricId_t_NVML_GPM_METRIC_DRAM_BW_UTIL => profile.memory_percent.as_ref(),
        _ => None,
    }
}
