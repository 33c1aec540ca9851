//! Which rows there are, in which order. Pure.
//!
//! In: the pages, and what the operator has chosen. Out: rows of models, of GPUs, of stalls and of slow requests, filtered
//! and sorted.

use std::cmp::Ordering;
use std::sync::Arc;

use super::pages::{
    Canary, Change, Evaluations, Gpu, GpuInstance, Model, Pages, Predictions, RoleStalls, Score, SlowRequest,
    Workload,
};
use super::state::{Sort, State};

/// Tasks that are a benchmark and no part of one.
const BENCHMARKS: [&str; 2] = ["mmlu", "mmlu_branch"];

/// One model of one workload; or a workload that has shown none.
#[derive(Clone, Copy, Debug)]
pub struct ModelRow<'a> {
    pub workload: &'a str,
    /// Why it does not serve; `None` where it does, or where the agent does not list it.
    pub down: Option<&'a str>,
    pub model: Option<&'a Model>,
}

/// One cause that held up threads of one role lately.
#[derive(Clone, Copy, Debug)]
pub struct StallRow<'a> {
    pub workload: &'a str,
    pub role: &'a str,
    pub cause: &'a str,
    /// Thread seconds per second.
    pub rate: f64,
}

/// One GPU, or one part of a GPU that is split.
#[derive(Clone, Copy, Debug)]
pub struct GpuRow<'a> {
    pub gpu: &'a Gpu,
    pub instance: Option<&'a GpuInstance>,
}

/// What one source says of the quality of a model.
#[derive(Clone, Copy, Debug)]
pub enum QualityRow<'a> {
    Predictions(&'a Predictions),
    /// A score of a whole benchmark.
    Score(&'a Evaluations, &'a Score),
    /// Results that say nothing yet.
    NoScore(&'a Evaluations),
    Canary(&'a Canary),
    /// Something that requests show has changed.
    Changed(&'a Change),
    /// Nothing has: all streams of a model of a server.
    Same(&'a [Change]),
}

/// The models, sorted as chosen, and workloads without one.
#[must_use]
pub fn models<'a>(pages: &'a Pages, state: &State) -> Vec<ModelRow<'a>> {
    let listed = |name: &str| pages.workloads.workloads.iter().find(|workload| *workload.workload == *name);
    let of_models = pages.latency.models.iter().map(|model| ModelRow {
        workload: &model.workload,
        down: listed(&model.workload).and_then(why_down),
        model: Some(model),
    });
    let silent = |name: &str| !pages.latency.models.iter().any(|model| *model.workload == *name);
    let without = pages.workloads.workloads.iter().filter(|workload| silent(&workload.workload));
    let without = without.map(|workload| ModelRow {
        workload: &workload.workload,
        down: why_down(workload),
        model: None,
    });
    let mut rows: Vec<ModelRow<'_>> = of_models
        .chain(without)
        .filter(|row| matches(state, &[row.workload, row.model.map_or("", |model| &model.model)]))
        .collect();
    rows.sort_by(|a, b| order(state.sort, a, b));
    rows
}

fn why_down(workload: &Workload) -> Option<&str> {
    if workload.up { None } else { Some(workload.down.as_deref().unwrap_or("down")) }
}

/// The most first; of equals by name.
fn order(sort: Sort, a: &ModelRow<'_>, b: &ModelRow<'_>) -> Ordering {
    let measure = |row: &ModelRow<'_>| {
        let Some(model) = row.model else { return f64::NEG_INFINITY };
        match sort {
            Sort::Name => 0.0,
            Sort::Rate => model.requests_per_second.last_10s,
            Sort::InFlight => model.in_flight as f64,
            Sort::FirstToken => model.ttft_seconds.p95.unwrap_or(-1.0),
            Sort::Duration => model.duration_seconds.p95.unwrap_or(-1.0),
            Sort::Tokens => model.completion_tokens_per_second.last_10s,
        }
    };
    let name = |row: &ModelRow<'_>| (row.workload.to_owned(), row.model.map(|model| model.model.clone()));
    let by_name = || name(a).cmp(&name(b));
    match sort {
        Sort::Name => by_name(),
        _ => measure(b).total_cmp(&measure(a)).then_with(by_name),
    }
}

/// The GPUs as the agent lists them, each with its parts.
#[must_use]
pub fn gpus<'a>(pages: &'a Pages, state: &State) -> Vec<GpuRow<'a>> {
    let of = |gpu: &&Gpu| {
        let mut names = vec![&*gpu.name, &*gpu.uuid, &*gpu.state];
        names.extend(gpu.throttled.iter().map(|cause| &**cause));
        names.extend(gpu.users.iter().map(|user| &*user.workload));
        matches(state, &names)
    };
    let rows = |gpu: &'a Gpu| {
        let parts = gpu.instances.iter().map(Some);
        [None].into_iter().chain(parts).map(move |instance| GpuRow { gpu, instance })
    };
    pages.gpus.gpus.iter().filter(of).flat_map(rows).collect()
}

/// What requests show first; then files, results and the canary, each in the order in which they are configured.
#[must_use]
pub fn quality<'a>(pages: &'a Pages, state: &State) -> Vec<QualityRow<'a>> {
    let predictions = pages.quality.predictions.iter();
    let predictions =
        predictions.filter(|of| matches(state, &[&of.model, &of.source])).map(QualityRow::Predictions);
    let evaluations = pages.quality.evaluations.iter().flat_map(|of| {
        let whole = of.scores.iter().filter(|score| BENCHMARKS.contains(&&*score.task));
        let mut rows: Vec<QualityRow<'_>> = whole
            .filter(|score| matches(state, &[&of.model, &score.source, &score.task]))
            .map(|score| QualityRow::Score(of, score))
            .collect();
        if rows.is_empty() && matches(state, &[&of.model]) {
            rows.push(QualityRow::NoScore(of));
        }
        rows
    });
    let canary = pages.quality.canary.iter().filter(|of| matches(state, &[&of.model, "canary"]));
    let canary = canary.map(QualityRow::Canary);
    changes(pages, state).into_iter().chain(predictions).chain(evaluations).chain(canary).collect()
}

/// A row for each change; of a model without one, a row.
fn changes<'a>(pages: &'a Pages, state: &State) -> Vec<QualityRow<'a>> {
    let same = |a: &Change, b: &Change| a.model == b.model && a.workload == b.workload;
    let mut rows = Vec::new();
    for streams in pages.quality.changes.chunk_by(same) {
        if !streams.first().is_some_and(|of| matches(state, &[&of.model, &of.workload])) {
            continue;
        }
        let changed = streams.iter().filter(|stream| stream.alarm.is_some());
        let before = rows.len();
        rows.extend(changed.map(QualityRow::Changed));
        // What is asked of it for the first time says nothing yet.
        if rows.len() == before {
            rows.push(QualityRow::Same(streams));
        }
    }
    rows
}

/// What held threads up, the most first.
#[must_use]
pub fn stalls<'a>(pages: &'a Pages, state: &State) -> Vec<StallRow<'a>> {
    let of_role = |role: &'a RoleStalls| {
        role.seconds_per_second.iter().map(|(cause, rate)| StallRow {
            workload: &role.workload,
            role: &role.role,
            cause,
            rate: *rate,
        })
    };
    let mut rows: Vec<StallRow<'a>> = pages
        .stalls
        .workloads
        .iter()
        .flat_map(of_role)
        .filter(|row| row.rate > 0.0 && matches(state, &[row.workload, row.role, row.cause]))
        .collect();
    let name = |row: &StallRow<'a>| (row.workload, row.role, row.cause);
    rows.sort_by(|a, b| b.rate.total_cmp(&a.rate).then_with(|| name(a).cmp(&name(b))));
    rows
}

/// The slow requests, the newest first.
#[must_use]
pub fn slow<'a>(pages: &'a Pages, state: &State) -> Vec<&'a Arc<SlowRequest>> {
    let of = |request: &&Arc<SlowRequest>| {
        let ids = [&request.request_id, &request.response_id, &request.trace_id];
        let mut names = vec![&*request.workload, &*request.model, &*request.cause, &*request.outcome];
        names.extend(ids.into_iter().flatten().map(|id| &**id));
        matches(state, &names)
    };
    pages.slow.requests.iter().filter(of).collect()
}

/// Whether one of the names has the filter in it, whatever the case of its letters.
fn matches(state: &State, names: &[&str]) -> bool {
    let filter = state.filter.to_lowercase();
    filter.is_empty() || names.iter().any(|name| name.to_lowercase().contains(&filter))
}
