//! The newest finished inference requests, for lists and for tests that compare one by one.
//!
//! In: finished records, and the gaps of streams under way. Out: summaries with a rising number, the
//! newest [`RECENT_MAX`]. No content: a record has none.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::bounds::seconds;
use crate::blame::Verdict;
use crate::blame::view::BlameView;
use crate::clock::BootTime;
use crate::request::record::{Incomplete, RequestRecord};

/// Finished requests that are kept.
pub const RECENT_MAX: usize = 4096;
/// Streams whose gaps are summed at once; those beyond are listed without a summary.
pub const OPEN_STREAMS_MAX: usize = 16_384;
/// A stream of which nothing came for this long may give its room to another.
pub const STREAM_IDLE: Duration = Duration::from_secs(3600);

/// Inter-chunk gaps of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct GapSummary {
    pub count: u64,
    pub sum_seconds: f64,
    pub max_seconds: f64,
}

/// Gaps of the streams under way, by connection: HTTP/1.1 has one response under way on each.
#[derive(Debug, Default)]
pub struct OpenStreams(HashMap<u64, OpenStream>);

#[derive(Debug, Default)]
struct OpenStream {
    gaps: GapSummary,
    touched: BootTime,
}

impl OpenStreams {
    /// Adds gaps of the stream on `socket`.
    pub fn add(&mut self, socket: u64, gaps: &[Duration], now: BootTime) {
        if self.0.len() >= OPEN_STREAMS_MAX && !self.0.contains_key(&socket) {
            return;
        }
        let stream = self.0.entry(socket).or_default();
        stream.touched = now;
        for gap in gaps {
            let gap = seconds(*gap);
            stream.gaps.count += 1;
            stream.gaps.sum_seconds += gap;
            stream.gaps.max_seconds = stream.gaps.max_seconds.max(gap);
        }
    }

    /// Ends the stream on `socket`; `None` where no gap of it was seen.
    pub fn end(&mut self, socket: u64) -> Option<GapSummary> {
        self.0.remove(&socket).map(|stream| stream.gaps)
    }

    /// When room gets short, lets those go of which nothing came for long: their record was lost.
    pub fn expire(&mut self, now: BootTime) {
        if self.0.len() >= OPEN_STREAMS_MAX / 2 {
            self.0.retain(|_, stream| now.since(stream.touched) < STREAM_IDLE);
        }
    }
}

/// One finished inference request, as it is listed. Times in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Recent {
    /// Rises by one with each request, from 1.
    pub seq: u64,
    /// Wall time of its end, in seconds since 1970.
    pub ended_unix_seconds: f64,
    pub workload: Arc<str>,
    pub model: Arc<str>,
    pub route: &'static str,
    pub status: Option<u16>,
    pub outcome: &'static str,
    pub streamed: bool,
    pub duration_seconds: f64,
    pub ttft_seconds: Option<f64>,
    pub read_delay_seconds: Option<f64>,
    pub send_wait_seconds: f64,
    pub chunks: u64,
    pub gaps: Option<GapSummary>,
    pub prompt_tokens: Option<u64>,
    pub completion_tokens: Option<u64>,
    pub request_id: Option<Box<str>>,
    pub response_id: Option<Box<str>>,
    pub trace_id: Option<Box<str>>,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub incomplete: Option<&'static str>,
    /// What its time went to; `null` where that cannot be said.
    pub blame: Option<BlameView>,
}

impl Recent {
    fn of(seq: u64, record: &RequestRecord, verdict: &Verdict, gaps: Option<GapSummary>) -> Self {
        let ended = record.end.to_wall().duration_since(UNIX_EPOCH).unwrap_or_default();
        let identity = record.identity.clone();
        Self {
            seq,
            ended_unix_seconds: seconds(ended),
            workload: record.workload.label.clone(),
            model: record.model.clone(),
            route: record.route.label(),
            status: record.status,
            outcome: record.outcome.label(),
            streamed: record.streamed,
            duration_seconds: seconds(record.duration()),
            ttft_seconds: record.ttft().map(seconds),
            read_delay_seconds: record.read_delay.map(seconds),
            send_wait_seconds: seconds(record.send_wait),
            chunks: record.chunks,
            gaps,
            prompt_tokens: record.usage.map(|usage| usage.prompt_tokens),
            completion_tokens: record.usage.map(|usage| usage.completion_tokens),
            request_id: identity.request_id,
            response_id: identity.response_id,
            trace_id: identity.trace_id,
            request_bytes: record.request_bytes,
            response_bytes: record.response_bytes,
            incomplete: record.incomplete.map(Incomplete::label),
            blame: BlameView::of(verdict),
        }
    }
}

/// The newest requests. Shared by pointer, so that reading a page of them holds its lock for microseconds.
#[derive(Debug, Default)]
pub struct RecentRequests {
    newest: VecDeque<Arc<Recent>>,
    seq: u64,
}

/// Part of the list, oldest first.
#[derive(Clone, Debug, Serialize)]
pub struct RecentPage {
    /// Value of `after` that goes on from here.
    pub next: u64,
    /// Requests after the one asked for that are no longer kept.
    pub missed: u64,
    pub requests: Vec<Arc<Recent>>,
}

impl RecentRequests {
    /// Adds a finished request, and lets the oldest go.
    pub fn push(&mut self, record: &RequestRecord, verdict: &Verdict, gaps: Option<GapSummary>) {
        self.seq += 1;
        if self.newest.len() == RECENT_MAX {
            self.newest.pop_front();
        }
        self.newest.push_back(Arc::new(Recent::of(self.seq, record, verdict, gaps)));
    }

    /// Those after number `after`, else the newest; at most `limit`.
    #[must_use]
    pub fn page(&self, after: Option<u64>, limit: usize) -> RecentPage {
        let oldest = self.seq - self.newest.len() as u64;
        let after = after.unwrap_or_else(|| self.seq.saturating_sub(limit as u64).max(oldest));
        let missed = oldest.saturating_sub(after);
        let skip = usize::try_from(after.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let requests: Vec<_> = self.newest.iter().skip(skip).take(limit).cloned().collect();
        // A number from before a restart of the agent is beyond the newest: go on from the newest.
        let next = requests.last().map_or(after.min(self.seq), |last| last.seq);
        RecentPage { next, missed, requests }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::latency::tests::record;

    fn numbers(page: &RecentPage) -> Vec<u64> {
        page.requests.iter().map(|request| request.seq).collect()
    }

    #[test]
    fn pages_follow_each_other_and_say_what_was_missed() {
        let mut recent = RecentRequests::default();
        assert_eq!((recent.page(None, 10).next, recent.page(Some(7), 10).next), (0, 0));
        for _ in 0..5 {
            recent.push(&record(), &Verdict::default(), None);
        }
        let check = |after, limit, expected: &[u64], next, missed| {
            let page = recent.page(after, limit);
            assert_eq!((numbers(&page).as_slice(), page.next, page.missed), (expected, next, missed));
        };
        check(None, 2, &[4, 5], 5, 0);
        check(Some(0), 3, &[1, 2, 3], 3, 0);
        check(Some(3), 3, &[4, 5], 5, 0);
        check(Some(5), 3, &[], 5, 0);
        check(Some(0), 0, &[], 0, 0);
        // From before a restart.
        check(Some(900), 3, &[], 5, 0);
        for _ in 0..RECENT_MAX {
            recent.push(&record(), &Verdict::default(), None);
        }
        let page = recent.page(Some(2), 2);
        assert_eq!((numbers(&page), page.next, page.missed), (vec![6, 7], 7, 3));
        assert_eq!(recent.newest.len(), RECENT_MAX);
    }

    #[test]
    fn gaps_are_summed_by_stream_within_the_limit() {
        let mut streams = OpenStreams::default();
        for socket in 0..=OPEN_STREAMS_MAX as u64 {
            streams.add(socket, &[Duration::from_millis(20)], BootTime(0));
        }
        let later = BootTime(STREAM_IDLE.as_nanos() as u64);
        streams.add(3, &[Duration::from_millis(50), Duration::from_millis(10)], later);
        assert_eq!(streams.end(OPEN_STREAMS_MAX as u64), None);
        streams.expire(later);
        assert_eq!(streams.end(4), None, "nothing came of it for an hour");
        let summary = streams.end(3).unwrap();
        assert_eq!((summary.count, summary.max_seconds), (3, 0.05));
        assert!((summary.sum_seconds - 0.08).abs() < 1e-12);
        assert_eq!(streams.end(3), None);
    }
}
