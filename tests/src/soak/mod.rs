//! A long run of mixed traffic, with servers that come and go and an agent that reads its settings anew: does
//! anything grow, fall back, or go missing?
//!
//! In: the agent's binary, root rights, a node without another agent, a seed. Out: a [`Report`] with its verdict.
//! Each phase is judged by itself, request by request; what the agent takes is judged over the whole run.

mod parts;
mod phase;
mod report;
mod scene;
mod trend;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use fastrand::Rng;

pub use report::{Check, OutcomeRow, PhaseRow, Report};
pub use trend::Trend;

use phase::Kind;
use scene::Scene;
use watch::Watch;

/// Pace of the line that says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// An agent that was asked to end does so in this time.
const END_MAX: Duration = Duration::from_secs(2);

/// What is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of the agent's binary and of the demonstration server's.
    pub programs: PathBuf,
    pub time: Duration,
    pub seed: u64,
}

/// Runs phase after phase until the time is over, a fault makes going on pointless, or `stop` is set.
///
/// # Errors
///
/// Where this user is not root, or the run cannot begin.
pub fn run(options: &Options, stop: &Arc<AtomicBool>) -> Result<Report> {
    if !rustix::process::geteuid().is_root() {
        bail!("kernel programs need root");
    }
    let folder = tempfile::tempdir().context("make a folder for logs")?;
    let mut rng = Rng::with_seed(options.seed);
    let mut scene = Scene::start(&options.programs, folder.path(), rng.fork())?;
    let watch = Watch::start(scene.agent.listen, scene.agent.tgid());
    let mut report = Report { seed: options.seed, ..Report::default() };
    let began = Instant::now();
    let mut told = began;
    let mut kinds = Vec::new();
    while began.elapsed() < options.time && !stop.load(Ordering::Relaxed) {
        if kinds.is_empty() {
            kinds = Kind::ALL.to_vec();
            rng.shuffle(&mut kinds);
        }
        let kind = kinds.pop().unwrap_or(Kind::Idle);
        let left = options.time.saturating_sub(began.elapsed());
        let goes_on = report.add(scene.play(kind, left));
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            eprintln!("soak: {}", report.progress(began.elapsed(), &watch));
        }
        if !goes_on {
            break;
        }
    }
    report.seconds = began.elapsed().as_secs_f64();
    report.cut_short = report.seconds < options.time.as_secs_f64();
    conclude(scene, watch, &mut report);
    Ok(report)
}

/// The end of the agent is part of the run, and so is what the watch saw.
fn conclude(scene: Scene, watch: Watch, report: &mut Report) {
    let seen = watch.stop();
    match scene.agent.leaks() {
        Ok(leaks) => report.check("no prompt, answer or header leaves", &leaks),
        Err(error) => report.check("no prompt, answer or header leaves", &[format!("{error:#}")]),
    }
    let ended = match scene.stop() {
        Ok(took) if took <= END_MAX => Vec::new(),
        Ok(took) => vec![format!("it took {:.1} s", took.as_secs_f64())],
        Err(error) => vec![format!("{error:#}")],
    };
    report.check("agent and servers run to the end, and end when told", &ended);
    report.judge(&seen);
}
