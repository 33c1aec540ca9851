//! The demonstration server: follows scripts, and can make a small load on itself.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use inferscope_tests::client;
use inferscope_tests::fake_server::{Options, Script, Server, scenario};
use inferscope_tests::socket::Endpoint;
use tokio::signal::unix::{SignalKind, signal};

/// An OpenAI-compatible server without a model: what it answers, and when, is a script.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen: ADDRESS:PORT on loopback, or unix:PATH.
    #[arg(long, default_value = "127.0.0.1:8100")]
    listen: Endpoint,
    /// What the scripts of requests without one are drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Script of requests that bring none: its name, or JSON.
    #[arg(long)]
    script: Option<String>,
    /// The same in a file of JSON that is read for each such request, so that it can change meanwhile.
    #[arg(long)]
    script_file: Option<PathBuf>,
    /// Wait so many milliseconds before the first read of every connection.
    #[arg(long, default_value_t = 0)]
    first_read_after_ms: u64,
    /// Listen only so many milliseconds after the start, as a server that has a model to load.
    #[arg(long, default_value_t = 0)]
    listen_after_ms: u64,
    /// Write what was served to this file at the end, one JSON object a line.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Make so many requests per second on itself.
    #[arg(long)]
    load: Option<f64>,
    /// End after so many seconds.
    #[arg(long, default_value_t = 6 * 3600)]
    seconds: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let script = arguments.script.as_deref().map(read_script).transpose()?;
    tokio::time::sleep(Duration::from_millis(arguments.listen_after_ms)).await;
    let mut server = Server::start(Options {
        listen: arguments.listen.clone(),
        seed: arguments.seed,
        script,
        script_file: arguments.script_file.clone(),
        first_read_after: Duration::from_millis(arguments.first_read_after_ms),
    })?;
    println!("listening at {}", server.endpoint());
    let load = arguments.load.map(|rate| {
        let options = load_options(server.endpoint().clone(), rate, &arguments);
        tokio::spawn(async move { client::run(&options, |_| ()).await })
    });
    wait_for_end(Duration::from_secs(arguments.seconds)).await?;
    if let Some(load) = &load {
        load.abort();
    }
    server.stop().await;
    if let Some(path) = &arguments.log {
        server.log().save(path)?;
    }
    println!("served {} requests", server.log().served().len());
    Ok(())
}

fn read_script(text: &str) -> Result<Script> {
    if let Some(script) = scenario(text, 1) {
        return Ok(script);
    }
    serde_json::from_str(text).with_context(|| format!("read script {text}: neither a known name nor JSON"))
}

fn load_options(endpoint: Endpoint, rate: f64, arguments: &Arguments) -> client::Options {
    client::Options {
        seed: arguments.seed,
        requests: (rate * arguments.seconds as f64).clamp(1.0, 1e6) as usize,
        rate: Some(rate),
        concurrency: 256,
        time_max: Duration::from_secs(arguments.seconds),
        ..client::Options::new(endpoint)
    }
}

async fn wait_for_end(longest: Duration) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        () = tokio::time::sleep(longest) => {}
    }
    Ok(())
}
