//! Where the simulated library lies, and copies of it with a scenario or a lack of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::boot_ns;
use crate::library::meter::{self, Spent};
use crate::scenario::Scenario;
use crate::truth::At;

const FILE: &str = "libnvml_sim.so";
/// As the agent finds it by itself.
const INSTALLED: &str = "libnvidia-ml.so.1";

/// The shared library of this build: tests lie beside it in `deps`, programs above it.
///
/// # Panics
/// It was not built: what asks does not depend on this crate.
#[must_use]
pub fn library() -> PathBuf {
    let program = std::env::current_exe().expect("a program knows where it lies");
    let folder = program.parent().expect("a program lies in a folder");
    let places = [folder.join(FILE), folder.join("deps").join(FILE)];
    places.into_iter().find(|place| place.is_file()).expect("the simulated library is built beside its users")
}

/// A library with a scenario of its own, and the truth about it.
#[derive(Debug)]
pub struct Installed {
    pub library: PathBuf,
    pub scenario: Scenario,
    /// When it began, nanoseconds since boot.
    pub start_boot_ns: u64,
}

/// Copies the library into this folder, and beside it the scenario, which begins now unless it says when. The copy
/// finds it there, so that several can be loaded in one process, each with its own.
///
/// # Errors
/// The scenario is none, or a file cannot be written.
pub fn install(folder: &Path, text: &str) -> Result<Installed> {
    install_aged(folder, text, Duration::ZERO)
}

/// As [`install`], of a scenario that began so long ago.
///
/// # Errors
/// As [`install`]; or the scenario says itself when it began, or the machine was not up so long ago.
pub fn install_aged(folder: &Path, text: &str, age: Duration) -> Result<Installed> {
    let own = Scenario::parse(text)?.start_boot_ns;
    ensure!(own.is_none() || age.is_zero(), "the scenario has a beginning of its own");
    let age_ns = u64::try_from(age.as_nanos()).context("the age of a scenario")?;
    let begun = boot_ns().checked_sub(age_ns).context("the machine was not up when the scenario began")?;
    let start_boot_ns = own.unwrap_or(begun);
    let start = if own.is_some() { String::new() } else { format!("start_boot_ns = {start_boot_ns}\n") };
    let library = folder.join(INSTALLED);
    fs::copy(crate::library(), &library).with_context(|| format!("copy to {}", library.display()))?;
    let beside = beside(&library);
    fs::write(&beside, start + text).with_context(|| format!("write {}", beside.display()))?;
    Ok(Installed { library, scenario: Scenario::load(&beside)?, start_boot_ns })
}

impl Installed {
    /// The truth now.
    #[must_use]
    pub fn now(&self) -> At<'_> {
        self.scenario.at(boot_ns())
    }

    /// What the calls of this library took since this was asked first, which begins to meter them: a little time each.
    ///
    /// # Errors
    /// This process has not loaded it.
    pub fn spent(&self) -> Result<Spent> {
        meter::spent(&self.library)
    }
}

/// The scenario that belongs to a copy of the library.
pub(crate) fn beside(library: &Path) -> PathBuf {
    let mut name = library.as_os_str().to_owned();
    name.push(".toml");
    PathBuf::from(name)
}

/// Takes symbols out of a copy of the library, as if it were older: who looks for one does not find it.
///
/// # Errors
/// It has no such symbol, or cannot be read or written.
pub fn without_symbols(library: &Path, symbols: &[&str]) -> Result<()> {
    let mut bytes = fs::read(library).with_context(|| format!("read {}", library.display()))?;
    for symbol in symbols {
        // A name in a table of strings stands between zeros. With another first letter nobody asks for it.
        let name = format!("\0{symbol}\0");
        let places: Vec<usize> = (0..bytes.len())
            .filter(|at| bytes[*at] == 0 && bytes[*at..].starts_with(name.as_bytes()))
            .collect();
        if places.is_empty() {
            bail!("the library has no symbol {symbol}");
        }
        places.into_iter().for_each(|at| bytes[at + 1] = b'X');
    }
    fs::write(library, bytes).with_context(|| format!("write {}", library.display()))
}
