//! Is the model still as good as its files say?
//!
//! In: the newest scores of each entry of `drift.files`, once a second. Out, by `model` and `source`:
//!
//! | Series | What |
//! |---|---|
//! | `model_drift_score` | Kullback-Leibler divergence of the recent from the baseline predictions in nats, 50 bins on [0, 1], without smoothing: `+Inf` where a bin is new, `NaN` where nothing lies in [0, 1] |
//! | `drift_kl_smoothed` | the same with empty bins as 1e-4 of all |
//! | `drift_jensen_shannon_distance` | 0 to 1, of the same bins |
//! | `drift_population_stability` | of the same bins |
//! | `kolmogorov_smirnov_test_p_value` | two-sample test over every finite number: exact up to 10,000 numbers a file, else asymptotic |
//! | `drift_kolmogorov_smirnov_statistic`, `drift_wasserstein_distance` | likewise |
//! | `drift_samples{file,range}` | numbers of `baseline` and `recent`: `finite`, and of these `in_range` |
//! | `model_accuracy` | share of the recent predictions that are the truth |
//! | `drift_accuracy_info{method}` | 1: compared for `equality`, or cut at a half (`threshold_half`) |
//! | `model_validation_accuracy` | the same of the validation set |
//! | `model_correct_predictions_total`, `model_total_predictions_total` | sums over every version of the recent file |
//! | `false_positives_total`, `total_predictions` | likewise: predicted positive, truth negative; of labels 0 and 1 or probabilities |
//! | `prediction_confidence` | mean of the recent predictions, where they are probabilities |
//! | `drift_score_age_seconds` | since the files were last seen whole with these scores |
//! | `drift_predictions_timestamp_seconds` | when the recent file was written, by its own time |
//! | `drift_file_failures_total{reason}` | looks that ended in one |
//!
//! What a file does not have is absent; the scores of files that cannot be read stay, and their age grows.

mod families;
pub mod view;

use std::time::UNIX_EPOCH;

use anyhow::Result;

use super::{Signal, Tick, Unavailable};
use crate::clock::BootTime;
use crate::quality::files::Standing;
use crate::registry::Registries;
use crate::registry::by_source::BySource;
use crate::workload::Workload;
use families::Families;
use view::{PredictionsReport, PredictionsView};

/// The signal `drift`.
#[derive(Debug, Default)]
pub struct DriftSignal {
    families: Families,
    confidence: BySource,
    validation: BySource,
    view: PredictionsView,
    configured: bool,
}

impl DriftSignal {
    /// Registers its series; `configured` where there are files to score.
    pub fn new(configured: bool, registries: &mut Registries) -> Self {
        let families = Families::default();
        families.register(&mut registries.common);
        let (confidence, validation) = (registries.confidence(), registries.validation_accuracy());
        Self { families, confidence, validation, view: PredictionsView::default(), configured }
    }

    /// What the API shows of it.
    #[must_use]
    pub fn view(&self) -> PredictionsView {
        self.view.clone()
    }
}

impl DriftSignal {
    fn show(&self, standing: &Standing, now: BootTime) {
        self.families.show(standing, now);
        let confidence = standing.scored.as_ref().and_then(|scored| scored.confidence);
        self.confidence.set(&standing.model, &standing.source, confidence);
        let validation = standing.validation.as_ref().map(|found| found.accuracy);
        self.validation.set(&standing.model, &standing.source, validation);
    }
}

impl Signal for DriftSignal {
    fn name(&self) -> &'static str {
        "drift"
    }

    fn on_tick(&mut self, tick: &Tick<'_>) -> Result<()> {
        for standing in &tick.quality.predictions {
            self.show(standing, tick.now);
        }
        let reports =
            tick.quality.predictions.iter().map(|standing| PredictionsReport::of(standing, tick.now));
        self.view.publish(reports.collect());
        // A file that cannot be read is the file's failure, which is counted and logged; the signal does its work.
        Ok(())
    }

    fn unavailable(&self) -> Option<Unavailable> {
        (!self.configured).then_some(Unavailable::Disabled)
    }

    // A model of a file is none of a server's: it goes with its configuration.
    fn forget_workload(&mut self, _workload: &Workload) {}

    fn forget_model(&mut self, _workload: &str, _model: &str) {}
}

/// Seconds since 1970; before it, 0.
fn unix_seconds(time: std::time::SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
pub mod tests;
