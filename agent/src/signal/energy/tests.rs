//! GPUs whose power is known at every moment, read once a second; the sums of the page against the exact integral.

use std::sync::mpsc::{SyncSender, sync_channel};

use proptest::prelude::*;

use super::*;
use crate::blame::Totals;
use crate::cgroup::Groups;
use crate::engine::Engines;
use crate::gpu::source::{Power, User};
use crate::gpu::{Identity, NEWS_MAX, News, Reading};
use crate::signal::latency::tests::{record, workload};

const MS: u64 = 1_000_000;
const IDLE: f64 = 90.0;

/// Milliseconds: arrival, first token, end.
#[derive(Clone, Debug)]
struct Script {
    workload: &'static str,
    model: &'static str,
    arrival: u64,
    first_token: Option<u64>,
    end: u64,
}

/// One GPU of one workload: takes so many watts while any of its requests is in prefill, and so many while others decode.
#[derive(Clone, Debug)]
struct ScriptedGpu {
    workload: &'static str,
    prefill: f64,
    decode: f64,
    /// The readings' times modulo the period.
    phase: u64,
    counts: bool,
}

struct Scene {
    gpus: Vec<ScriptedGpu>,
    requests: Vec<Script>,
    length: u64,
    period: u64,
}

impl Scene {
    /// Watts of each millisecond, and whether a request was under way.
    fn power(&self, gpu: &ScriptedGpu) -> Vec<(f64, bool)> {
        let mut power = vec![(IDLE, false); self.length as usize];
        let mut raise = |from: u64, to: u64, watts: f64| {
            for at in &mut power[from.min(self.length) as usize..to.min(self.length) as usize] {
                *at = (at.0.max(watts), true);
            }
        };
        for request in self.requests.iter().filter(|request| request.workload == gpu.workload) {
            let first = request.first_token.unwrap_or(request.end);
            raise(request.arrival, first, gpu.prefill);
            raise(first, request.end, gpu.decode);
        }
        power
    }

    /// Runs it; returns the page.
    fn run(&self) -> Page {
        let mut registries = Registries::new(false);
        let mut signal = EnergySignal::new(&one_a_second(), &mut registries);
        let (tell, news) = sync_channel(NEWS_MAX);
        let mut gpus = Gpus::default();
        gpus.hear(news);
        let identity = |index| Identity { uuid: format!("GPU-{index}"), ..Identity::default() };
        tell.send(News::Cards((0..self.gpus.len()).map(identity).collect())).unwrap();
        let power: Vec<Vec<f64>> = self.gpus.iter().map(|gpu| joules(&self.power(gpu))).collect();
        let mut told = 0;
        for now in (250..self.length).step_by(1000) {
            self.read(&tell, &power, told..now);
            for request in self.requests.iter().filter(|request| (told..now).contains(&request.end)) {
                signal.on_request(&request.record(), &Verdict::default());
            }
            told = now;
            gpus.take();
            gpus.join_by(|tgid| Some(if tgid == 1 { "v".into() } else { "w".into() }));
            let open: Vec<OpenRequest> =
                self.requests.iter().filter_map(|request| request.open(now)).collect();
            tick(&mut signal, &gpus, &open, now);
        }
        Page(String::from_utf8(registries.text().unwrap()).unwrap())
    }

    fn read(&self, tell: &SyncSender<News>, joules: &[Vec<f64>], times: std::ops::Range<u64>) {
        for at in times {
            for (index, gpu) in self.gpus.iter().enumerate() {
                if at % self.period != gpu.phase {
                    continue;
                }
                let (sums, tgid) = (&joules[index], if gpu.workload == "v" { 1 } else { 2 });
                let watts = sums[at as usize + 1] - sums[at as usize];
                let power = Power {
                    milliwatts: Some((watts * 1e6) as u32),
                    energy_millijoules: gpu.counts.then(|| (sums[at as usize] * 1000.0) as u64),
                    ..Power::default()
                };
                let users = Some(vec![User { tgid, memory_bytes: Some(1), sm_percent: None }]);
                let reading = Reading { at: BootTime(at * MS), power, users, ..Reading::default() };
                tell.send(News::Read { uuid: format!("GPU-{index}"), reading: Box::new(reading) }).unwrap();
            }
        }
    }

    /// What is booked: from the first reading after the first tick that knew of the GPU to the last before the last tick but one.
    fn booked(&self, gpu: &ScriptedGpu) -> std::ops::Range<usize> {
        let last = (250..self.length).step_by(1000).last().unwrap() - 1000;
        let since = (250..).step_by(1000).find(|tick| *tick > gpu.phase).unwrap();
        let first = (since..).find(|at| at % self.period == gpu.phase).unwrap();
        let end = (0..=last).rev().find(|at| at % self.period == gpu.phase).unwrap();
        first as usize..end as usize
    }

    /// Joules while requests of a workload were under way, and while none was.
    fn truth(&self, workload: &str) -> (f64, f64) {
        let (mut busy, mut idle) = (0.0, 0.0);
        for gpu in self.gpus.iter().filter(|gpu| gpu.workload == workload) {
            for (watts, is_busy) in &self.power(gpu)[self.booked(gpu)] {
                *if *is_busy { &mut busy } else { &mut idle } += watts / 1000.0;
            }
        }
        (busy, idle)
    }
}

/// A price at which a cost is the GPU's time in seconds.
fn one_a_second() -> cost::Settings {
    cost::Settings { gpu_hour: 3600.0, ..cost::Settings::default() }
}

/// Joules until each millisecond.
fn joules(power: &[(f64, bool)]) -> Vec<f64> {
    let mut sum = 0.0;
    let mut sums = vec![0.0];
    sums.extend(power.iter().map(|(watts, _)| {
        sum += watts / 1000.0;
        sum
    }));
    sums
}

impl Script {
    fn record(&self) -> RequestRecord {
        RequestRecord {
            workload: workload(self.workload),
            model: self.model.into(),
            tid: self.arrival as u32,
            arrival: BootTime(self.arrival * MS),
            first_token: self.first_token.map(|time| BootTime(time * MS)),
            end: BootTime(self.end * MS),
            ..record()
        }
    }

    /// As it stands at `now`; its model is known half way to its first token.
    fn open(&self, now: u64) -> Option<OpenRequest> {
        let first = self.first_token.unwrap_or(self.end);
        let named = now > u64::midpoint(self.arrival, first);
        (self.arrival <= now && now <= self.end).then(|| OpenRequest {
            workload: workload(self.workload),
            model: if named { self.model.into() } else { UNKNOWN.into() },
            arrival: BootTime(self.arrival * MS),
            first_token: self.first_token.filter(|time| *time <= now).map(|time| BootTime(time * MS)),
            request_bytes: 0,
            tid: self.arrival as u32,
            stalled: None,
        })
    }
}

fn tick(signal: &mut EnergySignal, gpus: &Gpus, open: &[OpenRequest], now: u64) {
    let tick = Tick {
        now: BootTime(now * MS),
        workloads: &[],
        open,
        stalls: &Totals::default(),
        groups: &Groups::default(),
        engines: &Engines::default(),
        gpus,
        quality: &crate::quality::Standings::default(),
    };
    signal.on_tick(&tick).unwrap();
}

struct Page(String);

impl Page {
    /// Sum of the series of a name whose labels hold these texts.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let series = |line: &&str| {
            line.starts_with(&format!("{name}{{")) && labels.iter().all(|label| line.contains(label))
        };
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
        self.0.lines().filter(series).map(value).sum()
    }

    fn requests(&self, labels: &[&str]) -> f64 {
        self.sum("vllm_energy_joules_total", labels)
    }

    /// Of models, and of idle time.
    fn costs(&self) -> (f64, f64) {
        (self.sum("cost_total", &[]), self.sum("cost_idle_total", &[]))
    }

    fn idle(&self, workload: &str) -> f64 {
        self.sum("vllm_idle_energy_joules_total", &[&format!("workload=\"{workload}\"")])
    }
}

/// What is booked begins with the first stretch of which is known what came before, and goes to nobody before that.
#[test]
fn gpus_that_nobody_has_cost_as_much_and_without_a_price_nothing_is_counted() {
    let mut registries = Registries::new(false);
    let mut signal = EnergySignal::new(&one_a_second(), &mut registries);
    let scene = Scene { gpus: vec![gpu("w", 0)], requests: Vec::new(), length: 60_000, period: 1000 };
    let power = vec![joules(&scene.power(&scene.gpus[0]))];
    let (tell, news) = sync_channel(NEWS_MAX);
    let mut gpus = Gpus::default();
    gpus.hear(news);
    tell.send(News::Cards(vec![Identity { uuid: "GPU-0".to_owned(), ..Identity::default() }])).unwrap();
    let mut told = 0;
    for now in (250..scene.length).step_by(1000) {
        scene.read(&tell, &power, told..now);
        told = now;
        gpus.take();
        gpus.join_by(|_tgid| None);
        tick(&mut signal, &gpus, &[], now);
    }
    let page = Page(String::from_utf8(registries.text().unwrap()).unwrap());
    let (of_models, of_idle) = page.costs();
    let booked = scene.booked(&scene.gpus[0]).len() as f64 / 1000.0;
    assert!(of_models == 0.0 && (of_idle - booked).abs() <= 1.0, "{of_idle} of {booked}");
    assert!(page.0.contains("cost_idle_total{workload=\"none\"}"));
    assert!(page.0.contains("cost_currency_info{currency=\"USD\"} 1"));
    let mut registries = Registries::new(false);
    EnergySignal::new(&cost::Settings::default(), &mut registries);
    assert!(!String::from_utf8(registries.text().unwrap()).unwrap().contains("cost"));
}

fn within(found: f64, expected: f64, share: f64) {
    assert!(
        (found - expected).abs() <= expected * share + 0.5,
        "{found} is not within {share} of {expected}"
    );
}

fn gpu(workload: &'static str, phase: u64) -> ScriptedGpu {
    ScriptedGpu { workload, prefill: 640.0, decode: 470.0, phase, counts: true }
}

/// Streams of 230 ms to the first token and 1.9 s in all, one after the other, with a pause after each.
fn one_by_one(workload: &'static str, model: &'static str, pause: u64, length: u64) -> Vec<Script> {
    let mut requests = Vec::new();
    let mut arrival = 3100;
    while arrival + 1900 < length - 5000 {
        let first_token = Some(arrival + 230);
        requests.push(Script { workload, model, arrival, first_token, end: arrival + 1900 });
        arrival += 1900 + pause;
    }
    requests
}

#[test]
fn one_model_with_idle_gaps_has_its_energy_and_idle_time_its_own() {
    let length = 180_000;
    for phase in [0, 137, 700] {
        let scene = Scene {
            gpus: vec![gpu("w", phase)],
            requests: one_by_one("w", "m", 4300, length),
            length,
            period: 1000,
        };
        let (page, (busy, idle)) = (scene.run(), scene.truth("w"));
        within(page.requests(&[]), busy, 0.01);
        within(page.idle("w"), idle, 0.01);
        // Costs are by time alone.
        let (of_models, of_idle) = page.costs();
        let seconds = scene.booked(&scene.gpus[0]).len() as f64 / 1000.0;
        assert!(
            (of_models + of_idle - seconds).abs() <= seconds * 0.01,
            "{of_models} + {of_idle} of {seconds}"
        );
        let busy_seconds =
            scene.requests.iter().map(|request| request.end - request.arrival).sum::<u64>() as f64 / 1000.0;
        assert!((of_models - busy_seconds).abs() <= busy_seconds * 0.01, "{of_models} of {busy_seconds}");
        // All energy is somebody's.
        within(page.requests(&[]) + page.idle("w"), busy + idle, 1e-4);
        let phases = |phase| page.sum("vllm_phase_energy_joules_total", &[phase]);
        within(phases("prefill") + phases("decode"), page.requests(&[]), 1e-9);
        let time = 230.0 / 1900.0;
        // More power in prefill than in decode shows only as far as readings tell them apart.
        let (least, most) = (busy * time * 0.95, busy * time * 1.4);
        assert!((least..most).contains(&phases("prefill")), "{} {least} {most}", phases("prefill"));
    }
}

#[test]
fn gaps_that_are_shorter_than_a_poll_are_kept_apart_too() {
    let length = 300_000;
    let scene = Scene {
        gpus: vec![gpu("w", 300)],
        requests: one_by_one("w", "m", 450, length),
        length,
        period: 1000,
    };
    let mut scene = scene;
    // Never idle for a whole stretch, from before the first tick to the end.
    scene
        .requests
        .insert(0, Script { workload: "w", model: "m", arrival: 0, first_token: Some(400), end: 2800 });
    let last = scene.requests.last().unwrap().end + 200;
    scene.requests.push(Script {
        workload: "w",
        model: "m",
        arrival: last,
        first_token: Some(last + 100),
        end: length - 1,
    });
    let (busy, _) = scene.truth("w");
    within(scene.run().requests(&[]), busy, 0.03);
}

#[test]
fn two_models_on_different_gpus_have_each_their_own() {
    let length = 200_000;
    let mut requests = one_by_one("v", "a", 1700, length);
    requests.extend(one_by_one("w", "b", 600, length));
    let slower = ScriptedGpu { prefill: 350.0, decode: 280.0, ..gpu("w", 611) };
    // Two GPUs for the one.
    let scene = Scene { gpus: vec![gpu("v", 40), gpu("v", 41), slower], requests, length, period: 1000 };
    let page = scene.run();
    for (workload, model) in [("v", "a"), ("w", "b")] {
        let (busy, idle) = scene.truth(workload);
        let labels = [&*format!("model=\"{model}\""), &*format!("workload=\"{workload}\"")];
        within(page.requests(&labels), busy, 0.03);
        within(page.idle(workload), idle, 0.1);
    }
    within(page.requests(&[UNKNOWN]), 0.0, 0.0);
}

#[test]
fn power_that_is_integrated_is_near_at_ten_readings_a_second() {
    let length = 120_000;
    let gpu = ScriptedGpu { counts: false, ..gpu("w", 3) };
    let scene = Scene { gpus: vec![gpu], requests: one_by_one("w", "m", 2300, length), length, period: 100 };
    let (page, (busy, idle)) = (scene.run(), scene.truth("w"));
    within(page.requests(&[]), busy, 0.03);
    within(page.idle("w"), idle, 0.05);
}

#[test]
fn an_answer_without_a_stream_is_prefill_and_is_its_models_whenever_that_is_told() {
    let requests = vec![
        // Open for many ticks, its model known after half of the time only.
        Script { workload: "w", model: "m", arrival: 4000, first_token: None, end: 24_000 },
        Script { workload: "w", model: "n", arrival: 30_000, first_token: None, end: 30_400 },
    ];
    let scene = Scene { gpus: vec![gpu("w", 500)], requests, length: 45_000, period: 1000 };
    let page = scene.run();
    within(page.requests(&["model=\"m\""]), 20.0 * 640.0, 0.01);
    within(page.requests(&["model=\"n\""]), 0.4 * 640.0, 0.02);
    let decode = page.sum("vllm_phase_energy_joules_total", &["decode"]);
    assert!(decode.abs() < 1e-9, "{decode}");
}

#[test]
fn models_of_one_server_share_each_moment() {
    let stream =
        |model, arrival, end| Script { workload: "w", model, arrival, first_token: Some(arrival + 1), end };
    let requests = vec![stream("m", 5000, 15_000), stream("n", 10_000, 20_000), stream("n", 10_010, 20_000)];
    let scene = Scene { gpus: vec![gpu("w", 0)], requests, length: 30_000, period: 1000 };
    let page = scene.run();
    within(page.requests(&["model=\"m\""]), 470.0 * (5.0 + 5.0 / 3.0), 0.01);
    within(page.requests(&["model=\"n\""]), 470.0 * (5.0 * 2.0 / 3.0 + 5.0), 0.01);
}

#[test]
fn a_request_that_vanishes_leaves_its_energy_to_nobody_in_particular() {
    let vanished =
        Script { workload: "w", model: "m", arrival: 4000, first_token: Some(90_000), end: 90_000 };
    let mut scene = Scene { gpus: vec![gpu("w", 0)], requests: vec![vanished], length: 12_000, period: 1000 };
    let seen = scene.run();
    assert!(seen.requests(&[]).abs() < 1e-9, "held until its model is known");
    scene.length = 60_000;
    let page = scene.run();
    assert!(page.requests(&["model=\"m\""]) > 640.0 * 40.0, "named by then");
    let mut registries = Registries::new(false);
    let mut signal = EnergySignal::new(&one_a_second(), &mut registries);
    let mut server = Server::new(BootTime(0));
    server.held.insert((BootTime(1), 1), Part { joules: 7.0, seconds: 2.0 });
    signal.servers.insert("w".into(), server);
    tick(&mut signal, &Gpus::default(), &[], 1000);
    let page = Page(String::from_utf8(registries.text().unwrap()).unwrap());
    within(page.requests(&[UNKNOWN]), 7.0, 1e-9);
    signal.forget_workload(&workload("w"));
    assert!(!String::from_utf8(registries.text().unwrap()).unwrap().contains("workload="));
}

#[test]
fn what_is_remembered_is_bounded_by_what_is_not_booked() {
    let mut registries = Registries::new(false);
    let mut signal = EnergySignal::new(&one_a_second(), &mut registries);
    signal.on_request(&record(), &Verdict::default());
    assert!(signal.servers.is_empty(), "it has no GPU");
    signal.servers.insert("w".into(), Server::new(BootTime(0)));
    for _ in 0..ENDED_MAX + 5 {
        signal.on_request(&record(), &Verdict::default());
    }
    assert_eq!(signal.servers["w"].ended.len(), ENDED_MAX);
    tick(&mut signal, &Gpus::default(), &[], record().end.0 / MS + 1);
    assert_eq!(signal.servers["w"].ended.len(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Whatever comes, the energy between the first reading and the last is given away once, and none twice.
    #[test]
    fn all_energy_is_somebodys_once(
        rows in prop::collection::vec((0..50_000_u64, 1..2000_u64, 0..6000_u64, any::<bool>(), any::<bool>()), 0..40),
        phase in 0..1000_u64,
        counts: bool,
    ) {
        let script = |(arrival, first, rest, streamed, m): (u64, u64, u64, bool, bool)| Script {
            workload: "w",
            model: if m { "m" } else { "n" },
            arrival,
            first_token: streamed.then_some(arrival + first),
            end: arrival + first + rest,
        };
        let gpu = ScriptedGpu { counts, ..gpu("w", phase) };
        // No two with the same key.
        let mut requests: Vec<Script> = rows.into_iter().map(script).collect();
        requests.sort_by_key(|request| request.arrival);
        requests.dedup_by_key(|request| request.arrival);
        let scene = Scene { gpus: vec![gpu], requests, length: 70_000, period: 1000 };
        let (page, range) = (scene.run(), scene.booked(&scene.gpus[0]));
        let power = scene.power(&scene.gpus[0]);
        let sums = joules(&power);
        let expected = if counts {
            sums[range.end] - sums[range.start]
        } else {
            let stretches: Vec<usize> = range.clone().step_by(1000).collect();
            stretches.iter().map(|at| f64::midpoint(power[*at].0, power[at + 1000].0)).sum()
        };
        let found = page.requests(&[]) + page.idle("w");
        prop_assert!((found - expected).abs() < 0.5, "{} {}", found, expected);
        let unknown = page.requests(&[UNKNOWN]);
        prop_assert!(unknown.abs() < 1e-9, "{}", unknown);
    }
}
