//! The fault laboratory: does faults to a server, and prints what the agent blamed.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use inferscope_tests::lab::{Fault, Lab, RATE};

/// Does faults to a server on this node. Needs root, and that no other agent runs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The folder of the agent's binary and of the server's.
    #[arg(long)]
    programs: PathBuf,
    /// A folder on a disk, for a large file; that of the programs where it is left out.
    #[arg(long)]
    disk: Option<PathBuf>,
    /// Only this fault; may be repeated.
    #[arg(long, value_enum)]
    fault: Vec<Fault>,
    /// Requests a second.
    #[arg(long, default_value_t = RATE)]
    rate: f64,
    /// Write the result as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let Arguments { programs, disk, fault, rate, json } = Arguments::parse();
    let folder =
        tempfile::tempdir_in(disk.as_ref().unwrap_or(&programs)).context("make a folder on a disk")?;
    let faults = if fault.is_empty() { Fault::ALL.to_vec() } else { fault };
    let matrix = Lab { programs, folder: folder.path().to_owned(), rate }.run(&faults)?;
    print!("{matrix}");
    if let Some(path) = json {
        let text = serde_json::to_vec_pretty(&matrix).context("write the result as JSON")?;
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(if matrix.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
