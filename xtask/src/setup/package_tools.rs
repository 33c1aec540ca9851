//! What makes packages: cargo-deb and cargo-generate-rpm, built into the build folder.
//!
//! Built as for debugging: that takes half the processor time (150 s of 285 s), and packing, which is done once a version, 12 s more. Neither needs
//! dpkg or rpm; the first needs `xz`, with which it need not build a library for that.

use super::{Fetched, Machine, Step};
use crate::place::Place;
use crate::shell;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// A program that `cargo install` builds.
pub struct CargoTool {
    name: &'static str,
    version: &'static str,
}

pub const DEB: CargoTool = CargoTool { name: "cargo-deb", version: "3.8.0" };
pub const RPM: CargoTool = CargoTool { name: "cargo-generate-rpm", version: "0.21.1" };
const INSTALL_LIMIT: Duration = Duration::from_secs(30 * 60);

impl CargoTool {
    pub fn program(&self, place: &Place) -> PathBuf {
        self.folder(place).join("bin").join(self.name)
    }

    fn folder(&self, place: &Place) -> PathBuf {
        place.tools().join(self.name)
    }
}

pub(super) struct PackageTool {
    tool: &'static CargoTool,
    program: PathBuf,
}

impl PackageTool {
    pub(super) fn new(machine: &Machine, tool: &'static CargoTool) -> Self {
        Self { tool, program: tool.program(&machine.place) }
    }

    fn install(&self, machine: &Machine) -> Result<()> {
        let CargoTool { name, version } = self.tool;
        let log = machine.place.work("setup")?.join(format!("{name}.log"));
        let mut cargo = Command::new("cargo");
        cargo.args([
            "install",
            name,
            "--version",
            version,
            "--locked",
            "--force",
            "--debug",
            "--no-default-features",
        ]);
        cargo.arg("--root").arg(self.tool.folder(&machine.place)).current_dir(&machine.place.root);
        shell::logged(&mut cargo, &log, INSTALL_LIMIT)
    }
}

impl Step for PackageTool {
    fn name(&self) -> String {
        format!("{} {}", self.tool.name, self.tool.version)
    }

    fn missing(&self) -> Option<String> {
        if !self.program.is_file() {
            return Some("not in the build folder".into());
        }
        let said = shell::captured(Command::new(&self.program).arg("--version")).unwrap_or_default();
        let right = said.split_whitespace().any(|word| word == self.tool.version);
        (!right).then(|| format!("found `{said}`"))
    }

    fn fetch(&self, machine: &Machine) -> Result<Fetched> {
        Ok(match self.install(machine) {
            Ok(()) => Fetched::From("built into the build folder".into()),
            Err(error) => Fetched::Unavailable(format!("{error:#}; no packages are made")),
        })
    }
}
