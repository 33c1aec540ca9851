//! `vllm`: the agent against a real vLLM server, request by request, in each way that server can be started.
//!
//! In: CPython 3.12, the recipe in `tests/real-vllm`. Out: for each mode the table of errors between the wire and
//! the agent, then a verdict; the exit status is 1 where a bound does not hold. Not part of `test`: it fetches 5 GB.
//!
//! With `--canary`, instead: the agent asks the server questions itself, while clients do.
//!
//! In some modes the server is there before the agent, in others the agent before the server: both have to do.

mod canary;

use crate::agent::{Agent, Setting};
use crate::build::{self, Profile};
use crate::child::{Running, StopRequest};
use crate::place::Place;
use crate::real_vllm::RealVllm;
use crate::setup::{self, Scope};
use crate::shell;
use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const AGENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9940);
/// Not vLLM's own 8000, where somebody else's server may be.
const PORT: &str = "8017";
/// From a server's health to the agent's knowing it: it looks once in a while, and the kernel tells it of new ones.
const DISCOVERY_LIMIT: Duration = Duration::from_secs(30);
/// From the last byte on the wire to the agent's record of it: events are handed over in batches.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Args)]
pub struct Options {
    #[arg(long, value_enum, default_value_t = Choice::All)]
    mode: Choice,
    /// Instead of the modes: let the agent ask the server questions, and watch results of evaluations
    #[arg(long, conflicts_with = "mode")]
    canary: bool,
    /// Requests in each mode
    #[arg(long, default_value_t = 300)]
    requests: usize,
    /// Requests under way at most
    #[arg(long, default_value_t = 4)]
    concurrency: usize,
    /// Everything is built: what this runs as root through sudo
    #[arg(long, hide = true)]
    built: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Choice {
    Python,
    Rust,
    Api2,
    Uds,
    All,
    #[value(skip)]
    Canary,
}

/// One way to start the server.
struct Mode {
    choice: Choice,
    name: &'static str,
    /// What the load client may ask of this front end.
    mix: &'static str,
    server_first: bool,
    /// Of the server.
    arguments: &'static [&'static str],
}

const MODES: [Mode; 4] = [
    Mode { choice: Choice::Python, name: "python", mix: "real", server_first: false, arguments: &[] },
    Mode { choice: Choice::Rust, name: "rust", mix: "real-rust", server_first: true, arguments: &[] },
    Mode {
        choice: Choice::Api2,
        name: "api2",
        mix: "real",
        server_first: true,
        arguments: &["--api-server-count", "2"],
    },
    Mode { choice: Choice::Uds, name: "uds", mix: "real", server_first: false, arguments: &[] },
];

/// Where things of this run are.
struct Bench<'a> {
    place: &'a Place,
    options: &'a Options,
    vllm: RealVllm,
    /// Logs.
    work: PathBuf,
}

pub fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    shell::expect_root_or_sudo()?;
    let bench = Bench { place, options, vllm: RealVllm::find(place)?, work: place.work("vllm")? };
    let modes: Vec<&Mode> = match options.canary {
        true => vec![&canary::MODE],
        false => MODES.iter().filter(|mode| mode.is_chosen(options.mode)).collect(),
    };
    if !options.built {
        setup::ensure(place, Scope::BuildAndTests)?;
        bench.vllm.set_up(modes.iter().any(|mode| mode.choice == Choice::Rust))?;
        build::agent_and_test_programs(place, Profile::Release)?;
    }
    if !shell::is_root() {
        return Err(bench.vllm.again_as_root());
    }
    let stop = StopRequest::listen()?;
    let mut verdicts = Vec::new();
    for mode in modes {
        println!("vllm: mode {}", mode.name);
        let verdict = if options.canary { canary::show(&bench, &stop) } else { measure(&bench, mode, &stop) };
        if stop.asked() {
            println!("vllm: ended as asked; nothing is left running");
            return Ok(ExitCode::FAILURE);
        }
        verdicts.push((mode.name, verdict));
    }
    Ok(conclude(&verdicts))
}

fn conclude(verdicts: &[(&str, Result<bool>)]) -> ExitCode {
    println!();
    for (name, verdict) in verdicts {
        match verdict {
            Ok(true) => println!("vllm: {name}: all bounds hold"),
            Ok(false) => println!("vllm: {name}: A BOUND DOES NOT HOLD (see its table above)"),
            Err(error) => println!("vllm: {name}: NOT MEASURED: {error:#}"),
        }
    }
    let hold = verdicts.iter().filter(|(_, verdict)| matches!(verdict, Ok(true))).count();
    println!("vllm: all bounds hold in {hold} of {} modes", verdicts.len());
    if hold == verdicts.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether all bounds hold in this mode; whatever was started has ended when it returns.
fn measure(bench: &Bench<'_>, mode: &Mode, stop: &StopRequest) -> Result<bool> {
    let setting = Setting { address: AGENT, lines: "", environment: None };
    let start_agent = || Agent::start(bench.place, &setting, stop)?.context("ended as asked");
    let (mut agent, mut server);
    if mode.server_first {
        server = start_server(bench, mode, stop)?;
        agent = start_agent()?;
    } else {
        agent = start_agent()?;
        server = start_server(bench, mode, stop)?;
    }
    let found = wait_for_workload(&mut agent, stop)?;
    println!("vllm: the agent found {found}");
    let holds = load_and_compare(bench, mode, stop);
    let ended = server.stop().and(agent.stop());
    let holds = holds?;
    ended?;
    Ok(holds)
}

fn start_server(bench: &Bench<'_>, mode: &Mode, stop: &StopRequest) -> Result<Running> {
    let log = bench.work.join(format!("{}-serve.log", mode.name));
    let server_log = bench.work.join(format!("{}-vllm.log", mode.name));
    let mut command = Command::new(bench.vllm.script());
    command.arg(&bench.vllm.installed).env("PORT", PORT).env("FOREGROUND", "1").env("LOG", &server_log);
    RealVllm::prepare(&mut command);
    match mode.choice {
        Choice::Rust => drop(command.env("RUST", "1")),
        Choice::Uds => drop(command.arg("--uds").arg(socket())),
        Choice::Python | Choice::Api2 | Choice::Canary | Choice::All => {}
    }
    command.args(mode.arguments);
    println!("vllm: starting the server (half a minute or more; its log: {})", server_log.display());
    let mut server = Running::start("vLLM", &mut command, &log)?;
    while !is_healthy(&log) {
        server.expect_alive()?;
        if stop.wait(Duration::from_millis(500)) {
            bail!("ended as asked");
        }
    }
    Ok(server)
}

/// The recipe says so once, on a line of its own.
fn is_healthy(log: &Path) -> bool {
    fs::read_to_string(log).is_ok_and(|text| text.lines().any(|line| line.starts_with("healthy after")))
}

fn wait_for_workload(agent: &mut Agent, stop: &StopRequest) -> Result<String> {
    let deadline = Instant::now() + DISCOVERY_LIMIT;
    while Instant::now() < deadline {
        agent.expect_alive()?;
        let up = agent.workloads_up()?;
        if !up.is_empty() {
            return Ok(up.join(", "));
        }
        if stop.wait(Duration::from_millis(200)) {
            bail!("ended as asked");
        }
    }
    bail!("the agent did not find the server within {} s", DISCOVERY_LIMIT.as_secs())
}

fn load_and_compare(bench: &Bench<'_>, mode: &Mode, stop: &StopRequest) -> Result<bool> {
    let log = bench.work.join(format!("{}-truth.jsonl", mode.name));
    let mut load = client(bench, mode);
    load.args(["--mix", mode.mix, "--requests", &bench.options.requests.to_string()]);
    load.args(["--concurrency", &bench.options.concurrency.to_string(), "--seconds", "3600"])
        .arg("--log")
        .arg(&log);
    if mode.choice == Choice::Uds {
        load.arg("--uds").arg(socket());
    } else {
        load.args(["--server", &format!("127.0.0.1:{PORT}"), "--capture"]);
    }
    shell::shown(&mut load)?;
    if stop.wait(SETTLE) {
        bail!("ended as asked");
    }
    let mut compare = Command::new(bench.program("inferscope-compare"));
    compare.arg("--log").arg(&log).arg("--agent").arg(AGENT.to_string());
    compare.args(["--not-measured", "inferscope-canary-"]);
    compare.arg("--json").arg(bench.work.join(format!("{}-result.json", mode.name)));
    let status = compare.stdin(Stdio::null()).status().context("start inferscope-compare")?;
    Ok(status.success())
}

/// The load client. There is no packet to capture on a Unix socket, so there the client's own times are the truth,
/// with wider bounds: it must not wait for a processor, or its lateness would pass for an error of the agent.
fn client(bench: &Bench<'_>, mode: &Mode) -> Command {
    let program = bench.program("inferscope-load");
    if mode.choice != Choice::Uds || !shell::exists("chrt") {
        return Command::new(program);
    }
    let mut realtime = Command::new("chrt");
    realtime.args(["--rr", "1"]).arg(program);
    realtime
}

fn socket() -> PathBuf {
    // Paths of Unix sockets end at 108 bytes, which a build folder may exceed.
    env::temp_dir().join(format!("inferscope-vllm-{}.sock", std::process::id()))
}

impl Mode {
    fn is_chosen(&self, choice: Choice) -> bool {
        choice == Choice::All || choice == self.choice
    }
}

impl Bench<'_> {
    fn program(&self, name: &str) -> PathBuf {
        self.place.binary(Profile::Release.folder(), name)
    }
}
