//! Reads the groups of the followed servers once a second, beside the pipeline: a read waits where the kernel brings
//! its counts together, and nothing else must wait with it.
//!
//! In: each server's first process. Out: the newest reading of each, as long as its server is followed.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result};
use procfs::{FromRead as _, ProcessCGroups};

use super::{Group, Mounts, Reading};

/// Pace of the reader.
const READ_EVERY: Duration = Duration::from_secs(1);

/// The reader, as the pipeline has it. It ends soon after this is dropped.
#[derive(Debug)]
pub struct Watch {
    desk: Arc<Mutex<Desk>>,
    proc: PathBuf,
}

#[derive(Debug, Default)]
struct Desk {
    servers: Vec<(Arc<str>, u32)>,
    groups: Groups,
}

/// What was read last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Groups {
    /// By the label of their workload.
    pub readings: HashMap<Arc<str>, Reading>,
    /// Why not all could be read.
    pub failure: Option<String>,
}

impl Watch {
    /// A reader of the groups that processes are in by the process folder `proc`, not yet started.
    #[must_use]
    pub fn new(proc: PathBuf) -> Self {
        Self { desk: Arc::default(), proc }
    }

    /// Starts it: a thread, so only once rights were given up.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(&self) -> Result<()> {
        let (shared, proc) = (Arc::downgrade(&self.desk), self.proc.clone());
        let thread = std::thread::Builder::new().name("cgroups".to_owned());
        thread.spawn(move || run(&shared, &proc)).context("start the reader of control groups")?;
        Ok(())
    }

    /// From now on these servers, each by its label and first process.
    pub fn follow(&self, servers: Vec<(Arc<str>, u32)>) {
        self.lock().servers = servers;
    }

    /// The newest reading of each server.
    #[must_use]
    pub fn newest(&self) -> Groups {
        self.lock().groups.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(shared: &Weak<Mutex<Desk>>, proc: &std::path::Path) {
    // A process may be moved, and mounts come and go: both are read each time.
    loop {
        let Some(desk) = shared.upgrade() else { return };
        let servers = desk.lock().unwrap_or_else(PoisonError::into_inner).servers.clone();
        drop(desk);
        let read = read_all(proc, &servers);
        let Some(desk) = shared.upgrade() else { return };
        let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(groups) => desk.groups = groups,
            Err(error) => desk.groups.failure = Some(format!("{error:#}")),
        }
        drop(desk);
        std::thread::sleep(READ_EVERY);
    }
}

fn read_all(proc: &std::path::Path, servers: &[(Arc<str>, u32)]) -> Result<Groups> {
    let mut round = Groups::default();
    if servers.is_empty() {
        return Ok(round);
    }
    let mounts = Mounts::read(proc)?;
    for (label, leader) in servers {
        // It may have ended meanwhile.
        let Ok(file) = File::open(proc.join(leader.to_string()).join("cgroup")) else { continue };
        let Ok(groups) = ProcessCGroups::from_read(file) else { continue };
        let group = Group::of(&mounts, groups.into_iter().map(|group| (group.controllers, group.pathname)));
        match group.read() {
            Ok(reading) => drop(round.readings.insert(label.clone(), reading)),
            Err(error) => round.failure = Some(format!("{error:#}")),
        }
    }
    Ok(round)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;

    #[test]
    fn groups_are_read_as_long_as_their_servers_are_followed() {
        let root = tempfile::tempdir().unwrap();
        let (proc, tree) = (root.path().join("proc"), root.path().join("tree/a"));
        fs::create_dir_all(proc.join("self")).unwrap();
        fs::create_dir_all(proc.join("7")).unwrap();
        fs::create_dir_all(&tree).unwrap();
        let mount = format!("1 2 0:9 / {} rw - cgroup2 cgroup rw\n", root.path().join("tree").display());
        fs::write(proc.join("self/mountinfo"), mount).unwrap();
        fs::write(proc.join("7/cgroup"), "0::/a\n").unwrap();
        fs::write(tree.join("cpu.stat"), "nr_periods 9\nnr_throttled 3\nthrottled_usec 40\n").unwrap();

        let watch = Watch::new(proc);
        watch.start().unwrap();
        let until = |what: &str, met: &dyn Fn(&Watch) -> bool| {
            let began = Instant::now();
            while !met(&watch) {
                assert!(began.elapsed() < Duration::from_secs(30), "{what}");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        // The second one is none that runs.
        watch.follow(vec![("w".into(), 7), ("gone".into(), 8)]);
        until("a reading", &|watch| {
            watch.newest().readings.get("w").is_some_and(|reading| reading.cpu.is_some())
        });
        assert_eq!((watch.newest().readings.len(), watch.newest().failure), (1, None));
        fs::write(tree.join("cpu.stat"), "nr_periods 9\nnr_throttled many\n").unwrap();
        until("a reason", &|watch| watch.newest().failure.is_some_and(|reason| reason.contains("cpu.stat")));
        watch.follow(Vec::new());
        until("no reading", &|watch| watch.newest() == Groups::default());
    }
}
