//! What a server runs: its arguments, its program, the files of its model. Each as a number that changes when it does.
//!
//! In: a server's first process. Out: [`Facts`]. Names of files in arguments are looked up inside the process's own root, and
//! nothing but their size and time is read.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::node::{Node, Roots};
use super::within::{self, Bounds};
use crate::digest::Digest;

/// Files of a model that are written anew with it. Weights in many parts have an index beside them.
const MODEL_FILES: [&str; 7] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-00001-of-00002.safetensors",
];
/// Options whose value is the model; after `serve` it may stand alone.
const MODEL_OPTIONS: [&str; 5] = ["--model", "--model-path", "--served-model-path", "-m", "serve"];
/// Arguments that are looked through.
const ARGUMENTS_MAX: usize = 256;

/// See the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    pub arguments: u64,
    /// Of the files that the first arguments name: another version of a server has others.
    pub program: u64,
    /// `None` where the arguments name no folder or file of a model.
    pub model_files: Option<u64>,
}

impl Facts {
    /// `None` where the process has gone.
    #[must_use]
    pub fn read(roots: &Roots, tgid: u32) -> Option<Self> {
        let proc = roots.proc.join(tgid.to_string());
        let command = Node::new(roots.clone()).command(tgid).filter(|command| !command.is_empty())?;
        let words: Vec<&[u8]> = command.split(|byte| *byte == 0).take(ARGUMENTS_MAX).collect();
        let root = || File::open(proc.join("root")).ok();
        let mut program = Digest::default();
        for word in words.iter().take(2).filter(|word| word.starts_with(b"/")) {
            add_file(&mut program, root(), Path::new(OsStr::from_bytes(word)));
        }
        let model_files = model(&words).and_then(|path| {
            let mut digest = Digest::default();
            let names = MODEL_FILES.iter().map(|name| path.join(name));
            let found =
                names.chain([path.clone()]).filter(|file| add_file(&mut digest, root(), file)).count();
            (found > 0).then(|| digest.get())
        });
        Some(Self { arguments: Digest::of(&command), program: program.get(), model_files })
    }

    /// Changes with any of them.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::default();
        for number in [self.arguments, self.program, self.model_files.unwrap_or(0)] {
            digest.add(&number.to_le_bytes());
        }
        digest.get()
    }
}

/// The path of the model, where it is one.
fn model(words: &[&[u8]]) -> Option<PathBuf> {
    let texts: Vec<&str> = words.iter().map(|word| std::str::from_utf8(word).unwrap_or_default()).collect();
    let after = texts.windows(2).find(|pair| MODEL_OPTIONS.contains(&pair[0]) && pair[1].starts_with('/'));
    let joined =
        || texts.iter().find_map(|text| text.strip_prefix("--model=").filter(|path| path.starts_with('/')));
    after.map(|pair| pair[1]).or_else(joined).map(PathBuf::from)
}

/// False where there is none.
fn add_file(digest: &mut Digest, root: Option<File>, path: &Path) -> bool {
    let file = root.and_then(|root| within::open(root, path, Bounds::Root));
    let Some(file) = file.and_then(|file| file.metadata().ok()) else { return false };
    digest.add(path.as_os_str().as_bytes());
    for number in [file.size(), file.mtime().cast_unsigned(), file.mtime_nsec().cast_unsigned()] {
        digest.add(&number.to_le_bytes());
    }
    true
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A node with one server, whose root is a folder.
    fn server(command: &[&str]) -> (tempfile::TempDir, Roots) {
        let place = tempfile::tempdir().unwrap();
        let proc = place.path().join("proc");
        fs::create_dir_all(proc.join("7")).unwrap();
        fs::create_dir_all(place.path().join("root/models/granite")).unwrap();
        fs::create_dir_all(place.path().join("root/usr/bin")).unwrap();
        fs::write(place.path().join("root/usr/bin/vllm"), "one").unwrap();
        fs::write(place.path().join("root/models/granite/config.json"), "{}").unwrap();
        symlink(place.path().join("root"), proc.join("7/root")).unwrap();
        fs::write(proc.join("7/cmdline"), command.join("\0") + "\0").unwrap();
        let roots = Roots { proc };
        (place, roots)
    }

    #[test]
    fn each_number_changes_with_what_it_is_of() {
        let (place, roots) = server(&["/usr/bin/vllm", "serve", "/models/granite", "--port", "8000"]);
        let read = || Facts::read(&roots, 7).unwrap();
        let first = read();
        assert_eq!(read(), first);
        assert!(first.model_files.is_some());
        fs::write(place.path().join("root/models/granite/config.json"), "{ }").unwrap();
        let model = read();
        assert_ne!(model.model_files, first.model_files);
        assert_eq!((model.arguments, model.program), (first.arguments, first.program));
        fs::write(place.path().join("root/usr/bin/vllm"), "another").unwrap();
        assert_ne!(read().program, first.program);
        fs::write(roots.proc.join("7/cmdline"), "/usr/bin/vllm\0serve\0/models/granite\0").unwrap();
        assert_ne!(read().arguments, first.arguments);
        assert_eq!(Facts::read(&roots, 8), None);
    }

    #[test]
    fn a_model_is_found_where_it_is_named_as_a_path() {
        for (command, path) in [
            (&["vllm", "serve", "/m"][..], Some("/m")),
            (&["python", "-m", "vllm", "--model", "/m"], Some("/m")),
            (&["llama-server", "-m", "/m/a.gguf"], Some("/m/a.gguf")),
            (&["vllm", "--model=/m"], Some("/m")),
            (&["vllm", "serve", "ibm/granite"], None),
        ] {
            let words: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
            assert_eq!(model(&words), path.map(PathBuf::from), "{command:?}");
        }
    }
}
