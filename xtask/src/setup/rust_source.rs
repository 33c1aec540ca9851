//! The sources of `core`, which the kernel programs' build compiles for the BPF machine.
//!
//! From rustup; where its release server cannot be reached, the same sources from Debian's package of this very
//! version. They go to the one place where cargo's `-Z build-std` looks.

use super::apt::{self, PrivateApt};
use super::{Fetched, Machine, Step};
use crate::shell;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// rustup retries for minutes where its server does not answer; a good line needs 10 s.
const RUSTUP_LIMIT: Duration = Duration::from_secs(60);

pub(super) struct RustSource {
    /// `lib/rustlib/src/rust` of the toolchain.
    folder: PathBuf,
}

impl RustSource {
    pub(super) fn new(machine: &Machine) -> Self {
        Self { folder: machine.source_root.join("lib/rustlib/src/rust") }
    }

    fn fetch_by_rustup(&self, machine: &Machine) -> Result<()> {
        if machine.source_root != machine.sysroot {
            bail!("rustup fills the toolchain's own folder only");
        }
        let log = machine.place.work("setup")?.join("rust-src.log");
        let mut rustup = Command::new("rustup");
        rustup.args(["component", "add", "rust-src"]).current_dir(&machine.place.root);
        shell::logged(&mut rustup, &log, RUSTUP_LIMIT)?;
        match self.missing() {
            None => Ok(()),
            Some(why) => bail!("rustup says it is installed, but {why}"),
        }
    }

    fn fetch_from_debian(&self, machine: &Machine) -> Result<String> {
        let apt = PrivateApt::new(&machine.place, &apt::TOOLS)?;
        let version = apt.newest_version("rust-src", &format!("{}+", machine.rustc))?;
        let unpacked = apt.unpack("rust-src", &version)?;
        let sources = unpacked.join(format!("usr/src/rustc-{}", machine.rustc));
        let parent = self.folder.parent().context("find the folder above the sources")?;
        fs::create_dir_all(parent).with_context(|| format!("make folder {}", parent.display()))?;
        // A copy that was cut short must not pass for the whole: it gets its name at the end.
        let partial = parent.join("rust.partial");
        for old in [&partial, &self.folder].into_iter().filter(|old| old.exists()) {
            fs::remove_dir_all(old).with_context(|| format!("remove {}", old.display()))?;
        }
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(&sources).arg(&partial);
        shell::captured(&mut copy).context("copy the sources into the toolchain")?;
        fs::rename(&partial, &self.folder).context("name the copied sources")?;
        fs::remove_dir_all(&unpacked).context("remove the unpacked package")?;
        Ok(version)
    }
}

impl Step for RustSource {
    fn name(&self) -> String {
        "rust-src".into()
    }

    fn missing(&self) -> Option<String> {
        // The lock file is what cargo reads first, the crate root what it compiles.
        let needed = ["library/Cargo.lock", "library/core/src/lib.rs"];
        let absent = needed.iter().find(|file| !self.folder.join(file).is_file())?;
        Some(format!("the toolchain has no {absent}"))
    }

    fn fetch(&self, machine: &Machine) -> Result<Fetched> {
        let Err(by_rustup) = self.fetch_by_rustup(machine) else {
            return Ok(Fetched::From("installed by rustup".into()));
        };
        match self.fetch_from_debian(machine) {
            Ok(version) => Ok(Fetched::From(format!("installed from Debian's package {version}"))),
            Err(by_debian) => bail!(
                "rustup could not ({by_rustup:#}), nor Debian's package ({by_debian:#}); on a machine with a line \
                 to the Rust release server run `rustup component add rust-src`, or copy lib/rustlib/src of a \
                 toolchain {} into {}",
                machine.rustc,
                machine.source_root.join("lib/rustlib").display(),
            ),
        }
    }
}
