//! Is the model still as good? Predictions in files, scored against a baseline and the truth, and results of evaluations.
//!
//! What is here is computed from values alone, or reads files in threads that nothing waits for. In: the settings. Out:
//! [`Standings`], once a second, which `signal/drift` and `signal/mmlu` export.

pub mod change;
pub mod files;
pub mod mmlu;
pub mod npy;
pub mod score;
pub mod settings;
pub mod state;
pub mod watch;

use anyhow::Result;

use watch::Watch;

/// The threads, as the pipeline has them.
#[derive(Debug, Default)]
pub struct Quality {
    predictions: Watch<files::Standing>,
    evaluations: Watch<mmlu::watched::Standing>,
}

/// What is known at a tick.
#[derive(Clone, Debug, Default)]
pub struct Standings {
    /// By entry of `drift.files`.
    pub predictions: Vec<files::Standing>,
    /// By entry of `mmlu.results`.
    pub evaluations: Vec<mmlu::watched::Standing>,
}

impl Quality {
    /// Starts what is configured: only once rights were given up.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(&self, drift: &settings::Settings, mmlu: &mmlu::settings::Settings) -> Result<()> {
        self.predictions.start("predictions", files::entries(&drift.files))?;
        self.evaluations.start("evaluations", mmlu::watched::entries(mmlu))
    }

    #[must_use]
    pub fn newest(&self) -> Standings {
        Standings { predictions: self.predictions.newest(), evaluations: self.evaluations.newest() }
    }
}
