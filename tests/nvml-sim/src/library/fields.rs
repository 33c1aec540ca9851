//! Field values: many values in one call, each with a type and a return code of its own.

use std::ffi::{c_int, c_longlong};

use nvml_wrapper_sys::bindings as nv;
use nvml_wrapper_sys::bindings::field_id as fi;

use super::ffi::{Handle, Out};
use super::{Code, INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS, gpu_call, sensors};
use crate::boot_ns;
use crate::scenario::Cause;
use crate::truth::GpuAt;

/// Beyond any id of the header.
const FIELD_MAX: u32 = 300;
/// Of the old numbers: reasons of clocks, then smoothing of power.
const REASONS_OLD: std::ops::RangeInclusive<u32> = 251..=255;
const REASONS_NEW: std::ops::RangeInclusive<u32> = 269..=273;
/// Signed 32 bits: newer than the types that the wrapper knows.
const TYPE_SIGNED: nv::nvmlValueType_t = 5;

/// A value as the driver types it.
enum Value {
    Unsigned(u32),
    Long(u64),
    Signed(i32),
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetFieldValues(
    device: Handle,
    count: c_int,
    values: Out<nv::nvmlFieldValue_t>,
) -> Code {
    gpu_call("nvmlDeviceGetFieldValues", device, |gpu| {
        let count = usize::try_from(count).map_err(|_| INVALID_ARGUMENT)?;
        (0..count).try_for_each(|index| {
            let place = values.nth(index);
            place.put(answered(&gpu, place.get()?))
        })
    })
}

fn answered(gpu: &GpuAt<'_>, asked: nv::nvmlFieldValue_t) -> nv::nvmlFieldValue_t {
    let timestamp = c_longlong::try_from(boot_ns() / 1000).unwrap_or(0);
    let mut answer = nv::nvmlFieldValue_t { timestamp, latencyUsec: 0, nvmlReturn: SUCCESS, ..asked };
    match value(gpu, asked.fieldId, asked.scopeId) {
        Err(code) => answer.nvmlReturn = code,
        Ok(Value::Unsigned(value)) => {
            answer.valueType = nv::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT;
            answer.value = nv::nvmlValue_t { uiVal: value };
        }
        Ok(Value::Long(value)) => {
            answer.valueType = nv::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG;
            answer.value = nv::nvmlValue_t { ullVal: value };
        }
        Ok(Value::Signed(value)) => {
            answer.valueType = TYPE_SIGNED;
            answer.value = nv::nvmlValue_t { siVal: value };
        }
    }
    answer
}

fn value(gpu: &GpuAt<'_>, field: u32, scope: u32) -> Result<Value, Code> {
    if field == 0 || field > FIELD_MAX {
        return Err(INVALID_ARGUMENT);
    }
    if gpu.gpu.fields_not_supported.contains(&field) {
        return Err(NOT_SUPPORTED);
    }
    let renumbered = gpu.at.fields_are_renumbered();
    let reasons = if renumbered { REASONS_NEW } else { REASONS_OLD };
    let found = if reasons.contains(&field) {
        reason(gpu, field - reasons.start()).map(Value::Long)
    } else if field >= *REASONS_OLD.start() {
        // Smoothing of power: no card here has it.
        None
    } else {
        board(gpu, field).or_else(|| health(gpu, field)).or_else(|| links(gpu, field, scope))
    };
    found.ok_or(NOT_SUPPORTED)
}

/// Nanoseconds lost to heat seen by the driver, by the hardware, and to the power brake.
fn reason(gpu: &GpuAt<'_>, place: u32) -> Option<u64> {
    let cause = match place {
        0 => Cause::SwThermal,
        1 => Cause::HwThermal,
        2 => Cause::PowerBrake,
        _ => return None,
    };
    gpu.gpu.violations.then(|| gpu.throttled_ns(cause))
}

/// Heat and power.
fn board(gpu: &GpuAt<'_>, field: u32) -> Option<Value> {
    let limits = gpu.gpu.margin_limits_celsius;
    match field {
        fi::NVML_FI_DEV_PERF_POLICY_POWER..=fi::NVML_FI_DEV_PERF_POLICY_RELIABILITY => {
            // Policies have the same order in both: power, heat, group, board, low use, reliability.
            sensors::violation_ns(gpu, field - fi::NVML_FI_DEV_PERF_POLICY_POWER).map(Value::Long)
        }
        fi::NVML_FI_DEV_PERF_POLICY_TOTAL_APP_CLOCKS | fi::NVML_FI_DEV_PERF_POLICY_TOTAL_BASE_CLOCKS => {
            sensors::violation_ns(gpu, nv::nvmlPerfPolicyType_enum_NVML_PERF_POLICY_TOTAL_APP_CLOCKS)
                .map(Value::Long)
        }
        fi::NVML_FI_DEV_MEMORY_TEMP => {
            gpu.memory_temperature().map(|degrees| Value::Unsigned(degrees.max(0).unsigned_abs()))
        }
        fi::NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION => gpu.energy_millijoules().map(Value::Long),
        fi::NVML_FI_DEV_POWER_AVERAGE => gpu.power_milliwatts().map(Value::Unsigned),
        fi::NVML_FI_DEV_POWER_INSTANT => gpu.power_instant_milliwatts().map(Value::Unsigned),
        fi::NVML_FI_DEV_POWER_MIN_LIMIT => {
            gpu.gpu.power_limit_min_watts.map(|watts| Value::Unsigned(watts * 1000))
        }
        fi::NVML_FI_DEV_POWER_MAX_LIMIT | fi::NVML_FI_DEV_POWER_DEFAULT_LIMIT => {
            gpu.gpu.power_limit_max_watts.map(|watts| Value::Unsigned(watts * 1000))
        }
        fi::NVML_FI_DEV_POWER_CURRENT_LIMIT => gpu.enforced_limit_milliwatts().map(Value::Unsigned),
        fi::NVML_FI_DEV_POWER_REQUESTED_LIMIT => gpu.power_limit_milliwatts().map(Value::Unsigned),
        fi::NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT => limits.map(|limits| Value::Signed(limits.shutdown)),
        fi::NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT => limits.map(|limits| Value::Signed(limits.slowdown)),
        fi::NVML_FI_DEV_TEMPERATURE_MEM_MAX_TLIMIT => limits.map(|limits| Value::Signed(limits.memory)),
        fi::NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT => limits.map(|limits| Value::Signed(limits.gpu)),
        _ => None,
    }
}

/// Memory errors and what was done about them.
fn health(gpu: &GpuAt<'_>, field: u32) -> Option<Value> {
    let (ecc, rows, pages) = (&gpu.gpu.ecc, &gpu.gpu.remapped_rows, &gpu.gpu.retired_pages);
    let long = |count| Some(Value::Long(count));
    match field {
        fi::NVML_FI_DEV_ECC_CURRENT | fi::NVML_FI_DEV_ECC_PENDING => {
            Some(Value::Unsigned(ecc.is_some().into()))
        }
        fi::NVML_FI_DEV_ECC_SBE_VOL_TOTAL => long(gpu.counted(&ecc.as_ref()?.corrected)),
        fi::NVML_FI_DEV_ECC_DBE_VOL_TOTAL => long(gpu.counted(&ecc.as_ref()?.uncorrected)),
        fi::NVML_FI_DEV_ECC_SBE_AGG_TOTAL => long(gpu.counted_in_life(&ecc.as_ref()?.corrected)),
        fi::NVML_FI_DEV_ECC_DBE_AGG_TOTAL => long(gpu.counted_in_life(&ecc.as_ref()?.uncorrected)),
        fi::NVML_FI_DEV_RETIRED_SBE => long(gpu.counted_in_life(&pages.as_ref()?.corrected)),
        fi::NVML_FI_DEV_RETIRED_DBE => long(gpu.counted_in_life(&pages.as_ref()?.uncorrected)),
        fi::NVML_FI_DEV_RETIRED_PENDING => long(gpu.is_pending(pages.as_ref()?).into()),
        fi::NVML_FI_DEV_REMAPPED_COR => count(gpu.counted_in_life(&rows.as_ref()?.corrected)),
        fi::NVML_FI_DEV_REMAPPED_UNC => count(gpu.counted_in_life(&rows.as_ref()?.uncorrected)),
        fi::NVML_FI_DEV_REMAPPED_PENDING => count(gpu.is_pending(rows.as_ref()?).into()),
        fi::NVML_FI_DEV_REMAPPED_FAILURE => count(gpu.has_failed(rows.as_ref()?).into()),
        _ => None,
    }
}

fn count(value: u64) -> Option<Value> {
    Some(Value::Unsigned(u32::try_from(value).unwrap_or(u32::MAX)))
}

/// PCIe and NVLink. What NVLink counts per link has the link as its scope; the errors are those of the first.
fn links(gpu: &GpuAt<'_>, field: u32, scope: u32) -> Option<Value> {
    let pcie = gpu.gpu.pcie.as_ref();
    let nvlink = gpu.gpu.nvlink.as_ref();
    let of_link = |counter| match scope {
        0 => Some(Value::Long(gpu.counted(counter))),
        link => (link < nvlink?.links).then_some(Value::Long(0)),
    };
    let total = |counter| Some(Value::Long(gpu.counted(counter)));
    match field {
        fi::NVML_FI_DEV_PCIE_REPLAY_COUNTER => count(gpu.counted(pcie?.replays.as_ref()?)),
        fi::NVML_FI_DEV_PCIE_COUNT_TX_BYTES => wrapped(gpu, pcie?.sent_kb_per_second.as_ref()?),
        fi::NVML_FI_DEV_PCIE_COUNT_RX_BYTES => wrapped(gpu, pcie?.received_kb_per_second.as_ref()?),
        fi::NVML_FI_DEV_NVLINK_LINK_COUNT => Some(Value::Unsigned(nvlink?.links)),
        fi::NVML_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL => total(&nvlink?.crc_errors),
        fi::NVML_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL => total(&nvlink?.replay_errors),
        fi::NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL => total(&nvlink?.recovery_errors),
        fi::NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY => of_link(&nvlink?.replay_errors),
        fi::NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY => of_link(&nvlink?.recovery_errors),
        fi::NVML_FI_DEV_NVLINK_ERROR_DL_CRC => of_link(&nvlink?.crc_errors),
        fi::NVML_FI_DEV_NVLINK_GET_STATE => {
            let active = scope < gpu.number(Some(&nvlink?.active))?;
            (scope < nvlink?.links).then(|| Value::Unsigned(active.into()))
        }
        _ => None,
    }
}

/// Bytes since the driver was loaded, in 32 bits: they wrap.
fn wrapped(gpu: &GpuAt<'_>, kilobytes: &crate::scenario::timeline::Timeline) -> Option<Value> {
    let sum = kilobytes.integral(gpu.at.ns) - kilobytes.integral(gpu.at.loaded_ns());
    let bytes = u64::try_from(sum / i128::from(crate::scenario::timeline::SECOND)).ok()?;
    Some(Value::Unsigned(bytes as u32))
}
