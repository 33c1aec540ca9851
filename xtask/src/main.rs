//! Every developer verb of inferscope, as `cargo xtask VERB`; CI runs the same ones.
//!
//! In: the command line. Out: the verb's own lines on the terminal, and the exit status.
//! Each verb is one file that can be read alone; `place`, `shell`, `child`, `http`, `agent` and `real_vllm` are what they share.
//! No verb is needed to use a built agent.

mod agent;
mod bench;
mod build;
mod child;
mod drift_check;
mod faults;
mod fuzz;
mod golden;
mod http;
mod kernel;
mod package;
mod place;
mod real_vllm;
mod run;
mod setup;
mod shell;
mod soak;
mod stack;
mod test;
mod vllm;

use clap::{Parser, Subcommand};
use place::Place;
use std::process::ExitCode;

/// Set up, build, run and test inferscope
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Fetch what building needs and this machine lacks
    Setup(setup::Options),
    /// Build the agent: one file with the kernel programs inside
    Build(build::Options),
    /// Pack the agent for Debian and Ubuntu (.deb) and for RHEL and its kin (.rpm)
    Package,
    /// Start the agent and show live what it measures; without a server on this node, of a demonstration
    Run(run::Options),
    /// Format, lints and every test this machine allows: what CI runs
    Test(test::Options),
    /// Measure what the agent costs, in the kernel and beside it, and how right it is; needs root rights
    Bench(bench::Options),
    /// Try the agent on other kernels, each in an emulated machine
    Kernel(kernel::Options),
    /// Hours of mixed traffic while servers come and go: does anything grow or go missing; needs root rights
    Soak(soak::Options),
    /// Score the reference data and watch streams of chance: is drift found where there is some, and nowhere else?
    DriftCheck(drift_check::Options),
    /// Do faults to a demonstration server and a real vLLM, and see what the agent blames; needs root rights
    Faults(faults::Options),
    /// Measure a real vLLM server and compare with the wire; needs CPython 3.12 and 6 GB of disk
    Vllm(vllm::Options),
    /// Bring up agent, servers, Prometheus, Alertmanager and remedies, and raise each alert by its fault; needs root rights
    Stack(stack::Options),
    /// Feed every reader of foreign bytes with what nobody has thought of; needs a C++ compiler
    Fuzz(fuzz::Options),
    /// Render the golden files anew
    Golden,
}

fn main() -> ExitCode {
    let verb = Arguments::parse().verb;
    match Place::find().and_then(|place| perform(verb, &place)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(verb: Verb, place: &Place) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Setup(options) => setup::run(place, &options),
        Verb::Build(options) => build::run(place, &options),
        Verb::Package => package::run(place),
        Verb::Run(options) => run::run(place, &options),
        Verb::Test(options) => test::run(place, &options),
        Verb::Bench(options) => bench::run(place, &options),
        Verb::Kernel(options) => kernel::run(place, &options),
        Verb::Soak(options) => soak::run(place, &options),
        Verb::DriftCheck(options) => drift_check::run(place, &options),
        Verb::Faults(options) => faults::run(place, &options),
        Verb::Vllm(options) => vllm::run(place, &options),
        Verb::Stack(options) => stack::run(place, &options),
        Verb::Fuzz(options) => fuzz::run(place, &options),
        Verb::Golden => golden::run(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
