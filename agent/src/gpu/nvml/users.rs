//! Which processes have memory on a GPU or a part of it, and how much they compute.
//!
//! In: the lists of the driver. Out: users, each once. Process numbers are translated by newer drivers into the caller's
//! namespace, in the list of processes but not in the samples: where the agent is in the host's, both agree.

use std::collections::BTreeMap;

use nvml_wrapper::Device;
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;

use super::ask::Asker;
use crate::gpu::source::{Failure, User};

/// Users of one GPU that are told of, at most.
const USERS_MAX: usize = 1024;

/// How much each process computes: the newest samples.
#[derive(Default)]
pub(super) struct Samples {
    /// Of the newest sample, microseconds.
    seen: u64,
}

/// Bytes by process; `None` where nobody tells.
pub(super) type Bytes = BTreeMap<u32, Option<u64>>;

/// Those of one GPU. `None`: nobody may know.
///
/// # Errors
/// The GPU or the library is gone.
pub(super) fn of_gpu(asker: &mut Asker) -> Result<Option<Bytes>, Failure> {
    let compute = asker.ask("compute processes", |gpu| gpu.running_compute_processes())?;
    let graphics = asker.ask("graphics processes", |gpu| gpu.running_graphics_processes())?;
    Ok(compute.map(|compute| joined(compute.into_iter().chain(graphics.unwrap_or_default()))))
}

/// Those of a part of a GPU.
///
/// # Errors
/// The library's.
pub(super) fn of_part(part: &Device<'_>) -> Result<Bytes, NvmlError> {
    part.running_compute_processes().map(|processes| joined(processes.into_iter()))
}

/// A process that computes and draws is in both lists, with the same memory: counted once.
fn joined(processes: impl Iterator<Item = ProcessInfo>) -> Bytes {
    let mut users: Bytes = BTreeMap::new();
    for process in processes {
        let bytes = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        };
        if users.len() < USERS_MAX || users.contains_key(&process.pid) {
            let user = users.entry(process.pid).or_default();
            *user = (*user).max(bytes);
        }
    }
    users
}

pub(super) fn users(bytes: Bytes) -> Vec<User> {
    let user = |(tgid, memory_bytes)| User { tgid, memory_bytes, sm_percent: None };
    bytes.into_iter().map(user).collect()
}

impl Samples {
    /// Notes for each user how much it computes. A process that does not is in no sample.
    ///
    /// # Errors
    /// The GPU or the library is gone.
    pub(super) fn note(&mut self, asker: &mut Asker, users: &mut [User]) -> Result<(), Failure> {
        if users.is_empty() {
            return Ok(());
        }
        let seen = self.seen;
        let samples =
            asker.ask("process utilization", |device| match device.process_utilization_stats(seen) {
                Err(NvmlError::NotFound) => Ok(Vec::new()),
                other => other,
            })?;
        let Some(samples) = samples else { return Ok(()) };
        let mut newest: BTreeMap<u32, (u64, u32)> = BTreeMap::new();
        for sample in samples.into_iter().filter(|sample| sample.timestamp > seen) {
            let known = newest.entry(sample.pid).or_default();
            *known = (*known).max((sample.timestamp, sample.sm_util));
            self.seen = self.seen.max(sample.timestamp);
        }
        for user in users {
            user.sm_percent = Some(newest.get(&user.tgid).map_or(0, |&(_at, percent)| percent));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_two_lists_is_one_user() {
        let process = |pid, used_gpu_memory| ProcessInfo {
            pid,
            used_gpu_memory,
            gpu_instance_id: None,
            compute_instance_id: None,
        };
        let all = [
            process(7, UsedGpuMemory::Used(100)),
            process(8, UsedGpuMemory::Unavailable),
            process(7, UsedGpuMemory::Used(120)),
        ];
        let found = users(joined(all.into_iter()));
        let found: Vec<_> = found.iter().map(|user| (user.tgid, user.memory_bytes)).collect();
        assert_eq!(found, [(7, Some(120)), (8, None)]);
    }

    #[test]
    fn users_are_bounded() {
        let process = |pid| ProcessInfo {
            pid,
            used_gpu_memory: UsedGpuMemory::Used(1),
            gpu_instance_id: None,
            compute_instance_id: None,
        };
        assert_eq!(joined((0..2000).map(process)).len(), USERS_MAX);
    }
}
