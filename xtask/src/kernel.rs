//! `kernel`: tries the agent on other kernels, each in an emulated machine.
//!
//! In: versions; this machine's qemu, Debian's kernels, the debug build. Out: progress, a table of every program on
//! every kernel, and `BUILD/kernel.json`. In each guest (`steps`): every program of every fallback is loaded, the
//! scripted server is measured against its script and the guest's own capture, and so again with less allowed.
//!
//! The debug build serves: a release build for the guests alone would take longer than they gain by it.

mod expect;
mod guest;
mod initramfs;
mod machine;
mod packages;
mod report;
mod steps;
mod still;
mod verdict;

use crate::child::StopRequest;
use crate::place::Place;
use crate::setup::{self, Scope};
use crate::shell;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use initramfs::Tree;
use machine::Machine;
use packages::{Kernel, Kernels, Wanted};
use report::Examined;
use serde::Deserialize;
use std::collections::VecDeque;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;
use steps::{Programs, Trial};
use verdict::Verdict;

/// The oldest that is supported, the long-term ones of Debian 12 and 13, and what is to come.
const DEFAULT: [&str; 4] = ["5.10", "6.1", "6.12", "newest"];
/// One kernel, all its steps: 2 minutes on two idle processors, several times that beside a build.
const KERNEL_LIMIT: Duration = Duration::from_secs(20 * 60);
/// Faults that need groups of version 2 are done on this one.
const FAULTS_KERNEL: &str = "6.12";
/// A guest's two processors keep one and a half of this machine's busy.
const AT_ONCE: usize = 2;
const AT_ONCE_MAX: usize = 8;

#[derive(Args)]
#[command(
    after_long_help = "Each kernel is booted in an emulated machine (qemu, no hardware virtualisation, no root \
rights, no network) from Debian's cloud package of that version. Inside, `inferscope doctor --load` loads every program \
of every fallback; the scripted server is measured over IPv4, IPv6 and a Unix socket: counts, outcomes and chunks \
exactly, times within 20 ms or 5 % of the guest's own capture; then with each other family of hooks, and with CAP_BPF \
and CAP_PERFMON only under both modes of lockdown.\n\nWhat is expected of each kernel stands in xtask/src/kernel/expect.rs.\n\n\
Examples:\n  cargo xtask kernel              the four of the test suite\n  cargo xtask kernel 6.1          one\n  \
cargo xtask kernel 6.1 --only system_call --times 20   hunts a rare failure\n  \
cargo xtask kernel --list       what the mirror has"
)]
pub struct Options {
    /// Versions, such as 6.1, or `newest` [default: 5.10 6.1 6.12 newest]
    #[arg(value_name = "VERSION")]
    versions: Vec<Wanted>,
    /// Only say which kernels the mirror has
    #[arg(long)]
    list: bool,
    /// Fetch the newest package of each version, also where an older one lies here
    #[arg(long)]
    fetch: bool,
    /// Machines that run at the same time
    #[arg(long, value_name = "N", default_value_t = AT_ONCE)]
    at_once: usize,
    /// Boot each so often, and judge each boot: to hunt what happens now and then
    #[arg(long, value_name = "N", default_value_t = 1)]
    times: usize,
    /// Only steps whose names contain this; which programs load is always asked
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// What a kernel came to, as a test.
pub enum Row {
    Passed,
    Failed,
    Skipped(String),
}

pub fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    let mut kernels = Kernels::new(place)?;
    if options.list {
        for (version, release) in kernels.on_mirror()? {
            println!("{version:<7}{release}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    setup::ensure(place, Scope::BuildAndTests)?;
    if let Some(why) = cannot(place) {
        bail!("no kernel can be tried here: {why}");
    }
    let wanted = if options.versions.is_empty() { default_kernels()? } else { options.versions.clone() };
    let fetched: Result<Vec<Kernel>> =
        wanted.into_iter().map(|wanted| kernels.fetch(wanted, options.fetch)).collect();
    let mut fetched = fetched?;
    fetched.dedup();
    let how = How {
        at_once: options.at_once.clamp(1, AT_ONCE_MAX),
        times: options.times.max(1),
        only: options.only.as_deref(),
    };
    let examined = examine_all(place, &fetched, how)?;
    let passed = examined.iter().all(|kernel| kernel.passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The same as rows of `cargo xtask test`: a name and what it came to. What this machine cannot try is skipped.
///
/// # Errors
/// When the programs cannot be built or a guest's files not be written.
pub fn rows(place: &Place) -> Result<Vec<(String, Row)>> {
    let wanted = default_kernels()?;
    let name = |wanted: &Wanted| format!("kernel {wanted}");
    if let Some(why) = cannot(place) {
        return Ok(wanted.iter().map(|wanted| (name(wanted), Row::Skipped(why.clone()))).collect());
    }
    let mut kernels = Kernels::new(place)?;
    let (mut rows, mut fetched) = (Vec::new(), Vec::new());
    for wanted in wanted {
        match kernels.fetch(wanted, false) {
            Ok(kernel) => fetched.push(kernel),
            Err(error) => rows.push((name(&wanted), Row::Skipped(format!("{error:#}")))),
        }
    }
    fetched.dedup();
    for kernel in examine_all(place, &fetched, How { at_once: AT_ONCE, times: 1, only: None })? {
        let row = if kernel.passed { Row::Passed } else { Row::Failed };
        rows.push((format!("kernel {}", kernel.version), row));
    }
    Ok(rows)
}

fn default_kernels() -> Result<Vec<Wanted>> {
    DEFAULT.iter().map(|text| text.parse()).collect()
}

/// Why no kernel can be tried on this machine.
fn cannot(place: &Place) -> Option<String> {
    if env::consts::ARCH != "x86_64" {
        return Some("guests are of the kind x86-64, and run the programs of this machine".to_owned());
    }
    for program in ["qemu-system-x86_64", "tcpdump", "ldd"] {
        if !shell::exists(program) {
            return Some(format!("there is no {program}; `cargo xtask setup --tests` fetches what it can"));
        }
    }
    let busybox = place.busybox();
    (!busybox.is_file())
        .then(|| format!("there is no {}; `cargo xtask setup --tests` fetches it", busybox.display()))
}

/// What every kernel is examined with.
struct All<'a> {
    place: &'a Place,
    programs: Programs,
    stop: StopRequest,
}

/// How kernels are examined.
#[derive(Clone, Copy)]
struct How<'a> {
    at_once: usize,
    times: usize,
    only: Option<&'a str>,
}

fn examine_all(place: &Place, kernels: &[Kernel], how: How<'_>) -> Result<Vec<Examined>> {
    if kernels.is_empty() {
        return Ok(Vec::new());
    }
    let all = All { place, programs: build(place)?, stop: StopRequest::listen()? };
    let boots = kernels.iter().flat_map(|kernel| (0..how.times).map(move |time| Boot { kernel, time }));
    let waiting: Mutex<VecDeque<(usize, Boot)>> = Mutex::new(boots.enumerate().collect());
    let next = || waiting.lock().ok()?.pop_front();
    let found = thread::scope(|scope| {
        let lane = || {
            let mut found = Vec::new();
            while let Some((column, boot)) = next() {
                found.push((column, examine(&all, boot, how.only)?));
            }
            Ok(found)
        };
        let lanes: Vec<_> = (0..how.at_once).map(|_| scope.spawn(lane)).collect();
        let lanes = lanes.into_iter().map(|lane| lane.join().unwrap_or_else(|_| bail!("a lane panicked")));
        lanes.collect::<Result<Vec<Vec<_>>>>()
    })?;
    let mut examined: Vec<(usize, Examined)> = found.into_iter().flatten().collect();
    examined.sort_by_key(|(column, _)| *column);
    let examined: Vec<Examined> = examined.into_iter().map(|(_, examined)| examined).collect();
    println!("{}", report::text(&examined));
    let json = place.build.join("kernel.json");
    let page = serde_json::to_string_pretty(&examined).context("render the report")?;
    fs::write(&json, page).with_context(|| format!("write {}", json.display()))?;
    println!("kernel: the same as JSON: {}", json.display());
    Ok(examined)
}

/// Builds what runs in the guests: as `test` builds it, so that nothing is built twice.
fn build(place: &Place) -> Result<Programs> {
    let cargo = |arguments: &[&str]| {
        let mut cargo = Command::new("cargo");
        cargo.args(arguments).current_dir(&place.root);
        cargo
    };
    shell::shown(&mut cargo(&["build", "--bins"])).context("build the programs under test")?;
    let tests = ["test", "--no-run", "--test", "requests", "--test", "privileges"];
    let mut tests = cargo(&tests);
    let messages = shell::captured(tests.args(["--message-format", "json-render-diagnostics"]))
        .context("build the tests for the guests")?;
    let test = |name: &str| {
        let found = messages.lines().find_map(|line| test_program(line, name));
        found.with_context(|| format!("find the test {name} among what was built"))
    };
    let work = place.work("kernel")?;
    let programs = Programs {
        folder: place.build.join("debug"),
        requests: test("requests")?,
        privileges: test("privileges")?,
        busybox: place.busybox(),
        stripped: work.join("programs"),
    };
    programs.strip()?;
    Ok(programs)
}

/// One of cargo's messages: `{"target":{"name":"requests","kind":["test"]},"executable":"PATH"}`
fn test_program(line: &str, name: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        target: Target,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
        kind: Vec<String>,
    }
    let message: Message = serde_json::from_str(line).ok()?;
    (message.target.name == name && message.target.kind == ["test"]).then_some(message.executable)?
}

/// A kernel, and which of its boots.
#[derive(Clone, Copy)]
struct Boot<'a> {
    kernel: &'a Kernel,
    time: usize,
}

impl Boot<'_> {
    /// `6.1`, `6.1 again 1`
    fn name(self) -> String {
        let version = self.kernel.version;
        if self.time == 0 { version.to_string() } else { format!("{version} again {}", self.time) }
    }
}

/// Boots one kernel, runs its steps and judges them.
fn examine(all: &All<'_>, boot: Boot<'_>, only: Option<&str>) -> Result<Examined> {
    let (name, kernel) = (boot.name(), boot.kernel);
    let family =
        expect::family(kernel.version).with_context(|| format!("kernel {name} is older than 5.10"))?;
    let mut trials = steps::trials(&all.programs, family);
    if let Some(only) = only {
        trials.retain(|trial| {
            steps::ALWAYS.contains(&trial.step.name.as_str()) || trial.step.name.contains(only)
        });
    }
    let Booted { run, last_words, logs } = run_steps(all, boot, &trials)?;
    let (mut verdict, seconds) = match &run {
        Ok(run) => (Verdict::of(&run.transcript, &trials, family), run.took.as_secs_f64()),
        Err(error) => (Verdict::stillborn(format!("{error:#}"), &last_words), 0.0),
    };
    if let Some(why) = run.ok().and_then(|run| run.cut_short) {
        verdict.cut_short(&why, &last_words);
    }
    for failure in &verdict.failures {
        println!("kernel {name}: FAILED: {}", failure.what);
        failure.said.lines().for_each(|line| println!("    {line}"));
    }
    if !verdict.failures.is_empty() {
        println!("kernel {name}: all that the guest said: {logs}");
    }
    Ok(Examined {
        version: name,
        release: kernel.release.clone(),
        passed: verdict.failures.is_empty(),
        seconds,
        programs: verdict.programs,
        trials: verdict.tried,
        failures: verdict.failures.into_iter().map(|failure| failure.what).collect(),
    })
}

/// What came of a boot.
struct Booted {
    run: Result<machine::Run>,
    /// Of emulator and kernel.
    last_words: String,
    /// Where it can be read.
    logs: String,
}

/// Boots one kernel and runs its steps.
fn run_steps(all: &All<'_>, boot: Boot<'_>, trials: &[Trial]) -> Result<Booted> {
    let (name, kernel) = (boot.name(), boot.kernel);
    let folder = all.place.work("kernel")?.join(&name);
    fs::create_dir_all(&folder).with_context(|| format!("make folder {}", folder.display()))?;
    let mut tree = Tree::default();
    all.programs.add(&mut tree)?;
    let steps: Vec<_> = trials.iter().map(|trial| trial.step.clone()).collect();
    guest::add(&mut tree, &steps, KERNEL_LIMIT)?;
    let files = folder.join("initramfs");
    tree.write(&files)?;
    let machine = Machine {
        image: &kernel.image,
        files: &files,
        folder: &folder,
        limit: KERNEL_LIMIT,
        up: guest::UP,
        stop: &all.stop,
    };
    println!("kernel {name}: booting {}", kernel.release);
    let mut progress = Progress { kernel: &name, step: String::new() };
    let run = machine.run(&mut |line| progress.tell(line));
    fs::remove_file(&files).context("remove the files of a guest")?;
    if all.stop.asked() {
        bail!("the end was asked for");
    }
    let logs = format!("{}, its console: {}", machine.transcript().display(), machine.console().display());
    Ok(Booted { run, last_words: machine.last_words(), logs })
}

/// What a machine without control groups of version 2 cannot do to a server, done in an emulated one that has them.
/// Says what came of it; whether the agent found the faults, `None` where this machine can emulate none.
///
/// # Errors
/// When the guest does not run; the error says why.
pub fn faults_in_guest(place: &Place) -> Result<Option<bool>> {
    if let Some(why) = cannot(place) {
        println!("faults: not in an emulated machine: {why}");
        return Ok(None);
    }
    let kernel = Kernels::new(place)?.fetch(FAULTS_KERNEL.parse()?, false)?;
    let all = All { place, programs: build(place)?, stop: StopRequest::listen()? };
    let booted = run_steps(&all, Boot { kernel: &kernel, time: 0 }, &[steps::faults(&all.programs)])?;
    let run = booted.run.with_context(|| booted.last_words.clone())?;
    let outcomes = guest::outcomes(&run.transcript);
    let outcome = outcomes.first().with_context(|| format!("the guest said nothing: {}", booted.logs))?;
    println!("{}", outcome.output.trim_end());
    Ok(Some(matches!(outcome.ended, Some((0, _)))))
}

/// Tells how far a guest is.
struct Progress<'a> {
    kernel: &'a str,
    step: String,
}

impl Progress<'_> {
    fn tell(&mut self, line: &str) {
        match guest::Mark::of(line) {
            Some(guest::Mark::Begin(name)) => self.step = name.to_owned(),
            Some(guest::Mark::End { status, seconds }) => {
                println!("kernel {}: {}: status {status} after {seconds:.0} s", self.kernel, self.step);
            }
            Some(guest::Mark::Up) => println!("kernel {}: up", self.kernel),
            None if line.starts_with(machine::AGAIN) => println!("kernel {}: {line}", self.kernel),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_program_is_found_among_what_cargo_says() {
        let test = r#"{"reason":"compiler-artifact","target":{"name":"requests","kind":["test"],"src_path":"/r.rs"},"executable":"/b/requests-1"}"#;
        assert_eq!(test_program(test, "requests"), Some(PathBuf::from("/b/requests-1")));
        let library =
            r#"{"reason":"compiler-artifact","target":{"name":"requests","kind":["lib"]},"executable":null}"#;
        assert_eq!(test_program(library, "requests"), None);
        assert_eq!(test_program(test, "privileges"), None);
        assert_eq!(test_program(r#"{"reason":"build-finished","success":true}"#, "requests"), None);
    }

    #[test]
    fn the_default_kernels_are_versions() {
        assert_eq!(default_kernels().unwrap().len(), DEFAULT.len());
    }
}
