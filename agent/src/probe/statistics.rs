//! What the programs cost, by the kernel's own run-time statistics.
//!
//! Statistics cost every program of the machine 60 ns a run while they are on, so they are sampled:
//! on for a second a minute, where the agent may (CAP_SYS_ADMIN). The counts are of those seconds.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

use aya::programs::{Program, ProgramFd, loaded_programs};
use aya::sys::{Stats, enable_stats};
use tracing::debug;

/// Longest page of a file descriptor of a program.
const PAGE_BYTES_MAX: usize = 4096;

/// One program's runs, cumulative since it was loaded.
#[derive(Clone, Debug)]
pub struct ProgramRuns {
    /// The kernel's number of the program, which it gives once.
    pub id: u32,
    pub program: String,
    /// Runs while statistics were on.
    pub runs: u64,
    /// Time of those runs.
    pub run_time: Duration,
    /// Runs that the kernel skipped because the program was already running on that processor; counted
    /// always.
    pub recursion_misses: u64,
    /// Instructions the verifier walked when it was loaded.
    pub verified_instructions: Option<u32>,
}

/// Statistics are on while this lives.
pub struct Sampling {
    _statistics: OwnedFd,
}

impl Sampling {
    /// Turns statistics on; `None` where the agent may not.
    #[must_use]
    pub fn start() -> Option<Self> {
        match enable_stats(Stats::RunTime) {
            Ok(statistics) => Some(Self { _statistics: statistics }),
            Err(error) => {
                debug!("program run times are not sampled: {error}");
                None
            }
        }
    }
}

/// Reads one program; `None` when it is not loaded.
pub(super) fn read(name: &str, program: &Program) -> Option<ProgramRuns> {
    let info = program.info().ok()?;
    Some(ProgramRuns {
        id: info.id(),
        program: name.to_owned(),
        runs: info.run_count(),
        run_time: info.run_time(),
        recursion_misses: program.fd().ok().and_then(recursion_misses).unwrap_or(0),
        verified_instructions: info.verified_instruction_count(),
    })
}

/// Every program that is loaded on this node, whoever loaded it; the kernel keeps 15 characters of a
/// name. Needs CAP_SYS_ADMIN.
#[must_use]
pub fn loaded() -> Vec<ProgramRuns> {
    // Programs of others come and go meanwhile: one that is gone again is none.
    let present = loaded_programs().filter_map(Result::ok);
    let runs = present.map(|info| ProgramRuns {
        id: info.id(),
        program: String::from_utf8_lossy(info.name()).into_owned(),
        runs: info.run_count(),
        run_time: info.run_time(),
        recursion_misses: info.fd().ok().as_ref().and_then(recursion_misses).unwrap_or(0),
        verified_instructions: info.verified_instruction_count(),
    });
    runs.collect()
}

/// The map library does not show this number; the file descriptor's own page does.
fn recursion_misses(fd: &ProgramFd) -> Option<u64> {
    // A page of the kernel comes whole or not at all: one read, without asking for its size first.
    let mut page = [0; PAGE_BYTES_MAX];
    let mut file = File::open(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).ok()?;
    let length = file.read(&mut page).ok()?;
    let line = std::str::from_utf8(&page[..length])
        .ok()?
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))?;
    line.trim().parse().ok()
}
