//! `build`: sets up, then builds the agent with the kernel programs inside.
//!
//! In: the profile. Out: `BUILD/PROFILE/inferscope`, one file.

use crate::place::Place;
use crate::setup::{self, Scope};
use crate::shell;
use anyhow::{Context as _, Result};
use clap::Args;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

#[derive(Args)]
pub struct Options {
    /// Build what is shipped: optimised, into the folder `release`
    #[arg(long)]
    release: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Debug,
    Release,
}

impl Profile {
    /// Cargo's name of the folder.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }
}

pub fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    let profile = if options.release { Profile::Release } else { Profile::Debug };
    setup::ensure(place, Scope::Build)?;
    let agent = agent(place, profile)?;
    println!("build: {}", agent.display());
    Ok(ExitCode::SUCCESS)
}

/// Builds the agent; everything needed is there.
///
/// # Errors
/// When cargo fails; it has said why.
pub fn agent(place: &Place, profile: Profile) -> Result<PathBuf> {
    cargo_build(place, profile, &["inferscope"])?;
    Ok(place.binary(profile.folder(), "inferscope"))
}

/// Builds the agent and the programs that stand in for servers and clients, in one go: apart, what they share would
/// be compiled twice, because they ask for different features of it.
///
/// # Errors
/// When cargo fails; it has said why.
pub fn agent_and_test_programs(place: &Place, profile: Profile) -> Result<()> {
    cargo_build(place, profile, &["inferscope", "inferscope-tests"])
}

fn cargo_build(place: &Place, profile: Profile, packages: &[&str]) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--bins"]).current_dir(&place.root);
    for package in packages {
        cargo.args(["--package", package]);
    }
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    shell::shown(&mut cargo).with_context(|| format!("build {}", packages.join(" and ")))
}
