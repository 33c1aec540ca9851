//! Is the model still as good? Predictions in files, scored against a baseline and the truth, results of evaluations, and
//! questions that the agent asks itself.
//!
//! What is here is computed from values alone, or in threads that nothing waits for. In: the settings. Out: [`Standings`], once
//! a second, which `signal/drift`, `signal/mmlu` and `signal/canary` export.

pub mod canary;
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

use std::sync::Arc;

use anyhow::Result;

use canary::asker::Canary;
use canary::outcome::LastRun;
use keeper::{Keeper, KeptPair, Save};
use servers::{Look, Servers};
use watch::Watch;

use crate::request::record::OpenRequest;
use crate::workload::{Roots, Workloads};

/// The threads, as the pipeline has them.
#[derive(Debug, Default)]
pub struct Quality {
    predictions: Watch<files::Standing>,
    evaluations: Watch<mmlu::watched::Standing>,
    servers: Look,
    canary: Option<Canary>,
    last_run: Option<LastRun>,
    keeper: Option<Keeper>,
    save: Option<Save>,
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
    /// Where there is one.
    pub canary: Option<canary::Standing>,
}

/// What the last run has learnt, and who takes what this one learns.
#[derive(Debug, Default)]
pub struct Learnt {
    pub kept: Vec<KeptPair>,
    pub save: Option<Save>,
}

impl Quality {
    /// Opens what may not be opened later. Without a state, what is learnt goes with the agent.
    ///
    /// # Errors
    /// There is no canary to be had.
    pub fn open(drift: &settings::Settings, canary: &canary::settings::Settings) -> Result<(Self, Learnt)> {
        let canary = canary.enabled.then(|| Canary::new(canary)).transpose()?;
        let mut quality = Self { canary, ..Self::default() };
        let keeps = drift.live || quality.canary.is_some();
        let Some(path) = drift.state_path().filter(|_| keeps) else {
            return Ok((quality, Learnt::default()));
        };
        match Keeper::open(&path, &drift.epoch) {
            Ok((keeper, save)) => {
                let content = keeper.content().clone();
                quality.last_run = content.canary;
                quality.save = Some(save.clone());
                quality.keeper = Some(keeper);
                Ok((quality, Learnt { kept: content.pairs, save: Some(save) }))
            }
            Err(error) => {
                tracing::warn!("what is learnt will not be kept: {error:#}");
                Ok((quality, Learnt::default()))
            }
        }
    }

    /// Whether a state is kept.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.keeper.is_some()
    }

    /// What the ids of the canary's requests begin with, where there is one.
    #[must_use]
    pub fn mark(&self) -> Option<&str> {
        self.canary.as_ref().map(Canary::mark)
    }

    /// Starts what is configured: only once rights were given up.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(
        &mut self,
        drift: &settings::Settings,
        mmlu: &mmlu::settings::Settings,
        canary: &canary::settings::Settings,
    ) -> Result<()> {
        self.predictions.start("predictions", files::entries(&drift.files))?;
        self.evaluations.start("evaluations", mmlu::watched::entries(mmlu))?;
        if drift.live || self.canary.is_some() {
            self.servers.start(Roots::default())?;
        }
        let (last, save) = (self.last_run.take(), self.save.take());
        if let Some(asker) = &self.canary {
            asker.start(canary, last, save)?;
        }
        self.keeper.take().map_or(Ok(()), Keeper::start)
    }

    /// From now on these servers, with these requests under way.
    pub fn follow(&self, workloads: &Workloads, open: &[OpenRequest]) {
        self.servers.follow(workloads.leaders());
        let Some(canary) = &self.canary else { return };
        let facts = self.servers.newest();
        // One that has just come is asked once it is known what it runs.
        let server = |(label, port): (Arc<str>, u16)| {
            let identity = facts.get(&label)?.digest();
            let open = open.iter().filter(|request| request.workload.label == label).count();
            Some(canary::Server { label, port, open, identity })
        };
        canary.follow(workloads.doors().into_iter().filter_map(server).collect());
    }

    #[must_use]
    pub fn newest(&self) -> Standings {
        Standings {
            predictions: self.predictions.newest(),
            evaluations: self.evaluations.newest(),
            servers: self.servers.newest(),
            canary: self.canary.as_ref().map(Canary::newest),
        }
    }
}
