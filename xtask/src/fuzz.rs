//! `fuzz`: feeds every reader of foreign bytes with what nobody has thought of, under a fuzzing engine.
//!
//! In: the targets of `tests/fuzz`, each with a corpus to begin with. Out: a table; corpora that reach more, made
//! small again, in the working tree to be committed; inputs that broke something, in `BUILD/xtask/fuzz`. The same
//! corpora are replayed without the engine by `cargo xtask test`.
//!
//! The engine is libFuzzer, and the coverage it needs comes from the pinned compiler's own pass: no other toolchain.
//! Memory errors are not looked for: the readers are safe Rust, and an address sanitizer would halve the inputs.

mod corpus;
mod engine;

use crate::place::Place;
use crate::setup::{self, Scope};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use engine::{Engine, Figures};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

#[derive(Args)]
pub struct Options {
    /// The readers to feed; without any, all of them
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Targets at once; without it, one a processor
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Run one target over this input and nothing else
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
}

/// What became of a target.
struct Outcome {
    target: String,
    figures: Figures,
    corpus: corpus::Size,
    /// Inputs that broke something.
    crashes: Vec<PathBuf>,
}

pub fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    let known = corpus::targets(place)?;
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name)) {
        anyhow::bail!("no target is called {unknown}: {}", known.join(", "));
    }
    setup::ensure(place, Scope::Build)?;
    let engine = Engine::build(place)?;
    if let Some(input) = &options.replay {
        ensure!(options.targets.len() == 1, "--replay needs one target");
        return engine.replay(&options.targets[0], input);
    }
    let targets = if options.targets.is_empty() { known } else { options.targets.clone() };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let jobs = options.jobs.unwrap_or(processors).clamp(1, targets.len());
    let time = Duration::from_secs(options.seconds);
    println!("fuzz: {} targets, {} s each, {jobs} at once", targets.len(), options.seconds);
    let mut outcomes = run_all(&engine, targets, time, jobs)?;
    outcomes.sort_by(|one, other| one.target.cmp(&other.target));
    print_table(&outcomes);
    let broken = outcomes.iter().any(|outcome| !outcome.crashes.is_empty());
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn run_all(engine: &Engine, targets: Vec<String>, time: Duration, jobs: usize) -> Result<Vec<Outcome>> {
    let waiting = Mutex::new(VecDeque::from(targets));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        while let Some(target) = next() {
            outcomes.push(run_one(engine, target, time)?);
        }
        Ok(outcomes)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let mut outcomes = Vec::new();
        for worker in workers {
            outcomes.extend(worker.join().ok().context("a thread of fuzz panicked")??);
        }
        Ok(outcomes)
    })
}

fn run_one(engine: &Engine, target: String, time: Duration) -> Result<Outcome> {
    let crashes_before = engine.crashes(&target)?;
    let figures = engine.fuzz(&target, time).with_context(|| format!("fuzz {target}"))?;
    let mut crashes = engine.crashes(&target)?;
    crashes.retain(|crash| !crashes_before.contains(crash));
    for crash in &crashes {
        println!("fuzz: {target}: BROKEN by {}", crash.display());
        println!("fuzz: {target}: again by `cargo xtask fuzz {target} --replay {}`", crash.display());
    }
    let corpus =
        corpus::make_small(engine, &target).with_context(|| format!("make the corpus of {target} small"))?;
    Ok(Outcome { target, figures, corpus, crashes })
}

fn print_table(outcomes: &[Outcome]) {
    println!("\ntarget        executions  per second  coverage  corpus files  corpus KiB  left out  crashes");
    for Outcome { target, figures, corpus, crashes } in outcomes {
        println!(
            "{target:<12}  {:>10}  {:>10}  {:>8}  {:>12}  {:>10}  {:>8}  {:>7}",
            figures.executions,
            figures.per_second,
            figures.coverage,
            corpus.files,
            corpus.bytes.div_ceil(1024),
            corpus.left_out,
            crashes.len()
        );
    }
}
