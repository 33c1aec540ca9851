//! The client and its ends against servers: right ones, wrong ones, and the agent's own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use tokio::net::TcpListener;

use super::super::live::Feed;
use super::super::pages::{Number, PATHS, Pages};
use super::super::palette::Palette;
use super::super::source::Source;
use super::super::{Form, INTERVALS, Options, once, plain_text, run, waterfall};
use super::{ANSWERS, answers, pages};
use crate::blame::{Cause, Limit, Owner, Phase, Reason, Slow, Surroundings, Totals, Vector, Verdict};
use crate::cgroup::Groups;
use crate::clock::BootTime;
use crate::engine::Engines;
use crate::export::{self, Shared};
use crate::gpu::{Driver, Gpus};
use crate::health::Health;
use crate::http_client::Limits;
use crate::quality::Standings;
use crate::registry::Registries;
use crate::request::record::Progress;
use crate::signal::canary::CanarySignal;
use crate::signal::drift::DriftSignal;
use crate::signal::gpu::GpuSignal;
use crate::signal::gpu::tests::full as full_gpu;
use crate::signal::latency::tests::{record, workload};
use crate::signal::latency::{LatencySignal, Options as LatencyOptions};
use crate::signal::mmlu::MmluSignal;
use crate::signal::slow::SlowSignal;
use crate::signal::stalls::StallSignal;
use crate::signal::{Signal, Tick};
use crate::workload::Role;

const LIMITS: Limits = Limits { time: Duration::from_secs(20), bytes: 1 << 20 };

/// Serves in a thread of its own until the test's process ends.
fn serve(serve: impl AsyncFnOnce(TcpListener) + Send + 'static) -> SocketAddr {
    let (address, bound) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            address.send(listener.local_addr().unwrap()).unwrap();
            serve(listener).await;
        });
    });
    bound.recv().unwrap()
}

/// Serves these pages, in the order of [`PATHS`].
fn pages_server(answers: Vec<Vec<u8>>) -> SocketAddr {
    serve(async move |listener| {
        let router = PATHS.iter().zip(answers).fold(Router::new(), |router, ((_, path), answer)| {
            let path = path.split('?').next().unwrap();
            router.route(
                path,
                get(move || async move { ([(header::CONTENT_TYPE, "application/json")], answer) }),
            )
        });
        axum::serve(listener, router).await.unwrap();
    })
}

fn source(address: SocketAddr, limits: Limits) -> Source {
    Source::with_limits(address.into(), limits).unwrap()
}

/// Why there are no pages.
fn failure(address: SocketAddr, limits: Limits) -> String {
    let source = source(address, limits);
    let why = source.look().unwrap_err();
    assert_eq!(why.lines().count(), 1, "{why}");
    why
}

fn written(address: SocketAddr, form: Form) -> Result<String, String> {
    let options = Options { server: address.into(), interval: INTERVALS.0, form };
    let mut out = Vec::new();
    let outcome = run(&options, &mut out);
    let text = String::from_utf8(out).unwrap();
    outcome.map(|()| text.clone()).map_err(|error| {
        assert_eq!(text, "", "nothing is written where it fails");
        format!("{error:#}")
    })
}

#[test]
fn once_and_json_say_what_the_agent_says() {
    let address = pages_server(answers());
    assert_eq!(written(address, Form::Text).unwrap(), once(&pages()));
    let page = written(address, Form::Json).unwrap();
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let keys: Vec<&String> = page.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["agent", "gpus", "latency", "quality", "slow", "stalls", "workloads"]);
    for ((key, _), answer) in PATHS.iter().zip(ANSWERS) {
        assert_eq!(page[key], serde_json::from_str::<serde_json::Value>(answer).unwrap());
    }
}

#[test]
fn nobody_there_and_pages_that_are_missing_are_one_sentence() {
    let address = serve(async |listener| drop(listener));
    // Closed once the thread has let go of it.
    let refused = (0..100).find_map(|_| {
        thread::sleep(Duration::from_millis(10));
        written(address, Form::Text).err().filter(|why| why.contains("Connection refused"))
    });
    let refused = refused.unwrap();
    assert!(
        refused.starts_with(&format!("no answer of an agent from http://{address}: Connection")),
        "{refused}"
    );
    assert!(refused.ends_with("the address that it listens on (`export.listen`)"), "{refused}");
    let older = serve(async |listener| {
        let not_found = || async { (StatusCode::NOT_FOUND, "{\"error\":\"not found\"}") };
        let router = Router::new().route(PATHS[0].1, get(ANSWERS[0])).fallback(not_found);
        axum::serve(listener, router).await.unwrap();
    });
    let expected = format!(
        "no answer of an agent from http://{older}/api/v1/stalls: it answered 404 Not Found (not found); name an \
         inferscope agent that is at least as new as this program"
    );
    for form in [Form::Text, Form::Json] {
        assert_eq!(written(older, form).unwrap_err(), expected);
    }
}

#[test]
fn broken_pages_are_one_clean_sentence() {
    let mut broken = answers();
    broken[2] = b"{\"total\":1,\"requests\":[".to_vec();
    let why = failure(pages_server(broken.clone()), LIMITS);
    assert!(why.contains("/api/v1/slow?limit=50: its answer is not that page's JSON: EOF"), "{why}");
    assert!(written(pages_server(broken), Form::Json).unwrap_err().contains("its answer is not JSON: EOF"));
    let mut other = answers();
    other[0] = b"{\"models\":{\"a\":\"\\u001b[2J\"}}".to_vec();
    let why = failure(pages_server(other), LIMITS);
    assert!(why.contains("/api/v1/latency: its answer is not that page's JSON: invalid type"), "{why}");
    let says = serve(async |listener| {
        let evil = || async { (StatusCode::BAD_GATEWAY, "{\"error\":\"\\u001b[2J\\u202e\"}") };
        axum::serve(listener, Router::new().fallback(evil)).await.unwrap();
    });
    assert!(failure(says, LIMITS).contains("it answered 502 Bad Gateway (?[2J?); "));
}

#[test]
fn an_answer_without_end_is_bounded_in_size_and_time() {
    let mut long = answers();
    long[1] = vec![b' '; LIMITS.bytes + 1];
    let why = failure(pages_server(long), LIMITS);
    assert!(why.contains("/api/v1/stalls: its answer is longer than 1048576 bytes; "), "{why}");
    let silent = serve(async |listener| {
        let never = || async { std::future::pending::<&'static str>().await };
        axum::serve(listener, Router::new().fallback(get(never))).await.unwrap();
    });
    let began = Instant::now();
    let why = failure(silent, Limits { time: Duration::from_millis(200), ..LIMITS });
    assert!(why.contains("no whole answer within 0.2 s; "), "{why}");
    assert!(began.elapsed() < LIMITS.time, "{:?}", began.elapsed());
}

#[test]
fn json_keeps_what_a_terminal_could_obey_escaped() {
    let mut evil = answers();
    evil[3] = "{\"node\":\"a\u{7f}\u{9b}31m\u{202e}\",\n\t\"version\":\"1\"}".as_bytes().to_vec();
    let text = written(pages_server(evil.clone()), Form::Json).unwrap();
    assert!(text.contains(r#""a\u007f\u009b31m\u202e""#), "{text}");
    let page: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(page["agent"], serde_json::from_slice::<serde_json::Value>(&evil[3]).unwrap());
    assert_eq!(text.chars().filter(|letter| letter.is_control()).count(), 1, "its last line ends");
}

#[test]
fn values_stay_until_there_are_newer_ones_and_a_late_agent_is_told() {
    const SECOND: Duration = Duration::from_secs(1);
    let start = Instant::now();
    let mut feed = Feed::new(SECOND);
    assert!(feed.is_due(start) && feed.trouble(start).is_none());
    feed.asked(start);
    assert!(!feed.is_due(start + 20 * SECOND), "one question at a time");
    assert_eq!(feed.trouble(start + 5 * SECOND).unwrap().reason, "the agent has not answered yet");
    feed.answered(Ok(pages()), start + 6 * SECOND);
    assert!(feed.trouble(start + 6 * SECOND).is_none() && feed.is_due(start + 6 * SECOND));
    feed.asked(start + 6 * SECOND);
    feed.answered(Err("refused".to_owned()), start + 6 * SECOND);
    assert!(!feed.is_due(start + 6 * SECOND) && feed.is_due(start + 7 * SECOND), "at the same pace");
    let trouble = feed.trouble(start + 66 * SECOND).unwrap();
    assert_eq!((trouble.reason.as_str(), trouble.seconds), ("refused", Some(60.0)));
    assert!(feed.pages.is_some());
    feed.answered(Ok(pages()), start + 67 * SECOND);
    assert!(feed.trouble(start + 67 * SECOND).is_none());
}

#[test]
fn lists_without_measure_do_no_harm() {
    let mut long = answers();
    let models = r#"{"workload":"w","model":"m"},"#.repeat(100_000);
    long[0] = format!("{{\"models\":[{}]}}", models.trim_end_matches(',')).into_bytes();
    let stalls =
        r#"{"tid":1,"cause":"stopped","end_seconds":1e300,"stalled_seconds":-1e300},"#.repeat(70_000);
    let request =
        format!(r#"{{"seq":1,"duration_seconds":1e-300,"stalls":[{}]}}"#, stalls.trim_end_matches(','));
    long[2] = format!("{{\"total\":1,\"requests\":[{request}]}}").into_bytes();
    let pages = Pages::read(&long).unwrap();
    let page = once(&pages);
    assert!(page.lines().count() <= 1000 && page.contains(" of 100004 "), "{}", page.lines().count());
    let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
    waterfall::draw(&mut buffer, Rect::new(0, 0, 80, 24), &pages.slow.requests[0], 0.0, Palette::plain());
    assert!(plain_text(&buffer).contains("Longest stalls"));
}

/// What an agent shows that has measured a slow stream, with an engine that was held up.
fn agent() -> Shared {
    let mut registries = Registries::new(false);
    let health = Health::new(&mut registries.common);
    let second = |second: u64| BootTime(1_000_000_000 * (1000 + second));
    let mut latency = LatencySignal::new(LatencyOptions::default(), &mut registries, second(0));
    let (mut slow, mut stalls) = (SlowSignal::new(&mut registries), StallSignal::new(&mut registries));
    let mut gpu = GpuSignal::new(true, &mut registries);
    let mut drift = DriftSignal::new(true, &mut registries);
    let mut mmlu = MmluSignal::new(true, &mut registries);
    let mut canary = CanarySignal::new(true, &mut registries);
    let quality = Standings {
        predictions: vec![crate::signal::drift::tests::standing(&[0.11, 0.92], Some(&[0.11, 0.0]))],
        evaluations: vec![crate::signal::mmlu::tests::standing(None)],
        canary: Some(crate::signal::canary::tests::standing(Some(2))),
        ..Standings::default()
    };
    let gpus = Gpus::of(Ok(Driver::default()), vec![full_gpu()]);
    let mut totals = Totals::default();
    let whole = Vector::of_times([(Cause::RunQueue, Duration::from_millis(40))]);
    let limit = Limit::Usual(Duration::from_millis(30));
    let reason = Reason::Cause(Cause::RunQueue);
    let found = Slow { reason, limit, around: Surroundings::default(), stalls: Vec::new() };
    let phases = vec![(Phase::BeforeFirstToken, whole)];
    let verdict = Verdict { phases, causes: Vec::new(), slow: Some(Box::new(found)), throttles: None };
    let progress = Progress {
        workload: workload("w"),
        model: "m".into(),
        socket: record().socket,
        chunks: 2,
        gaps: vec![Duration::from_millis(30)],
    };
    let signals: [&mut dyn Signal; 7] =
        [&mut latency, &mut slow, &mut stalls, &mut gpu, &mut drift, &mut mmlu, &mut canary];
    for signal in signals {
        signal.on_progress(&progress);
        signal.on_request(&record(), &verdict);
        for tick in 1..=2 {
            let owner = Owner { workload: "w".into(), role: Some(Role::Engine) };
            totals.clear_pending();
            totals.add_pending(owner, inferscope_common::stall::Stall::RunQueue, tick * 500_000_000);
            let tick = Tick {
                now: second(tick),
                workloads: &[],
                open: &[],
                stalls: &totals,
                groups: &Groups::default(),
                engines: &Engines::default(),
                gpus: &gpus,
                quality: &quality,
            };
            signal.on_tick(&tick).unwrap();
        }
    }
    health.set_lost("socket_ring", "full", 3);
    health.tick(BootTime::now());
    let (latency, slow, stalls, gpus) = (latency.view(), slow.view(), stalls.view(), gpu.view());
    let (predictions, evaluations) = (drift.view(), mmlu.view());
    let (canary, changes) = (canary.view(), crate::signal::live::view::ChangesView::default());
    Shared { registries, health, latency, slow, stalls, gpus, predictions, evaluations, canary, changes }
}

#[test]
fn what_an_agent_serves_is_what_the_view_reads() {
    let shared = Arc::new(agent());
    let address = serve(async move |listener| {
        let access = export::Access::load(&export::Settings::default()).unwrap();
        export::serve(listener, shared, access, std::future::pending()).await.unwrap();
    });
    let pages = source(address, LIMITS).look().unwrap();
    let model = &pages.latency.models[0];
    assert_eq!((&*model.workload, &*model.model), ("w", "m"));
    assert!((model.ttft_seconds.p95.unwrap() - 0.04).abs() < 0.001);
    assert!(model.completion_tokens_per_second.last_10s > 0.0 && model.requests_per_second.last_10s > 0.0);
    let stalls = &pages.stalls.workloads[0];
    assert_eq!((&*stalls.workload, &*stalls.role), ("w", "engine"));
    let rates: Vec<(&str, f64)> =
        stalls.seconds_per_second.iter().map(|(cause, rate)| (&**cause, *rate)).collect();
    assert_eq!(rates.iter().find(|(cause, _)| *cause == "run_queue"), Some(&("run_queue", 0.5)));
    let slow = &pages.slow.requests[0];
    assert_eq!((&*slow.cause, &*slow.over, slow.over_seconds, slow.chunks), ("run_queue", "usual", 0.03, 9));
    assert_eq!(slow.chunk_gaps.as_ref().unwrap().seconds, [0.03]);
    assert_eq!(slow.blame.as_ref().unwrap().phases.len(), 1);
    let gpu = &pages.gpus.gpus[0];
    assert_eq!((gpu.gpu, &*gpu.name, &*gpu.throttled[0]), (3, "H", "sw_thermal"));
    assert_eq!((gpu.temperature_celsius, gpu.temperature_margin_celsius), (Some(71.0), Some(-2.0)));
    assert_eq!((gpu.power_watts, gpu.power_limit_watts), (Some(650.5), Some(700.0)));
    assert_eq!((&*gpu.users[0].workload, gpu.users[0].memory_bytes), ("w", Some(60 << 30)));
    assert_eq!((&*gpu.xids[0].xid, gpu.xids[0].count), ("1000", 2));
    assert_eq!(gpu.history.temperature_celsius, [Some(71.0); 2]);
    let predictions = &pages.quality.predictions[0];
    let Some(Number::Told(infinite)) = predictions.scores.as_ref().unwrap().kl.as_ref() else {
        panic!("{predictions:?}")
    };
    assert_eq!((&*predictions.model, &**infinite), ("m", "inf"));
    assert!(matches!(predictions.accuracy.as_ref().unwrap().accuracy, Some(Number::Plain(0.5))));
    let score = &pages.quality.evaluations[0].scores[0];
    assert_eq!((&*score.source, &*score.task, score.score), ("lm_eval", "mmlu", 0.5));
    let canary = pages.quality.canary.as_ref().unwrap();
    let run = canary.run.as_ref().unwrap();
    assert_eq!((run.accuracy, run.lower, run.upper, run.confidence), (0.375, 0.125, 0.75, Some(0.625)));
    assert_eq!((run.flips, run.ended_unix_seconds), (Some(2), 1_800_000_000.0));
    let progress = canary.progress.as_ref().unwrap();
    assert_eq!((progress.asked, progress.questions, progress.waits.as_deref()), (5, 8, Some("busy")));
    let agent = &pages.agent;
    assert_eq!((&*agent.version, &*agent.status), (env!("CARGO_PKG_VERSION"), "ok"));
    assert!(agent.memory.anonymous_bytes.is_some() && agent.node.is_some());
    assert_eq!((&*agent.events_lost[0].reason, agent.events_lost[0].total), ("full", 3));
    assert!(once(&pages).contains("LOST 3 (socket_ring full 3)"));
}
