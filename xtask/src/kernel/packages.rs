//! Debian's cloud kernels: small, with type information, and everything built in that a guest here needs.
//!
//! In: versions, such as `6.1` or `newest`. Out: kernel images in the build folder. A version names the newest package
//! of that version on the day it was fetched; `--fetch` fetches a newer one.

use crate::place::Place;
use crate::setup::apt::{self, PrivateApt};
use crate::shell;
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

const SUFFIX: &str = "-cloud-amd64";
/// From 7.x on the image lies in a package of its own.
const PREFIXES: [&str; 2] = ["linux-binary-", "linux-image-"];
/// Numbers in the name of a package that has a kernel: `6.12-cloud-amd64` only stands for another one.
const NUMBERS_MIN: usize = 3;

/// Major and minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.0, self.1)
    }
}

impl FromStr for Version {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('.').map(|(major, minor)| (major.parse(), minor.parse()));
        match numbers {
            Some((Ok(major), Ok(minor))) => Ok(Self(major, minor)),
            _ => bail!("`{text}` is no kernel version such as 6.1, nor `newest`"),
        }
    }
}

/// What was asked for on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Version(Version),
    Newest,
}

impl FromStr for Wanted {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "newest" { Ok(Self::Newest) } else { text.parse().map(Self::Version) }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => version.fmt(out),
            Self::Newest => out.write_str("newest"),
        }
    }
}

/// A kernel that lies here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    pub version: Version,
    pub image: PathBuf,
    /// The name of its package without prefix and suffix: `6.12.118+deb13`
    pub release: String,
}

/// The kernels that lie here and those of the mirror.
pub struct Kernels<'a> {
    place: &'a Place,
    folder: PathBuf,
    apt: Option<PrivateApt>,
}

impl<'a> Kernels<'a> {
    /// # Errors
    /// When the folder for them cannot be made.
    pub fn new(place: &'a Place) -> Result<Self> {
        Ok(Self { place, folder: place.work("kernel")?.join("images"), apt: None })
    }

    /// The newest release of each version that the mirror has.
    ///
    /// # Errors
    /// When the mirror cannot be asked, or has none.
    pub fn on_mirror(&mut self) -> Result<BTreeMap<Version, String>> {
        let names = self.apt()?.names(&format!("^linux-image-[0-9]+\\.[0-9]+.*{SUFFIX}$"))?;
        let found = newest_releases(names.iter().map(String::as_str));
        if found.is_empty() {
            bail!("the machine's Debian mirror has no cloud kernel for x86-64");
        }
        Ok(found)
    }

    /// The kernel, from the mirror where it does not lie here yet, or `again` is asked for.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn fetch(&mut self, wanted: Wanted, again: bool) -> Result<Kernel> {
        let (version, release) = match wanted {
            Wanted::Version(version) => (version, None),
            Wanted::Newest => match self.on_mirror() {
                Ok(found) => found.into_iter().next_back().map(|(version, release)| (version, Some(release))),
                // Without a line to the mirror the newest of those that lie here has to do.
                Err(error) => Some((self.newest_here().with_context(|| format!("{error:#}"))?, None)),
            }
            .context("find the newest kernel")?,
        };
        match self.here(version).filter(|_| !again) {
            Some(kernel) => Ok(kernel),
            None => self.download(version, release).with_context(|| format!("fetch kernel {version}")),
        }
    }

    fn download(&mut self, version: Version, release: Option<String>) -> Result<Kernel> {
        let on_mirror = || self.on_mirror()?.remove(&version).context("the mirror has no such cloud kernel");
        let release = release.map_or_else(on_mirror, Ok)?;
        println!("kernel {version}: fetching {release}");
        let apt = self.apt()?;
        let [binary, image] = PREFIXES.map(|prefix| apt.unpack_newest(&format!("{prefix}{release}{SUFFIX}")));
        let unpacked = binary.or(image)?;
        let image =
            image_in(&unpacked)?.with_context(|| format!("find an image in {}", unpacked.display()))?;
        let folder = self.folder.join(version.to_string());
        fs::create_dir_all(&folder).with_context(|| format!("make folder {}", folder.display()))?;
        fs::write(folder.join("release"), &release).context("note which kernel it is")?;
        let mut copy = Command::new("cp");
        shell::captured(copy.arg(&image).arg(folder.join("vmlinuz"))).context("keep the kernel's image")?;
        fs::remove_dir_all(&unpacked).context("remove the unpacked package")?;
        self.here(version).context("find the fetched kernel")
    }

    fn here(&self, version: Version) -> Option<Kernel> {
        let folder = self.folder.join(version.to_string());
        let image = folder.join("vmlinuz");
        let release = fs::read_to_string(folder.join("release")).ok()?;
        image.is_file().then_some(Kernel { version, image, release })
    }

    fn newest_here(&self) -> Option<Version> {
        let names = fs::read_dir(&self.folder).ok()?.flatten().map(|entry| entry.file_name());
        names.filter_map(|name| name.to_str()?.parse().ok()).max()
    }

    fn apt(&mut self) -> Result<&PrivateApt> {
        if self.apt.is_none() {
            self.apt = Some(PrivateApt::new(self.place, &apt::KERNELS)?);
        }
        self.apt.as_ref().context("open apt")
    }
}

/// Of `linux-image-6.1.0-56-cloud-amd64` and the like the greatest of each version, as Debian counts.
fn newest_releases<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<Version, String> {
    let mut newest: BTreeMap<Version, &str> = BTreeMap::new();
    for name in names {
        let Some(release) = name.strip_prefix("linux-image-").and_then(|rest| rest.strip_suffix(SUFFIX))
        else {
            continue;
        };
        let numbers = numbers(release);
        if let [major, minor, ..] = numbers[..]
            && numbers.len() >= NUMBERS_MIN
        {
            let known = newest.entry(Version(major, minor)).or_insert(release);
            if numbers > self::numbers(known) {
                *known = release;
            }
        }
    }
    newest.into_iter().map(|(version, release)| (version, release.to_owned())).collect()
}

/// In `boot`, or since 7.x among the modules.
fn image_in(folder: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry.context("list a package")?;
        let kind = entry.file_type().context("look at a package's file")?;
        if kind.is_file() && entry.file_name().to_string_lossy().starts_with("vmlinuz") {
            return Ok(Some(entry.path()));
        }
        if kind.is_dir()
            && let Some(image) = image_in(&entry.path())?
        {
            return Ok(Some(image));
        }
    }
    Ok(None)
}

fn numbers(text: &str) -> Vec<u32> {
    text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_of_each_version_is_found() {
        let names = [
            "linux-image-6.1-cloud-amd64",
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-0.deb11.52-cloud-amd64",
            "linux-image-6.12.118+deb13-cloud-amd64",
            "linux-image-6.12.99+deb13-cloud-amd64",
            "linux-image-6.12.118+deb12-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-rt-amd64",
        ];
        let found = newest_releases(names.into_iter());
        let found: Vec<_> = found.iter().map(|(version, release)| format!("{version} {release}")).collect();
        assert_eq!(found, ["6.1 6.1.0-56", "6.12 6.12.118+deb13", "7.3 7.3.4+deb13"]);
    }

    #[test]
    fn versions_are_told_from_other_words() {
        assert_eq!("newest".parse::<Wanted>().unwrap(), Wanted::Newest);
        assert_eq!("5.10".parse::<Wanted>().unwrap(), Wanted::Version(Version(5, 10)));
        assert!(Version(5, 10) > Version(5, 9));
        for wrong in ["6", "6.x", "latest", "6.1.2"] {
            assert!(wrong.parse::<Wanted>().is_err(), "{wrong}");
        }
    }
}
