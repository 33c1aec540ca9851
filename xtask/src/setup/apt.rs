//! Debian packages fetched and unpacked through an apt state of its own.
//!
//! In: the mirror that the machine's apt already uses. Out: unpacked folders. The machine's own package lists,
//! sources and installed packages stay as they are, and root rights are needed only where apt has no lists yet.

use crate::place::Place;
use crate::shell;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Suites whose packages are looked at together.
pub struct Archive {
    /// Where the state lies.
    folder: &'static str,
    suites: &'static [&'static str],
}

/// Debian 12, what was built for 13 since, and the two suites that newer versions come from.
pub const TOOLS: Archive =
    Archive { folder: "apt", suites: &["bookworm", "trixie-backports", "forky", "sid"] };
/// Every suite that has kernels, from 5.10 to the newest.
pub const KERNELS: Archive = Archive {
    folder: "apt-kernels",
    suites: &[
        "bullseye",
        "bullseye-security",
        "bookworm",
        "bookworm-security",
        "bookworm-backports",
        "trixie",
        "trixie-security",
        "trixie-backports",
        "sid",
    ],
};
/// Debian's own keys, also on machines whose sources name no key.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const UPDATE_LIMIT: Duration = Duration::from_secs(180);
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);
/// Lists older than this name packages that the mirror may no longer have.
const LISTS_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

pub struct PrivateApt {
    folder: PathBuf,
    suites: &'static [&'static str],
}

impl PrivateApt {
    /// # Errors
    /// When this is no Debian machine or its mirror cannot be reached.
    pub fn new(place: &Place, archive: &Archive) -> Result<Self> {
        if !shell::exists("apt-get") || !shell::exists("dpkg-deb") {
            bail!("this machine has no apt");
        }
        if !Path::new(KEYRING).is_file() {
            bail!("this machine does not have the Debian archive's keys (package debian-archive-keyring)");
        }
        let apt = Self { folder: place.work(archive.folder)?, suites: archive.suites };
        apt.update().context("read the package lists of the machine's Debian mirror")?;
        Ok(apt)
    }

    /// The newest version whose text starts with `prefix`.
    ///
    /// # Errors
    /// When no suite has one.
    pub fn newest_version(&self, package: &str, prefix: &str) -> Result<String> {
        let table = shell::captured(self.command("apt-cache").args(["madison", package]))?;
        pick_version(&table, prefix).with_context(|| {
            format!(
                "find a version {prefix}* of {package} in the suites {} of the mirror",
                self.suites.join(", ")
            )
        })
    }

    /// Names of all packages that a regular expression of apt's matches.
    ///
    /// # Errors
    /// When apt cannot be asked.
    pub fn names(&self, expression: &str) -> Result<Vec<String>> {
        let lines = shell::captured(self.command("apt-cache").args(["search", "--names-only", expression]))?;
        let names = lines.lines().filter_map(|line| line.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }

    /// Fetches one version of a package and unpacks it without installing: no service starts.
    ///
    /// # Errors
    /// When it cannot be fetched or unpacked.
    pub fn unpack(&self, package: &str, version: &str) -> Result<PathBuf> {
        self.unpack_named(package, &format!("{package}={version}"))
    }

    /// The same of the newest version.
    ///
    /// # Errors
    /// When it cannot be fetched or unpacked.
    pub fn unpack_newest(&self, package: &str) -> Result<PathBuf> {
        self.unpack_named(package, package)
    }

    fn unpack_named(&self, package: &str, wanted: &str) -> Result<PathBuf> {
        let folder = self.folder.join("unpacked").join(package);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        let root = folder.join("root");
        fs::create_dir_all(&root).with_context(|| format!("make folder {}", root.display()))?;
        let mut download = self.command("apt-get");
        download.args(["download", wanted]).current_dir(&folder);
        let log = self.folder.join(format!("{package}.log"));
        shell::logged(&mut download, &log, DOWNLOAD_LIMIT)
            .with_context(|| format!("download package {wanted}"))?;
        let files = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
        let file = files.flatten().map(|entry| entry.path()).find(is_package);
        let file = file.with_context(|| format!("find the downloaded package {package}"))?;
        shell::captured(Command::new("dpkg-deb").arg("-x").arg(&file).arg(&root))
            .with_context(|| format!("unpack {}", file.display()))?;
        fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
        Ok(root)
    }

    fn update(&self) -> Result<()> {
        let stamp = self.folder.join("updated");
        let age = fs::metadata(&stamp).and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age < LISTS_AGE_MAX) {
            return Ok(());
        }
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(self.folder.join(folder)).context("make folders for apt")?;
        }
        let mirror = machine_mirror()?;
        // A machine without security updates goes without here too.
        let security = site("Debian-Security")?;
        let line = |suite: &&str| {
            let site = if suite.ends_with("-security") { security.as_ref()? } else { &mirror };
            Some(format!("deb [signed-by={KEYRING}] {site} {suite} main\n"))
        };
        fs::write(self.sources(), self.suites.iter().filter_map(line).collect::<String>())
            .context("write apt sources")?;
        let log = self.folder.join("update.log");
        // A mirror without one of the suites makes apt fail and still leaves it the lists of the others; whether
        // they have the package is asked next.
        let updated = shell::logged(self.command("apt-get").arg("update"), &log, UPDATE_LIMIT);
        if let Err(error) = updated {
            println!("setup: apt: not every suite could be read ({error:#})");
            return Ok(());
        }
        fs::write(&stamp, "").context("note that the lists are fresh")
    }

    fn sources(&self) -> PathBuf {
        self.folder.join("sources.list")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let mut option = |name: &str, value: &str| {
            command.arg("-o").arg(format!("{name}={value}"));
        };
        let path = |name: &str| self.folder.join(name).display().to_string();
        option("Dir::Etc::SourceList", &path("sources.list"));
        option("Dir::Etc::SourceParts", "/dev/null");
        option("Dir::State::Lists", &path("lists"));
        option("Dir::Cache", &path("cache"));
        // The unprivileged user apt changes to may not read the build folder.
        option("APT::Sandbox::User", "root");
        option("Acquire::Languages", "none");
        option("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false");
        command
    }
}

/// The mirror the machine uses for Debian itself; where its lists are empty, they are read once.
///
/// # Errors
/// When there is none, or apt cannot be asked.
pub(super) fn machine_mirror() -> Result<String> {
    if let Some(mirror) = site("Debian")? {
        return Ok(mirror);
    }
    update_machine_lists()?;
    site("Debian")?.context("find a Debian mirror among apt's sources")
}

/// Where the machine's apt has packages of this origin from.
fn site(label: &str) -> Result<Option<String>> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(SITE)", &format!("Label: {label}"), "Identifier: Packages"]);
    shell::captured(&mut command).map(|text| text.lines().next().map(str::to_owned))
}

/// # Errors
/// When apt cannot update, or this user may not.
pub(super) fn update_machine_lists() -> Result<()> {
    println!("setup: apt: reading the machine's package lists");
    let mut command = shell::as_root("apt-get", "reading apt's package lists")?;
    shell::captured(command.arg("update")).map(drop)
}

/// `apt-cache madison` prints the newest first: `name | version | origin`.
fn pick_version(table: &str, prefix: &str) -> Option<String> {
    let versions = table.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
    versions.into_iter().find(|version| version.starts_with(prefix)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_of_a_generation_is_picked() {
        let table = " prometheus | 3.5.3+ds1-6 | mirror forky/main\n prometheus | 2.53.3 | mirror trixie/main\n \
                     prometheus | 2.42.0+ds-5 | mirror bookworm/main\n";
        let check =
            |prefix, expected: Option<&str>| assert_eq!(pick_version(table, prefix).as_deref(), expected);
        check("3.", Some("3.5.3+ds1-6"));
        check("2.", Some("2.53.3"));
        check("2.42.", Some("2.42.0+ds-5"));
        check("1.", None);
    }
}
