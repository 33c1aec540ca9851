//! The files of an emulated machine: an archive that the kernel unpacks into its memory (cpio, format `newc`).
//!
//! In: programs of this machine, with the shared libraries they need, and texts. Out: one file. It is not compressed:
//! to unpack takes an emulated processor longer than to read.

use crate::shell;
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

const FOLDER_MODE: u32 = 0o040_755;
const FILE_MODE: u32 = 0o100_644;
const PROGRAM_MODE: u32 = 0o100_755;
const LAST_ENTRY: &str = "TRAILER!!!";

/// Sorted by path, so that a folder stands before what lies in it.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<PathBuf, Entry>);

#[derive(Debug)]
enum Entry {
    Folder,
    Program(PathBuf),
    Text(String),
}

impl Tree {
    /// A program of this machine, and the libraries that the loader finds for it here, at the same places.
    ///
    /// # Errors
    /// When it is not there or `guest` is no absolute path.
    pub fn program(&mut self, source: &Path, guest: &Path) -> Result<()> {
        self.put(guest, Entry::Program(source.to_owned()))?;
        // It fails on a static program, which needs none.
        let listed = shell::captured(Command::new("ldd").arg(source)).unwrap_or_default();
        for library in libraries(&listed) {
            self.put(&library, Entry::Program(library.clone()))?;
        }
        Ok(())
    }

    /// # Errors
    /// When `guest` is no absolute path.
    pub fn text(&mut self, guest: &str, text: impl Into<String>) -> Result<()> {
        self.put(Path::new(guest), Entry::Text(text.into()))
    }

    /// # Errors
    /// When a program cannot be read or the archive not be written.
    pub fn write(&self, file: &Path) -> Result<()> {
        let out = File::create(file).with_context(|| format!("create {}", file.display()))?;
        let mut archive = Archive { out: BufWriter::new(out), entries: 0 };
        for (path, entry) in &self.0 {
            match entry {
                Entry::Folder => archive.add(path, FOLDER_MODE, &[]),
                Entry::Text(text) if text.starts_with("#!") => {
                    archive.add(path, PROGRAM_MODE, text.as_bytes())
                }
                Entry::Text(text) => archive.add(path, FILE_MODE, text.as_bytes()),
                Entry::Program(source) => {
                    let bytes = fs::read(source).with_context(|| format!("read {}", source.display()))?;
                    archive.add(path, PROGRAM_MODE, &bytes)
                }
            }
            .with_context(|| format!("write {}", file.display()))?;
        }
        archive
            .add(Path::new(LAST_ENTRY), 0, &[])
            .and_then(|()| Ok(archive.out.flush()?))
            .context("end the archive")
    }

    fn put(&mut self, guest: &Path, entry: Entry) -> Result<()> {
        if !guest.is_absolute() || guest.components().any(|part| part == Component::ParentDir) {
            bail!("{} is no plain absolute path for a guest", guest.display());
        }
        let inside: PathBuf = guest.components().skip(1).collect();
        for above in inside.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            self.0.entry(above.to_owned()).or_insert(Entry::Folder);
        }
        self.0.insert(inside, entry);
        Ok(())
    }
}

/// Paths in the lines of `ldd`: `libc.so.6 => /lib/libc.so.6 (0x7f)`, `/lib64/ld-linux-x86-64.so.2 (0x7f)`.
fn libraries(listed: &str) -> Vec<PathBuf> {
    let words = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

struct Archive<W> {
    out: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    /// One header of 13 numbers in eight hexadecimal digits, the name, the bytes; each part filled up to a multiple
    /// of four.
    fn add(&mut self, path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
        self.entries += 1;
        let name = path.as_os_str().as_encoded_bytes();
        let length = u32::try_from(bytes.len()).context("a file of 4 GiB fits no archive")?;
        let name_length = u32::try_from(name.len() + 1).context("name a file")?;
        let links = if mode == FOLDER_MODE { 2 } else { 1 };
        let header = [self.entries, mode, 0, 0, links, 0, length, 0, 0, 0, 0, name_length, 0];
        let mut head = String::from("070701");
        head.extend(header.iter().map(|number| format!("{number:08x}")));
        self.out.write_all(head.as_bytes())?;
        self.out.write_all(name)?;
        self.out.write_all(&[0])?;
        self.fill(head.len() + name.len() + 1)?;
        self.out.write_all(bytes)?;
        self.fill(bytes.len())
    }

    fn fill(&mut self, written: usize) -> Result<()> {
        Ok(self.out.write_all(&[0; 3][..written.next_multiple_of(4) - written])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_the_loader_lists() {
        let listed = "\tlinux-vdso.so.1 (0x7ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f05)\n\
                      \tlibgone.so => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x7f06)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(libraries(listed), expected);
        assert_eq!(libraries("\tnot a dynamic executable\n"), Vec::<PathBuf>::new());
    }

    #[test]
    fn folders_stand_before_what_lies_in_them() {
        let mut tree = Tree::default();
        tree.text("/etc/deep/name", "x").unwrap();
        tree.text("/etc/deep/also", "x").unwrap();
        let paths: Vec<_> = tree.0.keys().map(|path| path.display().to_string()).collect();
        assert_eq!(paths, ["etc", "etc/deep", "etc/deep/also", "etc/deep/name"]);
        assert!(tree.text("etc/relative", "x").is_err());
        assert!(tree.text("/etc/../../up", "x").is_err());
    }

    #[test]
    fn an_entry_is_header_name_and_bytes_in_multiples_of_four() {
        let mut archive = Archive { out: Vec::new(), entries: 0 };
        archive.add(Path::new("etc/name"), FILE_MODE, b"hello").unwrap();
        let header = "070701000000010000\
                      81a40000000000000000000000010000000000000005\
                      000000000000000000000000000000000000000900000000";
        let mut expected = header.as_bytes().to_vec();
        expected.extend(b"etc/name\0\0hello\0\0\0");
        // 110 bytes of header and 9 of name make 119: one more to fill.
        assert_eq!(String::from_utf8(archive.out).unwrap(), String::from_utf8(expected).unwrap());
    }
}
