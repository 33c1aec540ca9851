//! Runs other programs: shown, captured, or quietly into a log with a time limit.
//!
//! In: a `Command`. Out: its result, as an error that names the program and shows its last words.
//! Programs that are to run beside this one are `child`'s.

use anyhow::{Context as _, Result, bail};
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Lines of a failed program's output that the error repeats.
const LAST_LINES: usize = 6;

/// Runs a program that writes to the terminal.
///
/// # Errors
/// When it cannot start or fails.
pub fn shown(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {}", name(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", name(command));
    }
    Ok(())
}

/// Runs a program and returns what it wrote to its output, without the last line break.
///
/// # Errors
/// When it cannot start or fails; the error shows its last lines.
pub fn captured(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {}", name(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {}", name(command), output.status, last_lines(&stderr));
    }
    Ok(stdout.trim_end().to_owned())
}

/// Runs a program whose output only matters when it fails, into `log`; past `limit` it is ended.
///
/// # Errors
/// When it cannot start, fails or takes too long; the error shows its last lines.
pub fn logged(command: &mut Command, log: &Path, limit: Duration) -> Result<()> {
    let file = File::create(log).with_context(|| format!("open log {}", log.display()))?;
    let errors = file.try_clone().context("open log twice")?;
    command.stdin(Stdio::null()).stdout(file).stderr(errors);
    let Some(status) = status_within(command, limit)? else {
        bail!("{} did not end within {} s (its log: {})", name(command), limit.as_secs(), log.display());
    };
    if !status.success() {
        let text = fs::read_to_string(log).unwrap_or_default();
        bail!("{} ended with {status}: {} (its log: {})", name(command), last_lines(&text), log.display());
    }
    Ok(())
}

/// `None`: the limit passed, and the program was killed.
fn status_within(command: &mut Command, limit: Duration) -> Result<Option<ExitStatus>> {
    let mut child = command.spawn().with_context(|| format!("start {}", name(command)))?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().context("wait for a program")? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill().context("end a program that took too long")?;
            child.wait().context("wait for a killed program")?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A command with root rights: through `sudo` where this user is not root.
///
/// # Errors
/// When this user is not root and there is no `sudo`.
pub fn as_root(program: &str, what_for: &str) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    if !exists("sudo") {
        bail!("{what_for} needs root rights, and there is no sudo: run this as root");
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    Ok(command)
}

/// Goes on as root in the place of this process, with the same arguments, `--built` and this environment; returns
/// only the error that kept it from doing so.
pub fn again_as_root(environment: &[(&str, &Path)]) -> anyhow::Error {
    println!("xtask: the agent needs root rights: going on through sudo");
    let own = match env::current_exe().context("find the path of this program") {
        Ok(path) => path,
        Err(error) => return error,
    };
    let mut command = Command::new("sudo");
    // sudo itself hands hardly any variable on.
    command.arg("env").args(environment.iter().map(|(name, value)| format!("{name}={}", value.display())));
    let error = command.arg(own).args(env::args_os().skip(1)).arg("--built").exec();
    anyhow::Error::new(error).context("start sudo")
}

/// # Errors
/// When this user is not root and there is no `sudo`.
pub fn expect_root_or_sudo() -> Result<()> {
    if !is_root() && !exists("sudo") {
        bail!("measuring from the kernel needs root rights, and there is no sudo: run this as root");
    }
    Ok(())
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn exists(program: &str) -> bool {
    find(program).is_some()
}

/// The path of a program that a shell would run.
pub fn find(program: &str) -> Option<PathBuf> {
    let paths = env::var_os("PATH")?;
    env::split_paths(&paths).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn name(command: &Command) -> String {
    let arguments = command.get_args().map(OsStr::to_string_lossy);
    let words = std::iter::once(command.get_program().to_string_lossy()).chain(arguments).take(3);
    format!("`{}`", words.collect::<Vec<_>>().join(" "))
}

/// The last lines of a text that say something, in one line.
pub fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_names_the_program_and_its_last_words() {
        let error = captured(&mut shell("echo it broke >&2; exit 3")).expect_err("it fails").to_string();
        assert!(error.contains("`sh -c") && error.contains("it broke") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_program_over_its_limit_is_ended() {
        let log = env::temp_dir().join(format!("xtask-shell-{}.log", std::process::id()));
        let started = Instant::now();
        let error = logged(Command::new("sleep").arg("30"), &log, Duration::from_millis(100))
            .expect_err("it takes too long");
        assert!(started.elapsed() < Duration::from_secs(10));
        assert!(error.to_string().contains("did not end within"), "{error}");
        fs::remove_file(log).unwrap();
    }

    #[test]
    fn only_the_last_lines_are_repeated() {
        let text = (1..=20).map(|n| format!("line {n}\n\n")).collect::<String>();
        let said = last_lines(&text);
        assert!(said.starts_with("line 15 |") && said.ends_with("line 20"), "{said}");
    }
}
