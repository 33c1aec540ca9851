//! `soak`: hours of mixed traffic with servers that come and go, and whether anything of the agent grows, falls back
//! or goes missing.
//!
//! In: this node, with root rights and without another agent. Out: a line a minute, at the end a table and a verdict,
//! and the same as JSON in `BUILD/soak.json`. Ctrl-C gives the verdict so far; the exit status is 1 where it is bad.

use crate::build::{self, Profile};
use crate::child::StopRequest;
use crate::place::Place;
use crate::setup::{self, Scope};
use crate::shell;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(200);
/// A phase and the end take this long at most; what takes longer hangs.
const END_LIMIT: Duration = Duration::from_secs(180);

#[derive(Args)]
pub struct Options {
    /// How long: seconds, or a number with s, m, h or d behind it
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = seconds)]
    seconds: u64,
    /// What is random is drawn from it; without it, another each time, which is told
    #[arg(long)]
    seed: Option<u64>,
    /// Everything is built: what this runs as root through sudo
    #[arg(long, hide = true)]
    built: bool,
}

pub fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    shell::expect_root_or_sudo()?;
    if !options.built {
        setup::ensure(place, Scope::BuildAndTests)?;
        build::agent_and_test_programs(place, Profile::Release)?;
    }
    if !shell::is_root() {
        return Err(shell::again_as_root(&[]));
    }
    let stop = StopRequest::listen()?;
    let json = place.build.join("soak.json");
    let mut soak = Command::new(place.binary(Profile::Release.folder(), "inferscope-soak"));
    soak.arg("--programs").arg(place.build.join(Profile::Release.folder()));
    soak.args(["--seconds", &options.seconds.to_string()]).arg("--json").arg(&json);
    if let Some(seed) = options.seed {
        soak.args(["--seed", &seed.to_string()]);
    }
    // A group of its own: Ctrl-C must not reach agent and servers, which end in order.
    let child = soak.process_group(0).spawn().context("start inferscope-soak")?;
    let status = wait(child, &stop)?;
    println!("soak: the same as JSON: {}", json.display());
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Waits for its end, and asks for it once the user does.
fn wait(mut child: Child, stop: &StopRequest) -> Result<ExitStatus> {
    let mut asked: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait().context("wait for inferscope-soak")? {
            return Ok(status);
        }
        if asked.is_some_and(|asked| asked.elapsed() > END_LIMIT) {
            child.kill().context("end inferscope-soak")?;
            bail!("inferscope-soak did not end within {} s and was killed", END_LIMIT.as_secs());
        }
        if asked.is_some() || !stop.asked() {
            std::thread::sleep(POLL);
            continue;
        }
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("read a process number")?;
        kill_process(pid, Signal::INT).context("ask inferscope-soak to end")?;
        asked = Some(Instant::now());
    }
}

/// `90`, `90s`, `3m`, `1h` or `1d`, in seconds.
fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.find(|letter: char| !letter.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(format!("{unit} is no unit of time: s, m, h or d")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text} is no time"))?;
    number.checked_mul(factor).filter(|seconds| *seconds > 0).ok_or_else(|| format!("{text} is no time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_with_a_unit() {
        for (text, expected) in [("90", Some(90)), ("90s", Some(90)), ("3m", Some(180)), ("1h", Some(3600))] {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
        for text in ["", "m", "0", "1w", "1.5h", "-1", "99999999999999999999d"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
