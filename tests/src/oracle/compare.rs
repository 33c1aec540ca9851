//! Matches records with the truth and measures the differences.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use serde::Serialize;

use crate::client::SLOW_SUFFIX;
use crate::transcript::{Exchange, Outcome};

use super::models::{Labelled, Models};
use super::{AgentRecord, Gaps, Source};

/// Differences that are told one by one at most.
const MISMATCHES_MAX: usize = 50;
/// A larger response does not fit the send buffer: it passes on the wire when the client reads.
const RESPONSE_BYTES_MAX: u64 = 1 << 20;
/// Relative difference of probabilities that rounding explains.
const CONFIDENCE_ERROR_MAX: f64 = 1e-6;

/// How far a time may be off: the greater of the two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub absolute: Duration,
    pub relative: f64,
    /// The kernel tells when an end closes. Not of a Unix socket: there a client has gone when the server
    /// notices, and a server when the agent sees that it has.
    pub closes_seen: bool,
    /// Share of the requests, rounded up, whose times may be off by more.
    pub strays: f64,
}

impl Bounds {
    /// The bounds that hold against this source.
    #[must_use]
    pub fn of(source: Source) -> Self {
        let absolute = match source {
            Source::Wire => Duration::from_millis(1),
            Source::Client | Source::Server => Duration::from_millis(2),
        };
        Self { absolute, relative: 0.01, closes_seen: source == Source::Wire, strays: 0.0 }
    }

    fn allowed(&self, truth_seconds: f64) -> f64 {
        self.absolute.as_secs_f64().max(truth_seconds * self.relative)
    }
}

/// Requests of one model and outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CountRow {
    pub model: String,
    pub outcome: String,
    pub expected: usize,
    pub measured: usize,
}

/// Errors of one quantity, over all requests that have it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuantityRow {
    pub name: &'static str,
    pub compared: usize,
    /// Absolute differences at p50, p95, p99 and the worst, seconds.
    pub error_seconds: [f64; 4],
    /// The same as shares of what is allowed; at most 1 at the first three to pass, strays apart.
    pub error_share: [f64; 4],
    /// Request with the worst share.
    pub worst: Option<String>,
    pub passed: bool,
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    pub request_id: String,
    pub field: &'static str,
    pub expected: String,
    pub measured: String,
}

/// What the comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    pub passed: bool,
    /// Inference requests in the truth.
    pub expected: usize,
    pub counts: Vec<CountRow>,
    pub quantities: Vec<QuantityRow>,
    /// In the truth, not among the records.
    pub missing: Vec<String>,
    /// Matched by more than one record.
    pub doubled: Vec<String>,
    /// Records that match no request, by id or what they have instead.
    pub unexpected: Vec<String>,
    /// Records that say of themselves that they are incomplete, by reason.
    pub incomplete: BTreeMap<String, usize>,
    /// Requests kept out of the times: the client read late, or the response is too large to be sent at once.
    pub slow: usize,
    /// Requests whose client left at the very end, so that their outcome is not compared.
    pub undecided: usize,
    pub mismatches: Vec<Mismatch>,
    pub mismatches_total: usize,
    /// Of a failed one: what the agent says that it could not see, as lines of its page.
    pub told: Vec<String>,
}

impl Comparison {
    /// Everything but the times agrees.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.expected > 0
            && self.missing.is_empty()
            && self.doubled.is_empty()
            && self.unexpected.is_empty()
            && self.incomplete.is_empty()
            && self.mismatches_total == 0
            && self.counts.iter().all(|row| row.expected == row.measured)
    }
}

/// Compares the inference requests of `truth` with the agent's records of the same run.
#[must_use]
pub fn compare(truth: &[Exchange], records: &[AgentRecord], bounds: Bounds) -> Comparison {
    compare_labelled(truth, records, bounds, None)
}

/// The same where not every name gets a label; the caller judges who got one.
#[must_use]
pub fn compare_labelled(
    truth: &[Exchange],
    records: &[AgentRecord],
    bounds: Bounds,
    labelled: Option<&Labelled>,
) -> Comparison {
    let truth: Vec<_> =
        truth.iter().filter(|one| one.is_inference() && one.outcome != Outcome::Open).collect();
    let models = Models::of(&truth, labelled);
    let mut matcher = Matcher { bounds, models, result: Comparison::default(), errors: BTreeMap::new() };
    matcher.result.expected = truth.len();
    matcher.pair(&truth, records);
    matcher.count(&truth, records);
    matcher.finish()
}

struct Matcher<'a> {
    bounds: Bounds,
    models: Models<'a>,
    result: Comparison,
    /// By quantity: difference, share of the allowed, request.
    errors: BTreeMap<&'static str, Vec<(f64, f64, String)>>,
}

impl<'a> Matcher<'a> {
    fn pair(&mut self, truth: &[&'a Exchange], records: &[AgentRecord]) {
        let mut by_id: HashMap<&str, Vec<&AgentRecord>> = HashMap::new();
        for record in records {
            by_id.entry(record.request_id.as_deref().unwrap_or_default()).or_default().push(record);
        }
        for exchange in truth {
            let id = exchange.request_id.clone().unwrap_or_default();
            let found = by_id.remove(id.as_str());
            if let Some([record]) = found.as_deref() {
                self.models.hear(exchange, record.model.as_deref());
            }
            match found.as_deref() {
                None => self.result.missing.push(id),
                Some([record]) => self.check(&id, exchange, record),
                Some(_) => self.result.doubled.push(id),
            }
        }
        let left = by_id.into_values().flatten();
        self.result.unexpected = left
            .map(|record| {
                let id = record.request_id.as_deref().unwrap_or("without id");
                format!("{id} (number {}, {})", record.seq, record.outcome.as_deref().unwrap_or("?"))
            })
            .collect();
    }

    fn count(&mut self, truth: &[&'a Exchange], records: &[AgentRecord]) {
        let mut counts: BTreeMap<(String, String), (usize, usize)> = BTreeMap::new();
        for exchange in truth.iter().filter(|exchange| !exchange.undecided) {
            let key = (self.models.label(exchange).to_owned(), outcome_label(exchange.outcome).to_owned());
            counts.entry(key).or_default().0 += 1;
        }
        let undecided: HashSet<_> =
            truth.iter().filter(|one| one.undecided).map(|one| one.request_id.as_deref()).collect();
        for record in records.iter().filter(|one| !undecided.contains(&one.request_id.as_deref())) {
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            counts.entry((text(&record.model), text(&record.outcome))).or_default().1 += 1;
        }
        self.result.counts = counts
            .into_iter()
            .map(|((model, outcome), (expected, measured))| CountRow { model, outcome, expected, measured })
            .collect();
    }

    fn check(&mut self, id: &str, exchange: &'a Exchange, record: &AgentRecord) {
        if let Some(reason) = &record.incomplete {
            *self.result.incomplete.entry(reason.clone()).or_default() += 1;
            return;
        }
        if exchange.undecided {
            self.result.undecided += 1;
            return;
        }
        self.check_fields(id, exchange, record);
        let outgrown = exchange.response_bytes > RESPONSE_BYTES_MAX;
        if outgrown || id.ends_with(SLOW_SUFFIX) || record.send_wait_seconds.is_some_and(|wait| wait > 0.0) {
            self.result.slow += 1;
            return;
        }
        self.check_times(id, exchange, record);
    }

    fn check_fields(&mut self, id: &str, exchange: &'a Exchange, record: &AgentRecord) {
        let model = self.models.label(exchange);
        self.same(id, "model", Some(model), record.model.as_deref());
        self.same(id, "outcome", Some(outcome_label(exchange.outcome)), record.outcome.as_deref());
        self.same(id, "route", Some(exchange.path.as_str()), record.route.as_deref());
        if exchange.outcome == Outcome::ClientAbort {
            // How far the server had come when it noticed is not on the wire.
            return;
        }
        self.same(id, "status", exchange.status, record.status);
        self.same(id, "streamed", Some(exchange.streamed), record.streamed);
        self.same(id, "chunks", Some(exchange.deltas_ns.len() as u64), Some(record.chunks));
        self.same(id, "prompt_tokens", exchange.prompt_tokens, record.prompt_tokens);
        self.same(id, "completion_tokens", exchange.completion_tokens, record.completion_tokens);
        self.same(id, "response_id", exchange.response_id.as_deref(), record.response_id.as_deref());
        // Only where the agent's list has them.
        if record.empty.is_some() {
            self.same(id, "empty", Some(exchange.empty), record.empty);
        }
        if let (Some(expected), Some(measured)) = (exchange.confidence, record.confidence)
            && (expected - measured).abs() > expected * CONFIDENCE_ERROR_MAX
        {
            self.same(id, "confidence", Some(expected.to_string()), Some(measured.to_string()));
        }
    }

    fn check_times(&mut self, id: &str, exchange: &Exchange, record: &AgentRecord) {
        // An observer that cannot tell when bytes arrived says so, and begins with the read.
        let started = match (record.read_delay_seconds, exchange.first_read_ns) {
            (None, Some(first_read)) => first_read,
            _ => exchange.started_ns,
        };
        let since = |at: u64| seconds(at.saturating_sub(started));
        // Nor can it tell that a client has gone before the server notices.
        let ended = since(exchange.ended_ns)..=since(exchange.noticed_ns.unwrap_or(exchange.ended_ns));
        let nearest = record.duration_seconds.clamp(*ended.start(), (*ended.end()).max(*ended.start()));
        let unseen_close = match exchange.outcome {
            Outcome::ServerReset => true,
            Outcome::ClientAbort => exchange.noticed_ns.is_none(),
            _ => false,
        };
        if self.bounds.closes_seen || !unseen_close {
            self.time(id, "duration", nearest, record.duration_seconds);
        }
        let aborted = exchange.outcome == Outcome::ClientAbort;
        match (exchange.deltas_ns.first(), record.ttft_seconds) {
            (Some(first), Some(measured)) => self.time(id, "ttft", since(*first), measured),
            (None, None) => {}
            _ if aborted => {}
            (truth, measured) => {
                self.same(
                    id,
                    "ttft",
                    truth.map(|ns| since(*ns).to_string()),
                    measured.map(|s| s.to_string()),
                );
            }
        }
        if !aborted {
            self.check_gaps(id, &exchange.gaps_ns(), record.gaps.unwrap_or_default());
        }
    }

    fn check_gaps(&mut self, id: &str, gaps: &[u64], measured: Gaps) {
        self.same(id, "gaps", Some(gaps.len() as u64), Some(measured.count));
        if let Some(max) = gaps.iter().max() {
            self.time(id, "gap_max", seconds(*max), measured.max_seconds);
            self.time(id, "gaps_sum", seconds(gaps.iter().sum()), measured.sum_seconds);
        }
    }

    fn same<T: PartialEq + std::fmt::Debug>(
        &mut self,
        id: &str,
        field: &'static str,
        expected: Option<T>,
        measured: Option<T>,
    ) {
        if expected == measured {
            return;
        }
        self.result.mismatches_total += 1;
        if self.result.mismatches.len() < MISMATCHES_MAX {
            let text = |value: Option<T>| value.map_or("none".to_owned(), |value| format!("{value:?}"));
            let (expected, measured) = (text(expected), text(measured));
            self.result.mismatches.push(Mismatch { request_id: id.to_owned(), field, expected, measured });
        }
    }

    fn time(&mut self, id: &str, name: &'static str, truth: f64, measured: f64) {
        let error = (truth - measured).abs();
        let share = error / self.bounds.allowed(truth);
        self.errors.entry(name).or_default().push((error, share, id.to_owned()));
    }

    fn finish(mut self) -> Comparison {
        let errors = std::mem::take(&mut self.errors);
        let strays = self.bounds.strays;
        self.result.quantities =
            errors.into_iter().map(|(name, errors)| quantity(name, errors, strays)).collect();
        let result = &mut self.result;
        result.passed = result.is_exact() && result.quantities.iter().all(|row| row.passed);
        self.result
    }
}

fn quantity(name: &'static str, mut errors: Vec<(f64, f64, String)>, strays: f64) -> QuantityRow {
    let mut absolute: Vec<_> = errors.iter().map(|(error, ..)| *error).collect();
    absolute.sort_by(f64::total_cmp);
    errors.sort_by(|(_, a, _), (_, b, _)| a.total_cmp(b));
    let shares: Vec<_> = errors.iter().map(|(_, share, _)| *share).collect();
    let error_share = [0.5, 0.95, 0.99, 1.0].map(|q| quantile(&shares, q));
    let strays = ((shares.len() as f64 * strays).ceil() as usize).min(shares.len() / 2);
    let kept = &shares[..shares.len() - strays];
    QuantityRow {
        name,
        compared: errors.len(),
        error_seconds: [0.5, 0.95, 0.99, 1.0].map(|q| quantile(&absolute, q)),
        passed: [0.5, 0.95, 0.99].iter().all(|q| quantile(kept, *q) <= 1.0),
        error_share,
        worst: errors.pop().map(|(.., id)| id),
    }
}

/// The smallest value that so many are at or below.
fn quantile(sorted: &[f64], quantile: f64) -> f64 {
    let rank = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// The outcome as the agent writes it.
fn outcome_label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::ClientError => "client_error",
        Outcome::Rejected => "rejected",
        Outcome::ServerError => "server_error",
        Outcome::ClientAbort => "client_abort",
        Outcome::ServerReset => "server_reset",
        Outcome::Open => "open",
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
