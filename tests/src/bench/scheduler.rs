//! Nanoseconds of the programs at the scheduler's events, of an unwatched process and of a watched one.
//!
//! In: a scene. Out: figures beside their budgets. Two threads hand a byte to and fro through pipes on one processor:
//! every hand-over wakes one and switches to it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::report::Figure;
use super::runs::median;
use super::scene::Scene;
use super::server::{Direction, Order};
use super::traffic;

const SWITCH: &str = "sched_switch";
const WAKEUP: &str = "sched_wakeup";
/// Bytes handed to and fro in one round.
const TURNS: u32 = 20_000;
/// Budgets of DESIGN, nanoseconds of one event.
const UNWATCHED_NS: f64 = 20.0;
const WATCHED_NS: f64 = 200.0;

/// A switch and a wake-up, unwatched and watched.
pub(super) fn figures(scene: &Scene, empty_ns: f64) -> Result<Vec<Figure>> {
    let order = Order { direction: Direction::Switch, calls: TURNS, bytes: 1, port: 0 };
    const UNWATCHED: [&str; 2] =
        ["a context switch of an unwatched process", "a wake-up of an unwatched process"];
    const WATCHED: [&str; 2] = ["a context switch of a watched process", "a wake-up of a watched process"];
    let mut figures = measure(UNWATCHED, UNWATCHED_NS, empty_ns, || hand_over(TURNS))?;
    figures.extend(measure(WATCHED, WATCHED_NS, empty_ns, || traffic::perform(scene.server, order))?);
    Ok(figures)
}

fn measure(
    names: [&'static str; 2],
    budget_ns: f64,
    empty_ns: f64,
    work: impl FnMut() -> Result<()>,
) -> Result<Vec<Figure>> {
    let windows = median(&[SWITCH, WAKEUP], work)?;
    let named = names.into_iter().zip(windows);
    let run = named.filter(|(_, window)| window.runs >= u64::from(TURNS));
    Ok(run.map(|(name, window)| Figure::new(name, window.ns() - empty_ns, "ns").within(budget_ns)).collect())
}

/// Hands a byte from one thread to another and back, so often.
///
/// # Errors
///
/// Where this machine has no more threads or sockets.
pub(super) fn hand_over(turns: u32) -> Result<()> {
    let (mut here, mut there) = UnixStream::pair().context("make a pair of sockets")?;
    let echo = std::thread::spawn(move || {
        let _pinned = pin();
        let mut byte = [0];
        while there.read(&mut byte).is_ok_and(|read| read == 1) && there.write_all(&byte).is_ok() {}
    });
    let caller = std::thread::spawn(move || {
        let _pinned = pin();
        let mut byte = [0];
        for _ in 0..turns {
            here.write_all(&byte)?;
            here.read_exact(&mut byte)?;
        }
        Ok::<_, std::io::Error>(())
    });
    let called = caller.join();
    ensure!(called.is_ok_and(|called| called.is_ok()) && echo.join().is_ok(), "a thread ended early");
    Ok(())
}

/// This thread to the first processor.
fn pin() -> Result<()> {
    let mut first = CpuSet::new();
    first.set(0);
    sched_setaffinity(None, &first).context("pin a thread")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_goes_to_and_fro() {
        hand_over(100).unwrap();
    }
}
