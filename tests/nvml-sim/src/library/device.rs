//! Who a GPU is.

use std::ffi::{c_char, c_int, c_uint};

use nvml_wrapper_sys::bindings as nv;

use super::ffi::{Handle, Out, text_of};
use super::{Code, call, gpu_call, supported};

/// Of an H100; no call of the agent looks at it.
const PCI_DEVICE_ID: u32 = 0x2330_10de;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUUID(device: Handle, uuid: Out<c_char>, length: c_uint) -> Code {
    call("nvmlDeviceGetUUID", |call| {
        let (gpu, instance) = call.device(device)?;
        let own = instance.map(|index| gpu.instance_uuid(&gpu.gpu.instance[index]));
        uuid.put_text(length, &own.unwrap_or_else(|| gpu.uuid()))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetName(device: Handle, name: Out<c_char>, length: c_uint) -> Code {
    call("nvmlDeviceGetName", |call| {
        let (gpu, instance) = call.device(device)?;
        let own = instance.map(|index| format!("{} MIG {}", gpu.gpu.name, gpu.gpu.instance[index].profile));
        name.put_text(length, &own.unwrap_or_else(|| gpu.gpu.name.clone()))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSerial(device: Handle, serial: Out<c_char>, length: c_uint) -> Code {
    gpu_call("nvmlDeviceGetSerial", device, |gpu| {
        serial.put_text(length, supported(gpu.gpu.serial.as_deref())?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetIndex(device: Handle, index: Out<c_uint>) -> Code {
    call("nvmlDeviceGetIndex", |call| {
        let (gpu, instance) = call.device(device)?;
        index.put(instance.unwrap_or(gpu.index) as c_uint)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMinorNumber(device: Handle, minor: Out<c_uint>) -> Code {
    gpu_call("nvmlDeviceGetMinorNumber", device, |gpu| {
        minor.put(gpu.gpu.minor.unwrap_or(gpu.index as c_uint))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPciInfo_v3(device: Handle, info: Out<nv::nvmlPciInfo_t>) -> Code {
    gpu_call("nvmlDeviceGetPciInfo_v3", device, |gpu| {
        let bus_id = gpu.bus_id();
        let part = |from, to| bus_id.get(from..to).and_then(|part| u32::from_str_radix(part, 16).ok());
        info.put(nv::nvmlPciInfo_t {
            // Without the first half of the domain: `0000:3B:00.0`.
            busIdLegacy: text_of(bus_id.get(4..).unwrap_or_default()),
            domain: part(0, 8).unwrap_or(0),
            bus: part(9, 11).unwrap_or(0),
            device: part(12, 14).unwrap_or(0),
            pciDeviceId: PCI_DEVICE_ID,
            pciSubSystemId: 0,
            busId: text_of(&bus_id),
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeMode(device: Handle, mode: Out<nv::nvmlComputeMode_t>) -> Code {
    gpu_call("nvmlDeviceGetComputeMode", device, |gpu| mode.put(supported(gpu.gpu.compute_mode)?))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo(device: Handle, info: Out<nv::nvmlMemory_t>) -> Code {
    call("nvmlDeviceGetMemoryInfo", |call| {
        let memory = memory(call.device(device)?);
        // The first version of the call has what the driver keeps for itself among what is used.
        let used = memory.used + memory.reserved;
        info.put(nv::nvmlMemory_t { total: memory.total, used, free: memory.total.saturating_sub(used) })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: Handle, info: Out<nv::nvmlMemory_v2_t>) -> Code {
    call("nvmlDeviceGetMemoryInfo_v2", |call| {
        let memory = memory(call.device(device)?);
        let version = info.get()?.version;
        if version != super::ffi::version_of::<nv::nvmlMemory_v2_t>(2) {
            return Err(super::ARGUMENT_VERSION_MISMATCH);
        }
        info.put(nv::nvmlMemory_v2_t {
            version,
            total: memory.total,
            reserved: memory.reserved,
            free: memory.total.saturating_sub(memory.used + memory.reserved),
            used: memory.used,
        })
    })
}

fn memory((gpu, instance): (crate::GpuAt<'_>, Option<usize>)) -> crate::truth::Memory {
    instance.map_or_else(|| gpu.memory(), |index| gpu.instance_memory(&gpu.gpu.instance[index]))
}

/// The architecture that has what the scenario says it has.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: Handle,
    major: Out<c_int>,
    minor: Out<c_int>,
) -> Code {
    gpu_call("nvmlDeviceGetCudaComputeCapability", device, |gpu| {
        let gpu = gpu.gpu;
        let number = match (&gpu.gpm, &gpu.remapped_rows, &gpu.retired_pages) {
            (Some(_), ..) => (9, 0),
            (None, Some(_), _) => (8, 0),
            (None, None, Some(_)) => (6, 0),
            (None, None, None) => (8, 9),
        };
        major.put(number.0)?;
        minor.put(number.1)
    })
}
