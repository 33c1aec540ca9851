//! The three tables: what their columns are, and what a row says in them.
//!
//! In: rows. Out: columns and texts, in the same order.

use super::bars;
use super::columns::Column;
use super::content::{ModelRow, StallRow};
use super::format::{NONE, age, count, rate, seconds, seconds_or_none};
use super::pages::SlowRequest;

/// Longest names that are shown whole where there is room.
const NAME_MAX: u16 = 48;
/// Longest bar that is worth its room.
const BAR_MAX: u16 = 60;

/// Models: at 80 cells all but the last three. `STUCK`: no byte has passed for a while.
pub const MODELS: [Column; 14] = [
    Column::text("WORKLOAD", 9, NAME_MAX, 0),
    Column::text("MODEL", 11, NAME_MAX, 0),
    Column::number("REQ/S", 5, 1),
    Column::number("ERR/S", 5, 3),
    Column::number("OPEN", 4, 2),
    Column::number("p50", 5, 5).of("first token"),
    Column::number("p95", 5, 1).of("first token"),
    Column::number("p99", 5, 6).of("first token"),
    Column::number("p50", 5, 5).of("duration"),
    Column::number("p95", 5, 1).of("duration"),
    Column::number("p99", 5, 6).of("duration"),
    Column::number("TOK/S", 5, 4),
    Column::number("p95", 5, 7).of("gap"),
    Column::number("STUCK", 5, 8),
];

/// What a row of models says.
#[must_use]
pub fn model(row: &ModelRow<'_>) -> Vec<String> {
    let Some(model) = row.model else {
        let state = row.down.unwrap_or("none yet");
        let mut texts = vec![row.workload.to_owned(), format!("({state})")];
        texts.resize(MODELS.len(), NONE.to_owned());
        return texts;
    };
    let down = row.down.map(|why| format!("({why}) ")).unwrap_or_default();
    let mut texts = vec![
        row.workload.to_owned(),
        format!("{down}{}", model.model),
        rate(model.requests_per_second.last_10s),
        rate(model.errors_per_second.last_10s),
        count(model.in_flight),
    ];
    for quantiles in [&model.ttft_seconds, &model.duration_seconds] {
        texts.extend([quantiles.p50, quantiles.p95, quantiles.p99].map(seconds_or_none));
    }
    texts.push(rate(model.completion_tokens_per_second.last_10s));
    texts.push(seconds_or_none(model.inter_chunk_seconds.p95));
    texts.push(count(model.stalled));
    texts
}

/// Place of the bar in [`STALLS`].
pub const STALL_BAR: usize = 4;
/// Stalls. `S/S`: thread seconds per second.
pub const STALLS: [Column; 5] = [
    Column::text("WORKLOAD", 9, NAME_MAX, 0),
    Column::text("ROLE", 6, 6, 1),
    Column::text("CAUSE", 14, 14, 0),
    Column::number("S/S", 5, 0),
    Column::text("", 8, BAR_MAX, 2),
];

/// What a row of stalls says, beside its bar.
#[must_use]
pub fn stall(row: &StallRow<'_>) -> Vec<String> {
    vec![row.workload.to_owned(), row.role.to_owned(), row.cause.to_owned(), rate(row.rate), String::new()]
}

/// Place of the mark of the selected row in [`SLOW`], and of the vector.
pub const SLOW_VECTOR: usize = 8;
/// Slow requests. `LIMIT`: what it was compared with, its objective or what is usual for its size.
pub const SLOW: [Column; 10] = [
    Column::text("", 1, 1, 0),
    Column::number("AGO", 5, 3),
    Column::text("WORKLOAD", 9, NAME_MAX, 2),
    Column::text("MODEL", 9, NAME_MAX, 6),
    Column::number("TOOK", 5, 1),
    Column::number("TTFT", 5, 5),
    Column::number("LIMIT", 5, 7),
    Column::text("CAUSE", 14, 14, 0),
    Column::text("TIME BY CAUSE", 13, BAR_MAX, 4),
    Column::text("REQUEST", 10, NAME_MAX, 8),
];

/// What a row of slow requests says, beside its vector. `unix_seconds`: the time of the page.
#[must_use]
pub fn slow(request: &SlowRequest, unix_seconds: f64, selected: bool) -> Vec<String> {
    let ids = [&request.request_id, &request.response_id, &request.trace_id];
    let id = ids.into_iter().flatten().next();
    vec![
        (if selected { ">" } else { "" }).to_owned(),
        age(unix_seconds - request.ended_unix_seconds),
        request.workload.to_string(),
        request.model.to_string(),
        seconds(request.duration_seconds),
        seconds_or_none(request.ttft_seconds),
        seconds(request.over_seconds),
        request.cause.to_string(),
        String::new(),
        id.map_or_else(|| NONE.to_owned(), ToString::to_string),
    ]
}

/// Causes of the cells of a request's vector.
#[must_use]
pub fn vector(request: &SlowRequest, room: usize) -> Vec<String> {
    let Some(blame) = &request.blame else { return Vec::new() };
    let whole = bars::whole(blame);
    bars::shares(&bars::parts(&whole), room).into_iter().map(str::to_owned).collect()
}
