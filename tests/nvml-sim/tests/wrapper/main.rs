//! What a scenario says is what the real wrapper reads from the simulated library: each preset's main facts, and the
//! traps of the real library.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]
#![allow(unsafe_code, reason = "calls that the wrapper has not")]

mod failures;
mod presets;
mod traps;

use std::time::Duration;

use nvml_sim::{GpuAt, Installed, install_aged, preset};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use tempfile::TempDir;

/// A library of its own, and its truth. Fields are dropped in this order: the folder last.
struct Opened {
    nvml: Nvml,
    installed: Installed,
    _folder: TempDir,
}

impl Opened {
    /// A value that the library read lies between those of the truth right before and right after.
    fn bracketed(&self, truth: impl Fn(GpuAt<'_>) -> u64, read: impl FnOnce() -> u64) {
        let before = truth(self.installed.now().gpu(0).unwrap());
        let read = read();
        let after = truth(self.installed.now().gpu(0).unwrap());
        assert!((before..=after).contains(&read), "{before} {read} {after}");
    }
}

/// At this time of the scenario, seconds. What a test expects right after holds for a second at least: the machine may
/// be busy.
fn open(text: &str, age: f64) -> Opened {
    let (installed, folder) = installed(text, age);
    let nvml = init(&installed).unwrap();
    Opened { nvml, installed, _folder: folder }
}

fn installed(text: &str, age: f64) -> (Installed, TempDir) {
    let folder = TempDir::new().unwrap();
    let installed = install_aged(folder.path(), text, Duration::from_secs_f64(age)).unwrap();
    (installed, folder)
}

fn init(installed: &Installed) -> Result<Nvml, NvmlError> {
    Nvml::builder().lib_path(installed.library.as_os_str()).init()
}

fn open_preset(name: &str, age: f64) -> Opened {
    open(preset::text(name).unwrap(), age)
}
