//! Which values are told apart: bounds and precision of every latency distribution, in one place.
//!
//! Inside, a distribution is an HDR histogram with at most 1 % relative error from 10 us to 1 h. On the
//! page it is classic buckets, counted on the exact value, so that an objective's threshold reads exactly.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Result, ensure};

/// Smallest value with the promised precision, in nanoseconds.
pub const LOWEST_NS: u64 = 10_000;
/// Largest value told apart, in nanoseconds: 1 h. A longer one counts as this.
pub const HIGHEST_NS: u64 = 3_600_000_000_000;
/// Significant decimal digits: 2 give 128 steps per power of two, so at most 0.8 % between neighbours.
pub const SIGNIFICANT_DIGITS: u8 = 2;
/// The HDR histogram's unit, in nanoseconds: its first steps are one unit wide, and one unit of 64 ns
/// (the power of two below this) is 0.64 % of [`LOWEST_NS`].
pub const UNIT_NS: u64 = LOWEST_NS / 100;

/// Thresholds of objectives that become bounds of one histogram, at most.
pub const THRESHOLDS_MAX: usize = 8;
/// A threshold beyond what is told apart could never be read.
const THRESHOLD: RangeInclusive<Duration> =
    Duration::from_nanos(LOWEST_NS)..=Duration::from_nanos(HIGHEST_NS);

/// `vllm_request_duration_seconds`. 80, 100 and 150 ms are the founding objective, warning and critical.
pub const DURATION: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 1.5, 2.5, 5.0, 7.5, 10.0, 20.0, 30.0, 60.0,
    120.0, 300.0,
];
/// `vllm_time_to_first_token_seconds`.
pub const TTFT: &[f64] = &[0.01, 0.025, 0.05, 0.08, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// `vllm_inter_chunk_latency_seconds`.
pub const INTER_CHUNK: &[f64] = &[0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.15, 0.3, 1.0, 5.0];
/// `vllm_time_per_output_token_seconds`.
pub const TIME_PER_OUTPUT_TOKEN: &[f64] = &[0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08, 0.15, 0.3, 1.0];
/// `vllm_request_read_delay_seconds`.
pub const READ_DELAY: &[f64] = &[0.0001, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0];
/// `vllm_response_send_wait_seconds`.
pub const SEND_WAIT: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0];

/// Advised by the semantic conventions for generative AI metrics
/// (<https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/>).
pub const GEN_AI_REQUEST_DURATION: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Likewise.
pub const GEN_AI_TIME_TO_FIRST_TOKEN: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Likewise.
pub const GEN_AI_TIME_PER_OUTPUT_TOKEN: &[f64] =
    &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];

/// Seconds of a duration, as the double nearest to its value: a duration that equals a bound's decimal
/// equals its double, which adding whole and fractional seconds would miss by the last bit.
#[must_use]
pub fn seconds(value: Duration) -> f64 {
    value.as_nanos() as f64 / 1e9
}

/// Whether `thresholds`, each with its key, can all become bounds of one histogram.
///
/// # Errors
/// They are more than [`THRESHOLDS_MAX`], or one lies outside of what is told apart.
pub fn check(thresholds: &[(&str, Duration)]) -> Result<()> {
    for (key, value) in thresholds {
        let (least, most) = (THRESHOLD.start(), THRESHOLD.end());
        ensure!(THRESHOLD.contains(value), "`{key}` is {value:?}, outside {least:?} to {most:?}");
    }
    let (given, first) = (thresholds.len(), thresholds.first().map_or("", |(key, _)| key));
    ensure!(
        given <= THRESHOLDS_MAX,
        "`{first}` and the like are {given} thresholds, a histogram takes {THRESHOLDS_MAX}"
    );
    Ok(())
}

/// `base` with the thresholds of objectives among them, ascending. What [`check`] refuses does not come here.
#[must_use]
pub fn with_thresholds(base: &[f64], thresholds: &[Duration]) -> Vec<f64> {
    let mut bounds: Vec<f64> = base.iter().copied().chain(thresholds.iter().copied().map(seconds)).collect();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_ascends() {
        for table in [
            DURATION,
            TTFT,
            INTER_CHUNK,
            TIME_PER_OUTPUT_TOKEN,
            READ_DELAY,
            SEND_WAIT,
            GEN_AI_REQUEST_DURATION,
            GEN_AI_TIME_TO_FIRST_TOKEN,
            GEN_AI_TIME_PER_OUTPUT_TOKEN,
        ] {
            assert!(table.windows(2).all(|pair| pair[0] < pair[1]), "{table:?}");
        }
    }

    #[test]
    fn thresholds_become_bounds_once() {
        let bounds = with_thresholds(DURATION, &[Duration::from_millis(80), Duration::from_millis(1150)]);
        assert_eq!(bounds.len(), DURATION.len() + 1);
        assert!(bounds.is_sorted() && bounds.contains(&1.15));
    }

    #[test]
    fn thresholds_that_cannot_be_bounds_are_refused() {
        let refusal =
            |thresholds: &[(&str, Duration)]| check(thresholds).err().map(|error| error.to_string());
        let second = Duration::from_secs(1);
        assert_eq!(refusal(&[]), None);
        assert_eq!(refusal(&[("a", second); THRESHOLDS_MAX]), None);
        assert_eq!(
            refusal(&[("a", second); THRESHOLDS_MAX + 1]).as_deref(),
            Some("`a` and the like are 9 thresholds, a histogram takes 8")
        );
        assert_eq!(
            refusal(&[("a", second), ("b", Duration::ZERO)]).as_deref(),
            Some("`b` is 0ns, outside 10µs to 3600s")
        );
        assert!(refusal(&[("a", Duration::MAX)]).is_some());
    }

    #[test]
    fn a_duration_that_equals_a_bound_equals_its_double() {
        for (ms, bound) in [(80, 0.08), (1150, 1.15), (2300, 2.3), (7_300, 7.3), (299_990, 299.99)] {
            assert_eq!(seconds(Duration::from_millis(ms)).to_bits(), f64::to_bits(bound), "{ms} ms");
        }
    }
}
