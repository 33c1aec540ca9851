//! Files of secrets: read whole and bounded, told apart from what they were.
//!
//! In: a path, which may be a link to a link: each look follows them anew. Out: bytes, a [`Stamp`], and whether others may
//! read it. What is in a file is never in an error.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// Longest file: a bundle of all public authorities is a quarter of it.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Of a file's mode: everybody may read it.
const OTHERS_READ: u32 = 0o004;

/// All bytes of a file.
///
/// # Errors
/// It cannot be read, is no plain file, or is too long.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).context("open it")?;
    // A pipe would never end; a folder cannot be read.
    ensure!(file.metadata().context("look at it")?.is_file(), "it is no plain file");
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).context("read it")?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        bail!("it is larger than {FILE_BYTES_MAX} bytes");
    }
    Ok(bytes)
}

/// The lines of a file that say something, numbered from 1: neither empty nor behind a `#`.
///
/// # Errors
/// It is no text.
pub(super) fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = (usize, &str)>> {
    let text = std::str::from_utf8(bytes).ok().context("it is no text in UTF-8")?;
    let lines = text.lines().enumerate().map(|(place, line)| (place + 1, line.trim()));
    Ok(lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')))
}

/// What a file is, as far as can be seen from outside: another one, or one that was written again, differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    file: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file at `path` now; none where there is none.
    pub(super) fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|about| Self {
            file: (about.dev(), about.ino()),
            bytes: about.len(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }
}

/// Whether everybody on the machine may read it.
pub(super) fn is_open(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|about: Metadata| about.mode() & OTHERS_READ != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_is_no_plain_short_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("long");
        fs::write(&long, vec![b'a'; FILE_BYTES_MAX as usize + 1]).unwrap();
        let check = |path: &Path, expected: &str| {
            let said = format!("{:#}", read(path).unwrap_err());
            assert!(said.contains(expected), "{said}");
        };
        check(&long, "larger than");
        check(folder.path(), "no plain file");
        check(Path::new("/dev/zero"), "no plain file");
        check(&folder.path().join("absent"), "No such file");
    }

    #[test]
    fn lines_that_say_nothing_are_passed_over() {
        let found: Vec<_> = lines(b"# old\r\n\r\n one \r\n\ttwo").unwrap().collect();
        assert_eq!(found, [(3, "one"), (4, "two")]);
        assert!(lines(b"\xff").is_err());
    }

    /// As Kubernetes mounts secrets: `token` -> `..data/token`, `..data` -> `..2026`, which is exchanged.
    #[test]
    fn a_link_that_leads_elsewhere_is_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["one", "two"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("token"), version).unwrap();
        }
        symlink("one", at("..data")).unwrap();
        symlink("..data/token", at("token")).unwrap();
        let first = Stamp::of(&at("token"));
        assert_eq!((first, read(&at("token")).unwrap()), (Stamp::of(&at("token")), b"one".to_vec()));
        symlink("two", at("next")).unwrap();
        fs::rename(at("next"), at("..data")).unwrap();
        assert_ne!(Stamp::of(&at("token")), first);
        assert_eq!(read(&at("token")).unwrap(), b"two");
        fs::remove_file(at("..data")).unwrap();
        assert_eq!(Stamp::of(&at("token")), None);
    }

    #[test]
    fn who_may_read_it_is_seen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (mode, open) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true)] {
            fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            assert_eq!(is_open(file.path()), open, "{mode:o}");
        }
    }
}
