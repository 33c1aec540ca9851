//! Where the hierarchies of control groups are mounted, as this process sees it.
//!
//! In: the text of `/proc/self/mountinfo`. Out: the folder of a group. A container may see a part of a hierarchy, the
//! same one twice, or that of its host beside its own; the widest view is taken.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};

/// Longest list of mounts that is read: nodes with thousands of containers have some 10 MiB.
const MOUNTS_BYTES_MAX: u64 = 32 << 20;

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Mounts {
    v2: Vec<Mount>,
    v1: HashMap<String, Vec<Mount>>,
}

/// One view of a hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    /// The group that is seen as the uppermost.
    root: String,
    point: PathBuf,
}

impl Mounts {
    /// As `self/mountinfo` below `proc` tells.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(proc: &Path) -> Result<Self> {
        use std::io::Read as _;
        let path = proc.join("self/mountinfo");
        let mut text = String::new();
        let file = fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let read = file.take(MOUNTS_BYTES_MAX).read_to_string(&mut text);
        read.with_context(|| format!("read {}", path.display()))?;
        Ok(Self::of(&text))
    }

    /// From the file's text; lines that are of something else, or of no form known, are left out.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut mounts = Self::default();
        for line in text.lines() {
            mounts.take(line);
        }
        let all = mounts.v1.values_mut().chain([&mut mounts.v2]);
        all.for_each(|views| views.sort_by_key(|mount| mount.root.len()));
        mounts
    }

    /// `36 35 0:31 ROOT POINT rw,nosuid shared:9 - cgroup2 cgroup2 rw`
    fn take(&mut self, line: &str) -> Option<()> {
        let (place, system) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let mount = Mount { root: unescape(place.next()?), point: unescape(place.next()?).into() };
        let mut system = system.split(' ');
        match system.next()? {
            "cgroup2" => self.v2.push(mount),
            "cgroup" => {
                for option in system.nth(1)?.split(',') {
                    self.v1.entry(option.to_owned()).or_default().push(mount.clone());
                }
            }
            _ => {}
        }
        Some(())
    }

    pub(super) fn v2_folder(&self, path: &str) -> Option<PathBuf> {
        folder(&self.v2, path)
    }

    pub(super) fn v1_folder(&self, controller: &str, path: &str) -> Option<PathBuf> {
        folder(self.v1.get(controller)?, path)
    }
}

fn folder(views: &[Mount], path: &str) -> Option<PathBuf> {
    // A group above one's own namespace (`/../..`) is not in any view.
    if Path::new(path).components().any(|part| part == Component::ParentDir) {
        return None;
    }
    let inside = |mount: &Mount| {
        let below = Path::new(path).strip_prefix(&mount.root).ok()?;
        let folder = mount.point.join(below);
        folder.is_dir().then_some(folder)
    };
    views.iter().find_map(inside)
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut parts = text.split('\\');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_view_of_a_hierarchy_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let text = format!(
            "30 24 0:26 /kubepods/pod1 {at}/own ro - cgroup2 cgroup rw\n31 24 0:26 / {at}/ho\\040st rw shared:4 - cgroup2 cgroup rw,nsdelegate\n\
             32 24 0:27 / {at}/cpu,cpuacct rw shared:5 master:1 - cgroup cgroup rw,cpu,cpuacct\n33 24 0:5 / /dev rw - devtmpfs udev rw\nbroken\n"
        );
        for name in ["own/c1", "ho st/kubepods/pod1/c1", "ho st/kubepods/pod2", "cpu,cpuacct/a"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let mounts = Mounts::of(&text);
        let v2 =
            |path| mounts.v2_folder(path).map(|found| found.strip_prefix(folder.path()).unwrap().to_owned());
        assert_eq!(v2("/kubepods/pod1/c1").as_deref(), Some(Path::new("ho st/kubepods/pod1/c1")));
        assert_eq!(v2("/kubepods/pod2").as_deref(), Some(Path::new("ho st/kubepods/pod2")));
        assert_eq!((v2("/kubepods/pod3"), v2("/../pod2")), (None, None));
        assert!(mounts.v1_folder("cpu", "/a").is_some() && mounts.v1_folder("cpuacct", "/a").is_some());
        assert_eq!((mounts.v1_folder("memory", "/a"), mounts.v1_folder("rw", "/b")), (None, None));

        let alone = Mounts::of(text.lines().next().unwrap());
        assert!(alone.v2_folder("/kubepods/pod1/c1").is_some());
        assert_eq!(alone.v2_folder("/kubepods/pod2"), None);
    }

    #[test]
    fn names_are_unescaped() {
        assert_eq!(unescape(r"/a\040b\134c\011"), "/a b\\c\t");
        assert_eq!(unescape(r"a\9"), r"a\9");
    }
}
