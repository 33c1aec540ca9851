//! What shall I do? Arguments become a command.
//!
//! In: arguments, environment. Out: an exit status for `main`. The agent itself comes in as a function, so
//! that this room knows nothing of the pipeline.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Error, Result};
use clap::{Args, Parser, Subcommand};

use crate::command::doctor::{Cause, Node};
use crate::command::{check, doctor, drift, top};
use crate::config::{Config, Sources};
use crate::export::Access;
use crate::gpu::nvml::Places;
use crate::http_client::credentials::{Credentials, Files};
use crate::http_client::{Address, Server};
use crate::lifecycle;
use crate::lifecycle::lock::{NODE_FILE, NodeLock};
use crate::lifecycle::logs::{self, LogHandle};
use crate::rules;

/// The command failed for another reason than what it was asked.
const EXIT_FAILED: u8 = 1;
/// Arguments or configuration are not right; a restart will not help.
const EXIT_USAGE: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  inferscope doctor                           what can be measured on this node
  inferscope check                            the configuration in force
  sudo inferscope run                         measure, and serve on loopback:
  inferscope top                                ... what the servers do now, live
  curl -s http://127.0.0.1:9940/metrics         ... what Prometheus will see
  sudo inferscope run --listen 0.0.0.0:9940   let another host scrape it
  inferscope drift old.npy new.npy            how far predictions have moved
  inferscope rules                            rules and alerts for Prometheus
  inferscope help run                         all about a command

Settings, the strongest first:
  a flag                                      --listen 0.0.0.0:9940
  INFERSCOPE_<SECTION>_<KEY>                  INFERSCOPE_EXPORT_LISTEN=0.0.0.0:9940
  the file of --config or INFERSCOPE_CONFIG,  [export]
  else /etc/inferscope/inferscope.toml        listen = \"0.0.0.0:9940\"
  the default                                 127.0.0.1:9940

Exit status:
  0  done
  1  failed
  2  arguments or configuration are wrong
  `doctor` has one for each cause: inferscope help doctor";

const RUN_HELP: &str = "\
Needs root, or CAP_BPF and CAP_PERFMON, with CAP_SYS_PTRACE and
CAP_DAC_READ_SEARCH to see other users' servers; what it does not need once it
measures is given up. Servers need no change and no restart, and those that
start later are found.

Signals: SIGHUP reads the configuration again; SIGTERM and Ctrl-C end it within
2 s. One agent runs on a node: a second one is refused.

Examples:
  sudo inferscope run
  sudo inferscope run --config ./inferscope.toml --log-level debug
  sudo INFERSCOPE_LIMITS_MODELS=16 inferscope run --log-format json";

const CHECK_HELP: &str = "\
Takes the same flags and environment as `run` and starts nothing. What it
prints is a configuration itself.

Examples:
  inferscope check
  inferscope check --config ./inferscope.toml && echo it is right";

const TOP_HELP: &str = "\
Asks an agent for its pages, here or on another node, and needs no rights.
Models with rates and quantiles, the GPUs with their heat, power, memory, what
holds their clocks down and who uses them, what holds the servers' threads up,
and the newest slow requests with what their time went to. A slow request opens
as a waterfall: when it was read, its first token, its chunks, and the stalls of
the threads on its way.

Keys: j k or arrows select a slow request, enter opens it, esc goes back, s
sorts the models by another column, / filters, p or space pauses, ? explains
columns and letters, q quits.

Bars are made of letters, one for each cause:
  S stopped       Q run_queue       F major_fault   G gpu_throttle   W send_wait
  T cpu_throttle  M memory_reclaim  D block_io      L event_loop     . rest

Works from 80x24 on, with 16 colours, and without any where NO_COLOR is set. An
agent on another node has to listen on an address that can be reached
(export.listen). With https:// its certificate has to be signed by --ca, or by
whom the system trusts.

Examples:
  inferscope top
  inferscope top --url http://gpu-7:9940 --interval 5s
  inferscope top --url https://gpu-7 --ca ca.pem --token-file token
  inferscope top --once
  inferscope top --json | jq '.stalls.workloads[]'
  ssh -L 9940:localhost:9940 gpu-7     then: inferscope top

Exit status:
  0  quit, or written
  1  --once, --json: no answer of an agent; live: no terminal
  2  arguments are wrong";

const DRIFT_HELP: &str = "\
Reads arrays of numbers as np.save writes them: floats of 16, 32 or 64 bits,
integers or bool, of any shape, up to 10,485,760 numbers. Nothing in a file is
executed. KL, Jensen-Shannon and population stability are of 50 bins on [0, 1];
Kolmogorov-Smirnov and Wasserstein of every finite number. KL is infinite where
RECENT has a number in a bin that BASELINE has not; the smoothed one is not.

With --truth, labels are compared for equality; probabilities against labels of
0 and 1 are cut at 0.5 first.

Examples:
  inferscope drift baseline_predictions.npy recent_predictions.npy
  inferscope drift old.npy new.npy --truth ground_truth.npy
  inferscope drift old.npy new.npy --json | jq .ks_p_value

In JSON, what is no number is one of the texts \"inf\", \"-inf\", \"nan\"; what
cannot be had is null.

Exit status:
  0  scored
  2  a file was refused, or cannot be read; or arguments are wrong";

const RULES_HELP: &str = "\
Recording rules and alerts, as a rule file of Prometheus on standard output. The
levels come from section [slo] of the configuration; how much of an objective's
budget is burnt is computed from what the agents count. Every alert names a
runbook; --runbooks says where yours are.

Examples:
  inferscope rules > /etc/prometheus/rules/inferscope.yml
  inferscope rules --config ./inferscope.toml | promtool check rules

Exit status:
  0  written
  2  arguments or configuration are wrong";

/// Measures every request of the language model servers on this node, from the kernel.
///
/// vLLM and other OpenAI-compatible servers are found by themselves and stay as they are: durations, time to
/// first token, gaps, tokens and outcomes are taken from their sockets and served to Prometheus.
#[derive(Debug, Parser)]
#[command(name = "inferscope", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent: measure, and serve /metrics
    #[command(after_help = RUN_HELP)]
    Run(SettingFlags),
    /// Check the configuration and print what is in force
    #[command(after_help = CHECK_HELP)]
    Check(SettingFlags),
    /// Show what the servers do now and what holds them up, from an agent's API
    #[command(after_help = TOP_HELP)]
    Top(TopFlags),
    /// Score two files of predictions: how far RECENT is from BASELINE
    #[command(after_help = DRIFT_HELP)]
    Drift {
        /// Predictions of when the model was good, .npy
        #[arg(value_name = "BASELINE")]
        baseline: PathBuf,
        /// Predictions of now, .npy
        #[arg(value_name = "RECENT")]
        recent: PathBuf,
        /// What RECENT should have been, number by number, .npy
        #[arg(long, value_name = "TRUTH")]
        truth: Option<PathBuf>,
        /// Write JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Write the recording rules and alerts of the objectives, for Prometheus
    #[command(after_help = RULES_HELP)]
    Rules {
        /// File of the settings
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Where each alert's runbook is, as URL/NAME.md
        #[arg(long, value_name = "URL", default_value = rules::RUNBOOKS)]
        runbooks: String,
    },
    /// Say what this kernel and these permissions allow
    #[command(after_help = Cause::table())]
    Doctor {
        /// Write JSON instead of text
        #[arg(long)]
        json: bool,
        /// Load and attach every kernel program for a moment, the unused ones too: what this kernel takes for sure.
        /// Needs the rights of the agent, and may run beside it
        #[arg(long)]
        load: bool,
    },
}

#[derive(Args, Debug)]
struct SettingFlags {
    /// Configuration file [default: /etc/inferscope/inferscope.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address and port to serve on (export.listen) [default: 127.0.0.1:9940]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Form of log lines, text or json (log.format) [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Least level that is logged: error, warn, info, debug or trace (log.level) [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Args, Debug)]
struct TopFlags {
    /// Where the agent serves; its port is 9940 unless it is named
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9940", value_parser = top::address)]
    url: Address,
    /// Who signed its certificate, PEM [default: whom the system trusts]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A token that it knows (export.bearer_token_file): the first line
    #[arg(long, value_name = "FILE", conflicts_with = "user_file")]
    token_file: Option<PathBuf>,
    /// A user that it knows (export.basic_auth_file): the first line, NAME:PASSWORD
    #[arg(long, value_name = "FILE")]
    user_file: Option<PathBuf>,
    /// Own certificate, where it asks for one (export.tls_client_ca), PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Time between two looks, 200ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Write the same content once as plain text
    #[arg(long)]
    once: bool,
    /// Write the agent's pages once as one JSON object: latency, stalls, slow, agent, workloads
    #[arg(long)]
    json: bool,
}

impl TopFlags {
    /// # Errors
    /// A file that is named is not what it should be.
    fn options(self) -> Result<top::Options> {
        let files = Files {
            token: self.token_file,
            user: self.user_file,
            authority: self.ca,
            certificate: self.certificate,
            key: self.key,
        };
        let credentials = Credentials::read(&files, self.url.is_secure())?;
        let form = match (self.json, self.once) {
            (true, _) => top::Form::Json,
            (false, true) => top::Form::Text,
            (false, false) => top::Form::Live,
        };
        let server = Server { address: self.url, credentials };
        Ok(top::Options { server, interval: self.interval, form })
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let (least, most) = top::INTERVALS;
    let interval = humantime_serde::re::humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (least..=most).contains(&interval) { Ok(interval) } else { Err("outside 200ms to 1h".to_owned()) }
}

impl SettingFlags {
    fn sources(self) -> Result<Sources> {
        let mut sources = Sources::of_process(self.config)?;
        let flags = [
            ("--listen", "export", "listen", self.listen),
            ("--log-format", "log", "format", self.log_format),
            ("--log-level", "log", "level", self.log_level),
        ];
        sources.flags = flags
            .into_iter()
            .filter_map(|(flag, section, key, text)| Some((flag, section, key, text?)))
            .collect();
        Ok(sources)
    }
}

/// What the agent starts with: its settings, and what it holds while it runs.
#[derive(Debug)]
pub struct Start {
    pub config: Config,
    /// Asked again at a reload.
    pub sources: Sources,
    pub log: LogHandle,
    /// TLS and authentication of the endpoint, their files read.
    pub access: Access,
    /// Kept until the agent ends.
    pub lock: NodeLock,
}

/// Does what the arguments of the process say; `run` is the agent.
pub fn main_with(run: impl FnOnce(Start) -> Result<()>) -> u8 {
    execute(std::env::args_os(), &mut std::io::stdout(), run).unwrap_or_else(Failure::tell)
}

/// Why a command did not do its work.
#[derive(Debug)]
enum Failure {
    /// Arguments that are not understood, or a call for help.
    Arguments(clap::Error),
    Configuration(Error),
    /// What was to be read is not what it should be.
    Refused(Error),
    /// The agent, once its log had begun in this form.
    Agent(Error, logs::Format),
    Other(Error),
}

impl Failure {
    /// Tells the operator, in one paragraph, and gives the exit status.
    fn tell(self) -> u8 {
        match self {
            Self::Arguments(error) => {
                // Nobody is left to tell when this cannot be written.
                let _unheard = error.print();
                u8::try_from(error.exit_code()).unwrap_or(EXIT_USAGE)
            }
            Self::Configuration(error) => {
                eprintln!(
                    "inferscope: {}; `inferscope help` shows where settings come from",
                    paragraph(&error)
                );
                EXIT_USAGE
            }
            Self::Refused(error) => {
                eprintln!("inferscope: {}", paragraph(&error));
                EXIT_USAGE
            }
            Self::Agent(error, logs::Format::Json) => {
                tracing::error!("{}", paragraph(&error));
                EXIT_FAILED
            }
            // Who reads only the first lines of a page has what they wanted.
            Self::Other(error) if is_broken_pipe(&error) => 0,
            Self::Agent(error, logs::Format::Text) | Self::Other(error) => {
                eprintln!("inferscope: {}", paragraph(&error));
                EXIT_FAILED
            }
        }
    }
}

/// The chain of causes in one paragraph: messages of kernel and libraries may have line breaks.
fn paragraph(error: &Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_broken_pipe(error: &Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn execute(
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    run: impl FnOnce(Start) -> Result<()>,
) -> Result<u8, Failure> {
    match Cli::try_parse_from(arguments).map_err(Failure::Arguments)?.command {
        Command::Run(flags) => {
            let sources = flags.sources().map_err(Failure::Configuration)?;
            let config = Config::load(&sources).map_err(Failure::Configuration)?;
            let format = config.log.format;
            let access = Access::load(&config.export).map_err(Failure::Configuration)?;
            start(config, sources, access).and_then(run).map_err(|error| Failure::Agent(error, format))?;
            Ok(0)
        }
        Command::Check(flags) => {
            let sources = flags.sources().map_err(Failure::Configuration)?;
            let config = Config::load(&sources).map_err(Failure::Configuration)?;
            Access::load(&config.export).map_err(Failure::Configuration)?;
            check::run(&config, &sources, out).map_err(Failure::Other)?;
            Ok(0)
        }
        Command::Top(flags) => {
            top::run(&flags.options().map_err(Failure::Refused)?, out).map_err(Failure::Other)?;
            Ok(0)
        }
        Command::Drift { baseline, recent, truth, json } => {
            let report = drift::score(&drift::Files { baseline, recent, truth }).map_err(Failure::Refused)?;
            report.write(json, out).map_err(Failure::Other)?;
            Ok(0)
        }
        Command::Rules { config, runbooks } => {
            let config = Sources::of_process(config).and_then(|sources| Config::load(&sources));
            let config = config.map_err(Failure::Configuration)?;
            let text = rules::render(&rules::groups(&config.slo), &runbooks);
            out.write_all(text.as_bytes()).map_err(|error| Failure::Other(error.into()))?;
            Ok(0)
        }
        Command::Doctor { json, load } => {
            let node = Node { gpus: Places::of_node(configured_library()), ..Node::this() };
            doctor::run(&node, json, load, out).map_err(Failure::Other)
        }
    }
}

/// What is wrong with a configuration is for `check` to say: then the library is looked for in the usual places.
fn configured_library() -> Option<PathBuf> {
    let config = Sources::of_process(None).and_then(|sources| Config::load(&sources));
    config.ok().filter(|config| config.gpu.enabled).and_then(|config| config.gpu.library)
}

fn start(config: Config, sources: Sources, access: Access) -> Result<Start> {
    let log = logs::start(&config.log)?;
    lifecycle::refuse_core_files()?;
    if cfg!(not(target_arch = "x86_64")) {
        tracing::warn!(arch = std::env::consts::ARCH, "the agent is untested on this processor");
    }
    let lock = NodeLock::take(Path::new(NODE_FILE), Path::new("/proc"))?;
    Ok(Start { config, sources, log, access, lock })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Exit status (as `main` would end) and what is written to standard output.
    fn outcome(arguments: &[&str]) -> (Result<u8, Failure>, String) {
        let mut out = Vec::new();
        let arguments = std::iter::once("inferscope").chain(arguments.iter().copied()).map(OsString::from);
        let result = execute(arguments, &mut out, |_| panic!("the agent must not start"));
        (result, String::from_utf8(out).unwrap())
    }

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn check_prints_what_flags_say() {
        let (result, out) = outcome(&["check", "--listen", "127.0.0.1:1", "--log-format", "json"]);
        assert!(matches!(result, Ok(0)), "{result:?}");
        let config = Config::parse(&out, &Sources::default()).unwrap();
        assert_eq!((config.export.listen.port(), config.log.format), (1, logs::Format::Json));
    }

    #[test]
    fn wrong_configuration_ends_run_and_check_alike() {
        for command in ["run", "check"] {
            let (result, out) = outcome(&[command, "--listen", "nowhere"]);
            let Err(failure @ Failure::Configuration(_)) = result else { panic!("{result:?}") };
            assert!(format!("{failure:?}").contains("--listen: invalid socket address"), "{failure:?}");
            assert_eq!((failure.tell(), out.as_str()), (EXIT_USAGE, ""));
        }
    }

    #[test]
    fn arguments_that_are_wrong_or_missing_end_with_2_and_help_with_0() {
        let rows: &[(&[&str], u8)] = &[
            (&[], 2),
            (&["rnu"], 2),
            (&["run", "--proc-root", "/"], 2),
            (&["top", "--interval", "1ms"], 2),
            (&["top", "--url", "ftp://gpu-7"], 2),
            (&["top", "--url", "https://gpu-7", "--ca", "/nowhere/ca.pem"], 2),
            (&["top", "--token-file", "/nowhere/token"], 2),
            (&["top", "--certificate", "/nowhere/c"], 2),
            (&["drift", "one.npy"], 2),
            (&["drift", "/nowhere/a.npy", "/nowhere/b.npy"], 2),
            (&["help"], 0),
            (&["--version"], 0),
        ];
        for (arguments, expected) in rows {
            let (result, _) = outcome(arguments);
            assert_eq!(result.unwrap_err().tell(), *expected, "{arguments:?}");
        }
    }

    #[test]
    fn doctor_looks_at_this_machine_within_2_s() {
        let began = std::time::Instant::now();
        let (result, out) = outcome(&["doctor", "--json"]);
        assert!(began.elapsed() < std::time::Duration::from_secs(2));
        let page: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(page["exit_code"], result.unwrap());
    }

    #[test]
    fn reader_that_left_is_no_failure() {
        let error = std::io::Error::from(ErrorKind::BrokenPipe);
        assert_eq!(Failure::Other(Error::from(error).context("write the report")).tell(), 0);
        assert_eq!(Failure::Other(Error::msg("else")).tell(), EXIT_FAILED);
    }

    #[test]
    fn error_is_one_paragraph() {
        let error = Error::msg("no such tracepoint:\n  sock_send_length\n").context("attach socket_write");
        assert_eq!(paragraph(&error), "attach socket_write: no such tracepoint: sock_send_length");
    }

    #[test]
    fn help_teaches_each_command() {
        let help = Cli::command().render_long_help().to_string();
        for word in ["run", "check", "top", "drift", "doctor", "Examples:", "INFERSCOPE_<SECTION>_<KEY>"] {
            assert!(help.contains(word), "{word} is not in:\n{help}");
        }
        let mut command = Cli::command();
        let doctor = command.find_subcommand_mut("doctor").unwrap().render_help().to_string();
        assert!(doctor.contains("  10  the kernel has no type information"), "{doctor}");
    }
}
