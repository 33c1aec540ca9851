//! The thread asks a small server that answers as it is told to.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;
use crate::quality::keeper::Keeper;

/// What a server was asked, and how it answers.
#[derive(Default)]
struct Told {
    ids: Mutex<Vec<String>>,
    keys: Mutex<Vec<String>>,
    /// Questions whose text ends so are answered A, others B.
    picks_a: Mutex<&'static str>,
    fails: AtomicUsize,
}

/// A server; the runtime it lives in, its port, and what it was told.
fn server() -> (Runtime, u16, Arc<Told>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let told = Arc::new(Told::default());
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let desk = told.clone();
    let answer = move |headers: HeaderMap, body: String| async move {
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        lock_all(&desk.ids).push(header("x-request-id").unwrap());
        lock_all(&desk.keys).extend(header("authorization"));
        if desk.fails.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return (StatusCode::BAD_REQUEST, "no such\x1bmodel".to_owned());
        }
        let body: Value = serde_json::from_str(&body).unwrap();
        let question = body["prompt"].as_str().unwrap().split("\n\n").nth(1).unwrap().lines().next().unwrap();
        let a = question.ends_with(*lock_all(&desk.picks_a));
        let (a, b) = if a { (-0.1, -3.0) } else { (-3.0, -0.1) };
        let answer = json!({
            "choices": [{ "text": " x", "logprobs": { "top_logprobs": [{ " A": a, " B": b }] } }],
            "usage": { "total_tokens": 50 },
        });
        (StatusCode::OK, answer.to_string())
    };
    let app = Router::new().route("/v1/completions", post(answer));
    runtime.spawn(async move { axum::serve(listener, app).await });
    (runtime, port, told)
}

fn lock_all<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

/// So many questions, of which A is right; settings to ask them.
fn settings(folder: &Path, questions: usize) -> Settings {
    let mut text = String::new();
    (0..questions).for_each(|number| writeln!(text, "question {number},yes,no,A").unwrap());
    let path = folder.join("questions.csv");
    std::fs::write(&path, text).unwrap();
    Settings {
        enabled: true,
        questions: Some(path),
        model: Some("m".to_owned()),
        every: Duration::from_millis(1),
        tokens_per_hour: 1_000_000,
        ..Settings::default()
    }
}

fn at(port: u16, identity: u64) -> Server {
    Server { label: "w".into(), port, open: 0, identity }
}

/// The newest standing, once it is so, while the pipeline looks at the server again and again.
fn until(canary: &Canary, server: &Server, met: impl Fn(&Standing) -> bool) -> Standing {
    let began = Instant::now();
    loop {
        canary.follow(vec![server.clone()]);
        let newest = canary.newest();
        if met(&newest) {
            return newest;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{newest:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn runs_are_scored_their_flips_counted_and_kept_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (_runtime, port, told) = server();
    let settings = Settings { every: Duration::from_secs(3600), ..settings(folder.path(), 20) };
    let state = folder.path().join("state");
    let run = |picks_a: &'static str, identity: u64| {
        *lock_all(&told.picks_a) = picks_a;
        let (keeper, save) = Keeper::open(&state, "").unwrap();
        let last = keeper.content().canary.clone();
        keeper.start().unwrap();
        let canary = Canary::new(&settings).unwrap();
        canary.start(&settings, last, Some(save)).unwrap();
        let standing = until(&canary, &at(port, identity), |standing| standing.runs == 1);
        let outcome = standing.outcome.unwrap();
        let mark = canary.mark().to_owned();
        assert!(lock_all(&told.ids).drain(..).all(|id| id.starts_with(&mark)));
        drop(canary);
        // The thread ends and with it the keeper's, once it has written.
        std::thread::sleep(3 * LOOK_EVERY);
        assert_eq!((standing.tokens, standing.failure), (1000, None));
        (outcome.right, outcome.flips)
    };
    assert_eq!(run("7", 1), (2, None), "question 7 and question 17");
    assert_eq!(run("7", 1), (2, Some(0)));
    assert_eq!(run("3", 1), (2, Some(4)));
    assert_eq!(run("7", 2), (2, None), "another server");
}

#[test]
fn a_run_whose_server_changes_meanwhile_is_compared_with_none() {
    let folder = tempfile::tempdir().unwrap();
    let (_runtime, port, _told) = server();
    let settings = settings(folder.path(), 4);
    let canary = Canary::new(&settings).unwrap();
    canary.start(&settings, None, None).unwrap();
    let standing = until(&canary, &at(port, 1), |standing| standing.runs >= 2);
    assert_eq!(standing.outcome.unwrap().flips, Some(0));
    let runs = standing.runs;
    until(&canary, &at(port, 1), |standing| standing.runs > runs && standing.progress.is_some());
    let runs = canary.newest().runs;
    let standing = until(&canary, &at(port, 2), |standing| standing.runs > runs);
    assert_eq!(standing.outcome.unwrap().flips, None);
}

#[test]
fn it_waits_for_a_server_that_is_there_and_has_nothing_else_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (_runtime, port, told) = server();
    let key = folder.path().join("key");
    std::fs::write(&key, "secret\n").unwrap();
    let settings =
        Settings { api_key_file: Some(key), workload: Some("w".to_owned()), ..settings(folder.path(), 3) };
    let canary = Canary::new(&settings).unwrap();
    canary.start(&settings, None, None).unwrap();
    canary.follow(vec![Server { label: "other".into(), ..at(port, 1) }]);
    std::thread::sleep(3 * LOOK_EVERY);
    assert!(lock_all(&told.ids).is_empty());
    let standing =
        until(&canary, &Server { open: 1, ..at(port, 1) }, |standing| standing.waits == Some(Waits::Busy));
    assert_eq!(standing.progress, Some((0, 3)));
    assert!(lock_all(&told.ids).is_empty());
    let standing = until(&canary, &at(port, 1), |standing| standing.runs > 0);
    assert!(standing.waited[&Waits::Busy] > Duration::ZERO);
    assert!(lock_all(&told.keys).iter().all(|key| key == "Bearer secret"));
}

#[test]
fn failures_are_told_and_a_run_with_too_many_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let (_runtime, port, told) = server();
    told.fails.store(6, Ordering::SeqCst);
    let settings = settings(folder.path(), 8);
    let canary = Canary::new(&settings).unwrap();
    canary.start(&settings, None, None).unwrap();
    let standing = until(&canary, &at(port, 1), |standing| standing.failures.contains_key("given_up"));
    let failure = standing.failure.unwrap();
    assert!(failure.contains("it answered 400 Bad Request: no such model"), "{failure}");
    assert_eq!(standing.failures["status"], 5);
    let standing = until(&canary, &at(port, 1), |standing| standing.runs > 0);
    let outcome = standing.outcome.unwrap();
    assert_eq!((outcome.unanswered, outcome.right + outcome.wrong), (1, 7));
    assert_eq!(standing.failure, None);
}

#[test]
fn files_that_cannot_be_asked_from_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("questions.csv");
    let base = settings(folder.path(), 1);
    let told = |text: &str, settings: &Settings| {
        std::fs::write(&path, text).unwrap();
        let canary = Canary::new(settings).unwrap();
        canary.start(settings, None, None).unwrap();
        until(&canary, &at(1, 1), |standing| standing.failures.contains_key("files")).failure.unwrap()
    };
    let failure = told("only one field\n", &base);
    assert!(failure.contains("line 1: it has 1 fields"), "{failure}");
    let few = Settings { tokens_per_hour: 1000, ..base.clone() };
    let failure = told(&format!("{},yes,no,A\n", "x".repeat(900)), &few);
    assert!(
        failure.contains("question 1 of") && failure.contains("`canary.tokens_per_hour` is 1000"),
        "{failure}"
    );
    let key = Settings { api_key_file: Some(folder.path().to_owned()), ..base };
    let failure = told("q,yes,no,A\n", &key);
    assert!(failure.contains("is no plain file"), "{failure}");
}
