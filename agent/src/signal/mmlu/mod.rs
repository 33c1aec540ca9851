//! What do evaluations on MMLU say of the model?
//!
//! In: the newest scores of each entry of `mmlu.results`, once a second. Out, by `model`, `source` (`lm_eval`, `ilab`,
//! `ilab_branch`) and `task` (the benchmark and its groups; subtasks where asked for, or where there is no group):
//!
//! | Series | What |
//! |---|---|
//! | `mmlu_benchmark_score` | accuracy of the newest whole run, 0 to 1 |
//! | `mmlu_standard_error`, `mmlu_questions` | of that score, where the file tells or they can be derived |
//! | `mmlu_score_age_seconds` | since that run began (of a report without a date: since its file was written) |
//! | `mmlu_score_fall` | by how much it is below the baseline, or the best run before it under the same terms |
//! | `mmlu_score_fall_p_value` | how likely a fall at least as large is by chance, corrected for having picked the best; absent where the scores do not tell their noise |
//! | `mmlu_score_fallen` | 1 where that is at most `mmlu.significance` |
//!
//! and, by `model` and `outcome`, `mmlu_files_total`: `whole`, `limited` and `incomplete` runs, and files that are none.
//! Limited and incomplete runs are no score of the benchmark: they are counted only.

pub mod view;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::SystemTime;

use anyhow::Result;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

use super::{Signal, Tick, Unavailable};
use crate::quality::mmlu::watched::{Newest, Standing};
use crate::registry::Registries;
use crate::registry::totals::Totals;
use crate::workload::Workload;
use view::{EvaluationsReport, EvaluationsView};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    model: Arc<str>,
    source: &'static str,
    task: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FileLabels {
    model: Arc<str>,
    outcome: &'static str,
}

type Values = Family<Labels, Gauge<f64, AtomicU64>>;

/// The signal `mmlu`.
#[derive(Debug, Default)]
pub struct MmluSignal {
    score: Values,
    standard_error: Values,
    questions: Values,
    age: Values,
    fall: Values,
    p_value: Values,
    fallen: Values,
    files: Totals<FileLabels>,
    /// What has series now.
    shown: HashSet<Labels>,
    view: EvaluationsView,
    configured: bool,
}

impl MmluSignal {
    /// Registers its series; `configured` where there are results to watch.
    pub fn new(configured: bool, registries: &mut Registries) -> Self {
        let signal = Self { configured, ..Self::default() };
        let registry = &mut registries.common;
        let values = [
            ("mmlu_benchmark_score", "Accuracy of the newest whole run of an evaluation", &signal.score),
            ("mmlu_standard_error", "Standard error of that accuracy", &signal.standard_error),
            ("mmlu_questions", "Questions asked in that run", &signal.questions),
            (
                "mmlu_score_fall",
                "By how much the score is below its baseline, or the best before it under the same terms",
                &signal.fall,
            ),
            (
                "mmlu_score_fall_p_value",
                "Probability of a fall at least as large by chance, corrected for having picked the best",
                &signal.p_value,
            ),
            ("mmlu_score_fallen", "1 where chance does not explain the fall", &signal.fallen),
        ];
        for (name, help, family) in values {
            registry.register(name, help, family.clone());
        }
        let help = "Time since the run of the score began";
        registry.register_with_unit("mmlu_score_age", help, Unit::Seconds, signal.age.clone());
        let help = "Files of results that were read, by what they were";
        registry.register("mmlu_files", help, signal.files.family());
        signal
    }

    /// What the API shows of it.
    #[must_use]
    pub fn view(&self) -> EvaluationsView {
        self.view.clone()
    }

    fn show(&mut self, standings: &[Standing], now: SystemTime) {
        let mut shown = HashSet::new();
        for standing in standings {
            for (outcome, count) in &standing.files {
                self.files.set(&FileLabels { model: standing.model.clone(), outcome }, *count);
            }
            for newest in &standing.scores {
                let source = newest.source.name();
                let labels = Labels { model: standing.model.clone(), source, task: newest.task.clone() };
                self.set(&labels, newest, now);
                shown.insert(labels);
            }
        }
        let gone = std::mem::replace(&mut self.shown, shown);
        for labels in gone.difference(&self.shown) {
            for family in self.families() {
                family.remove(labels);
            }
        }
    }

    fn set(&self, labels: &Labels, newest: &Newest, now: SystemTime) {
        let measured = newest.run.measured;
        let comparison = newest.comparison;
        let values = [
            (&self.score, Some(measured.accuracy)),
            (&self.standard_error, measured.standard_error),
            (&self.questions, measured.samples.map(|count| count as f64)),
            (&self.age, Some(newest.age_seconds(now))),
            (&self.fall, comparison.map(|found| found.fall)),
            (&self.p_value, comparison.and_then(|found| found.p_value)),
            (&self.fallen, comparison.map(|found| f64::from(u8::from(found.significant)))),
        ];
        for (family, value) in values {
            match value {
                Some(value) => drop(family.get_or_create(labels).set(value)),
                None => drop(family.remove(labels)),
            }
        }
    }

    fn families(&self) -> [&Values; 7] {
        [
            &self.score,
            &self.standard_error,
            &self.questions,
            &self.age,
            &self.fall,
            &self.p_value,
            &self.fallen,
        ]
    }
}

impl Signal for MmluSignal {
    fn name(&self) -> &'static str {
        "mmlu"
    }

    fn on_tick(&mut self, tick: &Tick<'_>) -> Result<()> {
        let now = tick.now.to_wall();
        self.show(&tick.quality.evaluations, now);
        let reports = tick.quality.evaluations.iter().map(|standing| EvaluationsReport::of(standing, now));
        self.view.publish(reports.collect());
        Ok(())
    }

    fn unavailable(&self) -> Option<Unavailable> {
        (!self.configured).then_some(Unavailable::Disabled)
    }

    // A model of an evaluation is none of a server's: it goes with its configuration.
    fn forget_workload(&mut self, _workload: &Workload) {}

    fn forget_model(&mut self, _workload: &str, _model: &str) {}
}

#[cfg(test)]
pub mod tests;
