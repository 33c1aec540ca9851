//! The engine's program: builds it, runs a target in it, and reads what it says.

use crate::place::Place;
use crate::shell;
use anyhow::{Context as _, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How the compiler counts which code an input reaches, and with what values it compares.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // Comparisons stay apart, so that each can be seen to hold.
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
];
/// An input that takes longer is a finding.
const INPUT_SECONDS_MAX: u32 = 10;
/// So is one that takes more memory.
const MEMORY_MIB_MAX: u32 = 1024;
/// Longest input: three times what is kept of a head.
const INPUT_BYTES_MAX: u32 = 48 << 10;
/// What it says of itself shows that often.
const PROGRESS_EVERY: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(200);
/// It ends itself at its time; later it hangs.
const GRACE: Duration = Duration::from_secs(60);
/// Making a corpus small runs each of its inputs twice.
const MERGE_MAX: Duration = Duration::from_secs(600);

/// The built program, and where its things are.
pub(super) struct Engine {
    pub(super) place: Place,
    program: PathBuf,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) executions: u64,
    pub(super) per_second: u64,
    /// Edges of the code that were reached.
    pub(super) coverage: u64,
}

impl Engine {
    /// Builds it into a folder of its own: nothing else is built with these flags.
    ///
    /// # Errors
    /// When cargo fails; without a C++ compiler, for example.
    pub(super) fn build(place: &Place) -> Result<Self> {
        let rustc = shell::captured(Command::new("rustc").arg("-vV").current_dir(&place.root))?;
        let host =
            rustc.lines().find_map(|line| line.strip_prefix("host: ")).context("ask rustc for its host")?;
        let folder = place.build.join("fuzz");
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--profile", "fuzz", "--package", "inferscope-fuzz", "--features", "engine"]);
        // With a named target the flags are for its code alone, not for build scripts.
        cargo.args(["--bin", "inferscope-fuzz", "--target", host, "--target-dir"]).arg(&folder);
        cargo.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f")).current_dir(&place.root);
        shell::shown(&mut cargo).context("build the fuzz targets; the engine needs a C++ compiler")?;
        Ok(Self { place: place.clone(), program: folder.join(host).join("fuzz").join("inferscope-fuzz") })
    }

    /// Runs one input.
    ///
    /// # Errors
    /// When the program cannot start.
    pub(super) fn replay(&self, target: &str, input: &Path) -> Result<ExitCode> {
        let status = self.command(target)?.arg(input).status().context("start the fuzz target")?;
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Feeds a target for so long, or until something breaks.
    ///
    /// # Errors
    /// When it cannot run, or ends without having broken and before its time.
    pub(super) fn fuzz(&self, target: &str, time: Duration) -> Result<Figures> {
        let log = self.work(target)?.join("log");
        let mut command = self.command(target)?;
        command.arg(format!("-max_total_time={}", time.as_secs()));
        command.args([format!("-timeout={INPUT_SECONDS_MAX}"), format!("-rss_limit_mb={MEMORY_MIB_MAX}")]);
        command.args([format!("-max_len={INPUT_BYTES_MAX}"), "-print_final_stats=1".to_owned()]);
        if let Some(words) = self.dictionary(target) {
            command.arg(format!("-dict={}", words.display()));
        }
        command.arg(self.found_folder(target)?).arg(self.corpus_folder(target));
        let mut child = start(&mut command, &log)?;
        watch(target, &mut child, &log, time + GRACE)?;
        let text = fs::read_to_string(&log).context("read what the engine said")?;
        read_figures(&text).with_context(|| format!("the engine ended early (its log: {})", log.display()))
    }

    /// Takes from the folders `from` what reaches code that nothing in `into` reaches.
    ///
    /// # Errors
    /// When it fails or takes too long.
    pub(super) fn merge(&self, target: &str, into: &Path, from: &[PathBuf]) -> Result<()> {
        let log = self.work(target)?.join("merge-log");
        let mut command = self.command(target)?;
        // How often code is reached is left out: it keeps ten times the files and finds nothing more.
        command.args(["-set_cover_merge=1", "-use_counters=0"]);
        command.args([format!("-timeout={INPUT_SECONDS_MAX}"), format!("-max_len={INPUT_BYTES_MAX}")]);
        command.arg(into).args(from);
        shell::logged(&mut command, &log, MERGE_MAX)
    }

    /// The inputs that broke the target so far.
    ///
    /// # Errors
    /// When their folder cannot be read.
    pub(super) fn crashes(&self, target: &str) -> Result<Vec<PathBuf>> {
        let folder = self.crash_folder(target)?;
        let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        // It also leaves what took long without having broken anything.
        let breaks = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            ["crash-", "timeout-", "oom-"].iter().any(|kind| name.starts_with(kind))
        };
        Ok(entries.flatten().map(|entry| entry.path()).filter(breaks).collect())
    }

    /// What the corpus in the working tree is.
    pub(super) fn corpus_folder(&self, target: &str) -> PathBuf {
        super::corpus::folder(&self.place).join(target)
    }

    /// All that was ever found to reach something new, here.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn found_folder(&self, target: &str) -> Result<PathBuf> {
        made(self.work(target)?.join("found"))
    }

    /// A folder for one target.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn work(&self, target: &str) -> Result<PathBuf> {
        self.place.work("fuzz").map(|folder| folder.join(target)).and_then(made)
    }

    fn crash_folder(&self, target: &str) -> Result<PathBuf> {
        made(self.work(target)?.join("crashes"))
    }

    /// Words that the target's inputs are made of, if it has its own; else those of the wire.
    fn dictionary(&self, target: &str) -> Option<PathBuf> {
        let folder = self.place.root.join("tests/fuzz/dictionary");
        [target, "wire"].iter().map(|name| folder.join(format!("{name}.dict"))).find(|path| path.is_file())
    }

    /// Behind everything else that wants the processor.
    fn command(&self, target: &str) -> Result<Command> {
        let mut command = Command::new("nice");
        command.args(["-n", "10"]).arg(&self.program).env("XTASK_FUZZ_TARGET", target);
        command.stdin(Stdio::null());
        // What breaks it is kept there, whatever it is asked to do.
        command.arg(format!("-artifact_prefix={}/", self.crash_folder(target)?.display()));
        Ok(command)
    }
}

fn made(folder: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&folder).with_context(|| format!("make folder {}", folder.display()))?;
    Ok(folder)
}

fn start(command: &mut Command, log: &Path) -> Result<Child> {
    let file = File::create(log).with_context(|| format!("open log {}", log.display()))?;
    let errors = file.try_clone().context("open log twice")?;
    command.stdout(file).stderr(errors).spawn().context("start the fuzz target")
}

/// Shows how it goes, until it ends.
fn watch(target: &str, child: &mut Child, log: &Path, limit: Duration) -> Result<()> {
    let (started, mut shown) = (Instant::now(), Instant::now());
    while child.try_wait().context("wait for the engine")?.is_none() {
        if started.elapsed() > limit {
            child.kill().and_then(|()| child.wait()).context("end the engine")?;
            bail!("it did not end within {} s", limit.as_secs());
        }
        if shown.elapsed() >= PROGRESS_EVERY {
            shown = Instant::now();
            let text = fs::read_to_string(log).unwrap_or_default();
            let newest = text.lines().rev().find(|line| line.starts_with('#') && line.contains("cov:"));
            println!("fuzz: {target}: {}", newest.unwrap_or("begins").trim());
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// The sums at the end of what it says; an engine that was killed has none.
fn read_figures(log: &str) -> Option<Figures> {
    let stat = |name: &str| {
        let line = log.lines().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
        line?.trim_start_matches(':').trim().parse().ok()
    };
    let after = |line: &str, word: &str| line.split_once(word)?.1.split_whitespace().next()?.parse().ok();
    let coverage = log.lines().rev().find_map(|line| after(line, "cov: "));
    Some(Figures {
        executions: stat("number_of_executed_units")?,
        per_second: stat("average_exec_per_sec")?,
        coverage: coverage.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_at_the_end() {
        let log = "INFO: seed corpus\n#8\tINITED cov: 12 ft: 20 corp: 3/9b exec/s: 0 rss: 40Mb\n\
                   #900\tREDUCE cov: 345 ft: 600 corp: 30/90b lim: 4 exec/s: 450 rss: 41Mb L: 3/4\n\
                   Done 1000 runs in 2 second(s)\nstat::number_of_executed_units: 1000\n\
                   stat::average_exec_per_sec:     500\nstat::new_units_added:          31\n";
        let expected = Figures { executions: 1000, per_second: 500, coverage: 345 };
        assert_eq!(read_figures(log), Some(expected));
        assert_eq!(read_figures("#8\tINITED cov: 12\nKilled\n"), None);
    }
}
