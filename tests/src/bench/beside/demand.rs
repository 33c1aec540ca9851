//! Load at full speed: each connection asks again as soon as it has its answer, so what an observer takes is missing
//! from what is served.
//!
//! In: the server, the kind of request. Out: what was served in a window, and what the server took for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use serde::Serialize;

use crate::flood::{Ask, Client};

use super::super::process::{cpu_time, cpu_time_since};

/// The script of the server: it never waits, and its streams have many small events.
pub(super) const STREAMED_EVENTS: u32 = 200;

/// Connections, caches and the observer's tables are as they stay.
const WARM_UP: Duration = Duration::from_millis(200);
const WINDOW: Duration = Duration::from_secs(1);
/// The clients share the machine with the server: more of them only wait for each other.
const CONNECTIONS: usize = 8;

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    pub(super) name: &'static str,
    pub(super) streams: bool,
}

pub(super) const DEMANDS: [Demand; 2] = [
    Demand { name: "small requests", streams: false },
    Demand { name: "streams of 200 events", streams: true },
];

/// What was served in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Served {
    pub requests_per_second: f64,
    /// From the request to the last byte of its answer, at the client.
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Processor time of the server for one request, its system calls and their programs included.
    pub server_cpu_us: f64,
}

/// One request, as the client saw it.
struct Asked {
    ended: Instant,
    took: Duration,
}

/// What was served, and how many requests were made, those before and after the window included.
pub(super) fn make(demand: Demand, server: SocketAddr, tgid: u32) -> Result<(Served, u64)> {
    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (stop, made) = (Arc::clone(&stop), Arc::clone(&made));
            std::thread::spawn(move || ask_until(demand, server, &stop, &made))
        })
        .collect();
    std::thread::sleep(WARM_UP);
    let (began, cpu_before) = (Instant::now(), cpu_time(tgid)?);
    std::thread::sleep(WINDOW);
    let (ended, cpu) = (Instant::now(), cpu_time_since(tgid, cpu_before)?);
    stop.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    for client in clients {
        let asked = client.join().map_err(|_| anyhow!("a client panicked"))??;
        let inside = asked.iter().filter(|one| one.ended >= began && one.ended <= ended);
        took.extend(inside.map(|one| one.took));
    }
    ensure!(!took.is_empty(), "no request was answered within {} s", WINDOW.as_secs());
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let served = Served {
        requests_per_second: took.len() as f64 / (ended - began).as_secs_f64(),
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        server_cpu_us: cpu.as_secs_f64() * 1e6 / took.len() as f64,
    };
    Ok((served, made.load(Ordering::Relaxed)))
}

fn ask_until(demand: Demand, server: SocketAddr, stop: &AtomicBool, made: &AtomicU64) -> Result<Vec<Asked>> {
    let mut client = Client::connect(server)?;
    let mut asked = Vec::new();
    // The number of events is the script's.
    let ask = if demand.streams {
        Ask::Stream { events: STREAMED_EVENTS, gap: Duration::ZERO }
    } else {
        Ask::Whole
    };
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        client.ask(ask, "bench")?;
        made.fetch_add(1, Ordering::Relaxed);
        let ended = Instant::now();
        asked.push(Asked { ended, took: ended - began });
    }
    Ok(asked)
}
