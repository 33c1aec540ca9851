//! Records, requests under way and looks in, series out.

use super::*;
use crate::blame::Totals;
use crate::cgroup::Groups;
use crate::engine::{Engines, Look};
use crate::gpu::Gpus;
use crate::request::record::{Incomplete, Route};
use crate::signal::WorkloadState;
use crate::signal::latency::tests::{record, workload};

fn ms(ms: u64) -> BootTime {
    BootTime(ms * 1_000_000)
}

struct Bench {
    registries: Registries,
    signal: EngineSignal,
    looks: Vec<Look>,
    started: BootTime,
}

impl Bench {
    fn new() -> Self {
        let mut registries = Registries::new(false);
        let signal = EngineSignal::new(&mut registries);
        let mut bench = Self { registries, signal, looks: Vec::new(), started: ms(1) };
        // From the tick on at which the page is known first.
        bench.look(500, 0.0, 0.0);
        bench.tick(1000, &[]);
        bench
    }

    fn look(&mut self, at: u64, seconds: f64, count: f64) {
        let reading = Reading { ttft_sum: Some(seconds), ttft_count: Some(count), ..Reading::default() };
        self.looks.push(Look { asked: ms(at), answered: ms(at + 2), reading });
    }

    fn tick(&mut self, at: u64, open: &[OpenRequest]) {
        let workload = Workload { started: self.started, ..(*workload("w")).clone() };
        let state = WorkloadState {
            workload: Arc::new(workload),
            up: true,
            listens: true,
            engine_lost: false,
            listening: None,
            down: None,
        };
        let tick = Tick {
            now: ms(at),
            workloads: &[state],
            open,
            stalls: &Totals::default(),
            groups: &Groups::default(),
            engines: &Engines::of("w", self.looks.iter().copied()),
            gpus: &Gpus::default(),
            quality: &crate::quality::Standings::default(),
        };
        self.signal.on_tick(&tick).unwrap();
    }

    fn record(&mut self, record: &RequestRecord) {
        self.signal.on_request(record, &Verdict::default());
    }

    /// Values of the page in the order of its names: compared, engine, wire, difference, uncompared.
    fn values(&self) -> Vec<(String, f64)> {
        let page = String::from_utf8(self.registries.text().unwrap()).unwrap();
        let value = |line: &str| {
            let (name, value) = line.split_once("{workload=\"w\"} ")?;
            let name = name.strip_prefix("vllm_time_to_first_token_")?;
            Some((name.to_owned(), (value.parse::<f64>().ok()? * 1e6).round() / 1e6))
        };
        let mut values: Vec<_> = page.lines().filter_map(value).collect();
        values.sort_by(|a, b| a.0.cmp(&b.0));
        values
    }

    #[track_caller]
    fn shows(&self, requests: f64, engine: f64, wire: f64, difference: Option<f64>, uncompared: f64) {
        let expected = [
            ("compared_engine_seconds_total", Some(engine)),
            ("compared_requests_total", Some(requests)),
            ("compared_wire_seconds_total", Some(wire)),
            ("difference_seconds", difference),
            ("uncompared_requests_total", Some(uncompared)),
        ];
        let expected: Vec<_> =
            expected.iter().filter_map(|(name, value)| Some(((*name).to_owned(), (*value)?))).collect();
        assert_eq!(self.values(), expected);
    }
}

/// A stream with its first token at a time, which took so long.
fn stream(at: u64, ttft: u64) -> RequestRecord {
    RequestRecord { arrival: ms(at - ttft), first_token: Some(ms(at)), end: ms(at + 9000), ..record() }
}

fn open(record: &RequestRecord) -> OpenRequest {
    OpenRequest {
        workload: record.workload.clone(),
        model: record.model.clone(),
        arrival: record.arrival,
        first_token: record.first_token,
        request_bytes: 1,
        tid: record.tid,
        stalled: None,
    }
}

#[test]
fn the_wire_less_the_engine_is_shown_for_the_same_requests() {
    let mut bench = Bench::new();
    bench.shows(0.0, 0.0, 0.0, None, 0.0);
    bench.look(1100, 5.0, 10.0);
    bench.tick(2000, &[]);
    bench.record(&stream(1500, 300));
    bench.record(&stream(1600, 100));
    bench.look(1900, 5.34, 12.0);
    bench.tick(3000, &[]);
    bench.shows(2.0, 0.34, 0.4, Some(0.03), 0.0);
    // The gauge is of the last minutes, the counters are of all time.
    bench.tick(3000 + 299_000, &[]);
    bench.shows(2.0, 0.34, 0.4, Some(0.03), 0.0);
    bench.tick(3000 + 300_000, &[]);
    bench.shows(2.0, 0.34, 0.4, None, 0.0);
    bench.signal.forget_workload(&workload("w"));
    assert_eq!(bench.values(), []);
}

#[test]
fn a_stream_counts_at_its_first_token_however_long_it_goes_on() {
    let mut bench = Bench::new();
    bench.look(1100, 0.0, 0.0);
    let long = stream(1500, 300);
    bench.tick(2000, &[open(&long)]);
    bench.look(1900, 0.25, 1.0);
    bench.tick(3000, &[open(&long)]);
    bench.shows(1.0, 0.25, 0.3, Some(0.05), 0.0);
    bench.record(&long);
    let next = stream(3500, 200);
    bench.tick(4000, &[open(&next)]);
    bench.look(3900, 0.4, 2.0);
    bench.record(&next);
    bench.tick(5000, &[]);
    bench.shows(2.0, 0.4, 0.5, Some(0.05), 0.0);
}

#[test]
fn what_the_wire_cannot_time_is_left_out() {
    let mut bench = Bench::new();
    bench.look(1100, 0.0, 0.0);
    let plain = RequestRecord { first_token: None, streamed: false, ..stream(1300, 100) };
    let broken = RequestRecord { incomplete: Some(Incomplete::BorderMissed), ..stream(1310, 100) };
    let elsewhere = RequestRecord { workload: workload("v"), ..stream(1320, 100) };
    let other =
        RequestRecord { route: Route::Other(crate::request::record::OtherRoute::Rest), ..stream(1330, 100) };
    for record in [stream(1290, 100), plain, broken, elsewhere, other] {
        bench.record(&record);
    }
    bench.look(1900, 0.9, 3.0);
    bench.tick(2000, &[]);
    bench.tick(3000, &[]);
    bench.shows(0.0, 0.0, 0.0, None, 0.0);
    bench.record(&stream(3100, 100));
    bench.look(3900, 0.96, 4.0);
    bench.tick(4000, &[]);
    bench.tick(5000, &[]);
    bench.shows(1.0, 0.06, 0.1, Some(0.04), 3.0);
}

#[test]
fn a_restart_between_two_looks_is_known_by_the_server_itself() {
    let mut bench = Bench::new();
    bench.look(1100, 1.0, 1.0);
    bench.tick(2000, &[]);
    bench.tick(3000, &[]);
    bench.record(&stream(3100, 100));
    // The new one has counted more by the next look than the old one had.
    bench.started = ms(3200);
    for at in [3300, 3400, 3500] {
        bench.record(&stream(at, 100));
    }
    bench.look(3900, 1.1, 3.0);
    bench.tick(4000, &[]);
    bench.tick(5000, &[]);
    bench.record(&stream(5100, 100));
    bench.look(5900, 1.19, 4.0);
    bench.tick(6000, &[]);
    bench.tick(7000, &[]);
    bench.shows(1.0, 0.09, 0.1, Some(0.01), 1.0);
}

#[test]
fn a_server_that_is_not_asked_has_no_series() {
    let mut bench = Bench::new();
    bench.signal = EngineSignal::new(&mut bench.registries);
    bench.looks.clear();
    bench.record(&stream(1500, 300));
    bench.tick(2000, &[]);
    assert!(bench.signal.servers.is_empty());
    bench.looks.push(Look { asked: ms(2100), answered: ms(2100), reading: Reading::default() });
    bench.tick(3000, &[]);
    assert!(bench.signal.servers.is_empty(), "a page without such series");
}
