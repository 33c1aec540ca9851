//! Whether everything is counted at the rates that the budget names, or at the highest that this machine makes.
//!
//! In: a server that counts its own system calls, requests at a steady rate. Out: what the agent counted of what
//! happened, and what of the rest it did not tell.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::flood::{Ask, Client, Counted, SERVED_MODEL};

use super::books::Books;
use super::process::{cpu_time, cpu_time_since, share_percent};
use super::report::Figure;
use super::scene::{Scene, address_of, start_flood_server};

/// The rates of DESIGN: 2,000 requests and 50,000 streamed events a second.
const REQUEST_RATE: f64 = 2_000.0;
const EVENTS: u32 = 25;
const COVERAGE_PERCENT: f64 = 99.9;
const CONNECTIONS: u32 = 64;
const TIME: Duration = Duration::from_secs(10);

pub(super) fn figures(scene: &Scene, flood_server: &Path) -> Result<Vec<Figure>> {
    let server = scene.with_server(|| start_flood_server(flood_server))?;
    let before = Books::settled(scene.agent.listen)?;
    let (tgid, cpu_before) = (scene.agent.tgid(), cpu_time(scene.agent.tgid())?);
    let seconds = make_load(address_of(&server)?)?.as_secs_f64();
    let cpu = cpu_time_since(tgid, cpu_before)?;
    let counted: Counted = serde_json::from_str(&server.stop()?).context("read what the server counted")?;
    let after = Books::settled(scene.agent.listen)?;
    let grown = |of: &dyn Fn(&Books) -> f64| of(&after) - of(&before);
    let share = |found: f64, made: u64| 100.0 * found / made.max(1) as f64;
    let (happened, seen) = (counted.socket_events(), grown(&|books| books.event("socket_seen")));
    // What the programs of unwatched processes skipped is among the skipped, too: never more than was lost.
    let untold = (happened as f64 - seen - grown(&Books::skipped)).max(0.0);
    let chunks = grown(&|books| books.sum("vllm_response_chunks_total", &[("model", SERVED_MODEL)]));
    Ok(vec![
        Figure::new("coverage, load made: requests", counted.requests as f64 / seconds, "/s"),
        Figure::new("coverage, load made: streamed events", counted.events as f64 / seconds, "/s"),
        Figure::new("coverage: requests counted", share(grown(&Books::requests), counted.requests), "%")
            .at_least(COVERAGE_PERCENT),
        Figure::new("coverage: streamed events counted", share(chunks, counted.events), "%"),
        Figure::new("coverage: socket events seen", share(seen, happened), "%"),
        Figure::new("coverage: events lost and told", grown(&Books::lost), ""),
        Figure::new("coverage: events lost and not told", untold, "").within(0.0),
        Figure::new("coverage: agent, of a core", share_percent(cpu, Duration::from_secs_f64(seconds)), "%"),
    ])
}

/// Each connection asks when it is due, or as soon as it has its answer where it is late; how long it took.
fn make_load(server: SocketAddr) -> Result<Duration> {
    let pace = Duration::from_secs_f64(f64::from(CONNECTIONS) / REQUEST_RATE);
    let began = Instant::now();
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            // Not all at once.
            let mut due = began + pace * number / CONNECTIONS;
            std::thread::spawn(move || -> Result<()> {
                let mut client = Client::connect(server)?;
                while due < began + TIME && began.elapsed() < TIME {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    client.ask(Ask::Stream { events: EVENTS, gap: Duration::ZERO }, "coverage")?;
                    due += pace;
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow!("a client panicked"))??;
    }
    Ok(began.elapsed())
}
