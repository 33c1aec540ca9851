//! The soak: hours of mixed traffic, and what of the agent grew, fell back or went missing meanwhile.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use inferscope_tests::soak;
use tokio::signal::unix::{SignalKind, signal};

/// Soaks the agent on this node. Needs root, tcpdump, and that no other agent runs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The folder of the agent's binary and of the demonstration server's.
    #[arg(long)]
    programs: PathBuf,
    /// For so many seconds.
    #[arg(long, default_value_t = 3600)]
    seconds: u64,
    /// What is random is drawn from it.
    #[arg(long)]
    seed: Option<u64>,
    /// Write the result as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let Arguments { programs, seconds, seed, json } = Arguments::parse();
    let stop = stop_when_asked()?;
    let seed = seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    eprintln!("soak: {seconds} s, seed {seed}");
    let options = soak::Options { programs, time: Duration::from_secs(seconds), seed };
    let report = soak::run(&options, &stop)?;
    print!("{report}");
    if let Some(path) = json {
        let text = serde_json::to_vec_pretty(&report).context("write the result as JSON")?;
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Set by Ctrl-C and SIGTERM: the phase under way is finished first.
fn stop_when_asked() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        eprintln!("soak: ending as asked, after the phase under way");
        asked.store(true, Ordering::Relaxed);
    });
    Ok(stop)
}
