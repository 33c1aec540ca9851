//! The symbols of the driver's library, and what each call goes through before it is answered.
//!
//! In: calls from C. Out: the truth of the scenario at this moment, or the failure that it has for this call.

// A panic in a call ends the process that made it: there are none on purpose.
#![allow(unsafe_code, reason = "symbols for C, and pointers from there")]
#![allow(non_snake_case, reason = "the symbols have the names that the driver's library gives them")]

mod device;
mod events;
mod ffi;
mod fields;
mod gpm;
mod health;
pub(crate) mod meter;
mod mig;
mod processes;
mod sensors;
mod system;

use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nvml_wrapper_sys::bindings as nv;

use self::ffi::Handle;
use crate::scenario::failure::{failure, hang};
use crate::scenario::{Scenario, preset};
use crate::truth::{At, GpuAt};
use crate::{SCENARIO_VARIABLE, boot_ns, place};

/// What a call answers, other than success.
type Code = nv::nvmlReturn_t;
type Answer = Result<(), Code>;

const SUCCESS: Code = nv::nvmlReturn_enum_NVML_SUCCESS;
const UNINITIALIZED: Code = nv::nvmlReturn_enum_NVML_ERROR_UNINITIALIZED;
const INVALID_ARGUMENT: Code = nv::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT;
const NOT_SUPPORTED: Code = nv::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED;
const NOT_FOUND: Code = nv::nvmlReturn_enum_NVML_ERROR_NOT_FOUND;
const INSUFFICIENT_SIZE: Code = nv::nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE;
const FUNCTION_NOT_FOUND: Code = nv::nvmlReturn_enum_NVML_ERROR_FUNCTION_NOT_FOUND;
const ARGUMENT_VERSION_MISMATCH: Code = nv::nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH;

/// Set by the first initialisation that finds a scenario; the clock begins there.
static SIMULATION: OnceLock<Simulation> = OnceLock::new();

struct Simulation {
    scenario: Scenario,
    start_boot_ns: u64,
    session: Mutex<Session>,
    sets: Mutex<events::Sets>,
    /// A set is not what it was, or somebody let the library go: who waits for faults looks again.
    sets_changed: Condvar,
    samples: Mutex<gpm::Samples>,
}

/// Who uses the library.
#[derive(Default)]
struct Session {
    /// Initialisations that were not shut down.
    users: u32,
    /// Which loading of the driver it was that they found.
    loads: usize,
}

/// A call that is let through.
struct Call {
    simulation: &'static Simulation,
    symbol: &'static str,
}

impl Simulation {
    /// The one, begun where it was not yet.
    fn begun() -> Result<&'static Self> {
        if let Some(begun) = SIMULATION.get() {
            return Ok(begun);
        }
        let scenario = load()?;
        let start_boot_ns = scenario.start_boot_ns.unwrap_or_else(boot_ns);
        Ok(SIMULATION.get_or_init(|| Self {
            scenario,
            start_boot_ns,
            session: Mutex::default(),
            sets: Mutex::default(),
            sets_changed: Condvar::new(),
            samples: Mutex::default(),
        }))
    }

    fn now(&'static self) -> At<'static> {
        At::new(&self.scenario, boot_ns().saturating_sub(self.start_boot_ns))
    }

    /// Sleeps until this time of the scenario.
    fn sleep_until(&'static self, ns: u64) {
        std::thread::sleep(Duration::from_nanos(ns.saturating_sub(self.now().ns)));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The scenario beside this library, else that of the variable, else the one that is pleasant to look at.
fn load() -> Result<Scenario> {
    if let Some(beside) = ffi::own_path().map(|library| place::beside(&library)).filter(|path| path.is_file())
    {
        return Scenario::load(&beside);
    }
    let Some(named) = std::env::var_os(SCENARIO_VARIABLE) else {
        let text = preset::text(preset::DEFAULT).context("the scenario that comes with the library")?;
        return Scenario::parse(text);
    };
    let known = named.to_str().and_then(preset::text);
    known.map_or_else(|| Scenario::load(Path::new(&PathBuf::from(&named))), Scenario::parse)
}

/// A call about no GPU in particular.
fn call(symbol: &'static str, body: impl FnOnce(&Call) -> Answer) -> Code {
    meter::metered(|| answer(Call::enter(symbol).and_then(|call| body(&call))))
}

/// A call about a whole GPU.
fn gpu_call(symbol: &'static str, device: Handle, body: impl FnOnce(GpuAt<'static>) -> Answer) -> Code {
    call(symbol, |call| {
        let (gpu, instance) = call.device(device)?;
        // Most of what a GPU can be asked is not known of an instance.
        if instance.is_some() { Err(NOT_SUPPORTED) } else { body(gpu) }
    })
}

fn answer(answer: Answer) -> Code {
    answer.err().unwrap_or(SUCCESS)
}

fn supported<T>(value: Option<T>) -> Result<T, Code> {
    value.ok_or(NOT_SUPPORTED)
}

impl Call {
    /// Lets a call through to the driver, if there is one, and this call is not to fail.
    fn enter(symbol: &'static str) -> Result<Self, Code> {
        let simulation = SIMULATION.get().ok_or(UNINITIALIZED)?;
        let (users, loads) = {
            let session = locked(&simulation.session);
            (session.users, session.loads)
        };
        let call = Self { simulation, symbol };
        call.pass()?;
        if users == 0 {
            return Err(UNINITIALIZED);
        }
        let now = simulation.now();
        if let Some(absence) = now.absence() {
            return Err(absence.code());
        }
        if now.loads() == loads { Ok(call) } else { Err(UNINITIALIZED) }
    }

    /// What the scenario has for this call whichever GPU it is about.
    fn pass(&self) -> Answer {
        let scenario = &self.simulation.scenario;
        if scenario.missing_symbols.has(self.symbol) {
            return Err(FUNCTION_NOT_FOUND);
        }
        if let Some(end) = hang(&scenario.hang, self.symbol, self.now().ns) {
            self.simulation.sleep_until(end);
        }
        failure(&scenario.fail, self.symbol, self.now().ns).map_or(Ok(()), Err)
    }

    fn now(&self) -> At<'static> {
        self.simulation.now()
    }

    /// The GPU of a handle, and which of its instances it is.
    fn device(&self, device: Handle) -> Result<(GpuAt<'static>, Option<usize>), Code> {
        let (index, instance) = device.decode().ok_or(INVALID_ARGUMENT)?;
        let gpu = self.gpu(index)?;
        let lives = |wanted| gpu.instances().any(|(index, _)| index == wanted);
        if instance.is_some_and(|instance| !lives(instance)) {
            return Err(INVALID_ARGUMENT);
        }
        Ok((gpu, instance))
    }

    /// This GPU, if it is to answer this call.
    fn gpu(&self, index: usize) -> Result<GpuAt<'static>, Code> {
        let gpu = self.now().gpu(index).ok_or(INVALID_ARGUMENT)?.gpu;
        if let Some(end) = hang(&gpu.hang, self.symbol, self.now().ns) {
            self.simulation.sleep_until(end);
        }
        if let Some(code) = failure(&gpu.fail, self.symbol, self.now().ns) {
            return Err(code);
        }
        if gpu.not_supported.has(self.symbol) {
            return Err(NOT_SUPPORTED);
        }
        self.now().gpu(index).ok_or(INVALID_ARGUMENT)
    }
}
