//! Programs that only tests need: tcpdump, two generations of Prometheus with its promtool, Alertmanager with amtool, kustomize and Podman's
//! quadlet for what is deployed, and for other kernels an emulated machine (qemu) with a system in it (busybox); rpm and debootstrap for
//! packages. For the bench alone: what it measures the agent beside.
//!
//! Most are unpacked into the build folder and never installed: Debian's Prometheus would start a service, its static
//! busybox would displace the ordinary one.
//! Where a program cannot be had, the tests that need it are skipped and say so.

use super::apt::{self, PrivateApt, update_machine_lists};
use super::{Fetched, Machine, Step};
use crate::shell;
use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Programs of one package that are unpacked and not installed.
#[derive(Clone, Copy)]
pub(super) struct Unpacked {
    /// In the folder of tools.
    folder: &'static str,
    package: &'static str,
    version_prefix: &'static str,
    /// By their paths in that package, or in one of their own name.
    programs: &'static [&'static str],
    /// A folder of that package, beside the programs as `share`: Debian's Alertmanager has its templates there.
    share: Option<&'static str>,
}

/// Debian 12's Prometheus, and one that scrapes classic and native histograms side by side; the newest of the others.
pub(super) const UNPACKED: [Unpacked; 5] = [
    Unpacked {
        folder: "prometheus-2",
        package: "prometheus",
        version_prefix: "2.42.",
        programs: &["usr/bin/prometheus", "usr/bin/promtool"],
        share: None,
    },
    Unpacked {
        folder: "prometheus-3",
        package: "prometheus",
        version_prefix: "3.",
        programs: &["usr/bin/prometheus", "usr/bin/promtool"],
        share: None,
    },
    Unpacked {
        folder: "alertmanager",
        package: "prometheus-alertmanager",
        version_prefix: "0.",
        programs: &["usr/bin/prometheus-alertmanager", "usr/bin/amtool"],
        share: Some("usr/share/prometheus/alertmanager"),
    },
    Unpacked {
        folder: "kustomize",
        package: "kustomize",
        version_prefix: "5.",
        programs: &["usr/bin/kustomize"],
        share: None,
    },
    Unpacked {
        folder: "podman",
        package: "podman",
        version_prefix: "5.",
        programs: &["usr/libexec/podman/quadlet"],
        share: None,
    },
];

pub(super) struct Tools {
    what: Unpacked,
    folder: PathBuf,
}

impl Tools {
    pub(super) fn new(machine: &Machine, what: Unpacked) -> Self {
        Self { what, folder: machine.place.tools().join(what.folder) }
    }

    fn unpack(&self, machine: &Machine) -> Result<String> {
        let apt = PrivateApt::new(&machine.place, &apt::TOOLS)?;
        let package = self.what.package;
        let version = apt.newest_version(package, self.what.version_prefix)?;
        fs::create_dir_all(&self.folder).with_context(|| format!("make folder {}", self.folder.display()))?;
        let unpacked = apt.unpack(package, &version)?;
        for path in self.what.programs {
            if unpacked.join(path).exists() {
                self.take(path, &unpacked)?;
                continue;
            }
            let program = name(path);
            let own = apt.unpack(program, &version)?;
            self.take(path, &own)?;
            fs::remove_dir_all(&own).with_context(|| format!("remove the unpacked package {program}"))?;
        }
        if let Some(share) = self.what.share {
            let (from, to) = (unpacked.join(share), self.folder.join("share"));
            let _an_older_one = fs::remove_dir_all(&to);
            fs::rename(&from, &to).with_context(|| format!("move {} to {}", from.display(), to.display()))?;
        }
        fs::remove_dir_all(&unpacked).with_context(|| format!("remove the unpacked package {package}"))?;
        Ok(version)
    }

    fn take(&self, path: &str, unpacked: &Path) -> Result<()> {
        let (from, to) = (unpacked.join(path), self.folder.join(name(path)));
        fs::rename(&from, &to).with_context(|| format!("move {} to {}", from.display(), to.display()))
    }
}

/// Of the program at this path.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Step for Tools {
    fn name(&self) -> String {
        format!("{} {}x", self.what.package, self.what.version_prefix)
    }

    fn missing(&self) -> Option<String> {
        let share = self.what.share.map(|_| "share");
        let programs = self.what.programs.iter().map(|path| name(path));
        let absent = programs.chain(share).find(|name| !self.folder.join(name).exists())?;
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

/// A program from a package of the system.
pub(super) struct SystemProgram {
    program: &'static str,
    /// Its packages, by the program that installs them.
    apt: &'static str,
    dnf: &'static str,
}

pub(super) const TCPDUMP: SystemProgram =
    SystemProgram { program: "tcpdump", apt: "tcpdump", dnf: "tcpdump" };
pub(super) const QEMU: SystemProgram =
    SystemProgram { program: "qemu-system-x86_64", apt: "qemu-system-x86", dnf: "qemu-system-x86-core" };
/// ansible-rulebook's rules are evaluated in it.
pub(super) const JAVA: SystemProgram =
    SystemProgram { program: "java", apt: "default-jre-headless", dnf: "java-17-openjdk-headless" };
pub(super) const RPM: SystemProgram = SystemProgram { program: "rpm", apt: "rpm", dnf: "rpm" };
pub(super) const DEBOOTSTRAP: SystemProgram =
    SystemProgram { program: "debootstrap", apt: "debootstrap", dnf: "debootstrap" };
/// What one would attach to a server instead of the agent; one program stands for its package. Where a package has
/// them elsewhere, installing it again does nothing.
pub(super) const OBSERVERS: [SystemProgram; 3] = [
    SystemProgram { program: "bpftrace", apt: "bpftrace", dnf: "bpftrace" },
    SystemProgram { program: "trace-bpfcc", apt: "bpfcc-tools", dnf: "bcc-tools" },
    SystemProgram { program: "syscount", apt: "libbpf-tools", dnf: "libbpf-tools" },
];

impl SystemProgram {
    fn install_by_apt(&self) -> Result<()> {
        let arguments = ["install", "-y", "-q", "--no-install-recommends", self.apt];
        // Fresh machines and containers often have no package lists at all.
        if self.install_by("apt-get", &arguments).is_ok() {
            return Ok(());
        }
        update_machine_lists()?;
        self.install_by("apt-get", &arguments)
    }

    fn install_by(&self, installer: &str, arguments: &[&str]) -> Result<()> {
        let mut command = shell::as_root(installer, &format!("installing {}", self.program))?;
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        shell::captured(&mut command).map(drop)
    }
}

impl Step for SystemProgram {
    fn name(&self) -> String {
        self.program.into()
    }

    fn missing(&self) -> Option<String> {
        (!shell::exists(self.program)).then(|| "not installed".into())
    }

    fn fetch(&self, _machine: &Machine) -> Result<Fetched> {
        let installed = if shell::exists("apt-get") {
            self.install_by_apt()
        } else if shell::exists("dnf") {
            self.install_by("dnf", &["install", "-y", "-q", self.dnf])
        } else {
            let by_hand = format!("neither apt nor dnf is there; install {} by hand", self.program);
            return Ok(Fetched::Unavailable(by_hand));
        };
        Ok(match installed {
            Ok(()) => Fetched::From("installed as a system package".into()),
            Err(error) => Fetched::Unavailable(format!("{error:#}; install {} by hand", self.program)),
        })
    }
}

pub(super) struct Busybox {
    program: PathBuf,
}

impl Busybox {
    pub(super) fn new(machine: &Machine) -> Self {
        Self { program: machine.place.busybox() }
    }

    fn unpack(&self, machine: &Machine) -> Result<()> {
        let unpacked = PrivateApt::new(&machine.place, &apt::TOOLS)?.unpack_newest("busybox-static")?;
        // Since Debian 13 what was /bin is in /usr/bin.
        let places = ["usr/bin/busybox", "bin/busybox"].map(|place| unpacked.join(place));
        let found = places.iter().find(|place| place.is_file()).context("find busybox in its package")?;
        fs::create_dir_all(machine.place.tools()).context("make a folder for test tools")?;
        fs::rename(found, &self.program).with_context(|| format!("move {}", found.display()))?;
        fs::remove_dir_all(&unpacked).context("remove the unpacked package busybox-static")
    }
}

impl Step for Busybox {
    fn name(&self) -> String {
        "busybox".into()
    }

    fn missing(&self) -> Option<String> {
        (!self.program.is_file()).then(|| "none for emulated machines in the build folder".into())
    }

    fn fetch(&self, machine: &Machine) -> Result<Fetched> {
        Ok(match self.unpack(machine) {
            Ok(()) => Fetched::From(format!("unpacked Debian's into {}", self.program.display())),
            Err(error) => Fetched::Unavailable(format!("{error:#}")),
        })
    }
}
