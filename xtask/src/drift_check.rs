//! `drift-check`: is drift found where there is some, and nowhere else?
//!
//! In: the reference data of the project, and a number of seeds. Out: how many scores agree with SciPy's; how often streams
//! without a change raise an alarm, and how soon those with one do; the same as JSON in `BUILD/drift-check.json`. The exit
//! status is 1 where something required does not hold. Takes some minutes of all processors.

use crate::build::{self, Profile};
use crate::place::Place;
use crate::setup::{self, Scope};
use crate::shell;
use anyhow::Result;
use clap::Args;
use std::process::{Command, ExitCode};

#[derive(Args)]
pub struct Options {
    /// Streams of each kind
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
}

pub fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    setup::ensure(place, Scope::Build)?;
    build::agent_and_test_programs(place, Profile::Release)?;
    let json = place.build.join("drift-check.json");
    let mut check = Command::new(place.binary(Profile::Release.folder(), "inferscope-drift-check"));
    check.arg("--seeds").arg(options.seeds.to_string()).arg("--json").arg(&json);
    let held = shell::shown(&mut check).is_ok();
    println!("drift-check: the same as JSON: {}", json.display());
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
