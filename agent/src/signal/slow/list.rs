//! The newest slow requests. No content: a record has none.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::chunks::ChunkGaps;
use crate::blame::view::{BlameView, SlowView as Details};
use crate::blame::{Slow, Verdict};
use crate::request::record::RequestRecord;

/// Slow requests that are kept.
pub const SLOW_MAX: usize = 512;

/// One slow request. Times in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct SlowRequest {
    /// Rises by one with each slow request, from 1.
    pub seq: u64,
    /// Wall time of its end, in seconds since 1970.
    pub ended_unix_seconds: f64,
    pub workload: Arc<str>,
    pub model: Arc<str>,
    pub route: &'static str,
    pub outcome: &'static str,
    pub streamed: bool,
    pub duration_seconds: f64,
    pub ttft_seconds: Option<f64>,
    pub chunks: u64,
    /// When they came; `None` where no gap between them was seen, or where there was no room for it.
    pub chunk_gaps: Option<ChunkGaps>,
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    pub request_id: Option<Box<str>>,
    pub response_id: Option<Box<str>>,
    pub trace_id: Option<Box<str>>,
    /// What it counts for in `vllm_slow_requests_total`.
    pub cause: &'static str,
    pub blame: Option<BlameView>,
    #[serde(flatten)]
    pub details: Details,
}

/// Part of the list, the newest first.
#[derive(Clone, Debug, Serialize)]
pub struct SlowPage {
    /// Slow requests since the agent began.
    pub total: u64,
    pub requests: Vec<Arc<SlowRequest>>,
}

/// Shared by the pipeline that writes and whoever reads.
#[derive(Clone, Debug, Default)]
pub struct SlowView(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    newest: VecDeque<Arc<SlowRequest>>,
    total: u64,
}

impl SlowView {
    /// The newest, at most `limit`.
    #[must_use]
    pub fn page(&self, limit: usize) -> SlowPage {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        SlowPage { total: list.total, requests: list.newest.iter().take(limit).cloned().collect() }
    }

    pub(super) fn push(
        &self,
        record: &RequestRecord,
        verdict: &Verdict,
        slow: &Slow,
        gaps: Option<ChunkGaps>,
    ) {
        let mut request = SlowRequest::of(record, verdict, slow);
        request.chunk_gaps = gaps.filter(|gaps| fit(gaps, record));
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.total += 1;
        request.seq = list.total;
        list.newest.truncate(SLOW_MAX - 1);
        list.newest.push_front(Arc::new(request));
    }
}

/// Whether the gaps are of this request: those of a stream whose record was lost may stand before those of the next on
/// its connection, and a server may write on to a peer that is gone.
fn fit(gaps: &ChunkGaps, record: &RequestRecord) -> bool {
    let streamed = record.first_token.map_or(0.0, |first| record.end.since(first).as_secs_f64());
    gaps.seconds.iter().sum::<f64>() <= streamed + 1e-6
}

impl SlowRequest {
    fn of(record: &RequestRecord, verdict: &Verdict, slow: &Slow) -> Self {
        let ended = record.end.to_wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        let identity = record.identity.clone();
        Self {
            seq: 0,
            ended_unix_seconds: ended.as_secs_f64(),
            workload: record.workload.label.clone(),
            model: record.model.clone(),
            route: record.route.label(),
            outcome: record.outcome.label(),
            streamed: record.streamed,
            duration_seconds: record.duration().as_secs_f64(),
            ttft_seconds: record.ttft().map(|ttft| ttft.as_secs_f64()),
            chunks: record.chunks,
            chunk_gaps: None,
            prompt_tokens: record.usage.map(|usage| usage.prompt_tokens),
            completion_tokens: record.usage.map(|usage| usage.completion_tokens),
            request_id: identity.request_id,
            response_id: identity.response_id,
            trace_id: identity.trace_id,
            cause: slow.reason.label(),
            blame: BlameView::of(verdict),
            details: Details::of(slow, record.arrival, record.first_read),
        }
    }
}
