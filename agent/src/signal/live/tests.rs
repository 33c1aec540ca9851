//! A server that gets slower, or is asked otherwise; and what is told of it.

use super::*;
use crate::blame::{Phase, Vector};
use crate::gpu::ThrottleCause;
use crate::signal::latency::tests::record;

const SECOND_NS: u64 = 1_000_000_000;
const START_NS: u64 = 20_000 * 86_400 * SECOND_NS;

struct Agent {
    registries: Registries,
    signal: LiveSignal,
    saved: std::sync::mpsc::Receiver<Part>,
    now_ns: u64,
    chance: u64,
}

impl Agent {
    fn new(kept: Vec<KeptPair>) -> Self {
        let (save, saved) = std::sync::mpsc::sync_channel(1);
        let settings = Settings {
            between_false_alarms: Duration::from_secs(31_557_600),
            reference: Duration::from_secs(600),
        };
        let options = Options { enabled: true, settings, kept, save: Some(save) };
        let mut registries = Registries::new(false);
        let signal = LiveSignal::new(options, &mut registries);
        Self { registries, signal, saved, now_ns: START_NS, chance: 9 }
    }

    /// What was handed over to be kept.
    fn pairs(&self) -> Vec<KeptPair> {
        match self.saved.recv().unwrap() {
            Part::Pairs(pairs) => pairs,
            other @ Part::Canary(_) => panic!("{other:?}"),
        }
    }

    /// A factor around 1 that looks like chance.
    fn noise(&mut self) -> f64 {
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.chance >> 33) as f64 / (1_u64 << 31) as f64 - 0.5) * 1.5).exp()
    }

    /// Ten requests a second for so long, with a first token after some 100 ms times `factor`.
    fn run(&mut self, seconds: u64, factor: f64, verdict: &Verdict) {
        for _ in 0..seconds * 10 {
            self.now_ns += SECOND_NS / 10;
            let mut record = record();
            let ttft = (0.1 * factor * self.noise() * 1e9) as u64;
            record.first_token = Some(BootTime(record.arrival.0 + ttft));
            record.end = BootTime(record.arrival.0 + ttft + SECOND_NS);
            self.signal.take(&record, verdict, self.now_ns);
        }
        self.signal.show(self.now_ns);
    }

    fn page(&self) -> String {
        String::from_utf8(self.registries.text().unwrap()).unwrap()
    }

    fn has(&self, line: &str) -> bool {
        self.page().lines().any(|found| found.starts_with(line))
    }
}

#[test]
fn a_slower_server_is_told_with_what_else_changed() {
    let mut agent = Agent::new(Vec::new());
    agent.run(60, 1.0, &Verdict::default());
    assert!(agent.has("drift_reference_ratio{model=\"m\",workload=\"w\",of=\"ttft\"} 0"), "{}", agent.page());
    agent.run(1200, 1.0, &Verdict::default());
    assert!(!agent.has("drift_reference_ratio{model=\"m\",workload=\"w\",of=\"ttft\""), "{}", agent.page());
    assert!(agent.has("drift_alarm{model=\"m\",workload=\"w\",of=\"ttft\",coincides=\"none\"} 0"));
    assert!(!agent.page().contains("} 1\n"), "{}", agent.page());
    let throttled = Verdict { throttles: Some(vec![ThrottleCause::SwThermal]), ..Verdict::default() };
    agent.run(600, 1.5, &throttled);
    assert!(agent.has("drift_alarm{model=\"m\",workload=\"w\",of=\"ttft\",coincides=\"gpu_throttle\"} 1"));
    assert!(!agent.has("drift_alarm{model=\"m\",workload=\"w\",of=\"ttft\",coincides=\"none\""));
    assert!(agent.has("drift_alarm{model=\"m\",workload=\"w\",of=\"output_tokens\",coincides=\"none\"} 0"));
    assert!(agent.has("drift_change_ratio{model=\"m\",workload=\"w\",of=\"ttft\"} 1."), "{}", agent.page());
    assert!(agent.has("drift_last_change_timestamp_seconds{model=\"m\",workload=\"w\",of=\"ttft\"} 1728"));
    let changes = agent.signal.view().latest();
    let alarm = changes.iter().find(|change| change.of == "ttft").unwrap().alarm.as_ref().unwrap();
    assert_eq!(alarm.coincides, [Coincidence::GpuThrottle]);
    assert!((1.3..1.7).contains(&alarm.ratio.unwrap()), "{alarm:?}");
    let since = alarm.since_unix_seconds - (START_NS / SECOND_NS) as f64;
    assert!((1200.0..1320.0).contains(&since), "{since}");
}

#[test]
fn stalls_and_failures_are_seen() {
    let mut agent = Agent::new(Vec::new());
    agent.run(1200, 1.0, &Verdict::default());
    let stalled = Vector::of_times([(Cause::RunQueue, Duration::from_millis(300))]);
    let verdict = Verdict { phases: vec![(Phase::Whole, stalled)], ..Verdict::default() };
    agent.run(600, 1.5, &verdict);
    assert!(agent.has("drift_alarm{model=\"m\",workload=\"w\",of=\"ttft\",coincides=\"stalls\"} 1"));
    for _ in 0..3000 {
        agent.now_ns += SECOND_NS / 10;
        let failed = RequestRecord { outcome: Outcome::ServerError, ..record() };
        agent.signal.take(&failed, &Verdict::default(), agent.now_ns);
    }
    agent.signal.show(agent.now_ns);
    assert!(
        agent.has("drift_change_difference{model=\"m\",workload=\"w\",of=\"errors\"} 1.0"),
        "{}",
        agent.page()
    );
}

#[test]
fn what_was_learnt_is_kept_and_taken_up_and_goes_with_its_model() {
    let mut agent = Agent::new(Vec::new());
    agent.run(1200, 1.0, &Verdict::default());
    agent.signal.keep();
    let pairs = agent.pairs();
    let now_ns = agent.now_ns;
    let mut agent = Agent::new(pairs);
    // Nothing is shown of it before it is seen, and all of it is kept.
    assert!(!agent.page().contains("workload=\"w\""));
    agent.signal.keep();
    assert_eq!(agent.pairs().len(), 1);
    agent.now_ns = now_ns;
    agent.run(1, 1.0, &Verdict::default());
    assert!(agent.has("drift_statistic{model=\"m\",workload=\"w\",of=\"ttft\"}"), "{}", agent.page());
    agent.signal.forget_model("w", "m");
    assert!(!agent.page().contains("workload=\"w\""), "{}", agent.page());
    agent.run(1, 1.0, &Verdict::default());
    assert!(agent.has("drift_statistic{model=\"m\",workload=\"w\",of=\"ttft\"}"));
}

#[test]
fn models_that_share_a_label_are_compared_with_nothing() {
    let mut agent = Agent::new(Vec::new());
    let other = RequestRecord { model: OTHER.into(), ..record() };
    agent.signal.take(&other, &Verdict::default(), START_NS);
    assert!(agent.has("drift_requests_uncompared_total{reason=\"shared_label\"} 1"), "{}", agent.page());
    assert!(agent.signal.pairs.is_empty());
}
