//! The stack: everything at once on this node, one fault after the other, and who hears of it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use inferscope_tests::stack::remedy::Remedy;
use inferscope_tests::stack::run;
use inferscope_tests::stack::scene::Place;
use inferscope_tests::stack::services::Tools;

/// Raises every alert by its fault. Needs root, and that no other agent runs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The folder of the agent's binary and of the servers'.
    #[arg(long)]
    programs: PathBuf,
    /// The folder of Prometheus, Alertmanager and the environment of Ansible.
    #[arg(long)]
    tools: PathBuf,
    /// The repository.
    #[arg(long)]
    root: PathBuf,
    /// Write the result as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let folder = tempfile::tempdir()?;
    // Programs run in folders of their own.
    let whole = |path: &Path| path.canonicalize().with_context(|| format!("find {}", path.display()));
    let (programs, tools, root) =
        (whole(&arguments.programs)?, whole(&arguments.tools)?, whole(&arguments.root)?);
    let services = Tools {
        prometheus: tools.join("prometheus-2/prometheus"),
        alertmanager: tools.join("alertmanager/prometheus-alertmanager"),
        deploy: root.join("deploy"),
    };
    let place = Place {
        agent: programs.join("inferscope"),
        programs,
        tests: root.join("tests"),
        folder: folder.path().to_owned(),
    };
    let ansible = tools.join("remediation");
    if let Some(why) = Remedy::missing(&ansible) {
        bail!("remedies cannot be tried: {why}");
    }
    let report = run(&services, place, &ansible)?;
    print!("{report}");
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("write {}", path.display()))?;
    }
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
