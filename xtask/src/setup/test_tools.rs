//! Programs that only tests need: tcpdump, and two generations of Prometheus with its promtool.
//!
//! Prometheus is unpacked into the build folder and never installed: Debian's package would start a service.
//! Where a program cannot be had, the tests that need it are skipped and say so.

use super::apt::{PrivateApt, update_machine_lists};
use super::{Fetched, Machine, Step};
use crate::shell;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Debian 12's, and one that scrapes classic and native histograms side by side.
pub(super) const GENERATIONS: [Generation; 2] = [
    Generation { folder: "prometheus-2", version_prefix: "2.42." },
    Generation { folder: "prometheus-3", version_prefix: "3." },
];

#[derive(Clone, Copy)]
pub(super) struct Generation {
    folder: &'static str,
    version_prefix: &'static str,
}

pub(super) struct Prometheus {
    generation: Generation,
    folder: PathBuf,
}

impl Prometheus {
    pub(super) fn new(machine: &Machine, generation: Generation) -> Self {
        Self { generation, folder: machine.place.tools().join(generation.folder) }
    }

    fn unpack(&self, machine: &Machine) -> Result<String> {
        let apt = PrivateApt::new(&machine.place)?;
        let version = apt.newest_version("prometheus", self.generation.version_prefix)?;
        fs::create_dir_all(&self.folder).with_context(|| format!("make folder {}", self.folder.display()))?;
        let server = apt.unpack("prometheus", &version)?;
        self.take("prometheus", &server)?;
        // In Debian 12 one package has both programs, later promtool has its own.
        if server.join("usr/bin/promtool").exists() {
            self.take("promtool", &server)?;
        } else {
            let tool = apt.unpack("promtool", &version)?;
            self.take("promtool", &tool)?;
            fs::remove_dir_all(&tool).context("remove the unpacked package promtool")?;
        }
        fs::remove_dir_all(&server).context("remove the unpacked package prometheus")?;
        Ok(version)
    }

    fn take(&self, program: &str, unpacked: &Path) -> Result<()> {
        let (from, to) = (unpacked.join("usr/bin").join(program), self.folder.join(program));
        fs::rename(&from, &to).with_context(|| format!("move {} to {}", from.display(), to.display()))
    }
}

impl Step for Prometheus {
    fn name(&self) -> String {
        format!("prometheus {}x", self.generation.version_prefix)
    }

    fn missing(&self) -> Option<String> {
        let absent = ["prometheus", "promtool"].into_iter().find(|name| !self.folder.join(name).is_file())?;
        Some(format!("no {absent} for tests in the build folder"))
    }

    fn fetch(&self, machine: &Machine) -> Result<Fetched> {
        Ok(match self.unpack(machine) {
            Ok(version) => {
                Fetched::From(format!("unpacked Debian's {version} into {}", self.folder.display()))
            }
            Err(error) => Fetched::Unavailable(format!("{error:#}")),
        })
    }
}

pub(super) struct Tcpdump;

impl Step for Tcpdump {
    fn name(&self) -> String {
        "tcpdump".into()
    }

    fn missing(&self) -> Option<String> {
        (!shell::exists("tcpdump")).then(|| "not installed".into())
    }

    fn fetch(&self, _machine: &Machine) -> Result<Fetched> {
        let installed = if shell::exists("apt-get") {
            install_by_apt()
        } else if shell::exists("dnf") {
            install_by("dnf", &["install", "-y", "-q", "tcpdump"])
        } else {
            return Ok(Fetched::Unavailable("neither apt nor dnf is there; install tcpdump by hand".into()));
        };
        Ok(match installed {
            Ok(()) => Fetched::From("installed as a system package".into()),
            Err(error) => Fetched::Unavailable(format!("{error:#}; install tcpdump by hand")),
        })
    }
}

fn install_by_apt() -> Result<()> {
    let arguments = ["install", "-y", "-q", "--no-install-recommends", "tcpdump"];
    // Fresh machines and containers often have no package lists at all.
    if install_by("apt-get", &arguments).is_ok() {
        return Ok(());
    }
    update_machine_lists()?;
    install_by("apt-get", &arguments)
}

fn install_by(program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = shell::as_root(program, "installing tcpdump")?;
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    shell::captured(&mut command).map(drop)
}
