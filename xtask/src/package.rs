//! `package`: the agent as a package for Debian and Ubuntu and one for RHEL and its kin.
//!
//! In: the release build, what is shipped beside it, and the tables `package.metadata` of `agent/Cargo.toml`. Out:
//! `BUILD/package/inferscope_V_amd64.deb` and `BUILD/package/inferscope-V-1.x86_64.rpm`. Neither is signed: who
//! publishes them signs them.

use crate::build::{self, Profile};
use crate::place::Place;
use crate::setup::{self, Scope, package_tools};
use crate::shell;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

pub fn run(place: &Place) -> Result<ExitCode> {
    setup::ensure(place, Scope::BuildAndPackages)?;
    if !tools_are_there(place) {
        bail!("make packages without the programs for it (see above)");
    }
    for package in make(place)? {
        println!("package: {}", package.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the agent and packs it; everything needed is there.
///
/// # Errors
/// When it cannot be built, or a package not be made.
pub fn make(place: &Place) -> Result<Vec<PathBuf>> {
    build::agent(place, Profile::Release)?;
    // What an earlier version left would pass for this one's.
    let folder = place.packages();
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("make folder {}", folder.display()))?;
    shell::captured(&mut deb(place, &folder)).context("make the package for Debian")?;
    shell::captured(&mut rpm(place, &folder)).context("make the package for RHEL")?;
    let made = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let mut made: Vec<_> = made.flatten().map(|entry| entry.path()).collect();
    made.sort();
    if made.len() != 2 {
        bail!("find two packages in {}: {made:?}", folder.display());
    }
    Ok(made)
}

/// Whether set-up could have what [`make`] needs.
pub fn tools_are_there(place: &Place) -> bool {
    [package_tools::DEB, package_tools::RPM].iter().all(|tool| tool.program(place).is_file())
}

fn deb(place: &Place, folder: &Path) -> Command {
    let mut command = tool(place, &package_tools::DEB);
    // Both packages have the very bytes that were built.
    command.args(["--package", "inferscope", "--no-build", "--no-strip", "--locked", "--quiet"]);
    command.arg("--output").arg(folder);
    command
}

fn rpm(place: &Place, folder: &Path) -> Command {
    let mut command = tool(place, &package_tools::RPM);
    // Without `builtin`, what a package asks for would hang on whether rpm is installed here.
    command.args(["--auto-req", "builtin", "--output"]).arg(folder).current_dir(place.root.join("agent"));
    command
}

fn tool(place: &Place, tool: &package_tools::CargoTool) -> Command {
    let mut command = Command::new(tool.program(place));
    command.current_dir(&place.root).env("CARGO_TARGET_DIR", &place.build);
    command
}
