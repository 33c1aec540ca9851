//! Programs in Python that only tests need: a validator that brings the published schemas of Kubernetes along.
//!
//! They live in an environment of their own in the build folder. Where there is no Python that can make one, the tests that need it
//! are skipped and say so.

use super::{Fetched, Machine, Step};
use crate::shell;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

const PACKAGE: &str = "kubernetes-validate";
/// With the schemas up to Kubernetes 1.37.
const VERSION: &str = "1.37.0";

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
        pip.args(["install", "-q", "--disable-pip-version-check"]).arg(format!("{PACKAGE}=={VERSION}"));
        shell::captured(&mut pip).map(drop)
    }
}

impl Step for PythonTools {
    fn name(&self) -> String {
        format!("{PACKAGE} {VERSION}")
    }

    fn missing(&self) -> Option<String> {
        let program = self.folder.join("bin").join(PACKAGE);
        (!program.is_file()).then(|| format!("no {PACKAGE} for tests in the build folder"))
    }

    fn fetch(&self, _machine: &Machine) -> Result<Fetched> {
        Ok(match self.install() {
            Ok(()) => Fetched::From(format!("installed into {}", self.folder.display())),
            Err(error) => Fetched::Unavailable(format!("{error:#}; install python3 with its venv")),
        })
    }
}
