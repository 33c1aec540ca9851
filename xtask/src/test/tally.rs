//! Counts what passed, failed and was skipped, from the words of Rust's test runner and the list of skips.
//!
//! In: the runner's output, which is handed on to the terminal line by line. Out: sums and names.

use anyhow::{Context as _, Result};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

#[derive(Debug, Clone)]
pub struct Tally {
    began: Instant,
    /// Tests and checks that returned, the skipped ones among them.
    pub passed: u64,
    pub failed: u64,
    pub failures: Vec<String>,
    /// `test-name: reason`
    pub skips: Vec<String>,
    /// Where tests write why they were skipped.
    pub skip_log: PathBuf,
    skip_lines_read: usize,
}

impl Tally {
    /// Empties the list of skips, so that it holds those of this run only.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(skip_log: PathBuf) -> Result<Self> {
        fs::write(&skip_log, "")
            .with_context(|| format!("empty the list of skips {}", skip_log.display()))?;
        Ok(Self::with(skip_log))
    }

    fn with(skip_log: PathBuf) -> Self {
        Self {
            began: Instant::now(),
            passed: 0,
            failed: 0,
            failures: Vec::new(),
            skips: Vec::new(),
            skip_log,
            skip_lines_read: 0,
        }
    }

    /// Says what is done next, and when: where a run's time goes is read from these lines.
    pub fn announce(&self, what: &str) {
        println!("test: {what} (after {} s)", self.began.elapsed().as_secs());
    }

    pub fn fail(&mut self, what: &str) {
        self.failed += 1;
        self.failures.push(what.to_owned());
    }

    /// Runs the test runner and counts what it says.
    ///
    /// # Errors
    /// When it cannot start or be read; failed tests are no error.
    pub fn add_run(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let failed_before = self.failed;
        let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("start {name}"))?;
        let output = child.stdout.take().context("read the test runner")?;
        for line in BufReader::new(output).lines() {
            let line = line.context("read the test runner")?;
            println!("{line}");
            self.add_line(&line);
        }
        let status = child.wait().context("wait for the test runner")?;
        self.take_skips(name);
        // A test that does not compile, or a runner that dies, leaves no line with a count.
        if !status.success() && self.failed == failed_before {
            self.fail(&format!("{name}: the test runner ended with {status}"));
        }
        Ok(())
    }

    pub fn sum(&self) -> String {
        // A skipped test has returned, so the runner has counted it as passed; an ignored one has not.
        let passed = self.passed.saturating_sub(self.skip_lines_read as u64);
        format!("{passed} passed, {} failed, {} skipped", self.failed, self.skips.len())
    }

    /// Reads what tests wrote since the last look.
    fn take_skips(&mut self, newest_test: &str) {
        let text = fs::read_to_string(&self.skip_log).unwrap_or_default();
        for line in text.lines().skip(self.skip_lines_read) {
            self.skip_lines_read += 1;
            // Tests that run one at a time run in the main thread, which has no test's name.
            let named = line.strip_prefix("main: ").map(|reason| format!("{newest_test}: {reason}"));
            self.skips.push(named.unwrap_or_else(|| line.to_owned()));
        }
    }

    /// `test name ... FAILED` and `test name ... ignored`, and the sum `test result: ok. 3 passed; 0 failed; ...`.
    fn add_line(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test ") else { return };
        if let Some(result) = rest.strip_prefix("result: ") {
            self.passed += count_before(result, " passed;");
            return;
        }
        let Some((test, outcome)) = rest.split_once(" ... ") else { return };
        if outcome.starts_with("FAILED") {
            self.fail(test);
        } else if outcome.starts_with("ok") {
            self.take_skips(test);
        } else if outcome.starts_with("ignored") {
            self.skips.push(format!("{test}: ignored in the source"));
        }
    }
}

fn count_before(text: &str, word: &str) -> u64 {
    let before = text.split_once(word).map_or("", |(before, _)| before);
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::with(PathBuf::new());
        lines.iter().for_each(|line| tally.add_line(line));
        tally
    }

    #[test]
    fn results_of_several_runners_add_up() {
        let counted = tally(&[
            "running 3 tests",
            "test a ... ok",
            "test b::c ... FAILED",
            "test d ... ignored, no reason",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ]);
        assert_eq!(counted.sum(), "13 passed, 1 failed, 1 skipped");
        assert_eq!(counted.failures, ["b::c"]);
    }

    #[test]
    fn a_skipped_test_is_counted_as_skipped_under_its_name() {
        let log = std::env::temp_dir().join(format!("xtask-skips-{}", std::process::id()));
        let mut counted = Tally::new(log.clone()).unwrap();
        let script = "echo 'main: needs root rights' >>$XTASK_SKIP_LOG; echo 'test kernel::attach ... ok'; \
                      echo 'test kernel::load ... ok'; \
                      echo 'scrape::real: no prometheus here' >>$XTASK_SKIP_LOG; echo 'test scrape::real ... ok'; \
                      echo 'test result: ok. 3 passed; 0 failed; 0 ignored'";
        let mut runner = Command::new("sh");
        counted.add_run("kernel tests", runner.args(["-c", script]).env("XTASK_SKIP_LOG", &log)).unwrap();
        assert_eq!(counted.sum(), "1 passed, 0 failed, 2 skipped");
        assert_eq!(counted.skips, ["kernel::attach: needs root rights", "scrape::real: no prometheus here"]);
        fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_runner_that_dies_without_a_count_is_a_failure() {
        let mut counted = Tally::with(PathBuf::new());
        counted.add_run("unit tests", Command::new("sh").args(["-c", "exit 101"])).unwrap();
        assert_eq!(counted.failed, 1);
        assert!(counted.failures[0].contains("101"), "{:?}", counted.failures);
    }
}
