//! Runs tcpdump on loopback and says whether it lost anything.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, setpriority_process};

/// Kernel buffer for packets that tcpdump has not taken yet, KiB.
const BUFFER_KIB: &str = "65536";
/// tcpdump hands on what it has at least every second.
const SETTLE: Duration = Duration::from_millis(1_300);
/// Longest time to wait for the last packets.
const SETTLE_MAX: Duration = Duration::from_secs(20);

/// A capture under way; killed where it is dropped.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    said: BufReader<ChildStderr>,
    path: PathBuf,
}

/// A finished capture that lost nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    pub path: PathBuf,
    pub packets: u64,
}

impl Capture {
    /// Captures what passes at a TCP port of loopback into a file in `folder`.
    ///
    /// # Errors
    ///
    /// Where tcpdump is missing or may not capture: the text says which.
    pub fn start(port: u16, folder: &Path) -> Result<Self> {
        let path = folder.join("wire.pcap");
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let mut child = Command::new("tcpdump")
            .args(["-i", "lo", "-n", "-U", "-w", "-", "-B", BUFFER_KIB, "--time-stamp-precision=nano"])
            .arg(format!("tcp port {port}"))
            .stdout(file)
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .context("run tcpdump (package tcpdump)")?;
        // On a busy machine it loses packets while it waits for a processor. Without the right it goes on as it is.
        let _ = setpriority_process(Some(Pid::from_child(&child)), -20);
        let stderr = child.stderr.take().context("tcpdump without standard error")?;
        let mut capture = Self { child, said: BufReader::new(stderr), path };
        capture.wait_until_listening()?;
        Ok(capture)
    }

    fn wait_until_listening(&mut self) -> Result<()> {
        let mut said = String::new();
        while self.said.read_line(&mut said).context("read what tcpdump says")? > 0 {
            if said.contains("listening on") {
                return Ok(());
            }
        }
        bail!("tcpdump does not capture: {}", said.trim());
    }

    /// Waits for the last packets, stops, and checks that none was lost.
    ///
    /// # Errors
    ///
    /// Where packets were lost: nothing may be compared with such a capture.
    pub fn stop(mut self) -> Result<Captured> {
        self.settle()?;
        kill_process(Pid::from_child(&self.child), Signal::INT).context("stop tcpdump")?;
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.said, &mut said).context("read what tcpdump says")?;
        self.child.wait().context("wait for tcpdump")?;
        let counts = Counts::parse(&said).with_context(|| format!("understand tcpdump: {said}"))?;
        if counts.lost > 0 {
            bail!("capture lost packets, so nothing can be compared with it: {counts:?}");
        }
        Ok(Captured { path: self.path.clone(), packets: counts.captured })
    }

    /// Waits until the file has stopped growing.
    fn settle(&self) -> Result<()> {
        let end = Instant::now() + SETTLE_MAX;
        let length = || Ok::<_, std::io::Error>(std::fs::metadata(&self.path)?.len());
        let mut before = length()?;
        while Instant::now() < end {
            std::thread::sleep(SETTLE);
            let now = length()?;
            if now == before {
                break;
            }
            before = now;
        }
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Gone already after a `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What tcpdump says at its end. Packets "received by filter" are no measure: on loopback they count
/// twice, and those of the moment before the filter was set count too.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    captured: u64,
    lost: u64,
}

impl Counts {
    fn parse(said: &str) -> Option<Self> {
        let number = |what: &str| {
            let line = said.lines().find(|line| line.contains(what))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Some(Self { captured: number("captured")?, lost: number("dropped by kernel")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_what_tcpdump_says() {
        let said = "\n12 packets captured\n14 packets received by filter\n1 packet dropped by kernel\n";
        assert_eq!(Counts::parse(said), Some(Counts { captured: 12, lost: 1 }));
        assert_eq!(Counts::parse("tcpdump: no permission"), None);
    }
}
