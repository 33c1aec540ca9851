//! An emulated machine: boots a kernel, runs what its files say, and ends.
//!
//! In: a kernel image, the archive of its files, a folder for its logs. Out: the transcript, which is what the guest
//! writes to its second serial line, and whether it came up at all. The first line is the kernel's console, where the
//! guest also shows that it lives ([`super::guest`]): one that is silent there is asked about by the emulator's monitor.
//!
//! Emulated also where the hardware could do it: not every machine that has `/dev/kvm` can use it, and the limits
//! would have to fit both.

use super::still::{self, Processor, Silence};
use crate::child::StopRequest;
use anyhow::{Context as _, Result, bail};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Two processors of this machine busy with other guests: 20 s. A boot that hangs gets no further after minutes.
const COME_UP_LIMIT: Duration = Duration::from_secs(90);
/// One boot in some sixty never comes up, and a machine that is up may sleep for good: the emulator's doing.
const BOOTS: u32 = 2;
const MEMORY_MIB: &str = "1280";
/// Server and agent side by side, as on a real node.
const PROCESSORS: usize = 2;
/// Begins the line that says so.
pub const AGAIN: &str = "booting again";
const POLL: Duration = Duration::from_millis(100);
/// The monitor's answer, on a busy machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Oopses, panics, a processor that does not leave the kernel and a task that hangs there end the machine, before it is
/// asked why it is silent. An instruction's address is that of `/proc/kallsyms` in any boot of the same kernel. `psi` is on
/// as distributions have it.
const COMMAND_LINE: &str = "console=ttyS0 loglevel=4 panic=-1 oops=panic softlockup_panic=1 \
sysctl.kernel.hung_task_panic=1 sysctl.kernel.hung_task_timeout_secs=60 psi=1 random.trust_cpu=on nokaslr";

pub struct Machine<'a> {
    pub image: &'a Path,
    pub files: &'a Path,
    /// Where console and transcript go.
    pub folder: &'a Path,
    /// The whole run.
    pub limit: Duration,
    /// The line of the transcript that says that it came up.
    pub up: &'a str,
    pub stop: &'a StopRequest,
}

/// How a run went.
pub struct Run {
    pub transcript: String,
    /// `None`: it ended by itself.
    pub cut_short: Option<String>,
    /// What its processors did, of a machine that fell silent.
    still: Vec<Processor>,
    pub took: Duration,
}

impl Machine<'_> {
    /// Boots and waits for the end; `each` gets the lines of the transcript as they come.
    ///
    /// # Errors
    /// When the emulator does not run, or the machine did not come up twice.
    pub fn run(&self, each: &mut dyn FnMut(&str)) -> Result<Run> {
        for boot in 1.. {
            let run = self.boot(each)?;
            let up = run.transcript.lines().any(|line| line == self.up);
            if up && (boot == BOOTS || !still::asleep(&run.still)) {
                return Ok(run);
            }
            let why = run.cut_short.unwrap_or_else(|| "it ended before it was up".to_owned());
            if boot == BOOTS {
                bail!("the machine did not come up in {BOOTS} boots: {why}");
            }
            each(&format!("{AGAIN}: {why}"));
        }
        unreachable!("the last boot returns")
    }

    pub fn transcript(&self) -> PathBuf {
        self.folder.join("transcript.log")
    }

    pub fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    /// What emulator and kernel said.
    pub fn last_words(&self) -> String {
        let said = [self.emulator_log(), self.console()].map(|log| fs::read(log).unwrap_or_default());
        said.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    }

    fn emulator_log(&self) -> PathBuf {
        self.folder.join("emulator.log")
    }

    fn boot(&self, each: &mut dyn FnMut(&str)) -> Result<Run> {
        let began = Instant::now();
        let mut emulator = Emulator(self.command()?.spawn().context("start qemu-system-x86_64")?);
        let mut reader = Lines { path: self.transcript(), told: 0, up: false };
        let mut silence = Silence::default();
        let mut still = Vec::new();
        let cut_short = loop {
            reader.tell(self.up, each);
            if let Some(status) = emulator.0.try_wait().context("wait for the emulator")? {
                break (!status.success()).then(|| format!("the emulator ended with {status}"));
            }
            if reader.up && silence.too_long(self.heard()) {
                still = self.processors(&mut emulator)?;
                break Some(still::told(&still));
            }
            let limit = if reader.up { self.limit } else { COME_UP_LIMIT };
            if began.elapsed() > limit {
                break Some(format!("its time was up after {} s", limit.as_secs()));
            }
            if self.stop.wait(POLL) {
                bail!("the end was asked for");
            }
        };
        drop(emulator);
        reader.tell(self.up, each);
        Ok(Run { transcript: reader.text(), cut_short, still, took: began.elapsed() })
    }

    /// Bytes on both lines: a guest whose sign of life was ended may still say something.
    fn heard(&self) -> u64 {
        [self.console(), self.transcript()]
            .map(|line| fs::metadata(line).map_or(0, |line| line.len()))
            .iter()
            .sum()
    }

    /// Asks the emulator what the processors do; nothing where it does not answer either.
    fn processors(&self, emulator: &mut Emulator) -> Result<Vec<Processor>> {
        if let Some(monitor) = &mut emulator.0.stdin {
            monitor.write_all(still::QUESTION).context("ask the emulator's monitor")?;
        }
        let asked = Instant::now();
        loop {
            let said = fs::read(self.emulator_log()).context("read the emulator's log")?;
            let found = still::processors(&String::from_utf8_lossy(&said));
            if found.len() == PROCESSORS || asked.elapsed() > ANSWER_LIMIT {
                return Ok(found);
            }
            if self.stop.wait(POLL) {
                bail!("the end was asked for");
            }
        }
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new("qemu-system-x86_64");
        // Processors that run at once can miss code that another one changes, and the kernel changes its own whenever a tracepoint
        // gets its first program or loses its last: a guest stumbled over a breakpoint that was gone from memory. Two guests
        // side by side keep this machine busy as it is.
        command.args(["-accel", "tcg,thread=single", "-cpu", "max", "-m", MEMORY_MIB]);
        command.args(["-smp", &PROCESSORS.to_string()]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot", "-nic", "none", "-monitor", "stdio"]);
        command.arg("-kernel").arg(self.image).arg("-initrd").arg(self.files).args(["-append", COMMAND_LINE]);
        for line in [self.console(), self.transcript()] {
            // What an earlier boot left must not be taken for this one's.
            File::create(&line).with_context(|| format!("create {}", line.display()))?;
            command.arg("-serial").arg(format!("file:{}", line.display()));
        }
        let said = self.emulator_log();
        let said = File::create(&said).with_context(|| format!("create {}", said.display()))?;
        command.stdin(Stdio::piped()).stdout(said.try_clone().context("open log twice")?).stderr(said);
        Ok(command)
    }
}

/// Ended with this program's interest in it.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file that grows, line by line.
struct Lines {
    path: PathBuf,
    told: usize,
    up: bool,
}

impl Lines {
    fn tell(&mut self, up: &str, each: &mut dyn FnMut(&str)) {
        let text = self.text();
        let new = &text[self.told.min(text.len())..];
        let Some(end) = new.rfind('\n') else { return };
        for line in new[..end].lines() {
            self.up |= line == up;
            each(line);
        }
        self.told += end + 1;
    }

    /// Serial lines may carry anything; what is no text must not shift what was told.
    fn text(&self) -> String {
        let bytes = fs::read(&self.path).unwrap_or_default();
        bytes.iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '?' }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_once_and_whole() {
        let path = std::env::temp_dir().join(format!("xtask-lines-{}", std::process::id()));
        let mut lines = Lines { path: path.clone(), told: 0, up: false };
        let mut told = Vec::new();
        for text in ["", "on", "one\ntwo\nth", "one\ntwo\nthr\u{e9}e\n"] {
            fs::write(&path, text).unwrap();
            lines.tell("two", &mut |line| told.push(line.to_owned()));
        }
        fs::remove_file(path).unwrap();
        assert_eq!(told, ["one", "two", "thr??e"]);
        assert!(lines.up);
    }
}
