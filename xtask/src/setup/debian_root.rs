//! The smallest system of Debian 12, in one archive: what packages are tried in, without touching this machine.
//!
//! Made once, by debootstrap, from the mirror that the machine's apt uses. Each test unpacks it for itself.

use super::apt::{self, KEYRING};
use super::{Fetched, Machine, Step, test_tools};
use crate::shell;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SUITE: &str = "bookworm";
/// It takes half a minute.
const MAKE_LIMIT: Duration = Duration::from_secs(600);

pub(super) struct DebianRoot {
    archive: PathBuf,
}

impl DebianRoot {
    pub(super) fn new(machine: &Machine) -> Self {
        Self { archive: machine.place.tools().join("debian-12.tar") }
    }

    fn make(&self, machine: &Machine) -> Result<()> {
        if !Path::new(KEYRING).is_file() {
            bail!("this machine does not have the Debian archive's keys (package debian-archive-keyring)");
        }
        // Not a step of its own: it lies where only root looks for programs, and is needed this once.
        test_tools::DEBOOTSTRAP.fetch(machine)?;
        let mirror = apt::machine_mirror()?;
        let work = machine.place.work("debian-root")?;
        let root = work.join("root");
        let log = work.join("debootstrap.log");
        let result = bootstrap(&root, &mirror, &log).and_then(|()| self.pack(&root));
        let removed = shell::captured(shell::as_root("rm", "removing a system")?.arg("-rf").arg(&root));
        result.and(removed.map(drop))
    }

    /// Under its own name only when it is whole.
    fn pack(&self, root: &Path) -> Result<()> {
        fs::create_dir_all(self.archive.parent().context("find the folder of tools")?)?;
        let partial = self.archive.with_extension("partial");
        let mut tar = shell::as_root("tar", "packing a system")?;
        tar.arg("--create").arg("--file").arg(&partial).arg("--directory").arg(root);
        // A test's own /dev stands over this one, which a container may not unpack; the lists are apt's.
        tar.args(["--numeric-owner", "--exclude=./dev/*", "--exclude=./var/lib/apt/lists/*", "."]);
        shell::captured(&mut tar).context("pack the system")?;
        fs::rename(&partial, &self.archive).context("name the packed system")
    }
}

fn bootstrap(root: &Path, mirror: &str, log: &Path) -> Result<()> {
    let mut command = shell::as_root("debootstrap", "making a system")?;
    command.arg("--variant=minbase").arg(format!("--keyring={KEYRING}"));
    command.arg(SUITE).arg(root).arg(mirror);
    shell::logged(&mut command, log, MAKE_LIMIT)
}

impl Step for DebianRoot {
    fn name(&self) -> String {
        "a system of Debian 12".into()
    }

    fn missing(&self) -> Option<String> {
        (!self.archive.is_file()).then(|| "none for tests of packages in the build folder".into())
    }

    fn fetch(&self, machine: &Machine) -> Result<Fetched> {
        Ok(match self.make(machine) {
            Ok(()) => Fetched::From(format!("made by debootstrap, packed into {}", self.archive.display())),
            Err(error) => Fetched::Unavailable(format!("{error:#}")),
        })
    }
}
