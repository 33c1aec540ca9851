//! What the agent costs, in the kernel and beside it, and how right it is.
//!
//! In: the agent's binary, root rights, a node without another agent. Out: a [`Report`] of figures, each
//! beside its budget. Judges nothing: figures of a busy or virtual machine are what they are.

mod accuracy;
mod kernel;
mod load;
pub(crate) mod process;
mod report;
mod scene;
mod server;
mod traffic;

use std::path::Path;

use anyhow::{Context as _, Result, bail};

pub use report::{Figure, KernelRow, ProgramRow, Report};
pub use server::serve;

use scene::Scene;

/// Measures everything, or the kernel programs alone, with the programs in this folder; what goes on is said on
/// standard error.
///
/// # Errors
///
/// Where this user is not root, another agent runs, or a part cannot be started.
pub fn measure(programs: &Path, kernel_only: bool) -> Result<Report> {
    if !rustix::process::geteuid().is_root() {
        bail!("kernel programs need root");
    }
    let (agent, demo_server) = (programs.join("inferscope"), programs.join("inferscope-demo-server"));
    let folder = tempfile::tempdir().context("make a folder for logs")?;
    let mut report = Report::default();
    say("an empty program");
    let empty_ns = kernel::empty_ns()?;
    report.empty_ns = empty_ns;
    let scene = Scene::start(&agent, folder.path())?;
    report.figures.extend(load::start_figures(&scene)?);
    if !kernel_only {
        say("an idle agent");
        report.figures.extend(load::idle_figures(&scene)?);
    }
    say("kernel programs");
    report.kernel = kernel::rows(&scene, empty_ns)?;
    report.programs = kernel::programs(empty_ns);
    report.figures.push(kernel::exec_figure(empty_ns)?);
    if kernel_only {
        scene.stop()?;
        return Ok(report);
    }
    say("an agent under load");
    report.figures.extend(load::loaded_figures(&scene, &demo_server)?);
    say("accuracy");
    report.accuracy = Some(accuracy::compare(&scene, &demo_server, folder.path())?);
    report.figures.extend(load::memory_figures(&scene)?);
    report.figures.push(scene.lost_figure()?);
    scene.stop()?;
    Ok(report)
}

fn say(what: &str) {
    eprintln!("bench: measuring {what}");
}
