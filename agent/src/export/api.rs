//! The JSON interface, for the terminal view and for scripts. Read only. Version 1 may gain fields; a field
//! keeps its name and meaning. Durations are seconds, sizes bytes, and what is not known is `null`.
//!
//! # `GET /api/v1/latency`
//!
//! `models`: one object for each model of each workload, made once a second:
//! `workload`, `model`; `in_flight`, `stalled` (requests now); `requests_per_second`, `errors_per_second`,
//! `chunks_per_second`, `prompt_tokens_per_second`, `completion_tokens_per_second` (each `last_10s` and `last_5m`; tokens
//! by the `usage` on the wire, when their request has ended); `duration_seconds`, `ttft_seconds`,
//! `inter_chunk_seconds`, `time_per_output_token_seconds` (each `count`, `p50`, `p90`, `p95`, `p99` over the
//! last 5 minutes, with at most 1 % error).
//!
//! # `GET /api/v1/requests?after=N&limit=M`
//!
//! The newest 4,096 finished inference requests. `requests`: those with a `seq` above `after`, oldest first,
//! at most `limit` (100 unless given, 1,000 at most); without `after`, the newest. `next`: the `after` that
//! goes on from here. `missed`: how many after `after` are no longer kept. Each has:
//! `seq`, `ended_unix_seconds`, `workload`, `model`, `route`, `status`, `outcome`, `streamed`,
//! `duration_seconds`, `ttft_seconds`, `read_delay_seconds`, `send_wait_seconds`, `chunks`,
//! `gaps` (`count`, `sum_seconds`, `max_seconds` between writes with chunks; `null` where none was seen, or
//! where more than 16,384 streams were under way), `prompt_tokens`,
//! `completion_tokens`, `request_id`, `response_id`, `trace_id`, `request_bytes`, `response_bytes`, and
//! `incomplete` (why its values cannot be trusted). Never content.
//!
//! `blame`: what its time went to, or `null`: `phases` (`before_first_token` and `after`, or `whole`), each an object
//! of seconds by cause, without the causes that have none; they sum to the phase. `causes`: what took more than usual
//! for its size, the most first (`cause`, `excess_seconds`). `slow`: what it counts for, `null` where it was not slow.
//!
//! # `GET /api/v1/slow?limit=M`
//!
//! The newest 512 slow requests, the newest first, at most `limit` (100 unless given). `total`: how many there were.
//! Each has what `/requests` shows of identity, tokens and times, and `cause`, `blame`; `over` (`usual`, `objective`)
//! and `over_seconds`, what it was compared with; `in_flight_at_arrival`, `prompt_tokens_in_flight_at_arrival`;
//! `neighbour` (`response_id`, `prompt_tokens`) with the longest prompt that was worked on beside it;
//! `first_read_seconds`; `chunk_gaps`, when the chunks of a stream came, from its first token on: `seconds`, at most 256
//! values that are each the sum of `gaps_per_value` gaps between writes with chunks (1 up to 256 gaps, then 2, 4 ...; the
//! last may be of fewer), `null` without gaps, or where more than 1,024 streams were under way; and `stalls`, the 64 longest of the threads on its way (`tid`, `role`, `cause`,
//! `start_seconds`, `end_seconds` from its arrival, `stalled_seconds`).
//!
//! # `GET /api/v1/stalls`
//!
//! `workloads`: one object for each role of each workload, made once a second: `workload`; `role` (`api`, `engine`,
//! `worker`, `other`); `seconds_per_second`, by cause (`stopped`, `cpu_throttle`, `run_queue`, `memory_reclaim`,
//! `major_fault`, `block_io`) the thread seconds per second of the last 10 s in which threads could not go on, those under
//! way included: above 1 where several threads were held up at once.
//!
//! # `GET /api/v1/gpus`
//!
//! `driver` (`library`, `version`, `cuda`: the newest that it supports), or `null` and `reason`, why none answers;
//! `xids_reason`, why the driver tells no faults, else `null`. `gpus`: the GPUs of the node in the order of their indices, made
//! once a second. Each has:
//! - `gpu` (its index), `uuid`, `name`, `bus_id`, `compute_mode`; `state` (`found`: has said nothing yet; `answers`,
//!   `unresponsive`, `lost`: off the bus, or to be reset; `failed`) and `state_reason`. Where it does not answer, all values of
//!   now are `null`;
//! - `read_seconds_ago`, `read_took_seconds`: how old what follows is, and how long asking took;
//! - `temperature_celsius`, `memory_temperature_celsius`; `temperature_margin_celsius`, to the nearest slowdown;
//!   `slowdown_temperature_celsius`, `shutdown_temperature_celsius`; `temperature_slope_celsius_per_second`, a fit over the
//!   last minute, and by it `seconds_to_slowdown`, `null` also while that does not come nearer;
//! - `utilization_percent`, `memory_bandwidth_utilization_percent`, `fan_speed_percent`; `memory_used_bytes`,
//!   `memory_total_bytes`, `memory_reserved_bytes`, all `null` where the GPU is split; `power_watts`, `power_limit_watts`;
//!   `sm_clock_hertz`, `sm_clock_max_hertz`, `memory_clock_hertz`, `memory_clock_max_hertz`; `performance_state` (0 is the
//!   fastest); `profile_ratio` (`sm_active`, `sm_occupancy`, `tensor_active`, `memory_active`: 0 to 1);
//! - `throttled`: the causes that hold the clocks down now, and `throttle_seconds_per_second`, by cause, for how much of the
//!   last 10 s each did, for those that are counted (`power_cap`, `sw_thermal`, `hw_thermal`, `thermal`, `power_brake`,
//!   `hw_slowdown`, `sync_boost`, `board_limit`, `reliability`);
//! - `energy_joules` since the agent began, and `energy_source` (`counter`, `integrated`);
//! - `ecc_errors` (`volatile_corrected`, `volatile_uncorrected`, since the driver was loaded; `aggregate_corrected`,
//!   `aggregate_uncorrected`, in the board's life), `remapped_rows` (`corrected`, `uncorrected`, `pending`, `failed`),
//!   `retired_pages` (`corrected`, `uncorrected`, `pending`);
//! - `pcie` (`generation`, `generation_max`, `width`, `width_max`, `sent_bytes_per_second`, `received_bytes_per_second`,
//!   `replays`), `nvlink` (`links_active`, `replay_errors`, `recovery_errors`, `crc_errors`);
//! - `xids`: faults since the agent began, by code: `xid` (`other` for codes beyond 16), `class` (`application`, `driver`,
//!   `memory`, `link`, `hardware`, `unknown`), `what` it is, `action` (what to do), `count`;
//! - `users`: workloads with processes on it: `workload`, `memory_bytes`, `utilization_percent`;
//! - `instances`, where it is split: `uuid`, `profile`, `gpu_instance`, `compute_instance`, `memory_used_bytes`,
//!   `memory_total_bytes`, `memory_reserved_bytes`;
//! - `history`: `temperature_celsius`, `power_watts`, `sm_clock_hertz`, `utilization_percent`, each at most 60 values, one a
//!   second, the newest last, `null` where it was not known.
//!
//! # `GET /api/v1/quality`
//!
//! Made once a second. `predictions`: one object for each entry of `drift.files`: `model`, `source`; `scores` (`kl`: in
//! nats, or the texts "inf" and "nan"; `kl_smoothed`, `js_distance`, `population_stability`, `ks_statistic`, `ks_p_value`,
//! `ks_method` (`exact`, `asymp`), `wasserstein`; `baseline_count`, `recent_count`, and how many of these are in [0, 1],
//! `baseline_in_range`, `recent_in_range`); `accuracy` and `validation` (`accuracy`, `correct`, `total`, `false_positives`,
//! `accuracy_method`: `equality`, `threshold_half`); `confidence`; `score_age_seconds`, since the files were last seen whole;
//! `written_unix_seconds`, of the recent file; `failure`, what is in the way, `null` where nothing is.
//!
//! `evaluations`: one object for each entry of `mmlu.results`: `model`; `scores`, the newest whole ones: `source` (`lm_eval`,
//! `ilab`, `ilab_branch`), `task`, `score`, `standard_error`, `questions`, `age_seconds`; `fall`, `fall_p_value`, `fallen` against
//! what `against` says (`best`, `baseline`), all `null` for a first one; `failure`.
//!
//! `canary`: what the agent asks itself, `null` where it does not: `model`; `run`, the newest that came to its end
//! (`ended_unix_seconds`; `accuracy`, and `lower` and `upper`, its interval of 95 %; `right`, `wrong`, `unanswered`;
//! `confidence`; `flips`, answers that changed though server and model did not), `null` before; `runs`, `tokens`;
//! `progress` of a run under way (`asked`, `questions`; `waits`: `busy`, `budget`, `server`) or `null`; `failure`.
//!
//! `changes`: one object for each stream of what requests show: `model`, `workload`, `of` (`ttft`, `time_per_output_token`,
//! `output_tokens`, `prompt_tokens`, `confidence`, `errors`, `finish_length`); `reference`, the part of it that has been learnt,
//! `null` once it is whole; `statistic`, what speaks for a change as a share of the threshold, `null` before; `alarm`
//! (`since_unix_seconds`, `raised_unix_seconds`; `ratio` of values since then to those of the reference, of shares
//! `difference`; `coincides`, what else changed then: `gpu_throttle`, `stalls`, `driver`, `model_files`, `arguments`,
//! `server_restart`, `load_mix`, `load_rate`) or `null`.
//!
//! # `GET /api/v1/agent`
//!
//! The agent itself: `node` (its name), `version`, `status` (as on `/healthz`), `unix_seconds` (wall time of this page),
//! `uptime_seconds`; `cpu` (`seconds_total`, and `last_10s`, the share of one processor: 0.01 is a hundredth); `memory`
//! (`resident_bytes`, `anonymous_bytes`); `events` (`stage`, `total`) and `events_lost` (`stage`, `reason`, `total`), which
//! are `inferscope_events_total` and `inferscope_events_lost_total`; `hooks_missing` (`program`, `reason`): kernel programs
//! that are not attached; `sandbox` (`enforce`, `log`, `off`).
//!
//! # `GET /api/v1/workloads`
//!
//! `workloads`: the inference servers of the node: `workload`, `kind`, `namespace`, `pod`, `container`,
//! `unit`, `up` (it serves), `down` (why not: `no_process`, `not_listening`, `engine_lost`, `stopped`, `unanswered`;
//! else `null`), `started_unix_seconds`.
//!
//! # Errors
//!
//! `{"error": "..."}` with status 400 (a query that is not understood), 404, 405 or 413.

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Json, routing::get};
use serde::Deserialize;

use super::http::{App, refuse};
use crate::clock::BootTime;

/// Requests of one answer unless the query says otherwise.
pub const LIMIT_DEFAULT: usize = 100;
/// Requests of one answer at most.
pub const LIMIT_MAX: usize = 1000;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/latency", get(latency))
        .route("/requests", get(requests))
        .route("/slow", get(slow))
        .route("/stalls", get(stalls))
        .route("/gpus", get(gpus))
        .route("/quality", get(quality))
        .route("/agent", get(agent))
        .route("/workloads", get(workloads))
}

async fn latency(State(app): State<App>) -> Response {
    Json(app.shared.latency.latest()).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestsQuery {
    after: Option<u64>,
    limit: Option<usize>,
}

async fn requests(State(app): State<App>, query: Result<Query<RequestsQuery>, QueryRejection>) -> Response {
    let Ok(Query(query)) = query else {
        return refuse(StatusCode::BAD_REQUEST, "the query takes after and limit, both whole numbers");
    };
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    Json(app.shared.latency.requests(query.after, limit)).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SlowQuery {
    limit: Option<usize>,
}

async fn slow(State(app): State<App>, query: Result<Query<SlowQuery>, QueryRejection>) -> Response {
    let Ok(Query(query)) = query else {
        return refuse(StatusCode::BAD_REQUEST, "the query takes limit, a whole number");
    };
    Json(app.shared.slow.page(query.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX))).into_response()
}

async fn stalls(State(app): State<App>) -> Response {
    Json(app.shared.stalls.latest()).into_response()
}

async fn gpus(State(app): State<App>) -> Response {
    Json(app.shared.gpus.latest()).into_response()
}

async fn quality(State(app): State<App>) -> Response {
    let (predictions, evaluations) = (app.shared.predictions.latest(), app.shared.evaluations.latest());
    let (canary, changes) = (app.shared.canary.latest(), app.shared.changes.latest());
    let page = serde_json::json!({
        "predictions": *predictions, "evaluations": *evaluations, "canary": *canary,
        "changes": *changes,
    });
    Json(page).into_response()
}

async fn agent(State(app): State<App>) -> Response {
    Json(app.shared.health.agent(BootTime::now())).into_response()
}

async fn workloads(State(app): State<App>) -> Response {
    Json(serde_json::json!({ "workloads": app.shared.health.workloads() })).into_response()
}
