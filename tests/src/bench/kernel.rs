//! Nanoseconds of each kernel program in each situation, by the kernel's own run-time statistics.
//!
//! In: a scene. Out: rows, each the median of rounds, less an empty program. In every situation bytes go
//! one way, and one end is watched: the programs of the other end and direction show the unwatched cost.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use inferscope::probe::baseline::{Baseline, PROGRAM};
use inferscope::probe::statistics::{self, Sampling};

use super::report::{Figure, KernelRow, ProgramRow};
use super::scene::Scene;
use super::server::{Direction, Order};
use super::traffic;

/// A median of so many: an interrupt that falls into a run counts as the program's.
const ROUNDS: usize = 5;
const CALLS: u32 = 20_000;
const EXECS: usize = 200;

const READ: &str = "socket_read";
const WRITE: &str = "socket_write";
const SEND: &str = "socket_send";
const ARRIVE: &str = "socket_arrive";

/// Budgets of DESIGN, nanoseconds of one call, all its programs together.
const UNWATCHED_NS: f64 = 50.0;
const SMALL_NS: f64 = 500.0;
const LARGE_NS: f64 = 1000.0;

/// A situation: what passes, the program of the call, and the one that runs beside it.
struct Situation {
    name: &'static str,
    /// `None`: both ends are unwatched.
    direction: Option<Direction>,
    bytes: usize,
    programs: [&'static str; 2],
    budget_ns: f64,
}

const fn situation(
    name: &'static str,
    direction: Option<Direction>,
    bytes: usize,
    budget_ns: f64,
) -> Situation {
    let reads = matches!(direction, Some(Direction::Read | Direction::OutRead));
    let programs = if reads { [READ, ARRIVE] } else { [WRITE, SEND] };
    Situation { name, direction, bytes, programs, budget_ns }
}

const SITUATIONS: [Situation; 9] = [
    situation("unwatched process, write", None, 256, UNWATCHED_NS),
    Situation { programs: [READ, ARRIVE], ..situation("unwatched process, read", None, 256, UNWATCHED_NS) },
    situation("watched, not HTTP, write", Some(Direction::OutWrite), 256, SMALL_NS),
    situation("watched, not HTTP, read", Some(Direction::OutRead), 256, SMALL_NS),
    situation("watched HTTP, write 256 B", Some(Direction::Write), 256, SMALL_NS),
    situation("watched HTTP, read 256 B", Some(Direction::Read), 256, SMALL_NS),
    situation("watched HTTP, write 4 KiB", Some(Direction::Write), 4096, LARGE_NS),
    situation("watched HTTP, read 4 KiB", Some(Direction::Read), 4096, LARGE_NS),
    situation("watched HTTP, write 48 pieces", Some(Direction::WritePieces), 4080, LARGE_NS),
];

/// Runs and time of one program in a window.
#[derive(Clone, Copy, Default)]
struct Window {
    runs: u64,
    time: Duration,
}

impl Window {
    fn ns(self) -> f64 {
        self.time.as_secs_f64() * 1e9 / self.runs.max(1) as f64
    }
}

fn totals(names: &[&str]) -> Vec<Window> {
    let loaded = statistics::loaded();
    let total = |name: &&str| {
        let mut sum = Window::default();
        for one in loaded.iter().filter(|one| one.program == *name) {
            sum.runs += one.runs;
            sum.time += one.run_time;
        }
        sum
    };
    names.iter().map(total).collect()
}

/// What the programs ran while `work` did.
fn window(names: &[&str], work: impl Fn() -> Result<()>) -> Result<Vec<Window>> {
    let before = totals(names);
    work()?;
    let after = totals(names).into_iter().zip(before);
    Ok(after.map(|(now, then)| Window { runs: now.runs - then.runs, time: now.time - then.time }).collect())
}

/// The round with the median time of the first program.
fn median(names: &[&str], work: impl Fn() -> Result<()>) -> Result<Vec<Window>> {
    let _sampling = Sampling::start().context("turn on run-time statistics (CAP_SYS_ADMIN)")?;
    let mut rounds = (0..ROUNDS).map(|_| window(names, &work)).collect::<Result<Vec<_>>>()?;
    rounds.sort_by(|one, other| one[0].ns().total_cmp(&other[0].ns()));
    Ok(rounds.swap_remove(ROUNDS / 2))
}

/// A run of the empty program, which is what the statistics themselves take.
pub(super) fn empty_ns() -> Result<f64> {
    let _baseline = Baseline::attach()?;
    Ok(median(&[PROGRAM], || traffic::perform_unwatched(2 * CALLS, 64))?[0].ns())
}

/// Every situation.
pub(super) fn rows(scene: &Scene, empty_ns: f64) -> Result<Vec<KernelRow>> {
    SITUATIONS.iter().map(|one| row(scene, one, empty_ns)).collect()
}

fn row(scene: &Scene, situation: &Situation, empty_ns: f64) -> Result<KernelRow> {
    let Situation { name, bytes, programs, budget_ns, .. } = *situation;
    let windows = median(&programs, || match situation.direction {
        Some(direction) => traffic::perform(scene.server, Order { direction, calls: CALLS, bytes, port: 0 }),
        None => traffic::perform_unwatched(CALLS, bytes),
    })?;
    let [call, beside] = windows[..] else { unreachable!("a window for each of two programs") };
    let (own_ns, beside_ns) = (call.ns() - empty_ns, (beside.ns() - empty_ns).max(0.0));
    let beside_per_call = if call.runs == 0 { 0.0 } else { beside.runs as f64 / call.runs as f64 };
    let net_ns = own_ns + beside_ns * beside_per_call;
    Ok(KernelRow {
        situation: name,
        program: programs[0],
        runs: call.runs,
        gross_ns: call.ns(),
        own_ns,
        beside: programs[1],
        beside_ns: beside_ns * beside_per_call,
        net_ns,
        budget_ns,
        ratio: net_ns / budget_ns,
    })
}

/// What the verifier had to walk for each of the agent's programs, and the average over the whole bench.
pub(super) fn programs(empty_ns: f64) -> Vec<ProgramRow> {
    let ours: Vec<&str> = inferscope::probe::plan::programs().iter().map(|program| program.name).collect();
    let loaded = statistics::loaded().into_iter().filter(|one| ours.contains(&one.program.as_str()));
    let rows = loaded.map(|one| ProgramRow {
        mean_net_ns: Window { runs: one.runs, time: one.run_time }.ns() - empty_ns,
        program: one.program,
        runs: one.runs,
        recursion_misses: one.recursion_misses,
        verified_instructions: one.verified_instructions,
    });
    rows.collect()
}

/// What the start of any program on the node costs it.
pub(super) fn exec_figure(empty_ns: f64) -> Result<Figure> {
    let windows = median(&["process_exec"], || {
        for _ in 0..EXECS {
            Command::new("true").status().context("run `true`")?;
        }
        Ok(())
    })?;
    Ok(Figure::new("start of any program, kernel time", windows[0].ns() - empty_ns, "ns"))
}
