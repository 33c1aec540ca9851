//! A server that answers nothing: threads, children and listeners in the numbers that a test wants of a node.
//!
//! In: arguments. Out: one line, `listening at ADDRESS`, where it does, else `ready`. SIGTERM ends it, where it is told so
//! only some time after its listener is closed, as a server does that lets what is under way end. No user of it outlives
//! its test: it ends with its parent.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Of a thread that only sleeps.
const STACK_BYTES: usize = 16 << 10;

#[derive(Parser)]
struct Arguments {
    /// Passed over; tells one server from another
    #[arg(long)]
    name: String,
    /// Listen at this address of loopback
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Threads beside the first; each sleeps for a second, wakes and sleeps again
    #[arg(long, default_value_t = 0)]
    threads: u64,
    /// Run /bin/true so often, one after the other
    #[arg(long, default_value_t = 0)]
    children: u64,
    /// The first of them so many milliseconds after the start
    #[arg(long, default_value_t = 0)]
    children_from_ms: u64,
    /// Whenever this file is there: remove it and start a process that computes, whose number is to be the one in the file;
    /// its number is then in a file beside, `told`
    #[arg(long)]
    heir: Option<PathBuf>,
    /// The first thread computes, from so many milliseconds after the start on
    #[arg(long)]
    burn_from_ms: Option<u64>,
    /// The first thread computes, once a line comes on standard input
    #[arg(long, conflicts_with = "burn_from_ms")]
    burn_when_told: bool,
    /// Compute for so long, then sleep
    #[arg(long, default_value_t = 600_000)]
    burn_ms: u64,
    /// End so many milliseconds after the listener is closed
    #[arg(long, default_value_t = 0)]
    drain_ms: u64,
    /// End after so many milliseconds
    #[arg(long, default_value_t = 600_000)]
    end_ms: u64,
}

fn main() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("end with the test")?;
    let arguments = Arguments::parse();
    let began = Instant::now();
    let listener = arguments.listen.map(TcpListener::bind).transpose().context("listen")?;
    for number in 0..arguments.threads {
        let sleeps = move || {
            std::thread::sleep(Duration::from_micros(number * 1_000_000 / arguments.threads));
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        };
        std::thread::Builder::new().stack_size(STACK_BYTES).spawn(sleeps).context("start a thread")?;
    }
    match &listener {
        Some(listener) => say(&format!("listening at {}", listener.local_addr()?))?,
        None => say("ready")?,
    }
    if arguments.children > 0 {
        std::thread::sleep(Duration::from_millis(arguments.children_from_ms).saturating_sub(began.elapsed()));
    }
    for _ in 0..arguments.children {
        let mut child = Command::new("/bin/true");
        child.stdin(Stdio::null()).status().context("run a child")?;
    }
    if arguments.burn_when_told {
        std::io::stdin().read_line(&mut String::new()).context("wait for the word")?;
    }
    if arguments.burn_when_told || arguments.burn_from_ms.is_some() {
        let from = Duration::from_millis(arguments.burn_from_ms.unwrap_or_default());
        std::thread::sleep(from.saturating_sub(began.elapsed()));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(arguments.burn_ms) {
            std::hint::spin_loop();
        }
    }
    if let Some(asks) = &arguments.heir {
        return leave_numbers(asks, &arguments);
    }
    wait(&arguments, listener)
}

/// Does what [`Arguments::heir`] says, as long as it runs.
fn leave_numbers(asks: &Path, arguments: &Arguments) -> Result<()> {
    let began = Instant::now();
    let program = std::env::current_exe().context("find this program")?;
    let mut heirs = Vec::new();
    while began.elapsed() < Duration::from_millis(arguments.end_ms) {
        if let Ok(text) = fs::read_to_string(asks) {
            let number: u32 = text.trim().parse().context("a number")?;
            fs::remove_file(asks).context("take the number")?;
            let mut heir = Command::new(&program);
            heir.args(["--name", "heir", "--burn-from-ms", "0", "--burn-ms", &arguments.burn_ms.to_string()]);
            heir.stdin(Stdio::null()).stdout(Stdio::null());
            fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).context("choose a number")?;
            let heir = heir.spawn().context("start a process")?;
            let (new, told) = (asks.with_extension("new-told"), asks.with_extension("told"));
            fs::write(&new, heir.id().to_string()).context("tell its number")?;
            fs::rename(&new, &told).context("tell its number")?;
            heirs.push(heir);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("say that it has begun")
}

fn wait(arguments: &Arguments, listener: Option<TcpListener>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ends = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = ends.recv() => {}
            () = tokio::time::sleep(Duration::from_millis(arguments.end_ms)) => {}
        }
        drop(listener);
        tokio::time::sleep(Duration::from_millis(arguments.drain_ms)).await;
        Ok(())
    })
}
