//! What kernel programs ran in a stretch of work, by the kernel's own run-time statistics.
//!
//! In: names of programs, and the work. Out: a [`Window`] for each, the median of rounds.

use std::time::Duration;

use anyhow::{Context as _, Result};
use inferscope::probe::statistics::{self, Sampling};

/// A median of so many: an interrupt that falls into a run counts as the program's.
const ROUNDS: usize = 5;

/// Runs and time of one program in a window.
#[derive(Clone, Copy, Default)]
pub(super) struct Window {
    pub(super) runs: u64,
    pub(super) time: Duration,
}

impl Window {
    /// One run, with what the statistics themselves take.
    pub(super) fn ns(self) -> f64 {
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
fn window(names: &[&str], work: &mut impl FnMut() -> Result<()>) -> Result<Vec<Window>> {
    let before = totals(names);
    work()?;
    let after = totals(names).into_iter().zip(before);
    Ok(after.map(|(now, then)| Window { runs: now.runs - then.runs, time: now.time - then.time }).collect())
}

/// The round with the median time of the first program.
pub(super) fn median(names: &[&str], mut work: impl FnMut() -> Result<()>) -> Result<Vec<Window>> {
    let _sampling = Sampling::start().context("turn on run-time statistics (CAP_SYS_ADMIN)")?;
    let mut rounds = (0..ROUNDS).map(|_| window(names, &mut work)).collect::<Result<Vec<_>>>()?;
    rounds.sort_by(|one, other| one[0].ns().total_cmp(&other[0].ns()));
    Ok(rounds.swap_remove(ROUNDS / 2))
}
