//! Names, help and values of the families that every pair has: each name is written once, here.
//!
//! In: [`PairSeries`]. Out: tables that [`super::page`] encodes. The library adds the unit, `_total` and
//! nothing else: the full stop of a help text is ours, because a collector's is not added.

use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::histogram::Histogram;

use super::distribution::Distribution;
use super::series::{Count, FINISH_REASONS, GenAi, PairSeries};
use crate::request::record::{Outcome, Stall};

/// A counter of one series per pair.
pub struct Plain {
    pub name: &'static str,
    pub help: &'static str,
    pub value: fn(&PairSeries) -> &Count,
}

/// Counters of one series per pair; the page adds `_total`.
pub const COUNTERS: [Plain; 6] = [
    Plain {
        name: "vllm_requests",
        help: "Inference requests that ended, whatever their outcome.",
        value: |series| &series.requests,
    },
    Plain {
        name: "vllm_request_errors",
        help: "Inference requests that the server failed: rejected, server_error and server_reset.",
        value: |series| &series.errors,
    },
    Plain {
        name: "vllm_prompt_tokens",
        help: "Prompt tokens by the usage on the wire; requests without usage add nothing.",
        value: |series| &series.prompt_tokens,
    },
    Plain {
        name: "vllm_generation_tokens",
        help: "Completion tokens by the usage on the wire; requests without usage add nothing.",
        value: |series| &series.generation_tokens,
    },
    Plain {
        name: "vllm_requests_with_usage",
        help: "Inference requests whose response carried usage.",
        value: |series| &series.requests_with_usage,
    },
    Plain {
        name: "vllm_response_chunks",
        help: "Stream events with a content, reasoning or tool call delta.",
        value: |series| &series.chunks,
    },
];

/// A counter or gauge of one series per value of one more label: its name, value and number.
pub struct Labelled {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: MetricType,
    pub values: fn(&PairSeries) -> Vec<(&'static str, &'static str, u64)>,
}

pub const LABELLED: [Labelled; 3] = [
    Labelled {
        name: "vllm_request_outcomes",
        help: "Inference requests that ended, by outcome.",
        kind: MetricType::Counter,
        values: |series| {
            let labels = Outcome::ALL.map(Outcome::label);
            labels
                .iter()
                .zip(&series.outcomes)
                .map(|(label, count)| ("outcome", *label, count.get()))
                .collect()
        },
    },
    Labelled {
        name: "vllm_responses_finished",
        help: "Choices of responses by finish reason, and answers that were empty.",
        kind: MetricType::Counter,
        values: |series| {
            let counts = FINISH_REASONS.iter().zip(&series.finished);
            counts.map(|(label, count)| ("reason", *label, count.get())).collect()
        },
    },
    Labelled {
        name: "vllm_requests_stalled",
        help: "Inference requests under way of which no byte has passed for a while, by why.",
        kind: MetricType::Gauge,
        values: |series| {
            let labels = Stall::ALL.map(Stall::label);
            labels.iter().zip(&series.stalled).map(|(label, count)| ("why", *label, count.get())).collect()
        },
    },
];

/// A histogram.
pub struct Shape {
    pub name: &'static str,
    pub help: &'static str,
    pub value: fn(&PairSeries) -> &Distribution,
}

/// Histograms, in seconds.
pub const HISTOGRAMS: [Shape; 6] = [
    Shape {
        name: "vllm_request_duration",
        help: "First byte of the request available to the server, to the last byte of the response handed to the \
               socket, or the abort.",
        value: |series| &series.duration,
    },
    Shape {
        name: "vllm_time_to_first_token",
        help: "First byte of the request available to the server, to the write of the first stream event with a \
               delta.",
        value: |series| &series.ttft,
    },
    Shape {
        name: "vllm_inter_chunk_latency",
        help: "A write that carries stream events with a delta, to the next such write.",
        value: |series| &series.inter_chunk,
    },
    Shape {
        name: "vllm_time_per_output_token",
        help: "Time after the first token by the completion tokens after it, where usage is on the wire.",
        value: |series| &series.time_per_output_token,
    },
    Shape {
        name: "vllm_request_read_delay",
        help: "First byte of the request on the socket, to the server's read that returned it.",
        value: |series| &series.read_delay,
    },
    Shape {
        name: "vllm_response_send_wait",
        help: "Time of one response in which the socket took no more bytes: a slow client.",
        value: |series| &series.send_wait,
    },
];

/// A histogram under another name.
pub struct GenAiShape {
    pub name: &'static str,
    pub help: &'static str,
    pub value: fn(&GenAi) -> &Histogram,
}

/// OpenTelemetry's names, over its advised bounds.
pub const GEN_AI: [GenAiShape; 3] = [
    GenAiShape {
        name: "gen_ai_server_request_duration",
        help: "As vllm_request_duration_seconds, over the bounds that OpenTelemetry advises.",
        value: |gen_ai| &gen_ai.request_duration,
    },
    GenAiShape {
        name: "gen_ai_server_time_to_first_token",
        help: "As vllm_time_to_first_token_seconds, over the bounds that OpenTelemetry advises.",
        value: |gen_ai| &gen_ai.time_to_first_token,
    },
    GenAiShape {
        name: "gen_ai_server_time_per_output_token",
        help: "As vllm_time_per_output_token_seconds, over the bounds that OpenTelemetry advises.",
        value: |gen_ai| &gen_ai.time_per_output_token,
    },
];
