//! What a process costs, as the kernel accounts it.
//!
//! In: its number. Out: processor time, memory, and the kernel memory behind its descriptors.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Processor time of all its threads so far, user and system, to the nanosecond: `stat` counts in ticks,
/// of which an idle agent takes a few. A thread that has ended counts no more.
pub(crate) fn cpu_time(tgid: u32) -> Result<Duration> {
    let mut ns = 0;
    for entry in fs::read_dir(format!("/proc/{tgid}/task")).context("list threads")? {
        // It may end between the list and the look at it.
        let Ok(text) = fs::read_to_string(entry?.path().join("schedstat")) else { continue };
        ns += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(ns))
}

/// What it took since its time was `before`; what threads had that have ended since is not in it.
pub(crate) fn cpu_time_since(tgid: u32, before: Duration) -> Result<Duration> {
    Ok(cpu_time(tgid)?.saturating_sub(before))
}

/// Of one core.
pub(super) fn share_percent(cpu: Duration, wall: Duration) -> f64 {
    100.0 * cpu.as_secs_f64() / wall.as_secs_f64()
}

/// A line of `status`, in bytes.
///
/// # Errors
///
/// Where the process is gone, or has no such line.
pub fn memory_bytes(tgid: u32, line: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{tgid}/status")).context("read a process's memory")?;
    let value = text.lines().find_map(|one| one.strip_prefix(line)?.strip_prefix(':'));
    let kib: u64 = value
        .and_then(|value| value.trim().strip_suffix(" kB"))
        .with_context(|| format!("process {tgid} has no {line}"))?
        .parse()?;
    Ok(kib * 1024)
}

/// Kernel programs that a process holds.
pub(super) fn program_count(tgid: u32) -> Result<usize> {
    Ok(held(Path::new(&format!("/proc/{tgid}/fdinfo")))?.programs.len())
}

/// Kernel memory of the maps and of the programs that a process holds, in bytes.
///
/// # Errors
///
/// Where it is gone.
pub fn kernel_bytes(tgid: u32) -> Result<(u64, u64)> {
    kernel_bytes_of(Path::new(&format!("/proc/{tgid}/fdinfo")))
}

fn kernel_bytes_of(folder: &Path) -> Result<(u64, u64)> {
    let held = held(folder)?;
    Ok((held.maps.values().sum(), held.programs.values().sum()))
}

/// Kernel memory by number: several descriptors may be of one map.
#[derive(Default)]
struct Held {
    maps: BTreeMap<u64, u64>,
    programs: BTreeMap<u64, u64>,
}

fn held(folder: &Path) -> Result<Held> {
    let mut held = Held::default();
    for entry in fs::read_dir(folder).context("list descriptors")? {
        // A descriptor may be closed meanwhile.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let number = |name: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
        };
        let Some(bytes) = number("memlock:") else { continue };
        if let Some(id) = number("map_id:") {
            held.maps.insert(id, bytes);
        } else if let Some(id) = number("prog_id:") {
            held.programs.insert(id, bytes);
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_process_takes_time_and_memory() {
        // Of one thread: those of this process come and go with other tests.
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let (began, before) = (Instant::now(), cpu_time(child.id()).unwrap());
        let now = || (cpu_time(child.id()).unwrap(), memory_bytes(child.id(), "VmRSS").unwrap());
        // It takes time before it is the shell, too, and has next to no memory then.
        let (mut after, mut memory) = now();
        while (after == before || memory <= 100_000) && began.elapsed() < Duration::from_secs(60) {
            (after, memory) = now();
        }
        let nothing = memory_bytes(child.id(), "VmNothing");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(after > before, "{before:?}, then {after:?}");
        assert!(memory > 100_000 && nothing.is_err(), "{memory}, {nothing:?}");
        assert!(cpu_time(child.id()).is_err(), "it is gone");
    }

    #[test]
    fn a_map_with_two_descriptors_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        for (fd, text) in [
            ("3", "pos:\t0\nmap_type:\t2\nmemlock:\t4096\nmap_id:\t7\n"),
            ("4", "pos:\t0\nmap_type:\t2\nmemlock:\t4096\nmap_id:\t7\n"),
            ("5", "prog_type:\t26\nmemlock:\t8192\nprog_id:\t7\n"),
            ("6", "link_type:\ttracing\nprog_id:\t7\n"),
            ("7", "pos:\t0\nflags:\t02\n"),
        ] {
            fs::write(folder.path().join(fd), text).unwrap();
        }
        assert_eq!(kernel_bytes_of(folder.path()).unwrap(), (4096, 8192));
    }
}
