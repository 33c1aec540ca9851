//! The series of scored files, and how a standing becomes their values.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::unix_seconds;
use crate::clock::BootTime;
use crate::quality::files::{Scored, Standing};
use crate::registry::totals::Totals;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    model: Arc<str>,
    source: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SampleLabels {
    model: Arc<str>,
    source: Arc<str>,
    file: &'static str,
    range: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct MethodLabels {
    model: Arc<str>,
    source: Arc<str>,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FailureLabels {
    model: Arc<str>,
    source: Arc<str>,
    reason: &'static str,
}

type Values = Family<Labels, Gauge<f64, AtomicU64>>;

#[derive(Debug, Default)]
pub(super) struct Families {
    kl: Values,
    kl_smoothed: Values,
    js_distance: Values,
    population_stability: Values,
    ks_p_value: Values,
    ks_statistic: Values,
    wasserstein: Values,
    accuracy: Values,
    age: Values,
    written: Values,
    /// By its name no counter, though it only rises: counters end in `_total`.
    predictions: Values,
    samples: Family<SampleLabels, Gauge>,
    method: Family<MethodLabels, Gauge>,
    correct: Totals<Labels>,
    compared: Totals<Labels>,
    false_positives: Totals<Labels>,
    failures: Totals<FailureLabels>,
}

impl Families {
    pub fn register(&self, registry: &mut Registry) {
        let values = [
            (
                "model_drift_score",
                "Kullback-Leibler divergence of the recent from the baseline predictions, in nats, over 50 bins on [0, 1]; infinite where a bin is new",
                &self.kl,
            ),
            (
                "drift_kl_smoothed",
                "The same divergence with empty bins counted as 1e-4 of all predictions",
                &self.kl_smoothed,
            ),
            (
                "drift_jensen_shannon_distance",
                "Jensen-Shannon distance of recent and baseline predictions to base 2, 0 to 1",
                &self.js_distance,
            ),
            (
                "drift_population_stability",
                "Population stability index of recent and baseline predictions",
                &self.population_stability,
            ),
            (
                "kolmogorov_smirnov_test_p_value",
                "Probability of a distance at least as large where recent and baseline predictions are of one distribution",
                &self.ks_p_value,
            ),
            (
                "drift_kolmogorov_smirnov_statistic",
                "Largest difference of the distribution functions of recent and baseline predictions",
                &self.ks_statistic,
            ),
            (
                "drift_wasserstein_distance",
                "Area between the distribution functions of recent and baseline predictions",
                &self.wasserstein,
            ),
            ("model_accuracy", "Share of the newest recent predictions that are right", &self.accuracy),
            (
                "total_predictions",
                "Predictions that were compared with the truth; it only rises",
                &self.predictions,
            ),
        ];
        for (name, help, family) in values {
            registry.register(name, help, family.clone());
        }
        self.register_others(registry);
    }

    fn register_others(&self, registry: &mut Registry) {
        let help = "Time since the files were last seen whole with the scores that are shown";
        registry.register_with_unit("drift_score_age", help, Unit::Seconds, self.age.clone());
        let help = "When the recent file that is scored was written, in seconds since 1970";
        registry.register_with_unit("drift_predictions_timestamp", help, Unit::Seconds, self.written.clone());
        let help = "Numbers of the scored files: those that are finite, and of these those in [0, 1]";
        registry.register("drift_samples", help, self.samples.clone());
        let help = "How predictions are compared with the truth: for equality, or cut at a half";
        registry.register("drift_accuracy_info", help, self.method.clone());
        let help = "Predictions that were right, over every version of the recent file";
        registry.register("model_correct_predictions", help, self.correct.family());
        let help = "Predictions that were compared with the truth, over every version of the recent file";
        registry.register("model_total_predictions", help, self.compared.family());
        let help = "Predictions that were positive where the truth is negative";
        registry.register("false_positives", help, self.false_positives.family());
        let help = "Looks at files of predictions that ended in a failure";
        registry.register("drift_file_failures", help, self.failures.family());
    }

    pub fn show(&self, standing: &Standing, now: BootTime) {
        let labels = Labels { model: standing.model.clone(), source: standing.source.clone() };
        let counted = standing.counted;
        self.correct.set(&labels, counted.correct);
        self.compared.set(&labels, counted.total);
        self.false_positives.set(&labels, counted.false_positives);
        self.predictions.get_or_create(&labels).set(counted.total as f64);
        for (reason, count) in &standing.failures {
            let Labels { model, source } = labels.clone();
            self.failures.set(&FailureLabels { model, source, reason }, *count);
        }
        if let Some(scored) = &standing.scored {
            self.show_scored(&labels, scored, now);
        }
    }

    fn show_scored(&self, labels: &Labels, scored: &Scored, now: BootTime) {
        let scores = &scored.scores;
        let values = [
            (&self.kl, Some(scores.kl)),
            (&self.kl_smoothed, scores.kl_smoothed),
            (&self.js_distance, scores.js_distance),
            (&self.population_stability, scores.population_stability),
            (&self.ks_p_value, scores.ks_p_value),
            (&self.ks_statistic, scores.ks_statistic),
            (&self.wasserstein, scores.wasserstein),
            (&self.accuracy, scored.accuracy.as_ref().map(|found| found.accuracy)),
            (&self.age, Some(now.since(scored.confirmed).as_secs_f64())),
            (&self.written, Some(unix_seconds(scored.written))),
        ];
        for (family, value) in values {
            set(family, labels, value);
        }
        let samples = [
            ("baseline", "finite", scores.baseline_count),
            ("baseline", "in_range", scores.baseline_in_range),
            ("recent", "finite", scores.recent_count),
            ("recent", "in_range", scores.recent_in_range),
        ];
        for (file, range, count) in samples {
            let Labels { model, source } = labels.clone();
            self.samples.get_or_create(&SampleLabels { model, source, file, range }).set(count.cast_signed());
        }
        let Some(accuracy) = &scored.accuracy else { return };
        for method in ["equality", "threshold_half"] {
            let Labels { model, source } = labels.clone();
            let labels = MethodLabels { model, source, method };
            if method == accuracy.comparison.as_str() {
                self.method.get_or_create(&labels).set(1);
            } else {
                self.method.remove(&labels);
            }
        }
    }
}

fn set(family: &Values, labels: &Labels, value: Option<f64>) {
    match value {
        Some(value) => drop(family.get_or_create(labels).set(value)),
        None => drop(family.remove(labels)),
    }
}
