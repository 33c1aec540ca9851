//! What does the kernel count of a group of processes? Reads the files of control groups, v2 and v1.
//!
//! In: where the hierarchies are mounted, and the groups of a process as `/proc/TGID/cgroup` tells them. Out: a
//! [`Reading`] of cumulative counts; what the host or the group does not have is `None`, never 0. Roots are
//! parameters, and files are read up to a limit.

mod mounts;
mod parse;
mod watch;

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

pub use self::mounts::Mounts;
pub use self::parse::Pressure;
pub use self::watch::{Groups, Watch};

/// Longest file: `memory.stat` of v2 has some 3 KiB, with numbers as long as they get.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The folders of one group; of v1, one a controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Group {
    v2: Option<PathBuf>,
    cpu: Option<PathBuf>,
    memory: Option<PathBuf>,
}

/// What was counted since the group was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    pub cpu: Option<Cpu>,
    pub memory: Option<Memory>,
    /// Time in which tasks of the group waited for a processor, for memory, for a disk. v2 only.
    pub pressure: Pressures,
}

/// `cpu.stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Periods in which the group ran, where it has a quota.
    pub periods: u64,
    /// Those of them in which it used its quota up.
    pub throttled_periods: u64,
    /// Time for which its run queues were stopped, summed over processors.
    pub throttled: Duration,
}

/// `memory.stat`, `memory.events` and the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub current_bytes: Option<u64>,
    /// `None` without a limit.
    pub limit_bytes: Option<u64>,
    /// Times that a task was held up for being over `memory.high`. v2 only.
    pub high_events: Option<u64>,
    /// Times that the limit was reached.
    pub max_events: Option<u64>,
    pub oom_kills: Option<u64>,
    pub major_faults: Option<u64>,
}

/// By what was waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressures {
    pub cpu: Option<Pressure>,
    pub memory: Option<Pressure>,
    pub io: Option<Pressure>,
}

impl Group {
    /// From (controllers, path) of each hierarchy. A path that leads out of the mounted tree has no folder.
    pub fn of(mounts: &Mounts, groups: impl Iterator<Item = (Vec<String>, String)>) -> Self {
        let mut group = Self::default();
        for (controllers, path) in groups {
            if controllers.is_empty() {
                group.v2 = mounts.v2_folder(&path);
                continue;
            }
            for controller in &controllers {
                let folder = || mounts.v1_folder(controller, &path);
                match controller.as_str() {
                    "cpu" => group.cpu = folder(),
                    "memory" => group.memory = folder(),
                    _ => {}
                }
            }
        }
        group
    }

    /// Reads all of it; a file that is not there is no error.
    ///
    /// # Errors
    /// A file cannot be read, or says what no kernel says.
    pub fn read(&self) -> Result<Reading> {
        let v2 = self.v2.as_deref();
        let cpu = match self.cpu.as_deref() {
            Some(folder) => read(folder, "cpu.stat", parse::cpu_v1)?.flatten(),
            None => read_some(v2, "cpu.stat", parse::cpu_v2)?.flatten(),
        };
        let memory = match self.memory.as_deref() {
            Some(folder) => read_memory_v1(folder)?,
            None => v2.map(read_memory_v2).transpose()?.flatten(),
        };
        let pressure = Pressures {
            cpu: read_some(v2, "cpu.pressure", parse::pressure)?,
            memory: read_some(v2, "memory.pressure", parse::pressure)?,
            io: read_some(v2, "io.pressure", parse::pressure)?,
        };
        Ok(Reading { cpu, memory, pressure })
    }
}

/// Pressure of the whole node, from `/proc/pressure` below `proc`.
///
/// # Errors
/// A file cannot be read, or says what no kernel says.
pub fn node_pressure(proc: &Path) -> Result<Pressures> {
    let folder = proc.join("pressure");
    Ok(Pressures {
        cpu: read(&folder, "cpu", parse::pressure)?,
        memory: read(&folder, "memory", parse::pressure)?,
        io: read(&folder, "io", parse::pressure)?,
    })
}

fn read_memory_v2(folder: &Path) -> Result<Option<Memory>> {
    let Some(stat) = read(folder, "memory.stat", parse::pairs)? else { return Ok(None) };
    let events = read(folder, "memory.events", parse::pairs)?.unwrap_or_default();
    Ok(Some(Memory {
        current_bytes: read(folder, "memory.current", parse::number)?,
        limit_bytes: read(folder, "memory.max", parse::limit)?.flatten(),
        high_events: events.get("high").copied(),
        max_events: events.get("max").copied(),
        oom_kills: events.get("oom_kill").copied(),
        major_faults: stat.get("pgmajfault").copied(),
    }))
}

fn read_memory_v1(folder: &Path) -> Result<Option<Memory>> {
    let Some(stat) = read(folder, "memory.stat", parse::pairs)? else { return Ok(None) };
    let oom = read(folder, "memory.oom_control", parse::pairs)?.unwrap_or_default();
    let limit = stat.get("hierarchical_memory_limit").copied();
    Ok(Some(Memory {
        current_bytes: read(folder, "memory.usage_in_bytes", parse::number)?,
        limit_bytes: limit.filter(|&limit| limit < parse::V1_UNLIMITED),
        high_events: None,
        max_events: read(folder, "memory.failcnt", parse::number)?,
        oom_kills: oom.get("oom_kill").copied(),
        major_faults: stat.get("total_pgmajfault").copied(),
    }))
}

fn read_some<T>(
    folder: Option<&Path>,
    name: &str,
    parse: impl FnOnce(&str) -> Result<T>,
) -> Result<Option<T>> {
    folder.map_or(Ok(None), |folder| read(folder, name, parse))
}

/// `None` where there is no such file, also where the group has gone meanwhile, or this kernel does not count it.
fn read<T>(folder: &Path, name: &str, parse: impl FnOnce(&str) -> Result<T>) -> Result<Option<T>> {
    let path = folder.join(name);
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => parse(&text).map(Some).with_context(|| format!("read {}", path.display())),
        // Pressure that is switched off at boot opens and does not read (EOPNOTSUPP).
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

#[cfg(test)]
mod tests;
