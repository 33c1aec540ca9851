//! Begin, end, versions, and how many GPUs there are.

use std::ffi::{c_char, c_int, c_uint};

use nvml_wrapper_sys::bindings as nv;

use super::ffi::{Handle, Out, Text};
use super::{
    Answer, Call, Code, INVALID_ARGUMENT, NOT_FOUND, Simulation, UNINITIALIZED, answer, call, locked,
    supported,
};

/// Of the header that the structs are of.
const LIBRARY_VERSION: &str = "12.575.57.08";

fn init(symbol: &'static str) -> Answer {
    let simulation = Simulation::begun().map_err(|error| {
        eprintln!("simulated NVML: {error:#}");
        nv::nvmlReturn_enum_NVML_ERROR_UNKNOWN
    })?;
    Call { simulation, symbol }.pass()?;
    let now = simulation.now();
    if let Some(absence) = now.absence() {
        return Err(absence.init_code());
    }
    let mut session = locked(&simulation.session);
    // Users are counted, and only the first one looks for the driver: after another loading of it, all of them have
    // to shut down before one can begin anew, as with the real one.
    if session.users == 0 {
        session.loads = now.loads();
    }
    session.users += 1;
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> Code {
    answer(init("nvmlInit_v2"))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> Code {
    answer(init("nvmlInitWithFlags"))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> Code {
    let users = super::SIMULATION.get().map(|simulation| {
        let mut session = locked(&simulation.session);
        let users = session.users;
        session.users = users.saturating_sub(1);
        drop(session);
        simulation.wake_waiters();
        users
    });
    if users.unwrap_or(0) > 0 { super::SUCCESS } else { UNINITIALIZED }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(code: Code) -> *const c_char {
    let text = match code {
        super::SUCCESS => c"Success",
        UNINITIALIZED => c"Uninitialized",
        INVALID_ARGUMENT => c"Invalid Argument",
        super::NOT_SUPPORTED => c"Not Supported",
        NOT_FOUND => c"Not Found",
        nv::nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED => c"Driver Not Loaded",
        nv::nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST => c"GPU is lost",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetDriverVersion(version: Out<c_char>, length: c_uint) -> Code {
    call("nvmlSystemGetDriverVersion", |call| version.put_text(length, call.now().driver_version()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetNVMLVersion(version: Out<c_char>, length: c_uint) -> Code {
    call("nvmlSystemGetNVMLVersion", |_| version.put_text(length, LIBRARY_VERSION))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetCudaDriverVersion(version: Out<c_int>) -> Code {
    call("nvmlSystemGetCudaDriverVersion", |call| version.put(call.simulation.scenario.cuda_version))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: Out<c_int>) -> Code {
    call("nvmlSystemGetCudaDriverVersion_v2", |call| version.put(call.simulation.scenario.cuda_version))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCount_v2(count: Out<c_uint>) -> Code {
    call("nvmlDeviceGetCount_v2", |call| count.put(call.simulation.scenario.gpus.len() as c_uint))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: Out<Handle>) -> Code {
    call("nvmlDeviceGetHandleByIndex_v2", |call| {
        let gpu = call.gpu(index as usize)?;
        device.put(supported(Handle::new(gpu.index, None))?)
    })
}

/// Those of instances, too.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByUUID(uuid: Text, device: Out<Handle>) -> Code {
    call("nvmlDeviceGetHandleByUUID", |call| {
        let uuid = uuid.get()?;
        for gpu in call.now().gpus() {
            let instance = gpu.instances().find(|(_, instance)| gpu.instance_uuid(instance) == uuid);
            if gpu.uuid() == uuid || instance.is_some() {
                call.gpu(gpu.index)?;
                return device.put(supported(Handle::new(gpu.index, instance.map(|(index, _)| index)))?);
            }
        }
        Err(NOT_FOUND)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(bus_id: Text, device: Out<Handle>) -> Code {
    call("nvmlDeviceGetHandleByPciBusId_v2", |call| {
        let bus_id = bus_id.get()?;
        let found = call.now().gpus().find(|gpu| gpu.bus_id().eq_ignore_ascii_case(&bus_id));
        let gpu = call.gpu(found.ok_or(NOT_FOUND)?.index)?;
        device.put(supported(Handle::new(gpu.index, None))?)
    })
}
