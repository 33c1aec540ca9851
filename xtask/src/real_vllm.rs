//! The real vLLM of `tests/real-vllm`: where it is, how it is installed, and what it needs on a small machine.
//!
//! In: CPython 3.12, the recipe. Out: an installed server, and the environment of what starts one.

use crate::place::Place;
use crate::shell;
use anyhow::{Context as _, Result};
use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Two API servers on two busy processors take a minute.
const START_LIMIT: Duration = Duration::from_secs(300);

pub struct RealVllm {
    /// The recipe's scripts.
    recipe: PathBuf,
    /// Where this user's caches are: root has others.
    cache: PathBuf,
    /// The installed server.
    pub installed: PathBuf,
}

impl RealVllm {
    /// # Errors
    /// When there is no place to install it.
    pub fn find(place: &Place) -> Result<Self> {
        let cache = cache_folder()?;
        let installed = cache.join("inferscope/real-vllm");
        Ok(Self { recipe: place.root.join("tests/real-vllm"), cache, installed })
    }

    /// Installs what is not there yet; `rust`: its Rust front end, too.
    ///
    /// # Errors
    /// When the recipe fails; it has said why.
    pub fn set_up(&self, rust: bool) -> Result<()> {
        let mut setup = Command::new(self.recipe.join("setup"));
        setup.arg(&self.installed).env("WITH_RUST", if rust { "1" } else { "0" });
        shell::shown(&mut setup).context("set up the real vLLM server (tests/real-vllm/README.md)")
    }

    /// As [`shell::again_as_root`], with the same server.
    pub fn again_as_root(&self) -> anyhow::Error {
        shell::again_as_root(&[("XDG_CACHE_HOME", &self.cache)])
    }

    /// The script that starts a server.
    pub fn script(&self) -> PathBuf {
        self.recipe.join("serve")
    }

    /// Hands on what the script should know, to itself or to a program that runs it.
    pub fn prepare(command: &mut Command) {
        command.env("WAIT", START_LIMIT.as_secs().to_string());
        // Bound to one processor, vLLM's worker starves whatever else has to run there on a small machine.
        if env::var_os("VLLM_CPU_OMP_THREADS_BIND").is_none() {
            command.env("VLLM_CPU_OMP_THREADS_BIND", "nobind");
        }
    }
}

/// As the recipe: `XDG_CACHE_HOME`, else `~/.cache`.
fn cache_folder() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("XDG_CACHE_HOME") {
        return Ok(folder.into());
    }
    Ok(env::home_dir().context("find the home folder; set XDG_CACHE_HOME")?.join(".cache"))
}
