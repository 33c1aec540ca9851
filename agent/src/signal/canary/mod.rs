//! Does the server still answer questions as it should?
//!
//! In: what is known of the canary's runs, once a second. Out, by `model`, of the newest run that came to its end:
//!
//! | Series | What |
//! |---|---|
//! | `model_validation_accuracy{source="canary"}` | share of the questions that were answered right; one without an answer is wrong |
//! | `canary_accuracy_interval{bound}` | Wilson's interval of 95 % for that share: `lower`, `upper` |
//! | `canary_questions{outcome}` | questions that were `right`, `wrong` or `unanswered` |
//! | `canary_flips` | answers that are others than in the run before, by the same server with the same files; absent where there is nothing to compare |
//! | `prediction_confidence{source="canary"}` | mean confidence in the choices that were picked; absent where the server tells no probabilities |
//! | `canary_last_run_timestamp_seconds` | when that run ended |
//!
//! and of all runs `canary_runs_total`, `canary_tokens_total` (of questions and answers, as the server counts them),
//! `canary_failures_total{reason}` (`connect`, `late`, `status`, `answer`: questions without an answer; `files`, `given_up`: runs
//! that came to no end) and `canary_wait_seconds_total{reason}` (`busy`, `budget`, `server`).

pub mod view;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::UNIX_EPOCH;

use anyhow::Result;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

use super::{Signal, Tick, Unavailable};
use crate::quality::canary::outcome::Outcome;
use crate::quality::canary::{FAILURES, Standing};
use crate::registry::Registries;
use crate::registry::by_source::BySource;
use crate::registry::totals::{SecondsTotals, Totals};
use crate::workload::Workload;
use view::{CanaryReport, CanaryView};

/// Of the families that other signals feed, too.
const SOURCE: &str = "canary";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    model: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BoundLabels {
    model: Arc<str>,
    bound: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    model: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    model: Arc<str>,
    reason: &'static str,
}

/// The signal `canary`.
#[derive(Debug)]
pub struct CanarySignal {
    accuracy: BySource,
    confidence: BySource,
    interval: Family<BoundLabels, Gauge<f64, AtomicU64>>,
    questions: Family<OutcomeLabels, Gauge>,
    flips: Family<Labels, Gauge>,
    ended: Family<Labels, Gauge<f64, AtomicU64>>,
    runs: Totals<Labels>,
    tokens: Totals<Labels>,
    failures: Totals<ReasonLabels>,
    waited: SecondsTotals<ReasonLabels>,
    view: CanaryView,
    enabled: bool,
}

impl CanarySignal {
    /// Registers its series.
    pub fn new(enabled: bool, registries: &mut Registries) -> Self {
        let signal = Self {
            accuracy: registries.validation_accuracy(),
            confidence: registries.confidence(),
            interval: Family::default(),
            questions: Family::default(),
            flips: Family::default(),
            ended: Family::default(),
            runs: Totals::default(),
            tokens: Totals::default(),
            failures: Totals::default(),
            waited: SecondsTotals::default(),
            view: CanaryView::default(),
            enabled,
        };
        let registry = &mut registries.common;
        let help = "Wilson's interval of 95 % for the share of questions that are answered right";
        registry.register("canary_accuracy_interval", help, signal.interval.clone());
        let help = "Questions of the canary's newest run, by what became of them";
        registry.register("canary_questions", help, signal.questions.clone());
        let help =
            "Answers of the newest run that are others than before, by the same server with the same files";
        registry.register("canary_flips", help, signal.flips.clone());
        let help = "When the canary's newest run ended, in seconds since 1970";
        registry.register_with_unit("canary_last_run_timestamp", help, Unit::Seconds, signal.ended.clone());
        let help = "Runs of the canary that came to their end";
        registry.register("canary_runs", help, signal.runs.family());
        let help = "Tokens of the canary's questions and their answers, as the server counts them";
        registry.register("canary_tokens", help, signal.tokens.family());
        let help = "Questions of the canary that were not answered, and runs that came to no end";
        registry.register("canary_failures", help, signal.failures.family());
        let help = "Time for which the canary waited, by what for";
        registry.register_with_unit("canary_wait", help, Unit::Seconds, signal.waited.family());
        signal
    }

    /// What the API shows of it.
    #[must_use]
    pub fn view(&self) -> CanaryView {
        self.view.clone()
    }

    fn show(&self, standing: &Standing) {
        let model = || standing.model.clone();
        let labels = Labels { model: model() };
        self.runs.set(&labels, standing.runs);
        self.tokens.set(&labels, standing.tokens);
        // Those that were not yet, too: what begins at 1 has not increased.
        for reason in FAILURES {
            let count = standing.failures.get(reason).copied().unwrap_or_default();
            self.failures.set(&ReasonLabels { model: model(), reason }, count);
        }
        for (why, time) in &standing.waited {
            self.waited.set(&ReasonLabels { model: model(), reason: why.label() }, *time);
        }
        if let Some(outcome) = &standing.outcome {
            self.show_outcome(&labels, outcome);
        }
        if let Some(ended) = standing.ended {
            let since = ended.duration_since(UNIX_EPOCH).unwrap_or_default();
            self.ended.get_or_create(&labels).set(since.as_secs_f64());
        }
    }

    fn show_outcome(&self, labels: &Labels, outcome: &Outcome) {
        let Labels { model } = labels;
        self.accuracy.set(model, &SOURCE.into(), Some(outcome.accuracy));
        self.confidence.set(model, &SOURCE.into(), outcome.confidence);
        for (bound, value) in [("lower", outcome.interval.0), ("upper", outcome.interval.1)] {
            self.interval.get_or_create(&BoundLabels { model: model.clone(), bound }).set(value);
        }
        let counts = [("right", outcome.right), ("wrong", outcome.wrong), ("unanswered", outcome.unanswered)];
        for (of, count) in counts {
            let labels = OutcomeLabels { model: model.clone(), outcome: of };
            self.questions.get_or_create(&labels).set(count.cast_signed());
        }
        match outcome.flips {
            Some(flips) => drop(self.flips.get_or_create(labels).set(flips.cast_signed())),
            None => drop(self.flips.remove(labels)),
        }
    }
}

impl Signal for CanarySignal {
    fn name(&self) -> &'static str {
        "canary"
    }

    fn on_tick(&mut self, tick: &Tick<'_>) -> Result<()> {
        let Some(standing) = &tick.quality.canary else { return Ok(()) };
        self.show(standing);
        self.view.publish(Some(CanaryReport::of(standing)));
        Ok(())
    }

    fn unavailable(&self) -> Option<Unavailable> {
        (!self.enabled).then_some(Unavailable::Disabled)
    }

    // The model is that of the configuration, and goes with it.
    fn forget_workload(&mut self, _workload: &Workload) {}

    fn forget_model(&mut self, _workload: &str, _model: &str) {}
}

#[cfg(test)]
pub mod tests;
