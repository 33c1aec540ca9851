//! Memory errors, PCIe, NVLink.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings as nv;

use super::ffi::{Handle, Out};
use super::{Code, INVALID_ARGUMENT, gpu_call, supported};
use crate::scenario::gpu::{NvLink, Pcie};
use crate::truth::GpuAt;

/// Over how long throughput is measured: each such call takes as long.
const THROUGHPUT_WINDOW: std::time::Duration = std::time::Duration::from_millis(20);

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetEccMode(
    device: Handle,
    current: Out<nv::nvmlEnableState_t>,
    pending: Out<nv::nvmlEnableState_t>,
) -> Code {
    gpu_call("nvmlDeviceGetEccMode", device, |gpu| {
        supported(gpu.gpu.ecc.as_ref())?;
        current.put(1)?;
        pending.put(1)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: Handle,
    error: nv::nvmlMemoryErrorType_t,
    counter: nv::nvmlEccCounterType_t,
    count: Out<c_ulonglong>,
) -> Code {
    gpu_call("nvmlDeviceGetTotalEccErrors", device, |gpu| count.put(ecc_errors(&gpu, error, counter)?))
}

/// All errors are of the memory on the board.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryErrorCounter(
    device: Handle,
    error: nv::nvmlMemoryErrorType_t,
    counter: nv::nvmlEccCounterType_t,
    location: nv::nvmlMemoryLocation_t,
    count: Out<c_ulonglong>,
) -> Code {
    gpu_call("nvmlDeviceGetMemoryErrorCounter", device, |gpu| {
        let errors = ecc_errors(&gpu, error, counter)?;
        let on_board = location == nv::nvmlMemoryLocation_enum_NVML_MEMORY_LOCATION_DEVICE_MEMORY;
        count.put(if on_board { errors } else { 0 })
    })
}

fn ecc_errors(
    gpu: &GpuAt<'_>,
    error: nv::nvmlMemoryErrorType_t,
    counter: nv::nvmlEccCounterType_t,
) -> Result<u64, Code> {
    let ecc = supported(gpu.gpu.ecc.as_ref())?;
    let errors = match error {
        nv::nvmlMemoryErrorType_enum_NVML_MEMORY_ERROR_TYPE_CORRECTED => &ecc.corrected,
        nv::nvmlMemoryErrorType_enum_NVML_MEMORY_ERROR_TYPE_UNCORRECTED => &ecc.uncorrected,
        _ => return Err(INVALID_ARGUMENT),
    };
    match counter {
        nv::nvmlEccCounterType_enum_NVML_VOLATILE_ECC => Ok(gpu.counted(errors)),
        nv::nvmlEccCounterType_enum_NVML_AGGREGATE_ECC => Ok(gpu.counted_in_life(errors)),
        _ => Err(INVALID_ARGUMENT),
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRemappedRows(
    device: Handle,
    corrected: Out<c_uint>,
    uncorrected: Out<c_uint>,
    pending: Out<c_uint>,
    failed: Out<c_uint>,
) -> Code {
    gpu_call("nvmlDeviceGetRemappedRows", device, |gpu| {
        let rows = supported(gpu.gpu.remapped_rows.as_ref())?;
        corrected.put(gpu.counted_in_life(&rows.corrected) as c_uint)?;
        uncorrected.put(gpu.counted_in_life(&rows.uncorrected) as c_uint)?;
        pending.put(gpu.is_pending(rows).into())?;
        failed.put(gpu.has_failed(rows).into())
    })
}

/// Addresses are made up: one page after another.
fn retired(gpu: &GpuAt<'_>, cause: nv::nvmlPageRetirementCause_t) -> Result<Vec<c_ulonglong>, Code> {
    let pages = supported(gpu.gpu.retired_pages.as_ref())?;
    let counter = match cause {
        nv::nvmlPageRetirementCause_enum_NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS => {
            &pages.corrected
        }
        nv::nvmlPageRetirementCause_enum_NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR => {
            &pages.uncorrected
        }
        _ => return Err(INVALID_ARGUMENT),
    };
    Ok((1..=gpu.counted_in_life(counter)).map(|page| page << 16).collect())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRetiredPages(
    device: Handle,
    cause: nv::nvmlPageRetirementCause_t,
    count: Out<c_uint>,
    addresses: Out<c_ulonglong>,
) -> Code {
    gpu_call("nvmlDeviceGetRetiredPages", device, |gpu| addresses.put_all(count, &retired(&gpu, cause)?))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRetiredPages_v2(
    device: Handle,
    cause: nv::nvmlPageRetirementCause_t,
    count: Out<c_uint>,
    addresses: Out<c_ulonglong>,
    timestamps: Out<c_ulonglong>,
) -> Code {
    gpu_call("nvmlDeviceGetRetiredPages_v2", device, |gpu| {
        let pages = retired(&gpu, cause)?;
        addresses.put_all(count, &pages)?;
        // When is not known: 0.
        (0..pages.len()).try_for_each(|index| timestamps.nth(index).put(0))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRetiredPagesPendingStatus(
    device: Handle,
    pending: Out<nv::nvmlEnableState_t>,
) -> Code {
    gpu_call("nvmlDeviceGetRetiredPagesPendingStatus", device, |gpu| {
        let pages = supported(gpu.gpu.retired_pages.as_ref().filter(|pages| pages.pending.is_some()))?;
        pending.put(gpu.is_pending(pages).into())
    })
}

fn pcie(
    symbol: &'static str,
    device: Handle,
    out: Out<c_uint>,
    of: fn(&GpuAt<'_>, &Pcie) -> Option<u32>,
) -> Code {
    gpu_call(symbol, device, |gpu| out.put(supported(gpu.gpu.pcie.as_ref().and_then(|pcie| of(&gpu, pcie)))?))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrPcieLinkGeneration(device: Handle, out: Out<c_uint>) -> Code {
    pcie("nvmlDeviceGetCurrPcieLinkGeneration", device, out, |gpu, pcie| gpu.number(Some(&pcie.generation)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxPcieLinkGeneration(device: Handle, out: Out<c_uint>) -> Code {
    pcie("nvmlDeviceGetMaxPcieLinkGeneration", device, out, |_, pcie| Some(pcie.generation_max))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrPcieLinkWidth(device: Handle, out: Out<c_uint>) -> Code {
    pcie("nvmlDeviceGetCurrPcieLinkWidth", device, out, |gpu, pcie| gpu.number(Some(&pcie.width)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxPcieLinkWidth(device: Handle, out: Out<c_uint>) -> Code {
    pcie("nvmlDeviceGetMaxPcieLinkWidth", device, out, |_, pcie| Some(pcie.width_max))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPcieReplayCounter(device: Handle, out: Out<c_uint>) -> Code {
    pcie("nvmlDeviceGetPcieReplayCounter", device, out, |gpu, pcie| {
        Some(gpu.counted(pcie.replays.as_ref()?) as u32)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPcieThroughput(
    device: Handle,
    counter: nv::nvmlPcieUtilCounter_t,
    value: Out<c_uint>,
) -> Code {
    gpu_call("nvmlDeviceGetPcieThroughput", device, |gpu| {
        let pcie = supported(gpu.gpu.pcie.as_ref())?;
        let line = match counter {
            nv::nvmlPcieUtilCounter_enum_NVML_PCIE_UTIL_TX_BYTES => pcie.sent_kb_per_second.as_ref(),
            nv::nvmlPcieUtilCounter_enum_NVML_PCIE_UTIL_RX_BYTES => pcie.received_kb_per_second.as_ref(),
            _ => return Err(INVALID_ARGUMENT),
        };
        let rate = supported(gpu.number(line))?;
        std::thread::sleep(THROUGHPUT_WINDOW);
        value.put(rate)
    })
}

/// The link of this number.
fn nvlink<'a>(gpu: &GpuAt<'a>, link: c_uint) -> Result<&'a NvLink, Code> {
    let nvlink = supported(gpu.gpu.nvlink.as_ref())?;
    if link < nvlink.links { Ok(nvlink) } else { Err(INVALID_ARGUMENT) }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkState(
    device: Handle,
    link: c_uint,
    active: Out<nv::nvmlEnableState_t>,
) -> Code {
    gpu_call("nvmlDeviceGetNvLinkState", device, |gpu| {
        let up = gpu.number(Some(&nvlink(&gpu, link)?.active)).unwrap_or(0);
        active.put(u32::from(link < up))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkErrorCounter(
    device: Handle,
    link: c_uint,
    counter: nv::nvmlNvLinkErrorCounter_t,
    value: Out<c_ulonglong>,
) -> Code {
    gpu_call("nvmlDeviceGetNvLinkErrorCounter", device, |gpu| {
        let nvlink = nvlink(&gpu, link)?;
        let counter = match counter {
            nv::nvmlNvLinkErrorCounter_enum_NVML_NVLINK_ERROR_DL_REPLAY => &nvlink.replay_errors,
            nv::nvmlNvLinkErrorCounter_enum_NVML_NVLINK_ERROR_DL_RECOVERY => &nvlink.recovery_errors,
            nv::nvmlNvLinkErrorCounter_enum_NVML_NVLINK_ERROR_DL_CRC_FLIT => &nvlink.crc_errors,
            _ => return Err(super::NOT_SUPPORTED),
        };
        value.put(if link == 0 { gpu.counted(counter) } else { 0 })
    })
}
