//! Is the model still as good? Predictions in files, scored against a baseline and the truth, and results of evaluations.
//!
//! What is here is computed from values alone, or reads files in threads that nothing waits for. In: the settings. Out:
//! [`Standings`], once a second, which `signal/drift` and `signal/mmlu` export.

pub mod change;
pub mod files;
pub mod keeper;
pub mod mmlu;
pub mod npy;
pub mod score;
pub mod servers;
pub mod settings;
pub mod state;
pub mod watch;

use anyhow::Result;

use keeper::{Keeper, KeptPair, Save};
use servers::{Look, Servers};
use watch::Watch;

use crate::workload::Roots;

/// The threads, as the pipeline has them.
#[derive(Debug, Default)]
pub struct Quality {
    predictions: Watch<files::Standing>,
    evaluations: Watch<mmlu::watched::Standing>,
    servers: Look,
    keeper: Option<Keeper>,
}

/// What is known at a tick.
#[derive(Clone, Debug, Default)]
pub struct Standings {
    /// By entry of `drift.files`.
    pub predictions: Vec<files::Standing>,
    /// By entry of `mmlu.results`.
    pub evaluations: Vec<mmlu::watched::Standing>,
    /// What the servers run.
    pub servers: Servers,
}

/// What the last run has learnt, and who takes what this one learns.
#[derive(Debug, Default)]
pub struct Learnt {
    pub kept: Vec<KeptPair>,
    pub save: Option<Save>,
}

impl Quality {
    /// Opens the state, as long as files may be opened for writing. Without one, what is learnt goes with the agent.
    #[must_use]
    pub fn open(drift: &settings::Settings) -> (Self, Learnt) {
        let Some(path) = drift.state_path().filter(|_| drift.live) else { return Default::default() };
        match Keeper::open(&path, &drift.epoch) {
            Ok((keeper, save, kept)) => {
                let quality = Self { keeper: Some(keeper), ..Self::default() };
                (quality, Learnt { kept, save: Some(save) })
            }
            Err(error) => {
                tracing::warn!("what is learnt will not be kept: {error:#}");
                Default::default()
            }
        }
    }

    /// Whether a state is kept.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.keeper.is_some()
    }

    /// Starts what is configured: only once rights were given up.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(&mut self, drift: &settings::Settings, mmlu: &mmlu::settings::Settings) -> Result<()> {
        self.predictions.start("predictions", files::entries(&drift.files))?;
        self.evaluations.start("evaluations", mmlu::watched::entries(mmlu))?;
        if drift.live {
            self.servers.start(Roots::default())?;
        }
        self.keeper.take().map_or(Ok(()), Keeper::start)
    }

    /// From now on these servers, each by its label and first process.
    pub fn follow(&self, leaders: Vec<(std::sync::Arc<str>, u32)>) {
        self.servers.follow(leaders);
    }

    #[must_use]
    pub fn newest(&self) -> Standings {
        Standings {
            predictions: self.predictions.newest(),
            evaluations: self.evaluations.newest(),
            servers: self.servers.newest(),
        }
    }
}
