//! When the chunks of a stream came, in little room, for the waterfall of a slow request.
//!
//! In: gaps of the streams under way. Out: [`ChunkGaps`] of one that ended. Whether it will be slow is known only then,
//! so that every stream under way is kept, up to [`STREAMS_MAX`]: 1 MiB. Those beyond have none.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use crate::clock::BootTime;

/// Gaps of one stream that are kept. A stream with more keeps the sums of 2, 4, 8 ... of them: all of it, less finely.
pub const GAPS_MAX: usize = 256;
/// Streams under way of which gaps are kept.
pub const STREAMS_MAX: usize = 1024;
/// A stream of which nothing came for this long may give its room to another: its record was lost.
const IDLE: Duration = Duration::from_secs(3600);

/// Gaps between the writes of one stream that carried chunks, from its first token on.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ChunkGaps {
    /// Gaps that each of `seconds` is the sum of; the last may be of fewer.
    pub gaps_per_value: u32,
    /// In the order of time, to the microsecond.
    pub seconds: Vec<f64>,
}

/// The streams under way, by connection: HTTP/1.1 has one response under way on each.
#[derive(Debug, Default)]
pub(super) struct Streams(HashMap<u64, Stream>);

#[derive(Debug, Default)]
struct Stream {
    /// Microseconds: an hour fits.
    sums: Vec<u32>,
    gaps_per_sum: u32,
    /// Gaps that are in no sum yet, and how many.
    open: Duration,
    open_gaps: u32,
    touched: BootTime,
}

impl Streams {
    /// Adds gaps of the stream on `socket`.
    pub(super) fn add(&mut self, socket: u64, gaps: &[Duration], now: BootTime) {
        if gaps.is_empty() || (self.0.len() >= STREAMS_MAX && !self.0.contains_key(&socket)) {
            return;
        }
        let stream = self.0.entry(socket).or_default();
        stream.touched = now;
        gaps.iter().for_each(|gap| stream.add(*gap));
    }

    /// Ends the stream on `socket`; `None` where no gap of it was kept.
    pub(super) fn end(&mut self, socket: u64) -> Option<ChunkGaps> {
        self.0.remove(&socket).map(Stream::into_gaps)
    }

    /// When room gets short, lets those go of which nothing came for long.
    pub(super) fn expire(&mut self, now: BootTime) {
        if self.0.len() >= STREAMS_MAX / 2 {
            self.0.retain(|_, stream| now.since(stream.touched) < IDLE);
        }
    }
}

impl Stream {
    fn add(&mut self, gap: Duration) {
        self.gaps_per_sum = self.gaps_per_sum.max(1);
        self.open += gap;
        self.open_gaps += 1;
        if self.open_gaps < self.gaps_per_sum {
            return;
        }
        if self.sums.len() >= GAPS_MAX {
            self.halve();
        } else {
            self.close();
        }
    }

    fn close(&mut self) {
        self.sums.push(u32::try_from(self.open.as_micros()).unwrap_or(u32::MAX));
        (self.open, self.open_gaps) = (Duration::ZERO, 0);
    }

    /// Half as many sums, each of twice as many gaps; what is open is the first half of the next.
    fn halve(&mut self) {
        let pairs =
            self.sums.chunks(2).map(|pair| pair.iter().fold(0, |sum: u32, more| sum.saturating_add(*more)));
        self.sums = pairs.collect();
        self.gaps_per_sum *= 2;
    }

    fn into_gaps(mut self) -> ChunkGaps {
        if self.open_gaps > 0 {
            if self.sums.len() >= GAPS_MAX {
                self.halve();
            }
            self.close();
        }
        let seconds = self.sums.iter().map(|sum| f64::from(*sum) / 1e6).collect();
        ChunkGaps { gaps_per_value: self.gaps_per_sum, seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Of a stream with these gaps, as they come in progress.
    fn kept(gaps: &[Duration]) -> ChunkGaps {
        let mut streams = Streams::default();
        gaps.chunks(64).for_each(|part| streams.add(7, part, BootTime(1)));
        streams.end(7).unwrap()
    }

    #[test]
    fn a_short_stream_is_kept_gap_by_gap() {
        let gaps = kept(&[MS * 20, MS * 500, Duration::from_nanos(1_999)]);
        assert_eq!(gaps, ChunkGaps { gaps_per_value: 1, seconds: vec![0.02, 0.5, 0.000_001] });
    }

    #[test]
    fn a_long_stream_is_kept_whole_and_less_finely() {
        for (count, per_value) in [(256, 1), (257, 2), (512, 2), (513, 4), (10_000, 64)] {
            let gaps: Vec<Duration> = (0..count).map(|n| MS * (n % 7)).collect();
            let kept = kept(&gaps);
            assert_eq!(kept.gaps_per_value, per_value, "{count} gaps");
            assert!(kept.seconds.len() <= GAPS_MAX);
            assert_eq!(kept.seconds.len(), (count as usize).div_ceil(per_value as usize), "{count} gaps");
            for (value, gaps) in kept.seconds.iter().zip(gaps.chunks(per_value as usize)) {
                let expected: Duration = gaps.iter().sum();
                assert!((value - expected.as_secs_f64()).abs() < 1e-6, "{value} for {expected:?}");
            }
        }
    }

    #[test]
    fn streams_have_a_bound_and_what_is_idle_gives_way() {
        let mut streams = Streams::default();
        for socket in 0..=STREAMS_MAX as u64 {
            streams.add(socket, &[MS], BootTime(0));
        }
        assert_eq!(streams.end(STREAMS_MAX as u64), None, "there was no room");
        let later = BootTime(IDLE.as_nanos() as u64);
        streams.add(3, &[MS], later);
        streams.expire(later);
        assert_eq!(streams.end(4), None, "nothing came of it for an hour");
        assert_eq!(streams.end(3).unwrap().seconds.len(), 2);
        streams.add(5, &[], later);
        assert_eq!(streams.end(5), None, "a single chunk has no gap");
    }
}
