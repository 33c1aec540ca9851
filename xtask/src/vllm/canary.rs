//! `vllm --canary`: the agent asks a real server questions itself, beside clients that it measures.
//!
//! In: sums with four choices each. Out: two whole runs and a third that the budget holds up, with what has to hold of them: the
//! same score twice, no answer that changed, no more tokens than allowed, and none of the agent's requests among those of
//! clients. Results of evaluations are watched meanwhile.

use super::{AGENT, Bench, Choice, Mode, load_and_compare, start_server, wait_for_workload};
use crate::agent::{Agent, Setting};
use crate::child::StopRequest;
use crate::http;
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Any number of alternatives may be asked for: those of the letters are not the likeliest of a model that learnt nothing.
pub(super) const MODE: Mode = Mode {
    choice: Choice::Canary,
    name: "canary",
    mix: "real",
    server_first: true,
    arguments: &["--max-logprobs", "-1"],
};

const QUESTIONS: usize = 40;
/// Enough for two runs and not for three.
const TOKENS_PER_HOUR: u64 = 6000;
/// As many as the model has tokens.
const LOGPROBS: u32 = 2048;
/// For a run; the first question takes up to 20 s, and clients come first.
const RUN_LIMIT: Duration = Duration::from_secs(240);

/// From the beginning of the first run: the next is due after a minute.
const CLIENTS_AFTER: Duration = Duration::from_secs(55);

#[derive(Deserialize)]
struct Quality {
    canary: Option<Canary>,
    evaluations: Vec<Evaluation>,
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Canary {
    run: Option<Run>,
    runs: u64,
    tokens: u64,
    progress: Option<Progress>,
    failure: Option<String>,
}

#[derive(Clone, Deserialize, Debug)]
struct Run {
    accuracy: f64,
    lower: f64,
    upper: f64,
    right: u64,
    unanswered: u64,
    confidence: Option<f64>,
    flips: Option<u64>,
}

#[derive(Deserialize)]
struct Progress {
    asked: u64,
    questions: u64,
    waits: Option<String>,
}

#[derive(Deserialize)]
struct Evaluation {
    scores: Vec<Score>,
}

#[derive(Deserialize)]
struct Score {
    task: String,
    score: f64,
    fall_p_value: Option<f64>,
}

#[derive(Deserialize)]
struct Change {
    of: String,
    reference: Option<f64>,
    statistic: Option<f64>,
}

#[derive(Deserialize)]
struct Account {
    events: Vec<Events>,
}

#[derive(Deserialize)]
struct Events {
    stage: String,
    total: u64,
}

/// Whether all holds; whatever was started has ended when it returns.
pub(super) fn show(bench: &Bench<'_>, stop: &StopRequest) -> Result<bool> {
    let questions = bench.work.join("questions.csv");
    fs::write(&questions, sums()).with_context(|| format!("write {}", questions.display()))?;
    let lines = settings(&questions, &bench.place.root.join("tests/mmlu-examples/two-runs"));
    let setting = Setting { address: AGENT, lines: &lines, environment: None };
    let mut server = start_server(bench, &MODE, stop)?;
    let holds = Agent::start(bench.place, &setting, stop)?.context("ended as asked").and_then(|mut agent| {
        let holds = wait_for_workload(&mut agent, stop).and_then(|_| follow(bench, stop));
        holds.and_then(|holds| agent.stop().map(|()| holds))
    });
    server.stop()?;
    holds
}

fn follow(bench: &Bench<'_>, stop: &StopRequest) -> Result<bool> {
    println!("vllm: the agent asks {QUESTIONS} questions, {TOKENS_PER_HOUR} tokens an hour");
    until("the first run to begin", stop, |canary| canary.progress.is_some() || canary.runs == 1)?;
    let began = Instant::now();
    let first =
        until("the first run", stop, |canary| canary.runs == 1)?.run.context("a run has an outcome")?;
    println!("vllm: shortly before the next run is due, clients ask too");
    if stop.wait(CLIENTS_AFTER.saturating_sub(began.elapsed())) {
        bail!("ended as asked");
    }
    let compared = load_and_compare(bench, &MODE, stop)?;
    let second =
        until("the second run", stop, |canary| canary.runs == 2)?.run.context("a run has an outcome")?;
    let waits = |canary: &Canary| {
        canary.progress.as_ref().is_some_and(|progress| progress.waits.as_deref() == Some("budget"))
    };
    let last = until("the third run to spend what is left", stop, waits)?;
    let third = last.progress.as_ref().map_or(0, |progress| progress.asked);
    let account: Account = http::get_json(AGENT, "/api/v1/agent")?;
    let own = account.events.iter().find(|of| of.stage == "request_own").map_or(0, |of| of.total);
    let waited = waited_for_clients()?;
    println!();
    for (name, run) in [("first", &first), ("second", &second)] {
        println!(
            "vllm: {name} run: {} of {QUESTIONS} right, accuracy {:.3} ({:.3} to {:.3}), confidence {:.6}, {} flips",
            run.right,
            run.accuracy,
            run.lower,
            run.upper,
            run.confidence.unwrap_or(f64::NAN),
            run.flips.map_or_else(|| "no earlier run for".to_owned(), |flips| flips.to_string()),
        );
    }
    let asked = 2 * QUESTIONS as u64 + third;
    println!("vllm: {asked} questions took {} tokens; waited {waited:.1} s for clients", last.tokens);
    let mut holds = compared;
    for (what, found) in [
        ("both runs have an answer to every question", first.unanswered == 0 && second.unanswered == 0),
        (
            "both give the same score, and no answer changed",
            first.right == second.right && second.flips == Some(0),
        ),
        ("no more tokens than allowed in an hour", last.tokens <= TOKENS_PER_HOUR),
        ("the agent told its own requests by their mark, every one", own == asked),
        ("what clients saw is what was measured (table above)", compared),
        ("it waited for clients", waited > 0.0),
        ("results of evaluations are there", show_others()?),
    ] {
        println!("vllm: {} {what}", if found { "holds:" } else { "DOES NOT HOLD:" });
        holds &= found;
    }
    Ok(holds)
}

/// What the same page says of evaluations and of what requests show.
fn show_others() -> Result<bool> {
    let quality: Quality = http::get_json(AGENT, "/api/v1/quality")?;
    for change in &quality.changes {
        let known = change.statistic.or(change.reference).unwrap_or(f64::NAN);
        let of = if change.statistic.is_some() { "statistic" } else { "reference, learnt" };
        println!("vllm: {}: {of} {known:.3}", change.of);
    }
    let scores: Vec<&Score> = quality.evaluations.iter().flat_map(|of| &of.scores).collect();
    let whole = scores.iter().find(|score| score.task == "mmlu");
    if let Some(score) = whole {
        let p = score.fall_p_value.unwrap_or(f64::NAN);
        println!("vllm: mmlu {:.4}, fallen with p {p:.4}", score.score);
    }
    Ok(whole.is_some())
}

fn until(what: &str, stop: &StopRequest, met: impl Fn(&Canary) -> bool) -> Result<Canary> {
    let deadline = Instant::now() + RUN_LIMIT;
    loop {
        let quality: Quality = http::get_json(AGENT, "/api/v1/quality")?;
        let canary = quality.canary.context("the agent has a canary")?;
        if met(&canary) {
            return Ok(canary);
        }
        if Instant::now() >= deadline {
            let failure = canary.failure.unwrap_or_default();
            let progress = canary.progress.map_or_else(String::new, |progress| {
                format!(
                    "{} of {} asked, waits for {:?}; ",
                    progress.asked, progress.questions, progress.waits
                )
            });
            bail!("waited {} s for {what}: {progress}{failure}", RUN_LIMIT.as_secs());
        }
        if stop.wait(Duration::from_millis(250)) {
            bail!("ended as asked");
        }
    }
}

fn waited_for_clients() -> Result<f64> {
    let page = http::get(AGENT, "/metrics")?.body;
    let name = "canary_wait_seconds_total{model=\"tiny\",reason=\"busy\"} ";
    Ok(page.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or(0.0))
}

fn settings(questions: &Path, results: &Path) -> String {
    format!(
        "[canary]\nenabled = true\nquestions = {questions:?}\nmodel = \"tiny\"\nevery = \"1m\"\n\
         tokens_per_hour = {TOKENS_PER_HOUR}\nlogprobs = {LOGPROBS}\n\n\
         [mmlu]\nresults = [{{ model = \"tiny\", path = {results:?} }}]\n"
    )
}

/// In the layout of MMLU's files; the right choice is in turn each of the four.
fn sums() -> String {
    let mut text = String::new();
    for number in 0..QUESTIONS {
        let (a, b, right) = (3 + number * 7 % 20, number * 3 % 20, number % 4);
        let choices: Vec<String> = (0..4).map(|choice| (a + b + choice - right).to_string()).collect();
        let letter = ["A", "B", "C", "D"][right];
        // Writing to a text does not fail.
        let _ = writeln!(text, "What is {a} + {b}?,{},{letter}", choices.join(","));
    }
    text
}
