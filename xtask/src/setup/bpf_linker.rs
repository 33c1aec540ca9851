//! bpf-linker, built against the toolchain's own LLVM: a minute's work, and no LLVM package needed.
//!
//! It has to read the bitcode of this very rustc, so the LLVM of the toolchain is the right one by construction; a
//! bpf-linker of another toolchain on the same machine does not start with it and is replaced.

use super::{Fetched, Machine, Step};
use crate::shell;
use anyhow::{Context as _, Result, bail};
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Of one generation with the versions of aya in Cargo.toml.
const VERSION: &str = "0.13.0";
/// On two busy processors it takes three minutes.
const INSTALL_LIMIT: Duration = Duration::from_secs(30 * 60);

pub(super) struct BpfLinker {
    program: PathBuf,
    /// Where the loader finds the LLVM it was linked with.
    libraries: PathBuf,
}

impl BpfLinker {
    pub(super) fn new(machine: &Machine) -> Self {
        let own = machine.cargo_home.join("bin/bpf-linker");
        let elsewhere = || shell::find("bpf-linker").filter(|_| machine.source_root == machine.sysroot);
        let program = if own.is_file() { own } else { elsewhere().unwrap_or(own) };
        Self { program, libraries: machine.sysroot.join("lib") }
    }
}

impl Step for BpfLinker {
    fn name(&self) -> String {
        format!("bpf-linker {VERSION}")
    }

    fn missing(&self) -> Option<String> {
        if !self.program.is_file() {
            return Some("not installed".into());
        }
        let mut command = Command::new(&self.program);
        command.arg("--version").env("LD_LIBRARY_PATH", with_libraries(&self.libraries));
        match shell::captured(&mut command) {
            Ok(said) if said.split_whitespace().any(|word| word == VERSION) => None,
            Ok(said) => Some(format!("found `{said}`, which does not fit this toolchain")),
            Err(_) => Some("the one installed does not start with this toolchain's LLVM".into()),
        }
    }

    fn fetch(&self, machine: &Machine) -> Result<Fetched> {
        let prefix = link_llvm(machine)?;
        let log = machine.place.work("setup")?.join("bpf-linker.log");
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "bpf-linker", "--version", VERSION, "--force", "--no-default-features"]);
        cargo.arg("--features").arg(format!("llvm-{}", machine.llvm_major));
        cargo.arg("--root").arg(&machine.cargo_home);
        cargo.env("LLVM_PREFIX", &prefix).current_dir(&machine.place.root);
        shell::logged(&mut cargo, &log, INSTALL_LIMIT)
            .context("build bpf-linker; it needs a C++ compiler and the crates registry (see the log)")?;
        match Self::new(machine).missing() {
            None => Ok(Fetched::From("built against the toolchain's own LLVM".into())),
            Some(why) => {
                bail!("built, but {why}; put {} on the path", machine.cargo_home.join("bin").display())
            }
        }
    }
}

/// A folder that looks like an LLVM installation to the build: `lib/libLLVM.so` is the toolchain's own.
fn link_llvm(machine: &Machine) -> Result<PathBuf> {
    let library = find_llvm(&machine.sysroot.join("lib"), &machine.llvm_major)?;
    let prefix = machine.place.work("setup")?.join("llvm");
    let link = prefix.join("lib/libLLVM.so");
    fs::create_dir_all(prefix.join("lib")).context("make a folder for the link to LLVM")?;
    if link.is_symlink() {
        fs::remove_file(&link).context("remove the old link to LLVM")?;
    }
    symlink(&library, &link).with_context(|| format!("link to {}", library.display()))?;
    Ok(prefix)
}

/// The file's name ends in the compiler's version; the other file, `libLLVM-22-...`, is a linker script to it.
fn find_llvm(libraries: &Path, major: &str) -> Result<PathBuf> {
    let prefix = format!("libLLVM.so.{major}.");
    let entries = fs::read_dir(libraries).with_context(|| format!("list {}", libraries.display()))?;
    let mut names = entries.flatten().map(|entry| entry.path());
    let is_llvm = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix))
    };
    names.find(is_llvm).with_context(|| {
        format!(
            "find {prefix}* in {}: this compiler does not carry its LLVM as a library, as those of rustup do; \
             install the toolchain of rust-toolchain.toml with rustup",
            libraries.display()
        )
    })
}

fn with_libraries(libraries: &Path) -> std::ffi::OsString {
    let inherited = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let paths = std::iter::once(libraries.to_owned()).chain(env::split_paths(&inherited));
    env::join_paths(paths).unwrap_or_else(|_| libraries.as_os_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_is_found_by_its_major_version_and_absence_is_explained() {
        let folder = env::temp_dir().join(format!("xtask-llvm-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let absent = find_llvm(&folder, "22").expect_err("nothing there").to_string();
        assert!(absent.contains("with rustup"), "{absent}");
        for name in ["libLLVM-22-rust-1.95.0-stable.so", "libLLVM.so.22.1-rust-1.95.0-stable"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let found = find_llvm(&folder, "22").unwrap();
        assert!(found.ends_with("libLLVM.so.22.1-rust-1.95.0-stable"), "{}", found.display());
        fs::remove_dir_all(folder).unwrap();
    }
}
