//! `stack`: everything at once on this node, one fault after the other, and who hears of it.
//!
//! In: this node, with root rights and without another agent; Prometheus, Alertmanager and Event-Driven Ansible, which set-up
//! fetches. Out: a row for each alert with the fault that raised it, when it fired and when it reached a receiver, what became of two
//! servers that were killed, and the same as JSON in `BUILD/stack.json`; the exit status is 1 where an alert was not raised,
//! one was raised while nothing was wrong, or a remedy ended otherwise than it should. Everything is on loopback.

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
    let json = place.build.join("stack.json");
    let mut stack = Command::new(place.binary(Profile::Release.folder(), "inferscope-stack"));
    stack.arg("--programs").arg(place.build.join(Profile::Release.folder()));
    stack.arg("--tools").arg(place.tools()).arg("--root").arg(&place.root).arg("--json").arg(&json);
    println!("stack: this takes about six minutes");
    let holds = shell::shown(&mut stack).is_ok();
    println!("stack: the same as JSON: {}", json.display());
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
