//! Many streams, each with another seed: how often there is an alarm without a change, and how soon with one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use inferscope::quality::change::{DAY_NS, SECOND_NS, cusum};
use serde::Serialize;

use super::streams::{DAY, Kind, Stream, statistic};

const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// Watched after the reference, where there is no change.
const WATCHED_DAYS: u64 = 3;
/// Values a second of streams without a change, of ramps, and of shifts.
const RATE: f64 = 5.0;
const SHIFT_RATE: f64 = 10.0;
const MINUTES_5: f64 = 300.0;
/// Hours' greatest evidence between which the slope of their tail is taken: above the first are a fifth of them.
const TAIL: (f64, f64) = (0.2, 0.01);

/// One kind of stream without a change.
#[derive(Clone, Debug, Serialize)]
pub struct FalseAlarms {
    pub streams: &'static str,
    pub seeds: u64,
    pub watched_days: f64,
    pub alarms: u64,
    /// Watched time by alarms; of no alarm it is longer than all of it.
    pub days_between: f64,
    pub required_days: f64,
    /// By which the logarithm of the share of hours falls with their greatest evidence; Lorden's bound needs 1.
    pub tail_slope: f64,
    /// What that says of the time between alarms at a threshold for a year.
    pub days_between_at_a_year: f64,
    pub holds: bool,
}

/// One kind of change.
#[derive(Clone, Debug, Serialize)]
pub struct Detection {
    pub change: &'static str,
    pub seeds: u64,
    pub found: u64,
    pub seconds_median: Option<f64>,
    pub seconds_p95: Option<f64>,
    pub required: &'static str,
    pub holds: bool,
}

/// Streams without a change, watched by detectors that may be wrong once a day.
#[must_use]
pub fn false_alarms(seeds: u64) -> Vec<FalseAlarms> {
    [
        ("independent, log-normal", Kind::Independent),
        ("the same with a daily cycle", Kind::Cycle),
        ("moved together for half minutes", Kind::Together),
        ("times of prompts of many lengths", Kind::Prompts),
    ]
    .map(|(name, kind)| false_alarms_of(name, kind, seeds))
    .to_vec()
}

fn false_alarms_of(streams: &'static str, kind: Kind, seeds: u64) -> FalseAlarms {
    let alarms = AtomicU64::new(0);
    let hours = Mutex::new(Vec::new());
    each(seeds, |seed| {
        let mut stream = Stream::new(kind, seed, RATE, DAY);
        stream.learn();
        let (mut of_hours, mut raised) = (Vec::new(), false);
        for _ in 0..WATCHED_DAYS * 24 {
            let until = stream.now_ns + DAY_NS / 24;
            let mut most: f64 = 0.0;
            while stream.now_ns < until {
                stream.step();
                most = most.max(stream.evidence(RATE, DAY));
                let now = stream.statistic().alarm.is_some();
                if now && !raised {
                    alarms.fetch_add(1, Ordering::Relaxed);
                }
                raised = now;
            }
            of_hours.push(most);
        }
        hours.lock().expect("no thread panics").append(&mut of_hours);
    });
    let alarms = alarms.into_inner();
    let watched_days = (seeds * WATCHED_DAYS) as f64;
    let mut hours = hours.into_inner().expect("no thread panics");
    let (tail_slope, days_between_at_a_year) = tail(&mut hours);
    let days_between = watched_days / alarms.max(1) as f64;
    let holds = days_between >= 1.0 && days_between_at_a_year >= 365.0;
    FalseAlarms {
        streams,
        seeds,
        watched_days,
        alarms,
        days_between,
        required_days: 1.0,
        tail_slope,
        days_between_at_a_year,
        holds,
    }
}

/// The slope of the tail of hours' greatest evidence, and the days between hours beyond the threshold of a year by it.
fn tail(hours: &mut [f64]) -> (f64, f64) {
    hours.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| hours[((1.0 - share) * (hours.len() - 1) as f64) as usize];
    let (from, to) = (at(TAIL.0), at(TAIL.1));
    let slope = (TAIL.0 / TAIL.1).ln() / (to - from);
    let threshold = cusum::threshold(RATE * YEAR.as_secs_f64());
    let share = TAIL.1 * (-slope * (threshold - to)).exp();
    (slope, 1.0 / share / 24.0)
}

/// Streams that change, watched by detectors that may be wrong once a year.
#[must_use]
pub fn detections(seeds: u64) -> Vec<Detection> {
    vec![shift(seeds), ramp(seeds), mix(seeds), lengths(seeds)]
}

fn shift(seeds: u64) -> Detection {
    let found = delays(seeds, |seed| {
        let mut stream = Stream::new(Kind::Independent, seed, SHIFT_RATE, YEAR);
        stream.learn();
        stream.factor = 1.1;
        until_alarm(&mut stream, Duration::from_secs(3600), |_| ())
    });
    let in_time = found.iter().filter(|seconds| **seconds <= MINUTES_5).count() as u64;
    let required = "in 5 min in 95 %";
    detection("TTFT 10 % longer, 10 a second", seeds, &found, required, in_time * 100 >= seeds * 95)
}

fn ramp(seeds: u64) -> Detection {
    let found = delays(seeds, |seed| {
        let mut stream = Stream::new(Kind::Independent, seed, RATE, YEAR);
        stream.learn();
        let from = stream.now_ns;
        let grow = |stream: &mut Stream| {
            stream.factor = 1.01_f64.powf((stream.now_ns - from) as f64 / DAY_NS as f64);
        };
        until_alarm(&mut stream, 10 * DAY, grow)
    });
    let all = found.len() as u64 == seeds;
    detection("TTFT 1 % a day longer", seeds, &found, "in 10 days", all)
}

fn mix(seeds: u64) -> Detection {
    let found = delays(seeds, |seed| {
        let mut stream = Stream::new(Kind::Prompts, seed, RATE, YEAR);
        stream.learn();
        stream.median_tokens *= 2.0;
        until_alarm(&mut stream, DAY, |_| ())
    });
    detection("prompts twice as long: TTFT", seeds, &found, "none in a day", found.is_empty())
}

fn lengths(seeds: u64) -> Detection {
    let found = delays(seeds, |seed| {
        let mut stream = Stream::new(Kind::Prompts, seed, RATE, YEAR);
        stream.learn();
        stream.median_tokens *= 2.0;
        let from = stream.now_ns;
        while statistic(&stream.lengths, stream.now_ns).alarm.is_none() {
            stream.step();
            if stream.now_ns - from > DAY_NS {
                return None;
            }
        }
        Some((stream.now_ns - from) as f64 / SECOND_NS as f64)
    });
    let all = found.len() as u64 == seeds;
    detection("prompts twice as long: prompt tokens", seeds, &found, "all", all)
}

fn until_alarm(stream: &mut Stream, within: Duration, change: impl Fn(&mut Stream)) -> Option<f64> {
    let from = stream.now_ns;
    while stream.now_ns < from + within.as_nanos() as u64 {
        change(stream);
        stream.step();
        if stream.statistic().alarm.is_some() {
            return Some((stream.now_ns - from) as f64 / SECOND_NS as f64);
        }
    }
    None
}

fn delays(seeds: u64, run: impl Fn(u64) -> Option<f64> + Sync) -> Vec<f64> {
    let found = Mutex::new(Vec::new());
    each(seeds, |seed| {
        if let Some(seconds) = run(seed) {
            found.lock().expect("no thread panics").push(seconds);
        }
    });
    let mut found = found.into_inner().expect("no thread panics");
    found.sort_unstable_by(f64::total_cmp);
    found
}

fn detection(
    change: &'static str,
    seeds: u64,
    found: &[f64],
    required: &'static str,
    holds: bool,
) -> Detection {
    let at = |share: f64| found.get((share * found.len() as f64) as usize).copied();
    Detection {
        change,
        seeds,
        found: found.len() as u64,
        seconds_median: at(0.5),
        seconds_p95: at(0.95),
        required,
        holds,
    }
}

/// Runs every seed once, on all processors.
fn each(seeds: u64, run: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    run(seed + 1);
                }
            });
        }
    });
}
