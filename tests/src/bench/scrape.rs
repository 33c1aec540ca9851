//! How long the agent's page takes when it is as large as its limits let it become, while load is made.
//!
//! In: several servers, each asked for more models than the agent has places for. Out: the page's size, and the time
//! of a `GET`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use crate::client;
use crate::fake_server::Script;
use crate::harness::ServerProcess;
use crate::oracle::http_get;
use crate::socket::Endpoint;

use super::books::Books;
use super::report::Figure;
use super::scene::{Scene, WORKLOADS, start_workload};

/// A scrape of DESIGN, of a page of 4,000 series.
const PAGE_MS: f64 = 50.0;
/// Of one server: more than the agent tells apart.
const MODELS: usize = 12;
/// Of one server.
const RATE: f64 = 100.0;
const TIME: Duration = Duration::from_secs(8);
/// All models have been asked for by then.
const SCRAPE_AFTER: Duration = Duration::from_secs(3);
const SCRAPE_EVERY: Duration = Duration::from_millis(200);

pub(super) fn figures(scene: &Scene, demo_server: &Path) -> Result<Vec<Figure>> {
    let script = Script { gaps_us: vec![2_000], first_after_us: 2_000, ..Script::default() }.to_header();
    let servers = (0..WORKLOADS)
        .map(|number| scene.with_server(|| start_workload(demo_server, number, &script)))
        .collect::<Result<Vec<_>>>()?;
    let (agent, done) = (scene.agent.listen, AtomicBool::new(false));
    let (page_bytes, mut times) = std::thread::scope(|scope| {
        let scrapes = scope.spawn(|| scrape(agent, &done));
        let made = make_load(&servers);
        done.store(true, Ordering::Relaxed);
        let times = scrapes.join().map_err(|_| anyhow!("the scraper panicked"))??;
        made.map(|()| times)
    })?;
    let series = Books::read(agent)?.series() as f64;
    servers.into_iter().try_for_each(|server| server.stop().map(drop))?;
    times.sort_unstable();
    let ms = |time: Option<&Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
    Ok(vec![
        Figure::new("page, while load is made: series", series, ""),
        Figure::new("page: size", page_bytes as f64 / 1024.0, "KiB"),
        Figure::new("page: median of a GET", ms(times.get(times.len() / 2)), "ms").within(PAGE_MS),
        Figure::new("page: longest GET", ms(times.last()), "ms"),
    ])
}

/// On all servers at once.
fn make_load(servers: &[ServerProcess]) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("start threads")?;
    let mut loads = tokio::task::JoinSet::new();
    for server in servers {
        let options = client::Options {
            requests: (RATE * TIME.as_secs_f64()) as usize,
            rate: Some(RATE),
            concurrency: 256,
            time_max: TIME,
            mix: "chat-stream=1,chat-whole=1,completions-stream=1".parse()?,
            models: (0..MODELS).map(|number| format!("organisation/model-{number}")).collect(),
            ..client::Options::new(server.endpoint.clone())
        };
        loads.spawn_on(async move { client::run(&options, |_| ()).await.map(drop) }, runtime.handle());
    }
    let made = runtime.block_on(loads.join_all());
    made.into_iter().collect()
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
