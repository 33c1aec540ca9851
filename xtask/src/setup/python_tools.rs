//! What only tests need of Python: a validator that brings the published schemas of Kubernetes along, and the builders of
//! Grafana's schema that dashboards are made with.
//!
//! They live in an environment of their own in the build folder. Where there is no Python that can make one, the tests that need it
//! are skipped and say so.

use super::{Fetched, Machine, Step};
use crate::shell;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// What is installed, and what shows that it is.
const PACKAGES: [(&str, &str); 2] = [
    // With the schemas up to Kubernetes 1.37.
    ("kubernetes-validate==1.37.0", "kubernetes_validate-1.37.0.dist-info"),
    // That of Grafana 11.6; the number before it is of the builders.
    ("grafana-foundation-sdk==1769699379!11.6.0", "grafana_foundation_sdk-1769699379!11.6.0.dist-info"),
];

pub(super) struct PythonTools {
    folder: PathBuf,
}

impl PythonTools {
    pub(super) fn new(machine: &Machine) -> Self {
        Self { folder: machine.place.tools().join("python") }
    }

    fn install(&self) -> Result<()> {
        shell::captured(Command::new("python3").args(["-m", "venv"]).arg(&self.folder))?;
        let mut pip = Command::new(self.folder.join("bin/pip"));
        pip.args(["install", "-q", "--disable-pip-version-check"]).args(PACKAGES.map(|(package, _)| package));
        shell::captured(&mut pip).map(drop)
    }
}

impl Step for PythonTools {
    fn name(&self) -> String {
        PACKAGES.map(|(package, _)| package.replace("==", " ")).join(", ")
    }

    fn missing(&self) -> Option<String> {
        let libraries = std::fs::read_dir(self.folder.join("lib")).into_iter().flatten().flatten();
        let places: Vec<PathBuf> = libraries.map(|python| python.path().join("site-packages")).collect();
        let missing = PACKAGES.iter().find(|(_, mark)| !places.iter().any(|place| place.join(mark).is_dir()));
        missing.map(|(package, _)| format!("no {package} for tests in the build folder"))
    }

    fn fetch(&self, _machine: &Machine) -> Result<Fetched> {
        Ok(match self.install() {
            Ok(()) => Fetched::From(format!("installed into {}", self.folder.display())),
            Err(error) => Fetched::Unavailable(format!("{error:#}; install python3 with its venv")),
        })
    }
}
