//! The pages of an agent's API, as far as this view shows them.
//!
//! In: JSON of `/api/v1/...`, whose meaning is told at the head of `export/api.rs`. Out: plain data whose text is clean.
//! Fields that are not known are passed over, and those that an older agent lacks are empty.

mod quality;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::text::Text;
pub use quality::{Accuracy, Canary, Change, Evaluations, Number, Predictions, Quality, Score};

/// All pages of one look.
#[derive(Clone, Debug)]
pub struct Pages {
    pub latency: Latency,
    pub stalls: Stalls,
    pub slow: Slow,
    pub agent: Agent,
    pub workloads: Workloads,
    pub gpus: Gpus,
    pub quality: Quality,
}

/// The pages, in the order of [`Pages::read`], each with its key in the output of `--json`. 50 slow requests are more
/// than most terminals show, and each may take some 15 KB.
pub const PATHS: [(&str, &str); 7] = [
    ("latency", "/api/v1/latency"),
    ("stalls", "/api/v1/stalls"),
    ("slow", "/api/v1/slow?limit=50"),
    ("agent", "/api/v1/agent"),
    ("workloads", "/api/v1/workloads"),
    ("gpus", "/api/v1/gpus"),
    ("quality", "/api/v1/quality"),
];

/// A page that is not what an agent says.
#[derive(Debug)]
pub struct Misread {
    pub path: &'static str,
    pub why: String,
}

impl Pages {
    /// Of answers in the order of [`PATHS`].
    ///
    /// # Errors
    /// An answer that is not the JSON of that page.
    pub fn read(answers: &[Vec<u8>]) -> Result<Self, Misread> {
        Ok(Self {
            latency: page(answers, 0)?,
            stalls: page(answers, 1)?,
            slow: page(answers, 2)?,
            agent: page(answers, 3)?,
            workloads: page(answers, 4)?,
            gpus: page(answers, 5)?,
            quality: page(answers, 6)?,
        })
    }
}

fn page<T: DeserializeOwned>(answers: &[Vec<u8>], index: usize) -> Result<T, Misread> {
    let answer = answers.get(index).map(Vec::as_slice).unwrap_or_default();
    let (_, path) = PATHS[index];
    serde_json::from_slice(answer)
        .map_err(|error| Misread { path, why: format!("its answer is not that page's JSON: {error}") })
}

/// `/api/v1/latency`.
#[derive(Clone, Debug, Deserialize)]
pub struct Latency {
    pub models: Vec<Model>,
}

/// One model of one workload. Times in seconds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Model {
    pub workload: Text,
    pub model: Text,
    pub in_flight: u64,
    pub stalled: u64,
    pub requests_per_second: Rates,
    pub errors_per_second: Rates,
    pub prompt_tokens_per_second: Rates,
    pub completion_tokens_per_second: Rates,
    pub duration_seconds: Quantiles,
    pub ttft_seconds: Quantiles,
    pub inter_chunk_seconds: Quantiles,
}

/// Events per second.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Rates {
    pub last_10s: f64,
}

/// Of the last 5 min, in seconds.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Quantiles {
    pub p50: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
}

/// `/api/v1/stalls`.
#[derive(Clone, Debug, Deserialize)]
pub struct Stalls {
    pub workloads: Vec<RoleStalls>,
}

/// Threads of one role of one workload.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RoleStalls {
    pub workload: Text,
    pub role: Text,
    /// By cause, thread seconds per second.
    pub seconds_per_second: BTreeMap<Text, f64>,
}

/// `/api/v1/slow`.
#[derive(Clone, Debug, Deserialize)]
pub struct Slow {
    pub total: u64,
    /// The newest first.
    pub requests: Vec<Arc<SlowRequest>>,
}

/// One slow request. Times in seconds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SlowRequest {
    pub seq: u64,
    pub ended_unix_seconds: f64,
    pub workload: Text,
    pub model: Text,
    pub route: Text,
    pub outcome: Text,
    pub duration_seconds: f64,
    pub ttft_seconds: Option<f64>,
    pub chunks: u64,
    pub chunk_gaps: Option<ChunkGaps>,
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    pub request_id: Option<Text>,
    pub response_id: Option<Text>,
    pub trace_id: Option<Text>,
    pub cause: Text,
    pub blame: Option<Blame>,
    /// `objective` or `usual`.
    pub over: Text,
    pub over_seconds: f64,
    pub in_flight_at_arrival: u64,
    pub prompt_tokens_in_flight_at_arrival: u64,
    pub neighbour: Option<Neighbour>,
    pub first_read_seconds: f64,
    pub stalls: Vec<Held>,
}

/// When the chunks of a stream came, from its first token on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ChunkGaps {
    pub gaps_per_value: u32,
    pub seconds: Vec<f64>,
}

/// What the time of a request went to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Blame {
    /// By phase and cause, seconds.
    pub phases: BTreeMap<Text, BTreeMap<Text, f64>>,
}

/// A request with a long prompt beside a slow one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Neighbour {
    pub response_id: Option<Text>,
    pub prompt_tokens: u64,
}

/// A stall of a thread on a request's way. Times in seconds from the request's arrival.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Held {
    pub tid: u32,
    pub role: Option<Text>,
    pub cause: Text,
    pub start_seconds: f64,
    pub end_seconds: f64,
    /// Less than from start to end where it is the sum of short ones.
    pub stalled_seconds: f64,
}

/// `/api/v1/agent`.
#[derive(Clone, Debug, Deserialize)]
pub struct Agent {
    pub node: Option<Text>,
    pub version: Text,
    #[serde(default)]
    pub status: Text,
    /// Wall time of the pages, by the clock of that node.
    #[serde(default)]
    pub unix_seconds: f64,
    #[serde(default)]
    pub uptime_seconds: f64,
    #[serde(default)]
    pub cpu: Cpu,
    #[serde(default)]
    pub memory: Memory,
    #[serde(default)]
    pub events: Vec<Events>,
    #[serde(default)]
    pub events_lost: Vec<EventsLost>,
    #[serde(default)]
    pub hooks_missing: Vec<HookMissing>,
    #[serde(default)]
    pub sandbox: Option<Text>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// Share of one processor.
    pub last_10s: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Memory {
    pub resident_bytes: Option<u64>,
    pub anonymous_bytes: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Events {
    pub stage: Text,
    pub total: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct EventsLost {
    pub stage: Text,
    pub reason: Text,
    pub total: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HookMissing {
    pub program: Text,
}

/// `/api/v1/workloads`.
#[derive(Clone, Debug, Deserialize)]
pub struct Workloads {
    pub workloads: Vec<Workload>,
}

/// An inference server of the node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Workload {
    pub workload: Text,
    pub up: bool,
    /// Why it is not, where the agent says so.
    pub down: Option<Text>,
}

/// `/api/v1/gpus`.
#[derive(Clone, Debug, Deserialize)]
pub struct Gpus {
    pub gpus: Vec<Gpu>,
}

/// A GPU of the node; what is not known of it is `None`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Gpu {
    pub gpu: u32,
    pub uuid: Text,
    pub name: Text,
    pub state: Text,
    pub temperature_celsius: Option<f64>,
    pub temperature_margin_celsius: Option<f64>,
    pub slowdown_temperature_celsius: Option<f64>,
    pub seconds_to_slowdown: Option<f64>,
    pub utilization_percent: Option<f64>,
    pub memory_used_bytes: Option<u64>,
    pub memory_total_bytes: Option<u64>,
    pub power_watts: Option<f64>,
    pub power_limit_watts: Option<f64>,
    /// Causes that hold the clocks down now.
    pub throttled: Vec<Text>,
    pub xids: Vec<XidCount>,
    pub users: Vec<GpuUser>,
    pub instances: Vec<GpuInstance>,
    pub history: GpuHistory,
}

/// Faults of one code so far.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct XidCount {
    pub xid: Text,
    pub count: u64,
}

/// A workload on a GPU.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct GpuUser {
    pub workload: Text,
    pub memory_bytes: Option<u64>,
    pub utilization_percent: Option<f64>,
}

/// A part of a split GPU.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct GpuInstance {
    pub profile: Text,
    pub memory_used_bytes: Option<u64>,
    pub memory_total_bytes: Option<u64>,
}

/// The last minute, the newest last.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct GpuHistory {
    pub temperature_celsius: Vec<Option<f64>>,
    pub power_watts: Vec<Option<f64>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with `text` at `index` and right ones elsewhere.
    fn answers(index: usize, text: &str) -> Vec<Vec<u8>> {
        let right = [
            r#"{"models":[]}"#,
            r#"{"workloads":[]}"#,
            r#"{"total":0,"requests":[]}"#,
            r#"{"node":null,"version":"0.1.0"}"#,
            r#"{"workloads":[]}"#,
            r#"{"driver":null,"gpus":[]}"#,
            r#"{"predictions":[],"evaluations":[]}"#,
        ];
        let mut answers = right.map(|text| text.as_bytes().to_vec());
        if let Some(answer) = answers.get_mut(index) {
            *answer = text.as_bytes().to_vec();
        }
        answers.to_vec()
    }

    #[test]
    fn what_is_not_the_json_of_a_page_is_told_with_its_path() {
        Pages::read(&answers(9, "")).unwrap();
        for (index, text) in [
            (0, "{\"models\":["),
            (1, "<html>"),
            (2, "{}"),
            (3, "[]"),
            (4, "{\"workloads\":1}"),
            (5, "{}"),
            (6, "{}"),
            (0, ""),
        ] {
            let misread = Pages::read(&answers(index, text)).unwrap_err();
            assert_eq!(misread.path, PATHS[index].1);
            assert!(misread.why.starts_with("its answer is not that page's JSON: "), "{}", misread.why);
        }
    }

    #[test]
    fn fields_of_another_version_do_no_harm() {
        let newer = r#"{"models":[{"model":"m","colour":"red","in_flight":3}],"more":1}"#;
        let pages = Pages::read(&answers(0, newer)).unwrap();
        let model = &pages.latency.models[0];
        assert_eq!((&*model.model, model.in_flight, model.duration_seconds.p95), ("m", 3, None));
    }

    #[test]
    fn deep_nesting_ends_with_an_error() {
        assert!(Pages::read(&answers(0, &"[".repeat(1_000_000))).is_err());
    }
}
