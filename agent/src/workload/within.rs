//! Opens a file as the process sees it that names it: inside its root, whatever links lie there.
//!
//! In: a folder and a path below it. Out: a plain file, open for reading, or nothing. Goes link by link:
//! `openat2` would do the same in one call, but a system call filter cannot see whether that call opens a
//! file for writing, so the agent gives it up.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, fstat, openat, readlinkat};

/// Links followed in one path; the kernel follows as many.
const LINKS_MAX: usize = 40;
/// Folders below the first one, each of which is a descriptor while the path is walked.
const DEPTH_MAX: usize = 64;

/// Where a path may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// The folder is the root: what leads above it, or begins with `/`, begins there.
    Root,
    /// What leads above the folder, or begins with `/`, leads nowhere.
    Below,
}

/// What is still to be walked, the next part last.
type Rest = Vec<Part>;

enum Part {
    Root,
    Up,
    Name(OsString),
}

/// Opens the plain file that `path` names in `folder`.
#[must_use]
pub fn open(folder: File, path: &Path, bounds: Bounds) -> Option<File> {
    let mut folders = vec![folder];
    let mut rest = Rest::new();
    push(&mut rest, path);
    let mut links = 0;
    while let Some(part) = rest.pop() {
        match part {
            Part::Root if bounds == Bounds::Root => folders.truncate(1),
            Part::Up if folders.len() > 1 => drop(folders.pop()),
            // Above the root is the root.
            Part::Up if bounds == Bounds::Root => {}
            Part::Root | Part::Up => return None,
            Part::Name(name) => {
                let at = folders.last()?;
                let path_only = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let found = File::from(openat(at, &name, path_only, Mode::empty()).ok()?);
                match FileType::from_raw_mode(fstat(&found).ok()?.st_mode) {
                    FileType::Directory if folders.len() <= DEPTH_MAX => folders.push(found),
                    FileType::Symlink if links < LINKS_MAX => {
                        links += 1;
                        let target = readlinkat(&found, "", Vec::new()).ok()?.into_bytes();
                        push(&mut rest, Path::new(&OsString::from_vec(target)));
                    }
                    FileType::RegularFile if rest.is_empty() => return open_plain(at, &name),
                    _ => return None,
                }
            }
        }
    }
    None
}

/// Another file may have taken the name meanwhile: a link is not followed, and a pipe does not hold the agent.
fn open_plain(folder: &File, name: &OsString) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(folder, name, flags, Mode::empty()).ok()?);
    file.metadata().ok()?.is_file().then_some(file)
}

fn push(rest: &mut Rest, path: &Path) {
    let part = |component| match component {
        Component::RootDir => Some(Part::Root),
        Component::ParentDir => Some(Part::Up),
        Component::Normal(name) => Some(Part::Name(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    };
    rest.extend(path.components().rev().filter_map(part));
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder with a root in it, and a file beside the root that nobody must reach.
    fn place() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), "inside").unwrap();
        fs::write(place.path().join("outside"), "outside").unwrap();
        for (target, link) in [
            ("b/file", "a/relative"),
            ("/a/b/file", "a/absolute"),
            ("../../outside", "a/up"),
            ("/../../outside", "a/far-up"),
            ("../a/b", "a/folder"),
            ("loop", "loop"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        place
    }

    fn read(place: &tempfile::TempDir, path: &str, bounds: Bounds) -> Option<String> {
        let folder = File::open(place.path().join("root")).unwrap();
        let mut text = String::new();
        open(folder, Path::new(path), bounds)?.read_to_string(&mut text).unwrap();
        Some(text)
    }

    #[test]
    fn links_stay_inside() {
        let place = place();
        for (path, in_root, below) in [
            ("a/b/file", true, true),
            ("/a/./b/../b/file", true, false),
            ("../a/b/file", true, false),
            ("a/relative", true, true),
            ("a/absolute", true, false),
            ("a/folder/file", true, true),
            ("a/up", false, false),
            ("a/far-up", false, false),
            ("../outside", false, false),
            ("a/b", false, false),
            ("a/b/file/more", false, false),
            ("loop", false, false),
            ("none", false, false),
            ("", false, false),
        ] {
            for (bounds, found) in [(Bounds::Root, in_root), (Bounds::Below, below)] {
                let expected = found.then(|| "inside".to_owned());
                assert_eq!(read(&place, path, bounds), expected, "{path:?}, {bounds:?}");
            }
        }
    }

    #[test]
    fn a_path_that_is_too_deep_is_given_up() {
        let place = place();
        let deep = |depth: usize| "d/".repeat(depth) + "file";
        fs::create_dir_all(place.path().join("root").join("d/".repeat(DEPTH_MAX + 1))).unwrap();
        for depth in [DEPTH_MAX, DEPTH_MAX + 1] {
            fs::write(place.path().join("root").join(deep(depth)), "deep").unwrap();
            let expected = (depth <= DEPTH_MAX).then(|| "deep".to_owned());
            assert_eq!(read(&place, &deep(depth), Bounds::Root), expected, "{depth} folders");
        }
    }
}
