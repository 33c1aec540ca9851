//! What the agent takes of the node: at start, idle, and under load.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use inferscope_common::socket::EVENTS_BYTES;

use crate::client;
use crate::fake_server::Script;
use crate::socket::Endpoint;

use super::books::Books;
use super::process::{cpu_time, cpu_time_since, kernel_bytes, memory_bytes, share_percent};
use super::report::Figure;
use super::scene::{Scene, start_demo_server};

/// Budgets of DESIGN.
const IDLE_CPU_PERCENT: f64 = 0.5;
const LOADED_CPU_PERCENT: f64 = 5.0;
const ANONYMOUS_MIB: f64 = 48.0;
const MAPS_MIB: f64 = 64.0;

const IDLE_TIME: Duration = Duration::from_secs(10);
/// The load that the budget names: requests and streamed events a second.
const RATE: f64 = 500.0;
const EVENTS_PER_REQUEST: u32 = 40;
const EVENT_RATE: f64 = RATE * EVENTS_PER_REQUEST as f64;
const LOAD_TIME: Duration = Duration::from_secs(15);
const CONCURRENCY: usize = 512;
/// Between two events of a stream; the first comes as late.
const GAP_US: u64 = 10_000;

const MIB: f64 = 1_048_576.0;

pub(super) fn start_figures(scene: &Scene) -> Result<Vec<Figure>> {
    let ready = scene.agent.ready_after.as_secs_f64() * 1e3;
    Ok(vec![Figure::new("from the start of the agent to ready", ready, "ms")])
}

pub(super) fn idle_figures(scene: &Scene) -> Result<Vec<Figure>> {
    let (tgid, began) = (scene.agent.tgid(), Instant::now());
    let before = cpu_time(tgid)?;
    std::thread::sleep(IDLE_TIME);
    let percent = share_percent(cpu_time_since(tgid, before)?, began.elapsed());
    let anonymous = memory_bytes(tgid, "RssAnon")? as f64 / MIB;
    Ok(vec![
        Figure::new("agent, idle: of a core", percent, "%").within(IDLE_CPU_PERCENT),
        Figure::new("agent, idle: anonymous memory", anonymous, "MiB").within(ANONYMOUS_MIB),
    ])
}

/// Asks for the load that the budget names, and tells what of it this machine could make.
pub(super) fn loaded_figures(scene: &Scene, demo_server: &Path) -> Result<Vec<Figure>> {
    let script = Script {
        content: EVENTS_PER_REQUEST,
        head_after_us: GAP_US,
        first_after_us: GAP_US,
        gaps_us: vec![GAP_US],
        ..Script::default()
    };
    let server = scene.with_server(|| start_demo_server(demo_server, Some(&script.to_header())))?;
    let runtime = tokio::runtime::Runtime::new().context("start threads")?;
    let tgid = scene.agent.tgid();
    let seen = || Ok::<_, anyhow::Error>(Books::settled(scene.agent.listen)?.event("socket_seen"));
    let (seen_before, cpu_before, began) = (seen()?, cpu_time(tgid)?, Instant::now());
    let report = runtime.block_on(client::run(&options(&server.endpoint)?, |_| ()))?;
    let (wall, cpu) = (began.elapsed(), cpu_time_since(tgid, cpu_before)?);
    let seen = seen()? - seen_before;
    server.stop()?;
    let streamed = report.exchanges.iter().map(|one| one.deltas_ns.len()).sum::<usize>() as f64;
    let seconds = wall.as_secs_f64();
    let (percent, event_rate) = (share_percent(cpu, wall), streamed / seconds);
    Ok(vec![
        Figure::new("load made: requests", report.exchanges.len() as f64 / seconds, "/s"),
        Figure::new("load made: streamed events", event_rate, "/s"),
        Figure::new("load made: socket events", seen / seconds, "/s"),
        Figure::new("agent, that load: of a core", percent, "%"),
        Figure::new("agent, a streamed event", cpu.as_secs_f64() * 1e6 / streamed.max(1.0), "us"),
        Figure::new("agent, scaled to 20,000 streamed events/s", percent * EVENT_RATE / event_rate, "%")
            .within(LOADED_CPU_PERCENT),
    ])
}

fn options(endpoint: &Endpoint) -> Result<client::Options> {
    Ok(client::Options {
        requests: (RATE * LOAD_TIME.as_secs_f64()) as usize,
        rate: Some(RATE),
        concurrency: CONCURRENCY,
        time_max: LOAD_TIME,
        mix: "chat-stream=1".parse()?,
        ..client::Options::new(endpoint.clone())
    })
}

/// After everything else: what it has grown to.
pub(super) fn memory_figures(scene: &Scene) -> Result<Vec<Figure>> {
    let tgid = scene.agent.tgid();
    let mib = |bytes: u64| bytes as f64 / MIB;
    let (maps, programs) = kernel_bytes(tgid)?;
    Ok(vec![
        Figure::new("agent, at the end: anonymous memory", mib(memory_bytes(tgid, "RssAnon")?), "MiB")
            .within(ANONYMOUS_MIB),
        Figure::new("agent, at the end: resident memory", mib(memory_bytes(tgid, "VmRSS")?), "MiB"),
        Figure::new("kernel memory of its maps, the ring included", mib(maps), "MiB").within(MAPS_MIB),
        Figure::new("of which the ring", mib(EVENTS_BYTES.into()), "MiB"),
        Figure::new("kernel memory of its programs", mib(programs), "MiB"),
    ])
}
