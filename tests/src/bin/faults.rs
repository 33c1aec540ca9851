//! The fault laboratory: does faults to a server, and prints what the agent blamed.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use inferscope_tests::lab::{Fault, Lab, Matrix, RATE, RealLab};
use serde::Serialize;

/// Does faults to servers on this node. Needs root, and that no other agent runs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The folder of the agent's binary and of the server's.
    #[arg(long)]
    programs: PathBuf,
    /// A folder on a disk, for a large file; that of the programs where it is left out.
    #[arg(long)]
    disk: Option<PathBuf>,
    /// Not to the demonstration server.
    #[arg(long, requires = "vllm")]
    no_demonstration: bool,
    /// To a real vLLM, too: the script that starts it.
    #[arg(long, requires = "vllm_installed")]
    vllm: Option<PathBuf>,
    /// The folder of what that script starts.
    #[arg(long)]
    vllm_installed: Option<PathBuf>,
    /// Leave what the agent says of each request in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
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

/// What came out, by server.
#[derive(Debug, Default, Serialize)]
struct Results {
    demonstration: Option<Matrix>,
    vllm: Option<Matrix>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let programs = &arguments.programs;
    let folder = tempfile::tempdir_in(arguments.disk.as_ref().unwrap_or(programs));
    let folder = folder.context("make a folder on a disk")?;
    let chosen = |all: &[Fault]| -> Vec<Fault> {
        let wanted = |fault: &Fault| arguments.fault.is_empty() || arguments.fault.contains(fault);
        all.iter().copied().filter(wanted).collect()
    };
    let mut results = Results::default();
    if !arguments.no_demonstration {
        let lab = Lab {
            programs: programs.clone(),
            folder: folder.path().to_owned(),
            rate: arguments.rate,
            keep: arguments.keep.clone(),
        };
        results.demonstration = Some(lab.run(&chosen(&Fault::ALL))?);
    }
    if let (Some(serve), Some(installed)) = (arguments.vllm.clone(), arguments.vllm_installed.clone()) {
        let (programs, folder) = (programs.clone(), folder.path().to_owned());
        let lab = RealLab { programs, folder, serve, installed, keep: arguments.keep.clone() };
        results.vllm = Some(lab.run(&chosen(&RealLab::FAULTS)));
    }
    let matrices = [("demonstration server", &results.demonstration), ("vLLM", &results.vllm)];
    for (server, matrix) in
        matrices.into_iter().filter_map(|(server, matrix)| Some((server, matrix.as_ref()?)))
    {
        println!("{server}\n{matrix}");
    }
    if let Some(path) = &arguments.json {
        let text = serde_json::to_vec_pretty(&results).context("write the result as JSON")?;
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    let held = matrices.iter().all(|(_, matrix)| matrix.as_ref().is_none_or(Matrix::holds));
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
