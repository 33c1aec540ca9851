//! `golden`: renders the golden files anew; the difference is reviewed like code.
//!
//! In: the tests whose name says `golden`. Out: changed files in the working tree, listed.

use crate::place::Place;
use crate::setup::{self, Scope};
use crate::shell;
use anyhow::{Context as _, Result};
use std::process::{Command, ExitCode};

pub fn run(place: &Place) -> Result<ExitCode> {
    setup::ensure(place, Scope::Build)?;
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--quiet", "golden"]).env("UPDATE_GOLDEN", "1").current_dir(&place.root);
    shell::shown(&mut cargo).context("render the golden files")?;
    let mut git = Command::new("git");
    git.args(["status", "--short"]).current_dir(&place.root);
    match shell::captured(&mut git) {
        Ok(changes) if changes.is_empty() => println!("golden: nothing changed"),
        Ok(changes) => println!("golden: changed in the working tree, to be reviewed:\n{changes}"),
        Err(_) => println!("golden: rendered"),
    }
    Ok(ExitCode::SUCCESS)
}
