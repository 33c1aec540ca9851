//! Compares a log of the load client with what the agent measured.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use inferscope_tests::machine;
use inferscope_tests::oracle::{Source, Truth, compare, fetch_records};

/// Prints the table of errors; exits with 1 where a bound does not hold.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The log of inferscope-load; the wire's times are used where it has them.
    #[arg(long)]
    log: PathBuf,
    /// The agent's HTTP server.
    #[arg(long, default_value = "127.0.0.1:9940")]
    agent: SocketAddr,
    /// Leave out the agent's records up to this number.
    #[arg(long, default_value_t = 0)]
    after: u64,
    /// Use the client's times although the wire's are there.
    #[arg(long)]
    client_times: bool,
    /// Allowed error in milliseconds, where it is more than 1 %; else 1, or 2 with the client's times.
    #[arg(long)]
    absolute_ms: Option<f64>,
    /// The agent asks under ids that begin so: the wire may have them, the agent's records may not.
    #[arg(long)]
    not_measured: Option<String>,
    /// Write the result as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut truth = Truth::load(&arguments.log)?;
    if let Some(prefix) = &arguments.not_measured {
        println!("{} requests of the agent itself passed meanwhile", truth.take_out(prefix));
    }
    let Some((mut source, _)) = truth.best() else { bail!("{} is empty", arguments.log.display()) };
    if arguments.client_times {
        source = Source::Client;
    }
    let mut bounds = machine::bounds(source);
    if let Some(ms) = arguments.absolute_ms {
        bounds.absolute = Duration::try_from_secs_f64(ms / 1e3).context("read --absolute-ms")?;
    }
    let records = fetch_records(arguments.agent, arguments.after)?;
    let result = compare(truth.of(source), &records, bounds);
    println!("against the times of: {source:?}\n{result}");
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&result).context("write result as JSON")?;
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(if result.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
