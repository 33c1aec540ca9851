//! Streams of chance: what is no change raises nothing, what is one is found, and what is learnt survives.

use super::cause::{Around, Coincidence, Surroundings};
use super::measure::Measure;
use super::share::Share;
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// Numbers that look like chance (SplitMix64), and normal ones made of them (Box and Muller).
struct Chance(u64);

impl Chance {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (a, b) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }
}

fn settings(reference: Duration) -> Settings {
    Settings { between_false_alarms: Duration::from_secs(365 * 86_400), reference }
}

/// Feeds a stream at ten values a second; `value` makes one of the time in seconds.
struct Feed {
    stream: Measure,
    chance: Chance,
    now_ns: u64,
}

impl Feed {
    fn new(seed: u64, reference: Duration) -> Self {
        Self { stream: Measure::new(settings(reference)), chance: Chance(seed), now_ns: 1_000 * DAY_NS }
    }

    /// The time until an alarm; `None` where there was none in all of `span`.
    fn run(
        &mut self,
        span: Duration,
        mut value: impl FnMut(&mut Chance, f64) -> (u64, f64),
    ) -> Option<Duration> {
        let from = self.now_ns;
        while self.now_ns < from + span.as_nanos() as u64 {
            self.now_ns += SECOND_NS / 10;
            let (size, value) = value(&mut self.chance, (self.now_ns % DAY_NS) as f64 / SECOND_NS as f64);
            self.stream.add(self.now_ns, size, value);
            if alarm(&self.stream.state(self.now_ns)).is_some() {
                return Some(Duration::from_nanos(self.now_ns - from));
            }
        }
        None
    }
}

fn alarm(state: &State) -> Option<Alarm> {
    match state {
        State::Learning(_) => None,
        State::Watching(statistic) => statistic.alarm,
    }
}

/// Time to first token of prompts of some hundred tokens.
fn usual(chance: &mut Chance, _: f64) -> (u64, f64) {
    let size = (400.0 * (0.6 * chance.normal()).exp()) as u64;
    (size, (0.05 + 0.0004 * size as f64) * (0.5 * chance.normal()).exp())
}

#[test]
fn a_tenth_more_is_found_in_minutes_with_its_size_and_its_beginning() {
    let mut found = 0;
    for seed in 0..20 {
        let mut feed = Feed::new(seed, 6 * HOUR);
        assert_eq!(feed.run(8 * HOUR, usual), None, "seed {seed}");
        let from = feed.now_ns;
        let slower = |chance: &mut Chance, at| {
            let (size, value) = usual(chance, at);
            (size, value * 1.1)
        };
        let took = feed.run(Duration::from_secs(900), slower).unwrap();
        found += u32::from(took <= Duration::from_secs(300));
        let alarm = alarm(&feed.stream.state(feed.now_ns)).unwrap();
        assert!((1.03..1.2).contains(&alarm.effect), "{alarm:?}");
        let off = alarm.since_ns.abs_diff(from) / SECOND_NS;
        assert!(off < 300, "{off} s from where it began");
    }
    assert!(found >= 19, "{found} of 20");
}

#[test]
fn longer_prompts_are_no_slower_serving() {
    for seed in 0..10 {
        let mut feed = Feed::new(seed, HOUR);
        assert_eq!(feed.run(2 * HOUR, usual), None);
        let longer = |chance: &mut Chance, _: f64| {
            let size = (700.0 * (0.6 * chance.normal()).exp()) as u64;
            (size, (0.05 + 0.0004 * size as f64) * (0.5 * chance.normal()).exp())
        };
        assert_eq!(feed.run(2 * HOUR, longer), None, "seed {seed}");
    }
}

#[test]
fn a_daily_cycle_is_part_of_a_reference_of_a_day() {
    let day = 24 * HOUR;
    let cycle = |chance: &mut Chance, at: f64| {
        let of_day = (std::f64::consts::TAU * at / 86_400.0).sin();
        (400, (0.25 * of_day + 0.5 * chance.normal()).exp())
    };
    let mut feed = Feed::new(7, day);
    assert_eq!(feed.run(3 * day, cycle), None);
    // Of a shorter one it is a change like any other.
    let mut feed = Feed::new(7, HOUR);
    assert!(feed.run(day, cycle).is_some());
}

#[test]
fn values_that_hang_together_raise_no_more_alarms() {
    for seed in 0..5 {
        let mut feed = Feed::new(seed, 6 * HOUR);
        let mut common = 0.0;
        let hanging = |chance: &mut Chance, _: f64| {
            // Something that goes on for half a minute moves all of them.
            common = common * 0.997 + 0.02 * chance.normal();
            (400, (common + 0.4 * chance.normal()).exp())
        };
        assert_eq!(feed.run(24 * HOUR, hanging), None, "seed {seed}");
    }
}

#[test]
fn an_alarm_is_over_when_all_is_as_before() {
    let mut feed = Feed::new(3, HOUR);
    feed.run(2 * HOUR, usual);
    let slower = |chance: &mut Chance, at| {
        let (size, value) = usual(chance, at);
        (size, value * 1.3)
    };
    assert!(feed.run(HOUR, slower).is_some());
    let mut over = false;
    for _ in 0..36_000 {
        feed.now_ns += SECOND_NS / 10;
        let (size, value) = usual(&mut feed.chance, 0.0);
        feed.stream.add(feed.now_ns, size, value);
        over |= alarm(&feed.stream.state(feed.now_ns)).is_none();
    }
    assert!(over);
}

#[test]
fn what_is_learnt_goes_on_after_a_restart() {
    let mut feed = Feed::new(5, HOUR);
    for span in [2 * HOUR, HOUR / 2] {
        feed.run(span, usual);
        let text = serde_json::to_string(feed.stream.kept().unwrap()).unwrap();
        assert!(text.len() < 8 << 10, "{} bytes", text.len());
        let kept = serde_json::from_str(&text).unwrap();
        let again = Measure::resume(settings(HOUR), kept).unwrap();
        // Numbers of a text may differ in their last place.
        let value = |stream: &Measure| match stream.state(feed.now_ns) {
            State::Learning(part) => part,
            State::Watching(statistic) => statistic.value,
        };
        assert!((value(&again) - value(&feed.stream)).abs() < 1e-9);
        feed.stream = again;
    }
    // A file that somebody else wrote.
    let text = serde_json::to_string(feed.stream.kept().unwrap()).unwrap();
    let broken = text.replacen("\"scatter\":", "\"scatter\":-", 1);
    assert!(Measure::resume(settings(HOUR), serde_json::from_str(&broken).unwrap()).is_none());
}

#[test]
fn values_that_say_nothing_are_passed_over() {
    let mut stream = Measure::new(settings(HOUR));
    for value in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        stream.add(1, 1, value);
    }
    assert!(stream.kept().is_none());
    assert_eq!(stream.state(1), State::Learning(0.0));
}

fn share(seed: u64, usual: f64, then: f64) -> (Option<Duration>, Share) {
    let (mut stream, mut chance, mut now_ns) = (Share::new(settings(HOUR)), Chance(seed), DAY_NS);
    let mut run = |stream: &mut Share, span: Duration, share: f64| {
        let from = now_ns;
        while now_ns < from + span.as_nanos() as u64 {
            now_ns += SECOND_NS / 10;
            stream.add(now_ns, chance.uniform() < share);
            if alarm(&stream.state(now_ns)).is_some() {
                return Some(Duration::from_nanos(now_ns - from));
            }
        }
        None
    };
    assert_eq!(run(&mut stream, 6 * HOUR, usual), None, "seed {seed}, {usual}");
    (run(&mut stream, HOUR, then), stream)
}

#[test]
fn shares_that_change_are_found_and_others_are_not() {
    for (usual, then, found) in [
        (0.001, 0.001, false),
        (0.001, 0.05, true),
        (0.2, 0.21, false),
        (0.2, 0.4, true),
        (0.2, 0.05, true),
        (0.0, 0.05, true),
    ] {
        for seed in 0..5 {
            let (took, _) = share(seed, usual, then);
            assert_eq!(took.is_some(), found, "{usual} to {then}, seed {seed}: {took:?}");
            assert!(took.is_none_or(|took| took < Duration::from_secs(300)), "{usual} to {then}: {took:?}");
        }
    }
    let (_, stream) = share(1, 0.2, 0.4);
    let kept: share::Kept = serde_json::from_str(&serde_json::to_string(stream.kept()).unwrap()).unwrap();
    let again = Share::resume(settings(HOUR), kept).unwrap();
    assert!(alarm(&again.state(0)).is_some() && alarm(&stream.state(0)).is_some());
}

#[test]
fn what_coincides_with_a_change_is_told() {
    const MINUTE: u64 = 60 * SECOND_NS;
    let around = Around { throttled: false, stalled_seconds: 0.01, seconds: 1.0, size: 500 };
    let surroundings = |then: Around, per_minute: u64| {
        let mut all = Surroundings::default();
        for minute in 0..120 {
            for request in 0..10 {
                all.add(minute * MINUTE + request, &around, minute < 60);
            }
        }
        for minute in 120..130 {
            for request in 0..per_minute {
                all.add(minute * MINUTE + request, &then, false);
            }
        }
        all
    };
    let rows: [(Around, u64, &[Coincidence]); 5] = [
        (around, 10, &[]),
        (Around { throttled: true, ..around }, 10, &[Coincidence::GpuThrottle]),
        (Around { stalled_seconds: 0.2, ..around }, 10, &[Coincidence::Stalls]),
        (Around { size: 900, ..around }, 10, &[Coincidence::LoadMix]),
        (around, 30, &[Coincidence::LoadRate]),
    ];
    for (then, per_minute, expected) in rows {
        let all = surroundings(then, per_minute);
        assert_eq!(all.of(120 * MINUTE, 130 * MINUTE), expected, "{then:?}");
    }
    let mut all = surroundings(around, 10);
    all.note(119 * MINUTE, Coincidence::ServerRestart);
    all.note(60 * MINUTE, Coincidence::Driver);
    assert_eq!(all.of(120 * MINUTE, 130 * MINUTE), [Coincidence::ServerRestart]);
}
