//! Faults as they come: sets of GPUs, and waiting for the next one.

use std::collections::BTreeMap;
use std::ffi::{c_uint, c_ulonglong, c_void};
use std::sync::PoisonError;
use std::time::Duration;

use nvml_wrapper_sys::bindings as nv;

use super::ffi::{Handle, Out};
use super::{
    Call, Code, INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS, Simulation, call, gpu_call, locked, supported,
};
use crate::scenario::Scenario;
use crate::scenario::failure::{Absence, Fail, Hang, failure};

const XID: c_ulonglong = nv::nvmlEventTypeXidCriticalError as c_ulonglong;
const TIMEOUT: Code = nv::nvmlReturn_enum_NVML_ERROR_TIMEOUT;
const NO_INSTANCE: c_uint = c_uint::MAX;

/// Sets by the numbers that stand for their pointers.
#[derive(Default)]
pub(super) struct Sets {
    next: usize,
    /// Raised by whatever those who wait have to look at.
    changes: u64,
    open: BTreeMap<usize, Vec<Registered>>,
}

/// A GPU whose faults are told.
#[derive(Clone, Copy)]
struct Registered {
    gpu: usize,
    /// The last one told, or when it was registered: only later ones are told.
    told: Told,
}

/// Faults of one moment are told apart by their place in the scenario.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    ns: u64,
    burst: usize,
}

/// A set's handle. Compared, never followed.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct SetHandle(*const c_void);

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetCreate(set: Out<SetHandle>) -> Code {
    call("nvmlEventSetCreate", |call| {
        let mut sets = locked(&call.simulation.sets);
        sets.next += 1;
        let number = sets.next;
        sets.open.insert(number, Vec::new());
        set.put(SetHandle(std::ptr::without_provenance(number)))
    })
}

/// Also after the driver went: who frees has to be able to.
#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(set: SetHandle) -> Code {
    let known = super::SIMULATION.get().and_then(|simulation| {
        let freed = locked(&simulation.sets).open.remove(&set.0.addr());
        simulation.wake_waiters();
        freed
    });
    if known.is_some() { SUCCESS } else { INVALID_ARGUMENT }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSupportedEventTypes(device: Handle, types: Out<c_ulonglong>) -> Code {
    gpu_call("nvmlDeviceGetSupportedEventTypes", device, |gpu| {
        types.put(supported(gpu.gpu.events.then_some(XID))?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(device: Handle, types: c_ulonglong, set: SetHandle) -> Code {
    call("nvmlDeviceRegisterEvents", |call| {
        let (gpu, instance) = call.device(device)?;
        if instance.is_some() || !gpu.gpu.events || types & !XID != 0 {
            return Err(NOT_SUPPORTED);
        }
        let mut sets = locked(&call.simulation.sets);
        let registered = sets.open.get_mut(&set.0.addr()).ok_or(INVALID_ARGUMENT)?;
        let known = registered.iter().any(|registered| registered.gpu == gpu.index);
        if types != 0 && !known {
            registered.push(Registered { gpu: gpu.index, told: Told { ns: gpu.at.ns, burst: usize::MAX } });
        }
        drop(sets);
        call.simulation.wake_waiters();
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetWait_v2(
    set: SetHandle,
    data: Out<nv::nvmlEventData_t>,
    timeout_ms: c_uint,
) -> Code {
    call("nvmlEventSetWait_v2", |call| data.put(wait(call, set, timeout_ms)?))
}

/// The first version has the same struct, and fills less of it.
#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetWait(set: SetHandle, data: Out<nv::nvmlEventData_t>, timeout_ms: c_uint) -> Code {
    call("nvmlEventSetWait", |call| data.put(wait(call, set, timeout_ms)?))
}

/// Sleeps through: it wakes for what comes by the scenario, and for what others do meanwhile.
fn wait(call: &Call, set: SetHandle, timeout_ms: c_uint) -> Result<nv::nvmlEventData_t, Code> {
    let deadline = call.now().ns.saturating_add(u64::from(timeout_ms) * 1_000_000);
    loop {
        let changes = locked(&call.simulation.sets).changes;
        // It went while this waited, or this call is to fail from now on.
        Call::enter(call.symbol)?;
        let now = call.now().ns;
        let coming = match next(call, set, now)? {
            Next::Told(told) => return Ok(told),
            Next::At(ns) => ns,
        };
        if let Some(code) = fallen(call, set, now)? {
            return Err(code);
        }
        if now >= deadline {
            return Err(TIMEOUT);
        }
        let turn = turn(&call.simulation.scenario, now);
        call.simulation.wait_for_change(changes, deadline.min(coming).min(turn));
    }
}

impl Simulation {
    /// Has those who wait for faults look again.
    pub(super) fn wake_waiters(&self) {
        locked(&self.sets).changes += 1;
        self.sets_changed.notify_all();
    }

    /// Sleeps until this time of the scenario, or until there were more changes than so many.
    fn wait_for_change(&'static self, changes: u64, ns: u64) {
        let left = Duration::from_nanos(ns.saturating_sub(self.now().ns));
        let waited =
            self.sets_changed.wait_timeout_while(locked(&self.sets), left, |sets| sets.changes == changes);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

/// When something begins or ends that a wait is to notice.
fn turn(scenario: &Scenario, now: u64) -> u64 {
    let of_gpus = scenario.gpus.iter().flat_map(|gpu| gpu.fail.iter().map(Fail::span));
    let own = scenario.fail.iter().map(Fail::span).chain(scenario.hang.iter().map(Hang::span));
    let spans = own.chain(scenario.absences.iter().map(Absence::span)).chain(of_gpus);
    spans.flat_map(|span| [span.from, span.to]).filter(|ns| *ns > now).min().unwrap_or(u64::MAX)
}

/// What there is to tell.
enum Next {
    Told(nv::nvmlEventData_t),
    /// Nothing before this time.
    At(u64),
}

/// The earliest fault of these GPUs that was not told yet and has come.
fn next(call: &Call, set: SetHandle, now: u64) -> Result<Next, Code> {
    let mut sets = locked(&call.simulation.sets);
    let registered = sets.open.get_mut(&set.0.addr()).ok_or(INVALID_ARGUMENT)?;
    let gpus = &call.simulation.scenario.gpus;
    let first = |(place, registered): (usize, &Registered)| {
        let bursts = gpus[registered.gpu].xid.iter().enumerate();
        let after = registered.told;
        let coming = bursts.filter_map(|(burst, faults)| {
            Some((Told { ns: faults.next(after.ns, burst > after.burst)?, burst }, place))
        });
        coming.min()
    };
    let Some((told, place)) = registered.iter().enumerate().filter_map(first).min() else {
        return Ok(Next::At(u64::MAX));
    };
    if told.ns > now {
        return Ok(Next::At(told.ns));
    }
    let one = &mut registered[place];
    one.told = told;
    let code = gpus[one.gpu].xid[told.burst].code;
    let device = Handle::new(one.gpu, None).ok_or(INVALID_ARGUMENT)?;
    Ok(Next::Told(nv::nvmlEventData_t {
        device: device.raw(),
        eventType: XID,
        eventData: code,
        gpuInstanceId: NO_INSTANCE,
        computeInstanceId: NO_INSTANCE,
    }))
}

/// What waiting answers once a GPU of the set is gone, after all its faults were told.
fn fallen(call: &Call, set: SetHandle, now: u64) -> Result<Option<Code>, Code> {
    let sets = locked(&call.simulation.sets);
    let registered = sets.open.get(&set.0.addr()).ok_or(INVALID_ARGUMENT)?;
    let gpus = &call.simulation.scenario.gpus;
    Ok(registered.iter().find_map(|one| failure(&gpus[one.gpu].fail, call.symbol, now)))
}
