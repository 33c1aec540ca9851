//! How long the agent's page takes when it is as large as it may become, while load is made.
//!
//! In: requests for more models than the agent has places for ([`MODELS`]). Out: the page's size, and the time of a
//! `GET`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::client;
use crate::fake_server::Script;
use crate::oracle::http_get;
use crate::socket::Endpoint;

use super::books::Books;
use super::report::Figure;
use super::scene::{MODELS, Scene, start_demo_server};

/// A scrape of DESIGN, of a page of 4,000 series.
const PAGE_MS: f64 = 50.0;
/// More than the agent tells apart.
const ASKED: usize = MODELS + 4;
const RATE: f64 = 300.0;
const TIME: Duration = Duration::from_secs(8);
/// All models have been asked for by then.
const SCRAPE_AFTER: Duration = Duration::from_secs(3);
const SCRAPE_EVERY: Duration = Duration::from_millis(200);

pub(super) fn figures(scene: &Scene, demo_server: &Path) -> Result<Vec<Figure>> {
    let script = Script { gaps_us: vec![2_000], first_after_us: 2_000, ..Script::default() };
    let server = scene.with_server(|| start_demo_server(demo_server, Some(&script.to_header())))?;
    let options = client::Options {
        requests: (RATE * TIME.as_secs_f64()) as usize,
        rate: Some(RATE),
        concurrency: 256,
        time_max: TIME,
        mix: "chat-stream=1,chat-whole=1,completions-stream=1".parse()?,
        models: (0..ASKED).map(|number| format!("organisation/model-{number}")).collect(),
        ..client::Options::new(server.endpoint.clone())
    };
    let runtime = tokio::runtime::Runtime::new().context("start threads")?;
    let (agent, done) = (scene.agent.listen, AtomicBool::new(false));
    let times = std::thread::scope(|scope| {
        let scrapes = scope.spawn(|| scrape(agent, &done));
        let report = runtime.block_on(client::run(&options, |_| ()));
        done.store(true, Ordering::Relaxed);
        let times = scrapes.join().map_err(|_| anyhow!("the scraper panicked"))??;
        report.map(|_| times)
    })?;
    server.stop()?;
    let (page_bytes, mut times) = times;
    times.sort_unstable();
    let series = Books::read(agent)?.series() as f64;
    let ms = |time: Option<&Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
    Ok(vec![
        Figure::new("page, while load is made: series", series, ""),
        Figure::new("page: size", page_bytes as f64 / 1024.0, "KiB"),
        Figure::new("page: median of a GET", ms(times.get(times.len() / 2)), "ms").within(PAGE_MS),
        Figure::new("page: longest GET", ms(times.last()), "ms"),
    ])
}

/// Size of the last page, and how long each took.
fn scrape(agent: SocketAddr, done: &AtomicBool) -> Result<(usize, Vec<Duration>)> {
    std::thread::sleep(SCRAPE_AFTER);
    let (mut bytes, mut times) = (0, Vec::new());
    while !done.load(Ordering::Relaxed) {
        let began = Instant::now();
        bytes = http_get(&Endpoint::Tcp(agent), "/metrics")?.len();
        times.push(began.elapsed());
        std::thread::sleep(SCRAPE_EVERY);
    }
    Ok((bytes, times))
}
