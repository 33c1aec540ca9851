//! Temperatures, power, clocks, load, and what holds the clocks down.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings as nv;

use super::ffi::{Handle, Out, version_of};
use super::{ARGUMENT_VERSION_MISMATCH, Code, INVALID_ARGUMENT, NOT_SUPPORTED, gpu_call, supported};
use crate::scenario::Cause;
use crate::truth::GpuAt;

/// The only sensor there is: the chip.
const SENSOR_GPU: c_uint = 0;
/// Reasons that a driver of 12.9 can tell.
const REASONS_KNOWN: u64 = 0x1ff;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperature(device: Handle, sensor: c_uint, degrees: Out<c_uint>) -> Code {
    gpu_call("nvmlDeviceGetTemperature", device, |gpu| {
        if sensor != SENSOR_GPU {
            return Err(INVALID_ARGUMENT);
        }
        degrees.put(supported(gpu.temperature())?.max(0).unsigned_abs())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperatureV(device: Handle, asked: Out<nv::nvmlTemperature_t>) -> Code {
    gpu_call("nvmlDeviceGetTemperatureV", device, |gpu| {
        let asked_for = asked.get()?;
        if asked_for.version != version_of::<nv::nvmlTemperature_t>(1) {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        if asked_for.sensorType != SENSOR_GPU {
            return Err(INVALID_ARGUMENT);
        }
        asked.put(nv::nvmlTemperature_t { temperature: supported(gpu.temperature())?, ..asked_for })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperatureThreshold(device: Handle, which: c_uint, degrees: Out<c_uint>) -> Code {
    gpu_call("nvmlDeviceGetTemperatureThreshold", device, |gpu| {
        let thresholds = gpu.gpu.thresholds_celsius;
        let found = match which {
            nv::nvmlTemperatureThresholds_enum_NVML_TEMPERATURE_THRESHOLD_SHUTDOWN => thresholds.shutdown,
            nv::nvmlTemperatureThresholds_enum_NVML_TEMPERATURE_THRESHOLD_SLOWDOWN => thresholds.slowdown,
            nv::nvmlTemperatureThresholds_enum_NVML_TEMPERATURE_THRESHOLD_MEM_MAX => thresholds.memory_max,
            nv::nvmlTemperatureThresholds_enum_NVML_TEMPERATURE_THRESHOLD_GPU_MAX => thresholds.gpu_max,
            nv::nvmlTemperatureThresholds_enum_NVML_TEMPERATURE_THRESHOLD_COUNT.. => {
                return Err(INVALID_ARGUMENT);
            }
            _ => None,
        };
        degrees.put(supported(found)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMarginTemperature(
    device: Handle,
    margin: Out<nv::nvmlMarginTemperature_t>,
) -> Code {
    gpu_call("nvmlDeviceGetMarginTemperature", device, |gpu| {
        let version = margin.get()?.version;
        if version != version_of::<nv::nvmlMarginTemperature_t>(1) {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        margin.put(nv::nvmlMarginTemperature_t { version, marginTemperature: supported(gpu.margin())? })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerUsage(device: Handle, power: Out<c_uint>) -> Code {
    gpu_call("nvmlDeviceGetPowerUsage", device, |gpu| power.put(supported(gpu.power_milliwatts())?))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetEnforcedPowerLimit(device: Handle, limit: Out<c_uint>) -> Code {
    gpu_call("nvmlDeviceGetEnforcedPowerLimit", device, |gpu| {
        limit.put(supported(gpu.enforced_limit_milliwatts())?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerManagementLimit(device: Handle, limit: Out<c_uint>) -> Code {
    gpu_call("nvmlDeviceGetPowerManagementLimit", device, |gpu| {
        limit.put(supported(gpu.power_limit_milliwatts())?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerManagementLimitConstraints(
    device: Handle,
    least: Out<c_uint>,
    most: Out<c_uint>,
) -> Code {
    gpu_call("nvmlDeviceGetPowerManagementLimitConstraints", device, |gpu| {
        least.put(supported(gpu.gpu.power_limit_min_watts)? * 1000)?;
        most.put(supported(gpu.gpu.power_limit_max_watts)? * 1000)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerManagementDefaultLimit(device: Handle, limit: Out<c_uint>) -> Code {
    gpu_call("nvmlDeviceGetPowerManagementDefaultLimit", device, |gpu| {
        limit.put(supported(gpu.gpu.power_limit_max_watts)? * 1000)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTotalEnergyConsumption(device: Handle, energy: Out<c_ulonglong>) -> Code {
    gpu_call("nvmlDeviceGetTotalEnergyConsumption", device, |gpu| {
        energy.put(supported(gpu.energy_millijoules())?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetClockInfo(device: Handle, which: nv::nvmlClockType_t, clock: Out<c_uint>) -> Code {
    gpu_call("nvmlDeviceGetClockInfo", device, |gpu| {
        let memory = gpu.number(gpu.gpu.memory_clock_mhz.as_ref());
        clock.put(supported(of_clock(which, gpu.sm_clock_mhz(), memory)?)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxClockInfo(
    device: Handle,
    which: nv::nvmlClockType_t,
    clock: Out<c_uint>,
) -> Code {
    gpu_call("nvmlDeviceGetMaxClockInfo", device, |gpu| {
        clock.put(supported(of_clock(which, gpu.gpu.sm_clock_max_mhz, gpu.gpu.memory_clock_max_mhz)?)?)
    })
}

/// The multiprocessors run by the clock of graphics.
fn of_clock(which: nv::nvmlClockType_t, sm: Option<u32>, memory: Option<u32>) -> Result<Option<u32>, Code> {
    match which {
        nv::nvmlClockType_enum_NVML_CLOCK_GRAPHICS | nv::nvmlClockType_enum_NVML_CLOCK_SM => Ok(sm),
        nv::nvmlClockType_enum_NVML_CLOCK_MEM => Ok(memory),
        nv::nvmlClockType_enum_NVML_CLOCK_VIDEO => Ok(None),
        _ => Err(INVALID_ARGUMENT),
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPerformanceState(device: Handle, state: Out<nv::nvmlPstates_t>) -> Code {
    gpu_call("nvmlDeviceGetPerformanceState", device, |gpu| {
        state.put(supported(gpu.number(gpu.gpu.performance_state.as_ref()))?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUtilizationRates(device: Handle, rates: Out<nv::nvmlUtilization_t>) -> Code {
    gpu_call("nvmlDeviceGetUtilizationRates", device, |gpu| {
        // A split GPU has no load of its own.
        if gpu.gpu.mig == Some(true) {
            return Err(NOT_SUPPORTED);
        }
        let (gpu, memory) = supported(gpu.utilization_percent())?;
        rates.put(nv::nvmlUtilization_t { gpu, memory })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetFanSpeed(device: Handle, percent: Out<c_uint>) -> Code {
    gpu_call("nvmlDeviceGetFanSpeed", device, |gpu| {
        percent.put(supported(gpu.number(gpu.gpu.fan_percent.as_ref()))?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetFanSpeed_v2(device: Handle, fan: c_uint, percent: Out<c_uint>) -> Code {
    gpu_call("nvmlDeviceGetFanSpeed_v2", device, |gpu| {
        let speed = supported(gpu.number(gpu.gpu.fan_percent.as_ref()))?;
        if fan == 0 { percent.put(speed) } else { Err(INVALID_ARGUMENT) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNumFans(device: Handle, count: Out<c_uint>) -> Code {
    gpu_call("nvmlDeviceGetNumFans", device, |gpu| count.put(u32::from(gpu.gpu.fan_percent.is_some())))
}

fn reasons(gpu: GpuAt<'_>) -> Result<u64, Code> {
    supported(gpu.gpu.reasons.then(|| gpu.reasons()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(device: Handle, bits: Out<c_ulonglong>) -> Code {
    gpu_call("nvmlDeviceGetCurrentClocksThrottleReasons", device, |gpu| bits.put(reasons(gpu)?))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrentClocksEventReasons(device: Handle, bits: Out<c_ulonglong>) -> Code {
    gpu_call("nvmlDeviceGetCurrentClocksEventReasons", device, |gpu| bits.put(reasons(gpu)?))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSupportedClocksThrottleReasons(device: Handle, bits: Out<c_ulonglong>) -> Code {
    gpu_call("nvmlDeviceGetSupportedClocksThrottleReasons", device, |gpu| {
        bits.put(supported(gpu.gpu.reasons.then_some(REASONS_KNOWN))?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSupportedClocksEventReasons(device: Handle, bits: Out<c_ulonglong>) -> Code {
    gpu_call("nvmlDeviceGetSupportedClocksEventReasons", device, |gpu| {
        bits.put(supported(gpu.gpu.reasons.then_some(REASONS_KNOWN))?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetViolationStatus(
    device: Handle,
    policy: nv::nvmlPerfPolicyType_t,
    time: Out<nv::nvmlViolationTime_t>,
) -> Code {
    gpu_call("nvmlDeviceGetViolationStatus", device, |gpu| {
        let ns = supported(violation_ns(&gpu, policy))?;
        time.put(nv::nvmlViolationTime_t { referenceTime: gpu.at.ns / 1000, violationTime: ns })
    })
}

/// Nanoseconds of a policy, since the driver was loaded.
pub(super) fn violation_ns(gpu: &GpuAt<'_>, policy: nv::nvmlPerfPolicyType_t) -> Option<u64> {
    if !gpu.gpu.violations {
        return None;
    }
    match policy {
        nv::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_POWER => Some(gpu.throttled_ns(Cause::PowerCap)),
        nv::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_THERMAL => Some(gpu.thermal_ns()),
        nv::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_SYNC_BOOST => Some(gpu.throttled_ns(Cause::SyncBoost)),
        nv::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_BOARD_LIMIT => Some(gpu.throttled_ns(Cause::BoardLimit)),
        nv::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_LOW_UTILIZATION => Some(gpu.idle_ns()),
        nv::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_RELIABILITY => {
            Some(gpu.throttled_ns(Cause::Reliability))
        }
        nv::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_TOTAL_APP_CLOCKS
        | nv::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_TOTAL_BASE_CLOCKS => Some(gpu.any_throttled_ns()),
        _ => None,
    }
}
