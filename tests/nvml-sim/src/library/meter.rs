//! What the calls of this library take themselves, for who measures those that call it.
//!
//! In: every call, once it is asked for. Out: how many there were, and their time on a processor.

use std::ffi::{CString, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use rustix::time::{ClockId, clock_gettime};

use super::ffi::Out;
use super::{Code, SUCCESS, answer};

static METERED: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);
static SPENT_NS: AtomicU64 = AtomicU64::new(0);
/// What two looks at the clock take, which is of no call.
static LOOKS_NS: AtomicU64 = AtomicU64::new(0);
/// Of which the least is taken.
const LOOKS: usize = 1000;

const SYMBOL: &std::ffi::CStr = c"nvml_sim_meter";

/// Since it was first asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Spent {
    pub calls: u64,
    /// On a processor: who waits takes nothing.
    pub ns: u64,
}

/// A call. Unless it is asked for, this is one look at a flag.
pub(super) fn metered(call: impl FnOnce() -> Code) -> Code {
    if !METERED.load(Ordering::Relaxed) {
        return call();
    }
    let before = thread_ns();
    let code = call();
    let ns = (thread_ns() - before).saturating_sub(LOOKS_NS.load(Ordering::Relaxed));
    SPENT_NS.fetch_add(ns, Ordering::Relaxed);
    CALLS.fetch_add(1, Ordering::Relaxed);
    code
}

fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Not of the driver's library: begins to meter, and tells what there was since.
#[unsafe(no_mangle)]
extern "C" fn nvml_sim_meter(spent: Out<Spent>) -> Code {
    if !METERED.load(Ordering::Relaxed) {
        let looks = (0..LOOKS).map(|_| {
            let before = thread_ns();
            thread_ns() - before
        });
        LOOKS_NS.store(looks.min().unwrap_or(0), Ordering::Relaxed);
        METERED.store(true, Ordering::Relaxed);
    }
    let (calls, ns) = (CALLS.load(Ordering::Relaxed), SPENT_NS.load(Ordering::Relaxed));
    answer(spent.put(Spent { calls, ns }))
}

/// Asks a copy of the library that this process has loaded.
pub(crate) fn spent(library: &Path) -> Result<Spent> {
    let name = CString::new(library.as_os_str().as_bytes()).context("a path with a zero")?;
    // SAFETY: the name ends in a zero; nothing is loaded, so no code of the library runs.
    let loaded = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    ensure!(!loaded.is_null(), "{} is not loaded", library.display());
    // SAFETY: the handle is the loader's, and the name ends in a zero.
    let symbol = unsafe { libc::dlsym(loaded, SYMBOL.as_ptr()) };
    let asked = ask(symbol);
    // SAFETY: the handle was opened above, and nothing of it is used after this.
    unsafe { libc::dlclose(loaded) };
    asked.with_context(|| format!("ask {} what it took", library.display()))
}

fn ask(symbol: *mut c_void) -> Result<Spent> {
    ensure!(!symbol.is_null(), "it is no simulated library");
    // SAFETY: the symbol of this name is the function above, in another copy of this library.
    let meter: extern "C" fn(*mut Spent) -> Code = unsafe { std::mem::transmute(symbol) };
    let mut spent = Spent::default();
    ensure!(meter(&raw mut spent) == SUCCESS, "it refuses");
    Ok(spent)
}
