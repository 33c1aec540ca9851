//! `faults`: what the agent blames when something is done to a server on purpose.
//!
//! In: this node, with root rights and without another agent. Out: a row for each fault, what was done beside what was
//! blamed, and the same as JSON in `BUILD/faults.json`; the exit status is 1 where too much is blamed wrongly. What this
//! machine cannot do (a control group that limits disks, say) is a row with the reason.

use crate::build::{self, Profile};
use crate::place::Place;
use crate::setup::{self, Scope};
use crate::shell;
use anyhow::Result;
use clap::Args;
use std::process::{Command, ExitCode};

#[derive(Args)]
pub struct Options {
    /// Only this fault; may be repeated: clean, stop-api, stop-engine, event-loop, hogs, quota, memory, major-faults,
    /// block-io, slow-client, bystander, hogs-and-stop
    #[arg(long)]
    fault: Vec<String>,
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
    let json = place.build.join("faults.json");
    let mut faults = Command::new(place.binary(Profile::Release.folder(), "inferscope-faults"));
    faults.arg("--programs").arg(place.build.join(Profile::Release.folder())).arg("--json").arg(&json);
    faults.args(options.fault.iter().flat_map(|fault| ["--fault", fault]));
    let held = shell::shown(&mut faults);
    println!("faults: the same as JSON: {}", json.display());
    Ok(if held.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
