//! The load client: makes seeded load on a server of this machine and logs what it saw.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use inferscope_tests::client::{Mix, Options, Progress, run};
use inferscope_tests::fake_server::every_kind;
use inferscope_tests::oracle::{Source, Truth};
use inferscope_tests::socket::Endpoint;
use inferscope_tests::wire::{self, Capture};

/// Makes load on an OpenAI-compatible server on loopback, bounded in count and time.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The server: ADDRESS:PORT on loopback, or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:8000", conflicts_with = "uds")]
    server: Endpoint,
    /// The server's Unix socket.
    #[arg(long)]
    uds: Option<PathBuf>,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 100)]
    requests: usize,
    /// Requests per second, whether or not earlier ones are answered.
    #[arg(long)]
    rate: Option<f64>,
    /// Requests under way at most.
    #[arg(long, default_value_t = 4)]
    concurrency: usize,
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Kinds of requests with their weights (chat-stream=5,close=1), or demo, real, real-rust, all.
    #[arg(long, default_value = "demo")]
    mix: Mix,
    /// Scripts for a server that follows them: names with commas between, or all (but the one that stands still).
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Model names, drawn from.
    #[arg(long, value_delimiter = ',', default_value = "tiny")]
    model: Vec<String>,
    #[arg(long, default_value_t = 16)]
    max_tokens: u32,
    #[arg(long, default_value_t = 400)]
    prompt_bytes: usize,
    /// Capture packets (TCP only; needs tcpdump and root) and log the wire's times too.
    #[arg(long)]
    capture: bool,
    /// Where to log what was sent and seen, one JSON object a line.
    #[arg(long)]
    log: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Threads inherit it, and what waits for a processor stamps late. Without the right it goes on as it is.
    let _ = rustix::process::setpriority_process(None, -20);
    let runtime = tokio::runtime::Runtime::new().context("start threads")?;
    runtime.block_on(make(&arguments))
}

async fn make(arguments: &Arguments) -> Result<()> {
    let options = options(arguments);
    let folder = tempfile::tempdir().context("make a folder for the capture")?;
    let port = options.endpoint.port().filter(|_| arguments.capture);
    let capture = port.map(|port| Capture::start(port, folder.path())).transpose()?;
    let report = run(&options, show).await?;
    let mut truth = Truth::new(Source::Client, report.exchanges);
    if let (Some(capture), Some(port)) = (capture, port) {
        let captured = capture.stop()?;
        println!("captured {} packets, none lost", captured.packets);
        truth.add(Source::Wire, wire::read(&captured.path, port)?);
    }
    print!("{}", truth.summary());
    println!("not sent: {}; latest: {:.1} ms", report.unsent, report.late_max.as_secs_f64() * 1e3);
    for failure in &report.failures {
        println!("failed: {failure}");
    }
    if let Some(path) = &arguments.log {
        truth.save(path)?;
    }
    Ok(())
}

fn options(arguments: &Arguments) -> Options {
    let endpoint = arguments.uds.clone().map_or_else(|| arguments.server.clone(), Endpoint::Unix);
    let all = arguments.scenarios == ["all"];
    Options {
        seed: arguments.seed,
        requests: arguments.requests,
        rate: arguments.rate,
        concurrency: arguments.concurrency,
        time_max: Duration::from_secs(arguments.seconds),
        mix: arguments.mix.clone(),
        scenarios: if all { every_kind() } else { arguments.scenarios.clone() },
        models: arguments.model.clone(),
        max_tokens: arguments.max_tokens,
        prompt_bytes: arguments.prompt_bytes,
        ..Options::new(endpoint)
    }
}

fn show(progress: Progress) {
    let step = (progress.total / 20).max(1);
    if progress.done.is_multiple_of(step) {
        eprint!("\r{}/{} requests", progress.done, progress.total);
        if progress.done == progress.total {
            eprintln!();
        }
        // Progress is a courtesy.
        let _ = std::io::stderr().flush();
    }
}
