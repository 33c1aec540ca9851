//! Where things are: the workspace, cargo's build folder, and what is kept in it.
//!
//! In: this program's own path and cargo's environment. Out: paths. Nothing is created here but [`Place::work`].

use anyhow::{Context as _, Result};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The folders every verb works with.
#[derive(Debug, Clone)]
pub struct Place {
    /// The workspace's root.
    pub root: PathBuf,
    /// Cargo's build folder, wherever the configuration puts it.
    pub build: PathBuf,
}

impl Place {
    /// # Errors
    /// When this program does not lie where cargo builds it.
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("find the workspace")?;
        // Cargo built this program as BUILD/PROFILE/xtask: no setting that moves the folder can be missed.
        let own = env::current_exe().context("find the path of this program")?;
        let build = own.ancestors().nth(2).context("find cargo's build folder")?;
        Ok(Self { root: root.to_owned(), build: build.to_owned() })
    }

    /// A built program of this workspace, e.g. `binary("release", "inferscope")`.
    pub fn binary(&self, profile: &str, name: &str) -> PathBuf {
        self.build.join(profile).join(name)
    }

    /// Programs that only tests need, unpacked here so that the machine stays as it is.
    pub fn tools(&self) -> PathBuf {
        self.build.join("tools")
    }

    /// Where `package` leaves what it makes.
    pub fn packages(&self) -> PathBuf {
        self.build.join("package")
    }

    /// The system of emulated machines: one static program.
    pub fn busybox(&self) -> PathBuf {
        self.tools().join("busybox")
    }

    /// A folder for logs and state of one piece of work, made if absent.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn work(&self, name: &str) -> Result<PathBuf> {
        let folder = self.build.join("xtask").join(name);
        fs::create_dir_all(&folder).with_context(|| format!("make folder {}", folder.display()))?;
        Ok(folder)
    }
}
