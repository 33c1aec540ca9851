//! `test`: what CI runs: format, lints, the shape of the code, and every test this machine allows.
//!
//! In: the workspace. Out: what each check and test says, the skipped tests with their reasons, and a last line
//! `N passed, N failed, N skipped`. Kernel tests need root rights and run one at a time, because a node has one agent.
//!
//! A test that cannot run here appends `name: reason` to the file named by `XTASK_SKIP_LOG`. Where `CI` is
//! `true`, a skip that [`EXPECTED_SKIPS`] does not list is a failure.

mod structure;
mod tally;

use crate::kernel::{self, Row};
use crate::package;
use crate::place::Place;
use crate::setup::{self, Scope};
use crate::shell;
use anyhow::{Context as _, Result};
use clap::Args;
use std::env;
use std::process::{Command, ExitCode};
use tally::Tally;

/// Reasons, by a part of their text, for which a test may be skipped in CI, and why that is right.
const EXPECTED_SKIPS: [(&str, &str); 0] = [];

#[derive(Args)]
pub struct Options {
    /// Only the tests whose name contains this; no checks
    filter: Option<String>,
}

pub fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    setup::ensure(place, Scope::BuildAndTests)?;
    let mut tally = Tally::new(place.work("test")?.join("skipped"))?;
    if options.filter.is_none() {
        checks(place, &mut tally);
    }
    tests(place, options.filter.as_deref(), &mut tally)?;
    if options.filter.is_none() {
        kernels(place, &mut tally)?;
    }
    report(&mut tally, env::var("CI").is_ok_and(|value| value == "true"));
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn checks(place: &Place, tally: &mut Tally) {
    let cargo =
        |arguments: &[&str]| shell::shown(Command::new("cargo").args(arguments).current_dir(&place.root));
    let lints = ["clippy", "--all-targets", "--", "-D", "warnings"];
    check("format", tally, || cargo(&["fmt", "--all", "--check"]));
    check("lints", tally, || cargo(&lints));
    check("lints of the kernel programs", tally, || kernel_lints(place));
    check("structure", tally, || structure::check(&place.root));
}

fn check(name: &str, tally: &mut Tally, body: impl FnOnce() -> Result<()>) {
    tally.announce(name);
    match body() {
        Ok(()) => tally.passed += 1,
        Err(error) => {
            eprintln!("test: {name}: {error:#}");
            tally.fail(name);
        }
    }
}

/// The kernel programs build for another machine, with its own `core`, as the agent's build script builds them.
fn kernel_lints(place: &Place) -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo.args(["clippy", "--release", "--package", "inferscope-ebpf", "--target", "bpfel-unknown-none"]);
    cargo.args(["-Z", "build-std=core", "--", "-D", "warnings"]);
    // As aya-build sets it: the kernel half chooses the layout of registers by it.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH));
    cargo.env("RUSTC_BOOTSTRAP", "1").current_dir(&place.root);
    shell::shown(&mut cargo)
}

fn tests(place: &Place, filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    // Kernel tests start the agent and the servers as programs: all of one build.
    let mut build = Command::new("cargo");
    shell::shown(build.args(["build", "--bins"]).current_dir(&place.root))
        .context("build the programs under test")?;
    let parts: [(&str, &[&str]); 3] = [
        ("unit tests", &["--lib", "--bins"]),
        ("documentation tests", &["--doc"]),
        ("kernel tests", &["--test", "*"]),
    ];
    if filter.is_none() {
        packages(place, tally);
    }
    for (name, targets) in parts {
        tally.announce(name);
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--no-fail-fast"]).args(targets).current_dir(&place.root);
        cargo.arg("--").args(filter);
        if name == "kernel tests" {
            cargo.arg("--test-threads=1");
            // Only here: unit tests of the agent's settings refuse names of that prefix that they do not know.
            cargo.env("XTASK_SKIP_LOG", &tally.skip_log).env("XTASK_TOOLS", place.tools());
        }
        tally.add_run(name, &mut cargo)?;
    }
    Ok(())
}

/// What the tests of packages install: the release build, packed. Where it cannot be had, they are skipped and say so; by a
/// filter they take the one that is there, for a release build takes minutes.
fn packages(place: &Place, tally: &mut Tally) {
    if package::tools_are_there(place) {
        check("packages", tally, || package::make(place).map(drop));
    }
}

/// One row a kernel.
fn kernels(place: &Place, tally: &mut Tally) -> Result<()> {
    tally.announce("other kernels");
    for (name, row) in kernel::rows(place)? {
        match row {
            Row::Passed => tally.passed += 1,
            Row::Failed => tally.fail(&name),
            Row::Skipped(why) => tally.skips.push(format!("{name}: {why}")),
        }
    }
    Ok(())
}

/// Prints what was skipped and what failed, and the sum as the last line.
fn report(tally: &mut Tally, ci: bool) {
    tally.announce("the sum");
    let mut unexpected = Vec::new();
    for skip in &tally.skips {
        match EXPECTED_SKIPS.iter().find(|(part, _)| skip.contains(part)) {
            Some((_, why)) => println!("SKIPPED (expected: {why}): {skip}"),
            None => {
                println!("SKIPPED: {skip}");
                unexpected.push(format!("skipped, where no test may be: {skip}"));
            }
        }
    }
    if ci {
        unexpected.iter().for_each(|skip| tally.fail(skip));
    }
    for failure in &tally.failures {
        println!("FAILED: {failure}");
    }
    println!("{}", tally.sum());
}
