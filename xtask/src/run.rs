//! `run`: set-up, a release build, the agent with root rights, and its measurements live in the terminal.
//!
//! In: this node. Out: where to look, and once a second what is measured. Where no inference server runs, the
//! demonstration server stands in for one, with a small load, and this is said. So it is where GPUs are simulated.
//! Ctrl-C ends all that was started.

mod gpus;
mod live;

use crate::agent::{Agent, Setting};
use crate::build::{self, Profile};
use crate::child::{Running, StopRequest};
use crate::http;
use crate::place::Place;
use crate::setup::{self, Scope};
use crate::shell;
use anyhow::{Context as _, Result};
use clap::Args;
use gpus::Gpus;
use live::Live;
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// By this rule the agent finds the demonstration server; no other process has such a command line.
const DEMO_RULE: &str = "[[workload]]\nname = \"demo\"\ncommand_regex = \"inferscope-demo-server\"\n";
const REFRESH: Duration = Duration::from_secs(1);
/// Answers that may fail in a row before this gives up: a starved node is slow, not gone.
const FAILURES_MAX: u32 = 10;

#[derive(Args)]
pub struct Options {
    /// Where the agent listens
    #[arg(long, default_value = "127.0.0.1:9940")]
    listen: SocketAddr,
    /// Requests per second of the demonstration server's own load
    #[arg(long, default_value_t = 5.0)]
    load: f64,
    /// Simulate GPUs: the scenario is a file, or the name of one in tests/nvml-sim/scenarios (heating, lost, eight, ...)
    #[arg(long, value_name = "SCENARIO", num_args = 0..=1, default_missing_value = "demo")]
    simulated_gpu: Option<String>,
    /// End by itself after so many seconds; the exit status is 1 if nothing was measured
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Everything is built: what this runs as root through sudo
    #[arg(long, hide = true)]
    built: bool,
}

pub fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    shell::expect_root_or_sudo()?;
    if !options.built {
        setup::ensure(place, Scope::Build)?;
        build::agent_and_test_programs(place, Profile::Release)?;
    }
    if !shell::is_root() {
        return Err(shell::again_as_root(&[]));
    }
    let stop = StopRequest::listen()?;
    let gpus = options.simulated_gpu.as_ref().map(|scenario| Gpus::prepare(place, scenario)).transpose()?;
    let lines = gpus.as_ref().map(Gpus::settings).unwrap_or_default() + DEMO_RULE;
    let environment = gpus.as_ref().map(Gpus::environment);
    let setting = Setting { address: options.listen, lines: &lines, environment };
    let Some(mut agent) = Agent::start(place, &setting, &stop)? else {
        return Ok(ExitCode::SUCCESS);
    };
    say_where_to_look(&agent);
    let mut demo = start_demo_unless_served(place, options, &agent)?;
    if let Some((gpus, demo)) = gpus.as_ref().zip(demo.as_ref()) {
        gpus.used_by(demo)?;
    }
    let measured = watch(options, &mut agent, &mut demo, &stop);
    println!("run: ending what was started");
    if let Some(demo) = &mut demo {
        demo.stop()?;
    }
    agent.stop()?;
    let nothing_in_time = measured? == 0 && options.seconds.is_some();
    if nothing_in_time {
        println!("run: no request was measured");
    }
    Ok(if nothing_in_time { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn say_where_to_look(agent: &Agent) {
    let address = agent.address;
    println!("run: the agent measures; look at");
    for (path, what) in [
        ("metrics", "what Prometheus scrapes"),
        ("healthz", "is it well, and what this kernel allowed"),
        ("api/v1/latency", "rates and quantiles of each model"),
        ("api/v1/requests", "the newest requests, one by one"),
        ("api/v1/gpus", "the GPUs, where there are any, and who uses them"),
        ("api/v1/workloads", "the inference servers of this node"),
    ] {
        println!("       {:<42} {what}", format!("http://{address}/{path}"));
    }
    println!("       {:<42} the agent's log", agent.log.display());
}

fn start_demo_unless_served(place: &Place, options: &Options, agent: &Agent) -> Result<Option<Running>> {
    let served = agent.workloads_up()?;
    if !served.is_empty() {
        println!("run: inference servers on this node: {}", served.join(", "));
        return Ok(None);
    }
    println!(
        "run: no inference server runs on this node. What follows is a DEMONSTRATION: a server that answers from a \
         script,\n     with a load of {} requests per second, measured from the kernel like any other server.",
        options.load
    );
    let mut command = Command::new(place.binary(Profile::Release.folder(), "inferscope-demo-server"));
    command.args(["--load", &options.load.to_string()]);
    let log = place.work("agent")?.join("demo-server.log");
    Running::start("the demonstration server", &mut command, &log).map(Some)
}

/// Shows what is measured until the end is asked for; returns how many requests were measured.
fn watch(
    options: &Options,
    agent: &mut Agent,
    demo: &mut Option<Running>,
    stop: &StopRequest,
) -> Result<u64> {
    let end = options.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut live = Live::new();
    let mut failures = 0;
    let mut measured = 0;
    while !stop.wait(REFRESH) && end.is_none_or(|end| Instant::now() < end) {
        agent.expect_alive()?;
        if let Some(demo) = demo {
            demo.expect_alive()?;
        }
        match http::get_json(agent.address, "/api/v1/latency") {
            Ok(latency) => {
                failures = 0;
                measured = live.show(&latency);
            }
            Err(_) if failures < FAILURES_MAX => failures += 1,
            Err(error) => return Err(error).context("the agent no longer answers"),
        }
    }
    Ok(measured)
}
