//! What it takes to read a large node: eight simulated GPUs, through the real wrapper.
//!
//! In: nothing; the threads of the watch run in this process. Out: figures beside their budgets. The simulated library
//! is a part of them, which is measured apart: a driver's takes other time.

use std::fs;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use inferscope::gpu::Gpus;
use inferscope::gpu::nvml::{Nvml, Places};
use inferscope::gpu::watch::{Times, Watch};
use nvml_sim::Installed;
use rustix::time::{ClockId, clock_gettime};

use super::process::share_percent;
use super::report::Figure;

const PRESET: &str = "eight";
const GPUS: usize = 8;
/// What is asked seldom is asked every five seconds.
const MEASURED: Duration = Duration::from_secs(20);
/// As the pipeline takes news.
const TICK: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Readings at one interval.
struct Pace {
    interval: Duration,
    /// Budget of the threads, in percent of a core.
    percent: f64,
    names: Names,
}

struct Names {
    threads: &'static str,
    library: &'static str,
    readers: &'static str,
    others: &'static str,
    wakes: &'static str,
    taken: &'static str,
    calls: &'static str,
}

const PACES: [Pace; 2] = [
    Pace {
        interval: Duration::from_secs(1),
        percent: 0.2,
        names: Names {
            threads: "8 GPUs, 1 reading/s: threads, of a core",
            library: "  the simulated library in them",
            readers: "  threads that read",
            others: "  threads that wait for faults and watch",
            wakes: "  these wake",
            taken: "  the pipeline takes the readings, of a core",
            calls: "  calls of the library a reading",
        },
    },
    Pace {
        interval: Duration::from_millis(100),
        percent: 1.5,
        names: Names {
            threads: "8 GPUs, 10 readings/s: threads, of a core",
            library: "  the simulated library in them, at 10/s",
            readers: "  threads that read, at 10/s",
            others: "  threads that wait and watch, at 10/s",
            wakes: "  these wake, at 10/s",
            taken: "  the pipeline takes the readings, at 10/s",
            calls: "  calls of the library a reading, at 10/s",
        },
    },
];

pub(super) fn figures() -> Result<Vec<Figure>> {
    let measured: Result<Vec<_>> = PACES.iter().map(figures_at).collect();
    Ok(measured?.into_iter().flatten().collect())
}

fn figures_at(Pace { interval, percent, names }: &Pace) -> Result<Vec<Figure>> {
    let mut node = Node::start(*interval)?;
    let plain = node.window()?;
    // Apart, since to meter takes time, too.
    let begun = node.installed.spent()?;
    let metered = node.window()?;
    let ended = node.installed.spent()?;
    let calls = ended.calls - begun.calls;
    let library = Duration::from_nanos(ended.ns - begun.ns);
    let share = |time: Duration| share_percent(time, plain.wall);
    Ok(vec![
        Figure::new(names.threads, share(plain.readers.ran + plain.others.ran), "%").within(*percent),
        Figure::new(names.library, share_percent(library, metered.wall), "%"),
        Figure::new(names.readers, share(plain.readers.ran), "%"),
        Figure::new(names.others, share(plain.others.ran), "%"),
        Figure::new(names.wakes, plain.others.waits as f64 / plain.wall.as_secs_f64(), "/s"),
        Figure::new(names.taken, share(plain.taken), "%"),
        Figure::new(names.calls, calls as f64 / metered.readings(*interval), ""),
    ])
}

/// GPUs that are read. Fields are dropped in this order: the folder last.
struct Node {
    watch: Watch,
    gpus: Gpus,
    installed: Installed,
    _folder: tempfile::TempDir,
}

/// What was measured for a while.
struct Window {
    wall: Duration,
    readers: Threads,
    others: Threads,
    /// To take the news of all of them.
    taken: Duration,
}

/// What some threads did.
#[derive(Clone, Copy, Default)]
struct Threads {
    ran: Duration,
    /// How often they went to sleep by themselves, and so woke.
    waits: u64,
}

impl Node {
    /// Reads once, so that what is asked first of all is not measured.
    fn start(interval: Duration) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for the simulated library")?;
        let scenario = nvml_sim::preset::text(PRESET).context("find the scenario of eight GPUs")?;
        let installed = nvml_sim::install(folder.path(), scenario)?;
        let places = Places { configured: Some(installed.library.clone()), loader: false, roots: Vec::new() };
        let (watch, news) = Watch::start(Arc::new(Nvml::new(places)), Times::of(interval))?;
        let mut node = Self { watch, gpus: Gpus::default(), installed, _folder: folder };
        node.gpus.hear(news);
        let begun = Instant::now();
        while node.answer() < GPUS {
            ensure!(begun.elapsed() < ANSWER_WITHIN, "{} of {GPUS} simulated GPUs answer", node.answer());
            sleep(Duration::from_millis(20));
            node.gpus.take();
        }
        Ok(node)
    }

    fn answer(&self) -> usize {
        self.gpus.cards().filter(|card| card.reading.is_some()).count()
    }

    fn window(&mut self) -> Result<Window> {
        let (begun, mut taken) = (Instant::now(), Duration::ZERO);
        let before = read_threads()?;
        while begun.elapsed() < MEASURED {
            sleep(TICK.min(MEASURED.saturating_sub(begun.elapsed())));
            let ran = own_time();
            self.gpus.take();
            taken += own_time().saturating_sub(ran);
        }
        let (after, wall) = (read_threads()?, begun.elapsed());
        ensure!(self.answer() == GPUS && self.watch.lost() == 0, "readings of simulated GPUs were lost");
        let [readers, others] = [0, 1].map(|group| after[group].since(before[group]));
        Ok(Window { wall, readers, others, taken })
    }
}

impl Window {
    /// How many there are in such a time.
    fn readings(&self, interval: Duration) -> f64 {
        GPUS as f64 * self.wall.as_secs_f64() / interval.as_secs_f64()
    }
}

impl Threads {
    fn since(self, before: Self) -> Self {
        Self { ran: self.ran.saturating_sub(before.ran), waits: self.waits.saturating_sub(before.waits) }
    }
}

/// Of this thread, on a processor.
fn own_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// The threads of this process that read GPUs, and the others that have to do with them.
fn read_threads() -> Result<[Threads; 2]> {
    let mut groups = [Threads::default(); 2];
    for entry in fs::read_dir("/proc/self/task").context("list threads")? {
        let thread = entry?.path();
        let read = |name: &str| fs::read_to_string(thread.join(name));
        // Another's may end meanwhile.
        let (Ok(name), Ok(schedstat), Ok(status)) = (read("comm"), read("schedstat"), read("status")) else {
            continue;
        };
        let Some(rest) = name.trim_end().strip_prefix("gpu") else { continue };
        let reads = rest.strip_prefix('-').is_some_and(|index| index.parse::<u32>().is_ok());
        let group = &mut groups[usize::from(!reads)];
        let ran = schedstat.split(' ').next().and_then(|first| first.parse().ok());
        group.ran += Duration::from_nanos(ran.context("read a thread's time")?);
        let waits = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        group.waits +=
            waits.and_then(|waits| waits.trim().parse::<u64>().ok()).context("read a thread's waits")?;
    }
    Ok(groups)
}
