//! The bench: what the agent costs and how right it is; and the server it watches meanwhile.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use inferscope_tests::bench::{self, PARTS, Part, gpu_node};
use inferscope_tests::socket::Endpoint;
use serde::Serialize;

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
        /// The folder of the agent's binary and of the servers'.
        #[arg(long)]
        programs: PathBuf,
        /// Write the figures as JSON to this file.
        #[arg(long)]
        json: Option<PathBuf>,
        /// What to measure; several may be named. All of it where none is.
        #[arg(long, value_enum)]
        part: Vec<Part>,
        /// Pairs with and without an observer.
        #[arg(long, default_value_t = 10)]
        pairs: usize,
    },
    /// Compare a real inference server with and without the agent, and print the figures.
    GpuNode(GpuNode),
    /// Be the server that is watched.
    Serve,
}

#[derive(Debug, clap::Args)]
struct GpuNode {
    /// The folder of the agent's binary.
    #[arg(long)]
    programs: PathBuf,
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where the server listens: ADDRESS:PORT on loopback, or unix:PATH.
    #[arg(long)]
    endpoint: Endpoint,
    /// The name under which it serves its model.
    #[arg(long)]
    model: String,
    /// Finds the server where its command line is not vLLM's.
    #[arg(long)]
    command_regex: Option<String>,
    #[arg(long, default_value_t = 10)]
    pairs: usize,
    /// Requests of each half of a pair.
    #[arg(long, default_value_t = 256)]
    requests: usize,
    #[arg(long, default_value_t = 32)]
    concurrency: usize,
    #[arg(long, default_value_t = 128)]
    max_tokens: u32,
    #[arg(long, default_value_t = 2000)]
    prompt_bytes: usize,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Serve => bench::serve(),
        Command::Run { programs, json, part, pairs } => {
            let parts = if part.is_empty() { PARTS.to_vec() } else { part };
            show(&bench::measure(&bench::Wish { programs, parts, pairs })?, json.as_deref())
        }
        Command::GpuNode(options) => {
            let json = options.json.clone();
            show(&gpu_node::compare(&options.wish())?, json.as_deref())
        }
    }
}

impl GpuNode {
    fn wish(self) -> gpu_node::Wish {
        gpu_node::Wish {
            agent: self.programs.join("inferscope"),
            endpoint: self.endpoint,
            model: self.model,
            command_regex: self.command_regex,
            pairs: self.pairs,
            requests: self.requests,
            concurrency: self.concurrency,
            max_tokens: self.max_tokens,
            prompt_bytes: self.prompt_bytes,
        }
    }
}

fn show(report: &(impl Display + Serialize), json: Option<&Path>) -> Result<()> {
    print!("{report}");
    let Some(path) = json else { return Ok(()) };
    let text = serde_json::to_vec_pretty(report).context("write figures as JSON")?;
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
