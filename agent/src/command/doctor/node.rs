//! The files of a node that tell what it allows. The roots are parameters, so a folder is a node.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::gpu::nvml::Places;
use crate::probe::btf::KernelTypes;

/// A machine, as its files show it.
#[derive(Clone, Debug)]
pub struct Node {
    /// `/proc`.
    pub proc: PathBuf,
    /// `/sys`.
    pub sys: PathBuf,
    /// As in `std::env::consts::ARCH`.
    pub arch: String,
    /// Where the library of GPUs may be.
    pub gpus: Places,
}

impl Node {
    /// The machine this runs on.
    #[must_use]
    pub fn this() -> Self {
        Self {
            proc: "/proc".into(),
            sys: "/sys".into(),
            arch: std::env::consts::ARCH.to_owned(),
            gpus: Places::of_node(None),
        }
    }

    /// A file of `/proc`, trimmed.
    pub(super) fn proc(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.proc.join(path)).ok().map(|text| text.trim().to_owned())
    }

    /// There is such a file or folder in `/sys`.
    pub(super) fn has_sys(&self, path: &str) -> bool {
        self.sys.join(path).exists()
    }

    /// Major and minor version of the kernel.
    pub(super) fn version(&self) -> Option<(u32, u32)> {
        let release = self.proc("sys/kernel/osrelease")?;
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    /// Number of one of this process's namespaces.
    pub(super) fn namespace(&self, kind: &str) -> Option<u64> {
        let link = fs::read_link(self.proc.join("self/ns").join(kind)).ok()?;
        link.to_str()?.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
    }

    /// This process's effective capabilities as a bit set.
    pub(super) fn capabilities(&self) -> Option<u64> {
        let status = self.proc("self/status")?;
        let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(set.trim(), 16).ok()
    }

    /// The soft limit of locked memory in bytes; `u64::MAX` is none.
    pub(super) fn memory_lock(&self) -> Option<u64> {
        let limits = self.proc("self/limits")?;
        let soft = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
        match soft.split_whitespace().next()? {
            "unlimited" => Some(u64::MAX),
            bytes => bytes.parse().ok(),
        }
    }

    /// The kernel's types, by the reader that a start uses.
    pub(super) fn kernel_types(&self) -> Result<KernelTypes> {
        KernelTypes::read(&self.sys.join("kernel/btf/vmlinux"))
    }
}
