//! The sections of the configuration: each is the settings of one room, with its defaults.
//!
//! In: what serde reads. Out: settings whose values can work together. Knows no file, environment or flag.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

/// Models or workloads with series of their own. Above it one node would fill a Prometheus by itself.
const LABELS: RangeInclusive<usize> = 1..=256;
/// Connections followed at once. Each costs the agent a few KiB at most while a request is open.
const CONNECTIONS: RangeInclusive<usize> = 1..=65_536;
/// Below a second every slow prefill would count as stalled; above a day nothing would.
const STALLED_AFTER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
/// The histograms reach from 10 us to 1 h: a threshold outside of them could never be read.
const THRESHOLD: RangeInclusive<Duration> = Duration::from_micros(10)..=Duration::from_hours(1);
/// Rules are tried in order on every new process.
const RULES_MAX: usize = 64;
/// A rule's name becomes a label.
const NAME_BYTES_MAX: usize = 128;

/// `[export]`: where and in which forms the series are served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExportSettings {
    pub listen: SocketAddr,
    /// Offer protobuf with native histograms. Off: a Prometheus that prefers them may drop `_bucket` series.
    pub native_histograms: bool,
    /// Serve OpenTelemetry's `gen_ai_server_*` names as well.
    pub opentelemetry: bool,
}

impl Default for ExportSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9940)),
            native_histograms: false,
            opentelemetry: false,
        }
    }
}

/// `[limits]`: how many get series of their own; the rest share the label `other` and are counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    pub models: usize,
    pub workloads: usize,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { models: 8, workloads: 8 }
    }
}

impl LimitSettings {
    pub(super) fn check(&self) -> Result<()> {
        within("limits.models", &self.models, &LABELS)?;
        within("limits.workloads", &self.workloads, &LABELS)
    }
}

/// `[request]`: how requests are put together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestSettings {
    /// An open request without a byte for this long is stalled.
    #[serde(with = "humantime_serde")]
    pub stalled_after: Duration,
    pub connections_max: usize,
}

impl Default for RequestSettings {
    fn default() -> Self {
        Self { stalled_after: Duration::from_secs(10), connections_max: 32_768 }
    }
}

impl RequestSettings {
    pub(super) fn check(&self) -> Result<()> {
        within("request.stalled_after", &self.stalled_after, &STALLED_AFTER)?;
        within("request.connections_max", &self.connections_max, &CONNECTIONS)
    }
}

/// One `[[workload]]`: a rule that finds a server, before the built-in ones. All fields given must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkloadRule {
    /// Value of the label `workload`; without it the label is made as for the built-in rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Found anywhere in the command line, arguments joined by spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_regex: Option<String>,
    /// A port that the server listens on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Part of the cgroup's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The systemd unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Which program it is; one that is not known is taken for this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<WorkloadKind>,
}

/// Which program a rule's server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadKind {
    Vllm,
    Sglang,
    LlamaCpp,
    RhelAi,
    /// Any server of the OpenAI wire format.
    Openai,
}

impl WorkloadRule {
    /// All rules together: bounded, each with something to match. Two of one name are one workload.
    pub(super) fn check_all(rules: &[Self]) -> Result<()> {
        ensure!(rules.len() <= RULES_MAX, "`workload` has {} rules, at most {RULES_MAX} fit", rules.len());
        for (place, rule) in rules.iter().enumerate() {
            rule.check().with_context(|| format!("rule {} of `workload`", place + 1))?;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:".contains(&byte);
        let is_label = |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed);
        ensure!(
            self.name.as_deref().is_none_or(is_label),
            "`workload.name` is a label of 1 to {NAME_BYTES_MAX} letters, digits and `_-./:`"
        );
        let texts = [("command_regex", &self.command_regex), ("cgroup", &self.cgroup), ("unit", &self.unit)];
        for (key, text) in texts {
            ensure!(text.as_deref() != Some(""), "`workload.{key}` is empty: leave it out to match any");
        }
        ensure!(self.port != Some(0), "`workload.port` is 0: leave it out to match any");
        if let Some(regex) = &self.command_regex {
            // The crate's own message spans several lines; its last one says what is wrong.
            regex::Regex::new(regex).map_err(|error| {
                let text = error.to_string();
                anyhow::anyhow!("`workload.command_regex`: {}", text.lines().last().unwrap_or_default())
            })?;
        }
        // A kind narrows by itself only where its commands are known.
        let narrows = self.kind.is_some_and(|kind| kind != WorkloadKind::Openai)
            || self.port.is_some()
            || texts.iter().any(|(_, text)| text.is_some());
        ensure!(narrows, "it would match every process: give `command_regex`, `port`, `cgroup` or `unit`");
        Ok(())
    }
}

/// `[slo]`: the objectives. Each threshold is a bucket bound, so that it reads exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SloSettings {
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
}

impl Default for SloSettings {
    fn default() -> Self {
        Self {
            p95_latency_target: Duration::from_millis(80),
            p95_latency_warning: Duration::from_millis(100),
            p95_latency_critical: Duration::from_millis(150),
            // How soon a first token must come depends on model and prompt: there is no good default.
            p95_ttft_target: None,
            p95_ttft_warning: None,
            p95_ttft_critical: None,
        }
    }
}

impl SloSettings {
    /// Target, warning and critical threshold of the request duration.
    #[must_use]
    pub fn latency_thresholds(&self) -> Vec<Duration> {
        vec![self.p95_latency_target, self.p95_latency_warning, self.p95_latency_critical]
    }

    /// Those of the time to first token that were given.
    #[must_use]
    pub fn ttft_thresholds(&self) -> Vec<Duration> {
        [self.p95_ttft_target, self.p95_ttft_warning, self.p95_ttft_critical].into_iter().flatten().collect()
    }

    pub(super) fn check(&self) -> Result<()> {
        rising([
            ("slo.p95_latency_target", Some(self.p95_latency_target)),
            ("slo.p95_latency_warning", Some(self.p95_latency_warning)),
            ("slo.p95_latency_critical", Some(self.p95_latency_critical)),
        ])?;
        rising([
            ("slo.p95_ttft_target", self.p95_ttft_target),
            ("slo.p95_ttft_warning", self.p95_ttft_warning),
            ("slo.p95_ttft_critical", self.p95_ttft_critical),
        ])
    }
}

/// `[log]`: what is written to standard error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    pub format: LogFormat,
    pub level: LogLevel,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The least level that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

fn within<T: PartialOrd + std::fmt::Debug>(key: &str, value: &T, range: &RangeInclusive<T>) -> Result<()> {
    ensure!(range.contains(value), "`{key}` is {value:?}, outside {:?} to {:?}", range.start(), range.end());
    Ok(())
}

/// Thresholds that get worse must not fall; those not given are passed over.
fn rising(thresholds: [(&str, Option<Duration>); 3]) -> Result<()> {
    let mut before: Option<(&str, Duration)> = None;
    for (key, value) in thresholds {
        let Some(value) = value else { continue };
        within(key, &value, &THRESHOLD)?;
        if let Some((earlier, least)) = before {
            ensure!(value >= least, "`{key}` ({value:?}) is below `{earlier}` ({least:?})");
        }
        before = Some((key, value));
    }
    Ok(())
}
