//! The faults: what is done to a server, and what the agent should say of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::blamed::wall;
use super::group::Group;
use super::server::BLOCKS;
use crate::stage::until;

/// A stop lasts so long.
const STOP: Duration = Duration::from_millis(500);
/// From one to the next.
const EVERY: Duration = Duration::from_secs(2);
/// A process that was just started says what it is within this time.
const TITLES: Duration = Duration::from_secs(10);
/// Programs that burn the one processor that the server has left.
const HOGS: usize = 3;
/// Processors that the demonstration server has where there is a quota; the real one needs more than one.
const QUOTA: f64 = 0.12;
const QUOTA_REAL: f64 = 0.8;
/// What a slow disk gives, bytes a second.
const DISK: u64 = 8 << 20;

/// One thing that is done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// Nothing: what is blamed is blamed wrongly
    Clean,
    /// The API process is stopped for half a second, again and again
    StopApi,
    /// The engine's process is
    StopEngine,
    /// The event loop computes for half a second, again and again
    EventLoop,
    /// Others burn the processor that the server has left
    Hogs,
    /// Its control group has a tenth of a processor
    Quota,
    /// Its control group may have little more memory than it uses
    Memory,
    /// Pages that the engine uses are not in memory, and the disk is slow
    MajorFaults,
    /// The engine reads past the page cache, and the disk is slow
    BlockIo,
    /// The client reads slowly
    SlowClient,
    /// A process of the server that serves nobody is stopped
    Bystander,
    /// Others burn the processor, and the engine is stopped again and again
    HogsAndStop,
    /// The worker's process is stopped (real vLLM only, as those that follow)
    StopWorker,
    /// It works on one request at a time, and more come
    Queue,
    /// Its cache holds a fraction of what it took on, so that it gives up work
    Preemption,
    /// A very long prompt comes beside short ones, again and again
    LongPrompt,
}

impl Fault {
    /// All that are done to the demonstration server.
    pub const ALL: [Self; 12] = [
        Self::Clean,
        Self::StopApi,
        Self::StopEngine,
        Self::EventLoop,
        Self::Hogs,
        Self::Quota,
        Self::Memory,
        Self::MajorFaults,
        Self::BlockIo,
        Self::SlowClient,
        Self::Bystander,
        Self::HogsAndStop,
    ];

    /// As a row is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::StopApi => "API stopped",
            Self::StopEngine => "engine stopped",
            Self::EventLoop => "event loop blocked",
            Self::Hogs => "processor hogs",
            Self::Quota => "processor quota",
            Self::Memory => "memory limit",
            Self::MajorFaults => "major faults, slow disk",
            Self::BlockIo => "direct reads, slow disk",
            Self::SlowClient => "slow client",
            Self::Bystander => "bystander stopped",
            Self::HogsAndStop => "hogs, engine stopped",
            Self::StopWorker => "worker stopped",
            Self::Queue => "one at a time",
            Self::Preemption => "tiny cache",
            Self::LongPrompt => "long prompt beside",
        }
    }

    /// The causes that should be first; none where nobody is to be blamed.
    #[must_use]
    pub fn expected(self) -> &'static [&'static str] {
        match self {
            Self::Clean | Self::Bystander => &[],
            Self::StopApi | Self::StopEngine | Self::StopWorker => &["stopped"],
            Self::EventLoop => &["event_loop"],
            Self::Hogs => &["run_queue"],
            Self::Quota => &["cpu_throttle"],
            Self::Memory => &["memory_reclaim"],
            Self::MajorFaults => &["major_fault"],
            Self::BlockIo => &["block_io"],
            Self::SlowClient => &["send_wait"],
            Self::HogsAndStop => &["stopped", "run_queue"],
            Self::Queue => &["queued"],
            Self::Preemption => &["preempted"],
            Self::LongPrompt => &["neighbour"],
        }
    }

    /// What it should be called is no cause of the vector: it is what `rest` was.
    #[must_use]
    pub fn is_work(self) -> bool {
        matches!(self, Self::Queue | Self::Preemption | Self::LongPrompt)
    }

    /// What the engine does at each step, with a file of its own.
    #[must_use]
    pub fn work(self, file: &Path) -> Option<String> {
        match self {
            Self::Memory => Some("memory:24".to_owned()),
            Self::MajorFaults => Some(format!("map:{}", file.display())),
            Self::BlockIo => Some(format!("direct:{}", file.display())),
            _ => None,
        }
    }

    /// It is in the requests that arrive meanwhile: of one that is under way no byte lies at the socket, and how long it is
    /// computed nobody can tell from the work that it should do.
    #[must_use]
    pub fn hits_arrivals_only(self) -> bool {
        self == Self::EventLoop
    }

    /// Something of it goes on outside of the stretches of time that are told: no request beside it is untouched.
    #[must_use]
    pub fn goes_on_between(self) -> bool {
        matches!(self, Self::SlowClient | Self::HogsAndStop)
    }

    /// It needs a large file to do it with.
    #[must_use]
    pub fn needs_file(self) -> bool {
        matches!(self, Self::MajorFaults | Self::BlockIo)
    }

    /// It needs a control group to do it with.
    #[must_use]
    pub fn needs_group(self) -> bool {
        matches!(self, Self::Quota | Self::Memory | Self::MajorFaults | Self::BlockIo)
    }
}

/// The processes that faults are done to.
#[derive(Clone, Debug)]
pub struct Victim {
    pub api: u32,
    pub engine: u32,
    pub helper: u32,
    /// Of a real vLLM.
    pub worker: Option<u32>,
    pub group: Option<Group>,
    /// A large file on a disk.
    pub file: PathBuf,
}

impl Victim {
    /// The processes of the server that runs as `api`, once both others say what they are.
    ///
    /// # Errors
    ///
    /// Where it has no engine or no helper.
    pub fn find(api: u32, group: Option<&Group>, file: &Path) -> Result<Self> {
        until(TITLES, || Self::of(api, group.cloned(), file.to_owned()).ok())
            .map_or_else(|| Self::of(api, group.cloned(), file.to_owned()), Ok)
    }

    fn of(api: u32, group: Option<Group>, file: PathBuf) -> Result<Self> {
        let family = family(api);
        let title = |tgid: &u32| fs::read_to_string(format!("/proc/{tgid}/cmdline")).unwrap_or_default();
        let find = |word: &str| family.iter().copied().find(|tgid| title(tgid).contains(word));
        let engine = find("VLLM::EngineCore").context("the server has no engine")?;
        let helper = find("resource_tracker").context("the server has no helper")?;
        Ok(Self { api, engine, helper, worker: find("VLLM::Worker"), group, file })
    }

    /// Moves all of the server into its group, where it has one.
    ///
    /// # Errors
    ///
    /// Where one of them is gone.
    pub fn enter_group(&self) -> Result<()> {
        let Some(group) = &self.group else { return Ok(()) };
        family(self.api).into_iter().try_for_each(|tgid| group.take(tgid))
    }

    fn tasks(&self) -> Vec<u32> {
        family(self.api).into_iter().flat_map(threads).collect()
    }
}

fn threads(tgid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{tgid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

/// A process and all that it started.
fn family(tgid: u32) -> Vec<u32> {
    let mut family = vec![tgid];
    let mut next = 0;
    while let Some(tgid) = family.get(next).copied() {
        for tid in threads(tgid) {
            let children = fs::read_to_string(format!("/proc/{tgid}/task/{tid}/children"));
            let children = children.unwrap_or_default();
            family.extend(children.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        }
        next += 1;
    }
    family
}

/// Does it to `victim` for so long; the stretches of wall time in which it was so.
///
/// # Errors
///
/// Where it cannot be done here.
pub fn inject(fault: Fault, victim: &Victim, time: Duration) -> Result<Vec<(f64, f64)>> {
    let began = wall();
    let again = |what: &dyn Fn() -> Result<(f64, f64)>| {
        let mut stretches = Vec::new();
        while wall() - began < time.as_secs_f64() {
            stretches.push(what()?);
            sleep(EVERY - STOP);
        }
        Ok(stretches)
    };
    let lasting = |_while: Lasting| {
        sleep(time);
        Ok(vec![(began, wall())])
    };
    match fault {
        Fault::Clean | Fault::SlowClient | Fault::Queue | Fault::Preemption | Fault::LongPrompt => {
            lasting(Lasting::default())
        }
        Fault::StopApi => again(&|| stop(victim.api)),
        Fault::StopEngine => again(&|| stop(victim.engine)),
        Fault::StopWorker => again(&|| stop(victim.worker.context("the server has no worker")?)),
        Fault::Bystander => again(&|| stop(victim.helper)),
        Fault::EventLoop => again(&|| {
            let from = wall();
            send(victim.api, Signal::USR1)?;
            sleep(BLOCKS);
            Ok((from, wall()))
        }),
        Fault::Hogs => lasting(Lasting::hogs(victim)?),
        Fault::HogsAndStop => {
            let hogs = Lasting::hogs(victim)?;
            let stops = again(&|| stop(victim.engine));
            drop(hogs);
            stops
        }
        Fault::Quota => {
            let group = victim.group.as_ref().context("there is no control group")?;
            let quota = if victim.worker.is_some() { QUOTA_REAL } else { QUOTA };
            let limit = group.limit_processor(quota)?;
            let stretches = lasting(Lasting::default());
            limit.lift()?;
            stretches
        }
        Fault::Memory => {
            let group = victim.group.as_ref().context("there is no control group")?;
            let limit = group.limit_memory(&victim.file)?;
            let stretches = lasting(Lasting::default());
            limit.lift()?;
            stretches
        }
        Fault::MajorFaults | Fault::BlockIo => {
            let group = victim.group.as_ref().context("there is no control group")?;
            let limit = group.limit_disk(&victim.file, DISK)?;
            let stretches = lasting(Lasting::default());
            limit.lift()?;
            stretches
        }
    }
}

fn send(tgid: u32, signal: Signal) -> Result<()> {
    let process = Pid::from_raw(tgid.cast_signed()).context("a process number")?;
    kill_process(process, signal).with_context(|| format!("signal process {tgid}"))
}

fn stop(tgid: u32) -> Result<(f64, f64)> {
    let from = wall();
    send(tgid, Signal::STOP)?;
    sleep(STOP);
    send(tgid, Signal::CONT)?;
    Ok((from, wall()))
}

/// What goes on until this is dropped.
#[derive(Default)]
struct Lasting {
    hogs: Vec<Child>,
    pinned: Vec<u32>,
}

impl Lasting {
    /// Server and hogs have one processor.
    fn hogs(victim: &Victim) -> Result<Self> {
        let mut lasting = Self { hogs: Vec::new(), pinned: victim.tasks() };
        let mut first = CpuSet::new();
        first.set(0);
        for tid in &lasting.pinned {
            pin(*tid, &first);
        }
        for _ in 0..HOGS {
            let mut hog = Command::new("sh");
            let hog = hog
                .args(["-c", "while :; do :; done"])
                .stdin(Stdio::null())
                .spawn()
                .context("start a hog")?;
            pin(hog.id(), &first);
            lasting.hogs.push(hog);
        }
        Ok(lasting)
    }
}

/// A thread that has ended meanwhile needs no processor.
fn pin(tid: u32, processors: &CpuSet) {
    let Some(tid) = Pid::from_raw(tid.cast_signed()) else { return };
    let _gone = sched_setaffinity(Some(tid), processors);
}

impl Drop for Lasting {
    fn drop(&mut self) {
        for hog in &mut self.hogs {
            let _ = hog.kill();
            let _ = hog.wait();
        }
        let mut all = CpuSet::new();
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        (0..processors).for_each(|processor| all.set(processor));
        self.pinned.iter().for_each(|tid| pin(*tid, &all));
    }
}
