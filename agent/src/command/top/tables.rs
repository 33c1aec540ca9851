//! The five tables: what their columns are, and what a row says in them.
//!
//! In: rows. Out: columns and texts, in the same order.

use super::bars;
use super::columns::Column;
use super::content::{GpuRow, ModelRow, QualityRow, StallRow};
use super::format::{NONE, age, bytes, count, rate, seconds, seconds_or_none};
use super::pages::{
    Accuracy, Canary, Change, Evaluations, Gpu, GpuUser, Number, Predictions, Score, SlowRequest,
};

/// Longest names that are shown whole where there is room.
const NAME_MAX: u16 = 48;
/// Longest bar that is worth its room.
const BAR_MAX: u16 = 60;
/// Longest curve: a block for three seconds.
const CURVE_MAX: u16 = 20;
/// What most names of GPUs begin with, and no column has room for.
const MAKER: &str = "NVIDIA ";
/// So usual under load that it is told last.
const USUAL: &str = "power_cap";

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

/// Places in [`GPUS`] of what is no plain text.
pub const GPU_TROUBLE: usize = 8;
pub const GPU_HEAT: usize = 9;
pub const GPU_POWER: usize = 10;
/// GPUs: at 80 cells all but `HOT IN`. `LEFT`: degrees until heat takes the clocks down, `HOT IN`: when it does, as the
/// temperature goes. `TROUBLE`: its state where it does not answer, what holds the clocks down, codes of faults.
pub const GPUS: [Column; 12] = [
    Column::number("GPU", 3, 0),
    Column::text("NAME", 7, NAME_MAX, 6),
    Column::number("TEMP", 4, 0),
    Column::number("LEFT", 4, 1),
    Column::number("HOT IN", 6, 7),
    Column::number("WATTS", 9, 1),
    Column::number("MEM", 4, 2),
    Column::number("UTIL", 4, 2),
    Column::text("TROUBLE", 12, NAME_MAX, 0),
    Column::text("temp", 7, CURVE_MAX, 4).of("minute"),
    Column::text("power", 7, CURVE_MAX, 5).of("minute"),
    Column::text("USED BY", 9, NAME_MAX, 3),
];

/// What a row of GPUs says, beside its curves. A part of a GPU has memory only.
#[must_use]
pub fn gpu(row: &GpuRow<'_>) -> Vec<String> {
    let gpu = row.gpu;
    if let Some(part) = row.instance {
        let mut texts = vec![NONE.to_owned(); GPUS.len()];
        texts[0] = gpu.gpu.to_string();
        texts[1] = format!("  {}", part.profile);
        texts[6] = share(part.memory_used_bytes, part.memory_total_bytes);
        texts[GPU_TROUBLE..].iter_mut().for_each(String::clear);
        return texts;
    }
    vec![
        gpu.gpu.to_string(),
        gpu.name.strip_prefix(MAKER).unwrap_or(&gpu.name).to_owned(),
        whole(gpu.temperature_celsius, "C"),
        whole(left(gpu), "C"),
        seconds_or_none(gpu.seconds_to_slowdown),
        watts(gpu.power_watts, gpu.power_limit_watts),
        share(gpu.memory_used_bytes, gpu.memory_total_bytes),
        whole(gpu.utilization_percent, "%"),
        trouble(gpu),
        String::new(),
        String::new(),
        users(&gpu.users),
    ]
}

/// Degrees until the clocks go down.
fn left(gpu: &Gpu) -> Option<f64> {
    let by_threshold = || Some(gpu.slowdown_temperature_celsius? - gpu.temperature_celsius?);
    gpu.temperature_margin_celsius.or_else(by_threshold)
}

/// A number without its fraction; its width is the column's concern.
fn whole(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.0}{unit}"))
}

fn watts(power: Option<f64>, limit: Option<f64>) -> String {
    match (power, limit) {
        (None, None) => NONE.to_owned(),
        (Some(power), None) => whole(Some(power), "W"),
        (power, limit) => format!("{}/{}", whole(power, ""), whole(limit, "")),
    }
}

fn share(used: Option<u64>, total: Option<u64>) -> String {
    let percent = |(used, total): (u64, u64)| used as f64 / total.max(1) as f64 * 100.0;
    whole(used.zip(total).map(percent), "%")
}

fn trouble(gpu: &Gpu) -> String {
    let state = Some(&*gpu.state).filter(|state| !matches!(*state, "" | "answers")).map(str::to_owned);
    let mut causes: Vec<String> = gpu.throttled.iter().map(ToString::to_string).collect();
    causes.sort_by_key(|cause| cause == USUAL);
    let xids = gpu.xids.iter().map(|of| match of.count {
        1 => format!("xid {}", of.xid),
        count => format!("xid {} x{count}", of.xid),
    });
    let all: Vec<String> = state.into_iter().chain(causes).chain(xids).collect();
    if all.is_empty() { NONE.to_owned() } else { all.join(", ") }
}

/// `chat 60G 90%`, the most memory first.
fn users(users: &[GpuUser]) -> String {
    let mut users: Vec<&GpuUser> = users.iter().collect();
    users.sort_by(|a, b| b.memory_bytes.cmp(&a.memory_bytes).then_with(|| a.workload.cmp(&b.workload)));
    let text = |user: &&GpuUser| {
        let memory = user.memory_bytes.map(|of| format!(" {}", bytes(of))).unwrap_or_default();
        let time = user.utilization_percent.map(|of| format!(" {of:.0}%")).unwrap_or_default();
        format!("{}{memory}{time}", user.workload)
    };
    users.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Place of what is in the way in [`QUALITY`].
pub const QUALITY_TROUBLE: usize = 10;
/// Below it two samples are told apart by custom.
const P_VALUE_LOW: f64 = 0.05;
/// Quality. `DRIFT`: divergence of the newest predictions from the baseline; of what requests show, what speaks for a change; `P`: probability of their distance by chance;
/// `ACC`, `VALID`, `CONF`: accuracy, that of the validation set, confidence; `SCORE`: of a benchmark, `FALL`: below the best.
pub const QUALITY: [Column; 11] = [
    Column::text("MODEL", 11, NAME_MAX, 0),
    Column::text("SOURCE", 7, 11, 1),
    Column::number("DRIFT", 6, 2),
    Column::number("P", 6, 5),
    Column::number("ACC", 5, 2),
    Column::number("VALID", 5, 6),
    Column::number("CONF", 5, 4),
    Column::number("SCORE", 11, 2),
    Column::number("FALL", 6, 3),
    Column::number("AGE", 4, 7),
    Column::text("TROUBLE", 10, NAME_MAX, 0),
];

/// What a row of quality says. `unix_seconds`: the time of the page.
#[must_use]
pub fn quality(row: &QualityRow<'_>, unix_seconds: f64) -> Vec<String> {
    match row {
        QualityRow::Changed(of) => changed(of, unix_seconds),
        QualityRow::Same(of) => same(of),
        QualityRow::Predictions(of) => predictions(of),
        QualityRow::Score(of, score) => benchmark(of, score),
        QualityRow::Canary(of) => canary(of, unix_seconds),
        QualityRow::NoScore(of) => {
            let mut texts = vec![NONE.to_owned(); QUALITY.len()];
            texts[0] = of.model.to_string();
            texts[1] = "results".to_owned();
            texts[QUALITY_TROUBLE] = of.failure.as_deref().unwrap_or("no whole run yet").to_owned();
            texts
        }
    }
}

/// `ttft 1.12x since 3m (gpu_throttle)`.
fn changed(of: &Change, unix_seconds: f64) -> Vec<String> {
    let mut texts = live(of);
    let Some(alarm) = &of.alarm else { return texts };
    let by = match (alarm.ratio, alarm.difference) {
        (Some(ratio), _) => format!(" {ratio:.2}x"),
        (None, Some(difference)) => format!(" {difference:+.3}"),
        (None, None) => String::new(),
    };
    let names: Vec<&str> = alarm.coincides.iter().map(|name| &**name).collect();
    let coincides = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    let since = age(unix_seconds - alarm.since_unix_seconds);
    texts[QUALITY_TROUBLE] = format!("{}{by} since {since}{coincides}", of.of);
    texts[2] = decimal(of.statistic);
    texts
}

/// The one of which most speaks for a change; or how far the reference is that is least far.
fn same(of: &[Change]) -> Vec<String> {
    let Some(first) = of.first() else { return Vec::new() };
    let mut texts = live(first);
    let known = || of.iter().filter_map(|stream| stream.statistic);
    texts[2] = decimal(known().reduce(f64::max));
    if known().next().is_none() {
        let most = of.iter().filter_map(|stream| stream.reference).fold(0.0, f64::max);
        texts[QUALITY_TROUBLE] = format!("learning, {:.0}%", most * 100.0);
    }
    texts
}

fn live(of: &Change) -> Vec<String> {
    let mut texts = vec![NONE.to_owned(); QUALITY.len()];
    texts[0] = of.model.to_string();
    texts[1] = "live".to_owned();
    texts
}

fn predictions(of: &Predictions) -> Vec<String> {
    let scores = of.scores.as_ref();
    let p_value = scores.and_then(|scores| scores.ks_p_value);
    let apart = p_value.is_some_and(|p| p < P_VALUE_LOW).then(|| "another distribution".to_owned());
    let trouble = of.failure.as_deref().map(str::to_owned).or(apart);
    let accuracy = |of: &Option<Accuracy>| number(of.as_ref().and_then(|of| of.accuracy.as_ref()));
    vec![
        of.model.to_string(),
        of.source.to_string(),
        number(scores.and_then(|scores| scores.kl.as_ref())),
        p_value.map_or_else(|| NONE.to_owned(), probability),
        accuracy(&of.accuracy),
        accuracy(&of.validation),
        decimal(of.confidence),
        NONE.to_owned(),
        NONE.to_owned(),
        of.score_age_seconds.map_or_else(|| NONE.to_owned(), age),
        trouble.unwrap_or_else(|| NONE.to_owned()),
    ]
}

fn benchmark(of: &Evaluations, score: &Score) -> Vec<String> {
    let error = score.standard_error.map(|error| format!("±{error:.3}")).unwrap_or_default();
    let fallen = score.fallen == Some(true);
    let p_value = score.fall_p_value.map(|p| format!(", p {}", probability(p))).unwrap_or_default();
    let fallen = fallen.then(|| format!("fallen{p_value}"));
    let trouble = fallen.or_else(|| of.failure.as_deref().map(str::to_owned));
    let mut texts = vec![NONE.to_owned(); QUALITY.len()];
    texts[0] = of.model.to_string();
    texts[1] = score.source.to_string();
    texts[7] = format!("{:.3}{error}", score.score);
    texts[8] = decimal(score.fall);
    texts[9] = age(score.age_seconds);
    texts[QUALITY_TROUBLE] = trouble.unwrap_or_else(|| NONE.to_owned());
    texts
}

/// The newest run; what goes wrong, which answers changed, or how far a run is.
fn canary(of: &Canary, unix_seconds: f64) -> Vec<String> {
    let mut texts = vec![NONE.to_owned(); QUALITY.len()];
    texts[0] = of.model.to_string();
    texts[1] = "canary".to_owned();
    if let Some(run) = &of.run {
        texts[5] = decimal(Some(run.accuracy));
        texts[6] = decimal(run.confidence);
        texts[7] = format!("{:.2}-{:.2}", run.lower, run.upper);
        texts[9] = age(unix_seconds - run.ended_unix_seconds);
    }
    let flips = of.run.as_ref().and_then(|run| run.flips).filter(|flips| *flips > 0);
    let flips = flips.map(|flips| format!("{flips} answers changed"));
    let progress = of.progress.as_ref().map(|progress| {
        let waits = progress.waits.as_deref().map(|why| format!(", waits ({why})")).unwrap_or_default();
        format!("asked {} of {}{waits}", progress.asked, progress.questions)
    });
    let trouble = of.failure.as_deref().map(str::to_owned).or(flips).or(progress);
    if let Some(trouble) = trouble {
        texts[QUALITY_TROUBLE] = trouble;
    }
    texts
}

fn number(value: Option<&Number>) -> String {
    match value {
        Some(Number::Plain(value)) => decimal(Some(*value)),
        Some(Number::Told(text)) => text.to_string(),
        None => NONE.to_owned(),
    }
}

fn decimal(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.3}"))
}

/// Small ones by their exponent.
fn probability(p: f64) -> String {
    if p != 0.0 && p < 0.001 { format!("{p:.0e}") } else { format!("{p:.3}") }
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
