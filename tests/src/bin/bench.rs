//! The bench: what the agent costs and how right it is; and the server it watches meanwhile.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use inferscope_tests::bench;

/// Measures the agent on this node. Needs root, tcpdump, and that no other agent runs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure, and print the figures.
    Run {
        /// The folder of the agent's binary and of the demonstration server's.
        #[arg(long)]
        programs: PathBuf,
        /// Write the figures as JSON to this file.
        #[arg(long)]
        json: Option<PathBuf>,
        /// The kernel programs alone: a minute instead of three.
        #[arg(long)]
        kernel_only: bool,
    },
    /// Be the server that is watched.
    Serve,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Serve => bench::serve(),
        Command::Run { programs, json, kernel_only } => {
            let report = bench::measure(&programs, kernel_only)?;
            print!("{report}");
            let Some(path) = json else { return Ok(()) };
            let text = serde_json::to_vec_pretty(&report).context("write figures as JSON")?;
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        }
    }
}
