//! Section `slo` of the configuration. The defaults are objectives of whole requests that few servers of language models meet: what
//! is good depends on model and prompts, so set those of the first token and of the time per token.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Good, Measure, Objective, P95};
use crate::request::record::{INFERENCE_ROUTES, Route};
use crate::signal::latency::bounds;

/// Objectives of an operator's own: each has two series for each model of each server that it is of.
pub const OBJECTIVES_MAX: usize = 16;
/// Letters of a name.
const NAME_MAX: usize = 64;
/// Names of those that are always there, or come of the keys beside `objectives`.
const LATENCY: &str = "latency";
const TTFT: &str = "ttft";
const TIME_PER_OUTPUT_TOKEN: &str = "time_per_output_token";
const ERRORS: &str = "errors";
const RESERVED: [&str; 4] = [LATENCY, TTFT, TIME_PER_OUTPUT_TOKEN, ERRORS];
/// Less has no meaning as an objective, more leaves nothing that may fail.
const SHARE: RangeInclusive<f64> = 0.5..=0.999_999;

/// Section `slo`: each time is a bucket bound, so that it reads exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    #[serde(with = "humantime_serde")]
    pub p95_latency_target: Duration,
    #[serde(with = "humantime_serde")]
    pub p95_latency_warning: Duration,
    #[serde(with = "humantime_serde")]
    pub p95_latency_critical: Duration,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub p95_ttft_target: Option<Duration>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub p95_ttft_warning: Option<Duration>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub p95_ttft_critical: Option<Duration>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub p95_time_per_output_token_target: Option<Duration>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub p95_time_per_output_token_warning: Option<Duration>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub p95_time_per_output_token_critical: Option<Duration>,
    /// Share of predictions that are right.
    pub accuracy_target: f64,
    pub accuracy_warning: f64,
    pub accuracy_critical: f64,
    /// Share of the time in which a server serves.
    pub uptime_target: f64,
    pub uptime_warning: f64,
    pub uptime_critical: f64,
    /// Share of requests that fail by the server's fault.
    pub error_rate_target: f64,
    pub error_rate_warning: f64,
    pub error_rate_critical: f64,
    /// In percent of the time: below the first a GPU is idle too much.
    pub gpu_utilization_low: f64,
    pub gpu_utilization_target: f64,
    pub gpu_utilization_warning: f64,
    pub gpu_utilization_critical: f64,
    /// More of them, by model, server or route.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub objectives: Vec<ObjectiveSettings>,
}

/// One entry of `slo.objectives`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectiveSettings {
    pub name: String,
    pub of: Measure,
    #[serde(with = "humantime_serde")]
    pub within: Duration,
    /// Share of the requests.
    #[serde(default = "share_default")]
    pub target: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// As `/v1/chat/completions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
}

fn share_default() -> f64 {
    P95
}

/// Target, warning and critical level of one thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Levels<T> {
    pub target: T,
    pub warning: T,
    pub critical: T,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            p95_latency_target: Duration::from_millis(80),
            p95_latency_warning: Duration::from_millis(100),
            p95_latency_critical: Duration::from_millis(150),
            // How soon a first token must come, and the next, depends on model and prompt: there is no good default.
            p95_ttft_target: None,
            p95_ttft_warning: None,
            p95_ttft_critical: None,
            p95_time_per_output_token_target: None,
            p95_time_per_output_token_warning: None,
            p95_time_per_output_token_critical: None,
            accuracy_target: 0.92,
            accuracy_warning: 0.91,
            accuracy_critical: 0.88,
            uptime_target: 0.999,
            uptime_warning: 0.995,
            uptime_critical: 0.99,
            error_rate_target: 0.001,
            error_rate_warning: 0.005,
            error_rate_critical: 0.01,
            gpu_utilization_low: 60.0,
            gpu_utilization_target: 80.0,
            gpu_utilization_warning: 90.0,
            gpu_utilization_critical: 95.0,
            objectives: Vec::new(),
        }
    }
}

/// A threshold and its key.
type Threshold = (&'static str, Duration);

impl Settings {
    /// Every objective of requests.
    #[must_use]
    pub fn objectives(&self) -> Vec<Objective> {
        let of_all = |name: &str, good, target| Objective {
            name: name.into(),
            good,
            target,
            model: None,
            workload: None,
            route: None,
        };
        let within = |name, measure, time| of_all(name, Good::Within(measure, time), P95);
        let mut all = vec![within(LATENCY, Measure::Duration, self.p95_latency_target)];
        all.extend(self.p95_ttft_target.map(|time| within(TTFT, Measure::Ttft, time)));
        let per_token = self.p95_time_per_output_token_target;
        all.extend(per_token.map(|time| within(TIME_PER_OUTPUT_TOKEN, Measure::TimePerOutputToken, time)));
        all.push(of_all(ERRORS, Good::Answered, 1.0 - self.error_rate_target));
        all.extend(self.objectives.iter().map(|entry| Objective {
            name: entry.name.as_str().into(),
            good: Good::Within(entry.of, entry.within),
            target: entry.target,
            model: entry.model.clone(),
            workload: entry.workload.clone(),
            route: entry.route.clone(),
        }));
        all
    }

    /// Target, warning and critical threshold of the request duration.
    #[must_use]
    pub fn latency_thresholds(&self) -> Vec<Duration> {
        durations(&self.latency())
    }

    /// Those of the time to first token that were given.
    #[must_use]
    pub fn ttft_thresholds(&self) -> Vec<Duration> {
        durations(&self.ttft())
    }

    /// Those of the time per output token that were given.
    #[must_use]
    pub fn time_per_output_token_thresholds(&self) -> Vec<Duration> {
        durations(&self.time_per_output_token())
    }

    /// # Errors
    /// A value that helps nobody; the error names its key.
    pub fn check(&self) -> Result<()> {
        for thresholds in [self.latency(), self.ttft(), self.time_per_output_token()] {
            bounds::check(&thresholds)?;
            rising(&thresholds)?;
        }
        self.check_shares()?;
        self.check_objectives()
    }

    fn check_shares(&self) -> Result<()> {
        let (accuracy, uptime) = (
            [self.accuracy_target, self.accuracy_warning, self.accuracy_critical],
            [self.uptime_target, self.uptime_warning, self.uptime_critical],
        );
        for (key, [target, warning, critical]) in [("accuracy", accuracy), ("uptime", uptime)] {
            for (level, value) in [("target", target), ("warning", warning), ("critical", critical)] {
                let (least, most) = (SHARE.start(), SHARE.end());
                ensure!(SHARE.contains(&value), "`slo.{key}_{level}` is {value}, outside {least} to {most}");
            }
            ensure!(
                target >= warning && warning >= critical,
                "`slo.{key}_target`, `_warning` and `_critical` are {target}, {warning}, {critical}: each has to be at most the one before"
            );
        }
        let errors = [self.error_rate_target, self.error_rate_warning, self.error_rate_critical];
        let in_range = errors.iter().all(|share| (1e-6..=0.5).contains(share)) && errors.is_sorted();
        ensure!(
            in_range,
            "`slo.error_rate_target`, `_warning` and `_critical` are {errors:?}: they have to rise, from 0.000001 to 0.5"
        );
        let gpu = [
            self.gpu_utilization_low,
            self.gpu_utilization_target,
            self.gpu_utilization_warning,
            self.gpu_utilization_critical,
        ];
        let in_range = gpu.iter().all(|percent| (0.0..=100.0).contains(percent)) && gpu.is_sorted();
        ensure!(
            in_range,
            "`slo.gpu_utilization_low`, `_target`, `_warning` and `_critical` are {gpu:?}: they have to rise, from 0 to 100"
        );
        Ok(())
    }

    fn check_objectives(&self) -> Result<()> {
        let count = self.objectives.len();
        ensure!(
            count <= OBJECTIVES_MAX,
            "`slo.objectives` has {count} entries, {OBJECTIVES_MAX} are the most"
        );
        let mut seen: HashSet<&str> = RESERVED.into();
        for entry in &self.objectives {
            let place = format!("`slo.objectives`, {:?}", entry.name);
            let letters = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
            let fits = (1..=NAME_MAX).contains(&entry.name.len()) && entry.name.chars().all(letters);
            ensure!(fits, "{place}: a name has 1 to {NAME_MAX} letters, digits, `_` and `-`");
            ensure!(seen.insert(&entry.name), "{place}: there is another one of this name");
            let (least, most) = (SHARE.start(), SHARE.end());
            ensure!(
                SHARE.contains(&entry.target),
                "{place}: `target` is {}, outside {least} to {most}",
                entry.target
            );
            ensure!(entry.within > Duration::ZERO, "{place}: `within` is nothing");
            let route = entry.route.as_deref();
            let routes = INFERENCE_ROUTES.map(Route::label);
            ensure!(
                route.is_none_or(|route| routes.contains(&route)),
                "{place}: `route` is {:?}; there are {}",
                route.unwrap_or_default(),
                routes.join(", ")
            );
        }
        Ok(())
    }

    fn latency(&self) -> Vec<Threshold> {
        vec![
            ("slo.p95_latency_target", self.p95_latency_target),
            ("slo.p95_latency_warning", self.p95_latency_warning),
            ("slo.p95_latency_critical", self.p95_latency_critical),
        ]
    }

    fn ttft(&self) -> Vec<Threshold> {
        given([
            ("slo.p95_ttft_target", self.p95_ttft_target),
            ("slo.p95_ttft_warning", self.p95_ttft_warning),
            ("slo.p95_ttft_critical", self.p95_ttft_critical),
        ])
    }

    fn time_per_output_token(&self) -> Vec<Threshold> {
        given([
            ("slo.p95_time_per_output_token_target", self.p95_time_per_output_token_target),
            ("slo.p95_time_per_output_token_warning", self.p95_time_per_output_token_warning),
            ("slo.p95_time_per_output_token_critical", self.p95_time_per_output_token_critical),
        ])
    }
}

fn given<const N: usize>(all: [(&'static str, Option<Duration>); N]) -> Vec<Threshold> {
    all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn durations(thresholds: &[Threshold]) -> Vec<Duration> {
    thresholds.iter().map(|(_, value)| *value).collect()
}

/// Thresholds that get worse must not fall.
fn rising(thresholds: &[Threshold]) -> Result<()> {
    for pair in thresholds.windows(2) {
        let [(earlier, least), (key, value)] = pair else { continue };
        ensure!(value >= least, "`{key}` ({value:?}) is below `{earlier}` ({least:?})");
    }
    Ok(())
}
