//! What the agent costs, in the kernel and beside it, what it costs the server, and how right it is.
//!
//! In: the agent's binary, root rights, a node without another agent. Out: a [`Report`] of figures, each
//! beside its budget. Judges nothing: figures of a busy or virtual machine are what they are.

mod accuracy;
mod beside;
mod books;
mod coverage;
mod drift;
mod floor;
mod gpu;
pub mod gpu_node;
mod interval;
mod kernel;
mod load;
mod node;
pub(crate) mod process;
mod report;
mod runs;
mod scene;
mod scheduler;
mod scrape;
mod server;
mod traffic;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

pub use beside::{Beside, PAIRS_MAX, PAIRS_MIN};
pub use interval::Interval;
pub use node::Node;
pub use process::{kernel_bytes, memory_bytes};
pub use report::{Figure, FloorRow, KernelRow, ProgramRow, Report};
pub use server::serve;

use floor::Floor;
use scene::Scene;

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The kernel's own primitives, net of an empty program (15 s)
    Floor,
    /// The kernel programs in every situation (1 min; has the floor in it)
    Kernel,
    /// Processor time idle and loaded, coverage at the highest rates, memory, the page (1 min)
    Load,
    /// Eight simulated GPUs, read once and ten times a second (1.5 min)
    Gpu,
    /// Ten million predictions scored again and again while requests are measured (40 s)
    Drift,
    /// Every time against the packets on the wire (20 s)
    Accuracy,
    /// What a server loses by the agent, in pairs with and without (2 min)
    Ab,
    /// The same, and beside what one would attach instead (6 min; has `ab` in it)
    Beside,
}

/// Everything, in this order. `Ab` is in `Beside`.
pub const PARTS: [Part; 7] =
    [Part::Floor, Part::Kernel, Part::Load, Part::Gpu, Part::Drift, Part::Accuracy, Part::Beside];

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The folder of the agent's binary and of the servers'.
    pub programs: PathBuf,
    pub parts: Vec<Part>,
    /// Pairs of the comparison with and without an observer.
    pub pairs: usize,
}

impl Wish {
    fn wants(&self, parts: &[Part]) -> bool {
        parts.iter().any(|part| self.parts.contains(part))
    }

    fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
}

/// Lines of the budget that this cannot measure.
const NOT_MEASURED: [&str; 2] = [
    "attribution: `cargo xtask faults` measures it",
    "GPU poll, a driver's own part of it: the GPUs of `gpu` are simulated",
];

/// Measures what is asked for; what goes on is said on standard error.
///
/// # Errors
///
/// Where this user is not root, another agent runs, or a part cannot be started.
pub fn measure(wish: &Wish) -> Result<Report> {
    if !rustix::process::geteuid().is_root() {
        bail!("kernel programs need root");
    }
    beside::check_pairs(wish.pairs)?;
    let folder = tempfile::tempdir().context("make a folder for logs")?;
    let mut report = Report { node: Node::read(), not_measured: NOT_MEASURED.to_vec(), ..Report::default() };
    let floor = if wish.wants(&[Part::Floor, Part::Kernel]) { measure_floor(&mut report) } else { None };
    if wish.wants(&[Part::Gpu]) {
        say("eight simulated GPUs");
        report.figures.extend(gpu::figures()?);
    }
    if wish.wants(&[Part::Drift]) {
        say("ten million predictions");
        let (agent, demo_server) = (wish.program("inferscope"), wish.program("inferscope-demo-server"));
        report.figures.extend(drift::figures(&agent, &demo_server, folder.path())?);
    }
    if wish.wants(&[Part::Kernel, Part::Load, Part::Accuracy]) {
        measure_one_agent(wish, floor.as_ref(), folder.path(), &mut report)?;
    }
    if wish.wants(&[Part::Ab, Part::Beside]) {
        report.beside = Some(beside::compare(&beside::Wish {
            agent: &wish.program("inferscope"),
            demo_server: &wish.program("inferscope-demo-server"),
            folder: folder.path(),
            pairs: wish.pairs,
            others: wish.wants(&[Part::Beside]),
        })?);
    }
    Ok(report)
}

/// `None` where the kernel takes none of the programs: that is said, and the rest measured.
fn measure_floor(report: &mut Report) -> Option<Floor> {
    say("the kernel's primitives");
    match Floor::measure() {
        Ok(floor) => {
            report.empty_ns = Some(floor.empty_ns);
            report.floor = floor.rows();
            Some(floor)
        }
        Err(error) => {
            report.skipped.push(format!("floor and kernel programs: {error:#}"));
            None
        }
    }
}

/// Everything for which an agent runs on and on.
fn measure_one_agent(wish: &Wish, floor: Option<&Floor>, folder: &Path, report: &mut Report) -> Result<()> {
    let demo_server = wish.program("inferscope-demo-server");
    let scene = Scene::start(&wish.program("inferscope"), folder)?;
    report.figures.extend(load::start_figures(&scene)?);
    if wish.wants(&[Part::Load]) {
        say("an idle agent");
        report.figures.extend(load::idle_figures(&scene)?);
    }
    if let Some(floor) = floor.filter(|_| wish.wants(&[Part::Kernel])) {
        say("kernel programs");
        report.kernel = kernel::rows(&scene, floor)?;
        report.figures.extend(scheduler::figures(&scene, floor.empty_ns)?);
        report.figures.push(kernel::exec_figure(floor.empty_ns)?);
        report.figures.push(kernel::system_call_figure());
        report.programs = kernel::programs(floor.empty_ns);
    }
    if wish.wants(&[Part::Load]) {
        say("an agent under the load of its budget");
        report.figures.extend(load::loaded_figures(&scene, &demo_server)?);
        say("coverage at the highest rates");
        report.figures.extend(coverage::figures(&scene, &wish.program("inferscope-flood-server"))?);
    }
    if wish.wants(&[Part::Accuracy]) {
        say("accuracy");
        report.accuracy = Some(accuracy::compare(&scene, &demo_server, folder)?);
    }
    if wish.wants(&[Part::Load]) {
        say("the agent's page");
        // Last: it takes every place that there is for models.
        report.figures.extend(scrape::figures(&scene, &demo_server)?);
    }
    report.figures.extend(load::memory_figures(&scene)?);
    report.figures.push(scene.lost_figure()?);
    scene.stop()
}

fn say(what: &str) {
    eprintln!("bench: measuring {what}");
}
