//! `bench`: what the agent costs and how right it is, each figure beside its budget; nothing is asserted.
//!
//! In: this node, with root rights and without another agent. Out: the figures as text, and as JSON in
//! `BUILD/bench.json`. Takes three minutes; what else runs on the machine meanwhile is in the figures.

use crate::build::{self, Profile};
use crate::place::Place;
use crate::setup::{self, Scope};
use crate::shell;
use anyhow::Result;
use clap::Args;
use std::process::{Command, ExitCode};

#[derive(Args)]
pub struct Options {
    /// Everything is built: what this runs as root through sudo
    #[arg(long, hide = true)]
    built: bool,
}

pub fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    shell::expect_root_or_sudo()?;
    if !options.built {
        setup::ensure(place, Scope::BuildAndTests)?;
        build::agent_and_test_programs(place, Profile::Release)?;
    }
    if !shell::is_root() {
        return Err(shell::again_as_root(&[]));
    }
    let json = place.build.join("bench.json");
    let mut bench = Command::new(place.binary(Profile::Release.folder(), "inferscope-bench"));
    bench.arg("run").arg("--programs").arg(place.build.join(Profile::Release.folder()));
    bench.arg("--json").arg(&json);
    shell::shown(&mut bench)?;
    println!("bench: the same as JSON: {}", json.display());
    Ok(ExitCode::SUCCESS)
}
