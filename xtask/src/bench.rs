//! `bench`: what the agent costs, what it costs the server, and how right it is, each figure beside its budget;
//! nothing is asserted.
//!
//! In: this node, with root rights and without another agent. Out: the figures as text, and as JSON in
//! `BUILD/bench.json`. What else runs on the machine meanwhile is in the figures.
//!
//! With `--gpu-node`: the comparison with and without the agent of a real inference server (`gpu_node`).

mod gpu_node;

use crate::build::{self, Profile};
use crate::place::Place;
use crate::setup::{self, Scope};
use crate::shell;
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::process::{Command, ExitCode};

const HELP: &str = "\
What is measured, and how long it takes on two processors (12 minutes in all):

  floor     15 s   the kernel's own primitives on this machine, net of an empty program:
                   a figure over its budget is told from a slow machine by its ratio to these
  kernel    1 min  kernel time of one read or write in nine situations, net, beside budget
                   and floor
  load      1 min  processor time idle, at 500 requests/s with 20,000 events/s, and at 2,000
                   requests/s with 50,000 events/s or what the machine makes of it; what of
                   these was counted; the page at 4,000 series; memory
  gpu       1.5 min
                   processor time of the threads that read eight simulated GPUs through the real
                   wrapper, once and ten times a second, and what the simulation has of it
  drift     40 s   ten million predictions scored again and again: time, memory, and what of the
                   requests meanwhile was not measured
  accuracy  20 s   every time against the packets on the wire
  ab        2 min  a server at full speed with and without the agent, in interleaved pairs:
                   requests/s, p50, p99 and processor time of the server, as medians of
                   ratios with 95 % confidence intervals
  beside    6 min  ab, and in the same rounds what one would attach instead: a bpftrace script
                   for the same question, bcc's trace, and syscount, tcplife, tcprtt and
                   funclatency of libbpf-tools or bcc; those that are not installed or that this
                   kernel refuses are named with the reason

Figures are of this machine as it is: let nothing else run beside it.

With --gpu-node, on a machine with a GPU and vLLM, or with any server by --endpoint: the load
client with a fixed seed, interleaved pairs with and without the agent; tokens/s, requests/s, time
to the first token and between tokens, p50 and p99. For example:

  cargo xtask bench --gpu-node --model Qwen/Qwen3-8B
  cargo xtask bench --gpu-node --model Qwen/Qwen3-8B --endpoint 127.0.0.1:8000 --requests 512";

#[derive(Args)]
#[command(after_long_help = HELP)]
pub struct Options {
    /// Measure only this; may be repeated. All where it is left out
    #[arg(long, value_enum, conflicts_with = "gpu_node")]
    part: Vec<Part>,
    /// Pairs with and without an observer
    #[arg(long, default_value_t = 10)]
    pairs: usize,
    /// Fetch what the agent is measured beside, where it is missing: bpftrace, bcc, libbpf-tools
    #[arg(long)]
    beside: bool,
    /// Compare a real inference server with and without the agent, and nothing else
    #[arg(long)]
    gpu_node: bool,
    #[command(flatten)]
    node: gpu_node::ServerOptions,
    /// Everything is built: what this runs as root through sudo
    #[arg(long, hide = true)]
    built: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Part {
    Floor,
    Kernel,
    Load,
    Gpu,
    Drift,
    Accuracy,
    Ab,
    Beside,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Kernel => "kernel",
            Self::Load => "load",
            Self::Gpu => "gpu",
            Self::Drift => "drift",
            Self::Accuracy => "accuracy",
            Self::Ab => "ab",
            Self::Beside => "beside",
        }
    }
}

pub fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    shell::expect_root_or_sudo()?;
    if options.gpu_node {
        return gpu_node::run(place, options);
    }
    if !options.built {
        let scope = if options.beside { Scope::BuildTestsAndObservers } else { Scope::BuildAndTests };
        setup::ensure(place, scope)?;
        build::agent_and_test_programs(place, Profile::Release)?;
    }
    if !shell::is_root() {
        return Err(shell::again_as_root(&[]));
    }
    let json = place.build.join("bench.json");
    let mut bench = bench(place, "run");
    bench.arg("--json").arg(&json).arg("--pairs").arg(options.pairs.to_string());
    bench.args(options.part.iter().flat_map(|part| ["--part", part.name()]));
    shell::shown(&mut bench)?;
    println!("bench: the same as JSON: {}", json.display());
    Ok(ExitCode::SUCCESS)
}

/// The program that measures, with the programs that it measures.
fn bench(place: &Place, verb: &str) -> Command {
    let mut bench = Command::new(place.binary(Profile::Release.folder(), "inferscope-bench"));
    bench.arg(verb).arg("--programs").arg(place.build.join(Profile::Release.folder()));
    bench
}
