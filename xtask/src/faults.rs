//! `faults`: what the agent blames when something is done to a server on purpose.
//!
//! In: this node, with root rights and without another agent; for the real vLLM CPython 3.12 and the recipe in
//! `tests/real-vllm`. Out: for each server a row for each fault, what was done beside what was blamed, and the same as
//! JSON in `BUILD/faults.json`; the exit status is 1 where too much is blamed wrongly. What this machine cannot do (a
//! control group that limits disks, say) is a row with the reason.

use crate::build::{self, Profile};
use crate::kernel;
use crate::place::Place;
use crate::real_vllm::RealVllm;
use crate::setup::{self, Scope};
use crate::shell;
use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use std::path::Path;
use std::process::{Command, ExitCode};

#[derive(Args)]
pub struct Options {
    /// What the faults are done to; a real vLLM is fetched first, 5 GB
    #[arg(long, value_enum, default_value_t = Server::All)]
    server: Server,
    /// Only this fault; may be repeated: clean, stop-api, stop-engine, event-loop, hogs, quota, memory, major-faults,
    /// block-io, slow-client, bystander, hogs-and-stop; of a real vLLM alone stop-worker, queue, preemption, long-prompt
    #[arg(long)]
    fault: Vec<String>,
    /// Everything is built: what this runs as root through sudo
    #[arg(long, hide = true)]
    built: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Server {
    Demonstration,
    Vllm,
    All,
}

pub fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    shell::expect_root_or_sudo()?;
    let vllm = RealVllm::find(place)?;
    if !options.built {
        setup::ensure(place, Scope::BuildAndTests)?;
        if options.server != Server::Demonstration {
            vllm.set_up(false).context("without it: --server demonstration")?;
        }
        build::agent_and_test_programs(place, Profile::Release)?;
    }
    if !shell::is_root() {
        return Err(vllm.again_as_root());
    }
    let json = place.build.join("faults.json");
    let mut faults = Command::new(place.binary(Profile::Release.folder(), "inferscope-faults"));
    faults.arg("--programs").arg(place.build.join(Profile::Release.folder())).arg("--json").arg(&json);
    faults.args(options.fault.iter().flat_map(|fault| ["--fault", fault]));
    if options.server != Server::Demonstration {
        faults.arg("--vllm").arg(vllm.script()).arg("--vllm-installed").arg(&vllm.installed);
        RealVllm::prepare(&mut faults);
    }
    if options.server == Server::Vllm {
        faults.arg("--no-demonstration");
    }
    let held = shell::shown(&mut faults).is_ok();
    println!("faults: the same as JSON: {}", json.display());
    let everything = options.server != Server::Vllm && options.fault.is_empty();
    let held = held & (!everything || in_guest(place)?);
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `memory.high` and quotas of version 2, where this machine has no such groups. False where they were not found.
fn in_guest(place: &Place) -> Result<bool> {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").is_file() {
        return Ok(true);
    }
    println!(
        "faults: this machine has control groups of version 1; those of version 2, in an emulated machine:"
    );
    Ok(kernel::faults_in_guest(place)?.unwrap_or(true))
}
