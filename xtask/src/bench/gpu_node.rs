//! `bench --gpu-node`: a real inference server with and without the agent, on a machine that has one.
//!
//! In: a model that `vllm serve` is to serve, or a server that runs already. Out: the comparison as text, and as JSON
//! in `BUILD/bench-gpu-node.json`; before anything is started, all that this machine lacks for it.

use crate::build::{self, Profile};
use crate::child::{Running, StopRequest};
use crate::http;
use crate::place::Place;
use crate::setup::{self, Scope};
use crate::shell;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Not vLLM's own 8000, where somebody else's server may be.
const ENDPOINT: &str = "127.0.0.1:8018";
/// Large models load for minutes, and are compiled for the GPU.
const SERVER_LIMIT: Duration = Duration::from_secs(1800);
const POLL: Duration = Duration::from_secs(1);
const SAY_EVERY: Duration = Duration::from_secs(30);
/// Where the kernel says which types it has, and the driver which GPUs.
const KERNEL_TYPES: &str = "/sys/kernel/btf/vmlinux";
const GPUS: &str = "/proc/driver/nvidia/gpus";

#[derive(Args)]
#[command(next_help_heading = "With --gpu-node")]
pub struct ServerOptions {
    /// The model: a name or folder that `vllm serve` takes, or the name under which the server at --endpoint has it
    #[arg(long, requires = "gpu_node")]
    model: Option<String>,
    /// A server that runs already: ADDRESS:PORT on loopback, or unix:PATH. Without it `vllm serve` is started
    #[arg(long, requires = "gpu_node")]
    endpoint: Option<String>,
    /// How the agent finds that server where its command line is not vLLM's
    #[arg(long, requires = "endpoint")]
    command_regex: Option<String>,
    /// The program that serves; else the `vllm` of PATH
    #[arg(long, requires = "gpu_node", conflicts_with = "endpoint")]
    vllm: Option<PathBuf>,
    /// An argument for `vllm serve`; may be repeated
    #[arg(long, value_name = "ARGUMENT", requires = "gpu_node", allow_hyphen_values = true)]
    vllm_argument: Vec<String>,
    /// Requests of each half of a pair
    #[arg(long, default_value_t = 256)]
    requests: usize,
    /// Requests under way at most
    #[arg(long, default_value_t = 32)]
    concurrency: usize,
    /// Tokens of an answer at most
    #[arg(long, default_value_t = 128)]
    max_tokens: u32,
    /// Bytes of a prompt at most
    #[arg(long, default_value_t = 2000)]
    prompt_bytes: usize,
}

pub fn run(place: &Place, options: &super::Options) -> Result<ExitCode> {
    let node = &options.node;
    expect_all(node)?;
    if !options.built {
        setup::ensure(place, Scope::Build)?;
        build::agent_and_test_programs(place, Profile::Release)?;
    }
    if !shell::is_root() {
        // The models of this user, and the programs on its path.
        let kept = |name| env::var_os(name).map(PathBuf::from).unwrap_or_default();
        return Err(shell::again_as_root(&[("HOME", &kept("HOME")), ("PATH", &kept("PATH"))]));
    }
    let stop = StopRequest::listen()?;
    let mut server = match &node.endpoint {
        Some(_) => None,
        None => Some(start_server(place, node, &stop)?),
    };
    let json = place.build.join("bench-gpu-node.json");
    let measured = shell::shown(&mut bench(place, options, &json));
    if let Some(server) = &mut server {
        server.stop()?;
    }
    measured?;
    println!("bench: the same as JSON: {}", json.display());
    Ok(ExitCode::SUCCESS)
}

fn bench(place: &Place, options: &super::Options, json: &Path) -> Command {
    let node = &options.node;
    let mut bench = super::bench(place, "gpu-node");
    bench.arg("--json").arg(json);
    bench.args(["--endpoint", node.endpoint.as_deref().unwrap_or(ENDPOINT)]);
    bench.args(["--model", node.model.as_deref().unwrap_or_default()]);
    bench.args(node.command_regex.iter().flat_map(|regex| ["--command-regex", regex]));
    for (name, value) in [
        ("--pairs", options.pairs),
        ("--requests", node.requests),
        ("--concurrency", node.concurrency),
        ("--max-tokens", node.max_tokens as usize),
        ("--prompt-bytes", node.prompt_bytes),
    ] {
        bench.arg(name).arg(value.to_string());
    }
    bench
}

/// Says all that is missing at once.
fn expect_all(options: &ServerOptions) -> Result<()> {
    let missing = missing(options);
    if missing.is_empty() {
        return Ok(());
    }
    for what in &missing {
        println!("bench: missing: {what}");
    }
    bail!("this machine lacks what the comparison needs ({} things, above)", missing.len())
}

fn missing(options: &ServerOptions) -> Vec<String> {
    let mut missing = Vec::new();
    if !Path::new(KERNEL_TYPES).exists() {
        missing.push(format!("{KERNEL_TYPES}: a kernel that describes its types (CONFIG_DEBUG_INFO_BTF)"));
    }
    if options.model.is_none() {
        missing.push("--model: what is served, or what the server at --endpoint calls it".to_owned());
    }
    let gpu = has_gpu(Path::new(GPUS));
    match &options.endpoint {
        Some(endpoint) => {
            missing.extend(unanswered(endpoint));
            if !gpu {
                println!(
                    "bench: no GPU here ({GPUS} has none): the figures are of a server that computes on the processor"
                );
            }
        }
        None => {
            if !gpu {
                missing.push(format!(
                    "an NVIDIA GPU with its driver ({GPUS} has none), or a server by --endpoint"
                ));
            }
            if options.vllm.is_none() && !shell::exists("vllm") {
                missing.push("vllm on PATH, --vllm with its place, or a server by --endpoint".to_owned());
            }
            if let Some(vllm) = options.vllm.as_ref().filter(|vllm| !vllm.is_file()) {
                missing.push(format!("{}: no such program", vllm.display()));
            }
        }
    }
    missing
}

fn has_gpu(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// Why the server at this endpoint cannot be asked; a Unix socket is asked by the bench itself.
fn unanswered(endpoint: &str) -> Option<String> {
    if endpoint.starts_with("unix:") {
        return None;
    }
    let answer = endpoint
        .parse::<SocketAddr>()
        .context("not ADDRESS:PORT")
        .and_then(|address| http::get(address, "/health"));
    match answer {
        Ok(answer) if answer.status == 200 => None,
        Ok(answer) => Some(format!("a server at {endpoint} that is well: /health says {}", answer.status)),
        Err(error) => Some(format!("a server at {endpoint}: {error:#}")),
    }
}

fn start_server(place: &Place, options: &ServerOptions, stop: &StopRequest) -> Result<Running> {
    let vllm = options.vllm.clone().or_else(|| shell::find("vllm")).context("find vllm")?;
    let model = options.model.as_deref().unwrap_or_default();
    let address: SocketAddr = ENDPOINT.parse().context("read an address")?;
    if http::get(address, "/health").is_ok() {
        bail!("something answers at {address} already: end it, or name it by --endpoint");
    }
    let log = place.work("bench")?.join("vllm.log");
    let mut command = Command::new(&vllm);
    command.args(["serve", model, "--served-model-name", model, "--host", &address.ip().to_string()]);
    command.args(["--port", &address.port().to_string()]).args(&options.vllm_argument);
    println!("bench: starting `vllm serve {model}` (its log: {})", log.display());
    let mut server = Running::start("vLLM", &mut command, &log)?;
    let (began, mut said) = (Instant::now(), Instant::now());
    while !http::get(address, "/health").is_ok_and(|answer| answer.status == 200) {
        server.expect_alive()?;
        if stop.wait(POLL) {
            bail!("ended as asked");
        }
        if began.elapsed() > SERVER_LIMIT {
            bail!("vLLM is not well after {} s (its log: {})", SERVER_LIMIT.as_secs(), log.display());
        }
        if said.elapsed() > SAY_EVERY {
            println!("bench: vLLM is not ready after {} s", began.elapsed().as_secs());
            said = Instant::now();
        }
    }
    Ok(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ServerOptions {
        ServerOptions {
            model: None,
            endpoint: None,
            command_regex: None,
            vllm: Some(PathBuf::from("/no/vllm")),
            vllm_argument: Vec::new(),
            requests: 1,
            concurrency: 1,
            max_tokens: 1,
            prompt_bytes: 1,
        }
    }

    #[test]
    fn all_that_is_missing_is_said_at_once() {
        let said = missing(&options()).join("\n");
        assert!(said.contains("--model") && said.contains("/no/vllm: no such program"), "{said}");
    }

    #[test]
    fn a_server_that_does_not_answer_is_missing() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        assert!(unanswered(&free.unwrap().to_string()).is_some());
        assert!(unanswered("localhost").is_some_and(|why| why.contains("ADDRESS:PORT")));
        assert_eq!(unanswered("unix:/run/server.sock"), None);
    }
}
