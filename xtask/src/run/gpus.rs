//! GPUs for a machine that has none: the driver's library is simulated, and a scenario says what is true of them.
//!
//! In: a scenario, a file or the name of one that comes with the library. Out: the agent's settings that make it load
//! that library, and a file in which the scenario finds the demonstration server's pid.

use crate::build::Profile;
use crate::child::Running;
use crate::place::Place;
use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// By this variable the library finds its scenario.
const VARIABLE: &str = "NVML_SIM_SCENARIO";
/// Cargo leaves a library that others depend on beside them, not where programs lie.
const LIBRARY: &str = "deps/libnvml_sim.so";
/// Where scenarios for this verb look for the pid of who uses their GPUs.
const PID_FILE: &str = "demo-server.pid";

/// A simulated library and its scenario, ready for an agent.
pub(super) struct Gpus {
    library: PathBuf,
    scenario: PathBuf,
    pid_file: PathBuf,
}

impl Gpus {
    /// # Errors
    /// When there is no such scenario, or the library was not built.
    pub(super) fn prepare(place: &Place, named: &str) -> Result<Self> {
        let library = place.binary(Profile::Release.folder(), LIBRARY);
        ensure!(library.is_file(), "{} was not built", library.display());
        let source = find(&place.root.join("tests/nvml-sim/scenarios"), named)?;
        let text = fs::read_to_string(&source).with_context(|| format!("read {}", source.display()))?;
        let work = place.work("agent")?;
        // A copy: the files that a scenario names lie beside it.
        let (scenario, pid_file) = (work.join("gpu-scenario.toml"), work.join(PID_FILE));
        fs::write(&scenario, &text).with_context(|| format!("write {}", scenario.display()))?;
        // That of an earlier server could be anybody's by now.
        if pid_file.exists() {
            fs::remove_file(&pid_file).with_context(|| format!("remove {}", pid_file.display()))?;
        }
        println!("run: the GPUs are SIMULATED, by {}: {}", source.display(), sentence(&text));
        Ok(Self { library, scenario, pid_file })
    }

    pub(super) fn settings(&self) -> String {
        format!("[gpu]\nlibrary = {:?}\n\n", self.library)
    }

    pub(super) fn environment(&self) -> (&'static str, &Path) {
        (VARIABLE, &self.scenario)
    }

    /// From now on this program is who uses them, where the scenario says so.
    ///
    /// # Errors
    /// When its pid cannot be written down.
    pub(super) fn used_by(&self, program: &Running) -> Result<()> {
        fs::write(&self.pid_file, program.tgid().to_string())
            .with_context(|| format!("write {}", self.pid_file.display()))
    }
}

/// A name stands for a scenario of this project, all else is a file.
fn find(folder: &Path, named: &str) -> Result<PathBuf> {
    let own = folder.join(format!("{named}.toml"));
    if own.is_file() {
        return Ok(own);
    }
    let path = PathBuf::from(named);
    if path.is_file() {
        return Ok(path);
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.context("list scenarios")?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    bail!("`{named}` is neither a file nor one of {}", names.join(" "))
}

/// A scenario's first line says what it is for.
fn sentence(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_start_matches(['#', ' '])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenarios() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/nvml-sim/scenarios")
    }

    #[test]
    fn scenarios_are_found_by_name_and_by_path() {
        let demo = find(&scenarios(), "demo").unwrap();
        assert_eq!(find(&scenarios(), demo.to_str().unwrap()).unwrap(), demo);
        let error = find(&scenarios(), "warm").expect_err("there is none").to_string();
        assert!(error.contains("heating") && error.contains("`warm`"), "{error}");
    }

    #[test]
    fn the_scenario_for_people_looks_for_the_pid_where_it_is_written() {
        let text = fs::read_to_string(find(&scenarios(), "demo").unwrap()).unwrap();
        assert!(text.contains(PID_FILE) && sentence(&text).ends_with('.'));
    }
}
