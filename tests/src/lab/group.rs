//! A control group for one server, and what it may be denied. Of version 1 or 2, whichever the host has.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

const ROOT: &str = "/sys/fs/cgroup";
/// Period of a quota, the kernel's default.
const PERIOD_US: u64 = 100_000;
/// Of a group of version 1: memory beyond what it uses.
const MEMORY_LEFT: u64 = 8 << 20;
/// Written again and again, more than the group may have.
const DIRTY_MIB: u64 = 64;
/// Of a group of version 2: so much less than it uses. The kernel makes it sleep by the square of this.
const LESS_PERCENT: u64 = 4;
/// At what a group uses: so many in a second.
const LOOKS: u32 = 200;

/// A group of its own; it goes with the last value.
#[derive(Clone, Debug)]
pub struct Group {
    name: String,
    v2: bool,
}

/// A limit that is in force.
#[must_use]
pub struct Limit {
    /// Files, and what lifts the limit when it is written there.
    undo: Vec<(PathBuf, String)>,
    /// Writes a file in the group, so that its memory is full of pages that are not on the disk yet.
    writer: Option<Child>,
}

impl Group {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// Where this host has no groups that can be limited.
    pub fn make(name: &str) -> Result<Self> {
        let v2 = Path::new(ROOT).join("cgroup.controllers").is_file();
        let group = Self { name: name.to_owned(), v2 };
        if v2 {
            write(&Path::new(ROOT).join("cgroup.subtree_control"), "+cpu +memory +io")?;
        }
        for folder in group.folders() {
            fs::create_dir_all(&folder).with_context(|| format!("make the group {}", folder.display()))?;
        }
        Ok(group)
    }

    fn folders(&self) -> Vec<PathBuf> {
        if self.v2 {
            return vec![Path::new(ROOT).join(&self.name)];
        }
        ["cpu", "memory", "blkio"].map(|controller| Path::new(ROOT).join(controller).join(&self.name)).into()
    }

    fn file(&self, controller: &str, name: &str) -> PathBuf {
        let root = Path::new(ROOT);
        let folder = if self.v2 { root.join(&self.name) } else { root.join(controller).join(&self.name) };
        folder.join(name)
    }

    /// Moves a process into it.
    ///
    /// # Errors
    ///
    /// Where it is gone.
    pub fn take(&self, tgid: u32) -> Result<()> {
        self.folders().iter().try_for_each(|folder| write(&folder.join("cgroup.procs"), &tgid.to_string()))
    }

    /// Removes it, once nobody is in it.
    pub fn remove(&self) {
        for folder in self.folders() {
            // The kernel takes a moment to forget who was in it.
            for _ in 0..50 {
                if fs::remove_dir(&folder).is_ok() || !folder.exists() {
                    break;
                }
                sleep(Duration::from_millis(20));
            }
        }
    }

    /// For how long its queues were stopped by a quota, summed over processors.
    ///
    /// # Errors
    ///
    /// Where the kernel does not say.
    pub fn throttled(&self) -> Result<Duration> {
        let path = self.file("cpu", "cpu.stat");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let line = if self.v2 { "throttled_usec " } else { "throttled_time " };
        let number = text.lines().find_map(|one| one.strip_prefix(line)).context("no time is counted")?;
        let number = number.trim().parse().context("no number")?;
        Ok(if self.v2 { Duration::from_micros(number) } else { Duration::from_nanos(number) })
    }

    /// Gives it a processor before others.
    ///
    /// # Errors
    ///
    /// Where it has no weight.
    pub fn favour(&self) -> Result<()> {
        let (file, weight) = if self.v2 { ("cpu.weight", "10000") } else { ("cpu.shares", "262144") };
        write(&self.file("cpu", file), weight)
    }

    /// Leaves it so much of one processor.
    ///
    /// # Errors
    ///
    /// Where it cannot be limited.
    pub fn limit_processor(&self, share: f64) -> Result<Limit> {
        self.limit_processor_each(share, PERIOD_US)
    }

    /// The same, in periods of so many microseconds.
    ///
    /// # Errors
    ///
    /// As [`Self::limit_processor`].
    pub fn limit_processor_each(&self, share: f64, period_us: u64) -> Result<Limit> {
        let quota = (share * period_us as f64) as u64;
        let (path, text, undo) = if self.v2 {
            (self.file("cpu", "cpu.max"), format!("{quota} {period_us}"), format!("max {period_us}"))
        } else {
            write(&self.file("cpu", "cpu.cfs_period_us"), &period_us.to_string())?;
            (self.file("cpu", "cpu.cfs_quota_us"), quota.to_string(), "-1".to_owned())
        };
        write(&path, &text)?;
        Ok(Limit { undo: vec![(path, undo)], writer: None })
    }

    /// Leaves it hardly less memory than it uses at most (version 2: the group sleeps for what it takes beyond), or
    /// hardly more, while something writes a file beside `file` in it (version 1: there is memory once the disk has it).
    ///
    /// # Errors
    ///
    /// Where it cannot be limited.
    pub fn limit_memory(&self, file: &Path) -> Result<Limit> {
        let most = self.most_memory()?;
        if self.v2 {
            let path = self.file("memory", "memory.high");
            write(&path, &(most * (100 - LESS_PERCENT) / 100).to_string())?;
            return Ok(Limit { undo: vec![(path, "max".to_owned())], writer: None });
        }
        let path = self.file("memory", "memory.limit_in_bytes");
        // It should take memory from the server, and no processor.
        let script = format!(
            "echo $$ > {}; renice -n 19 $$; while :; do dd if=/dev/zero of={} bs=1M count={DIRTY_MIB} conv=notrunc; done",
            self.file("memory", "cgroup.procs").display(),
            file.with_extension("dirty").display()
        );
        let mut writer = Command::new("sh");
        let writer = writer
            .args(["-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let writer = Some(writer.context("start a writer")?);
        let limit = Limit { undo: vec![(path.clone(), "-1".to_owned())], writer };
        write(&path, &(most + MEMORY_LEFT).to_string())?;
        Ok(limit)
    }

    /// Leaves it so much memory.
    ///
    /// # Errors
    ///
    /// Where it cannot be limited.
    pub fn limit_memory_to(&self, bytes: u64) -> Result<()> {
        let file = if self.v2 { "memory.max" } else { "memory.limit_in_bytes" };
        write(&self.file("memory", file), &bytes.to_string())
    }

    /// Bytes that it uses at most, over a second.
    fn most_memory(&self) -> Result<u64> {
        let path = self.file("memory", if self.v2 { "memory.current" } else { "memory.usage_in_bytes" });
        let mut most = 0;
        for _ in 0..LOOKS {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            most = most.max(text.trim().parse().with_context(|| format!("a number in {}", path.display()))?);
            sleep(Duration::from_secs(1) / LOOKS);
        }
        Ok(most)
    }

    /// Sets a limit that limits nothing: the kernel has the disk stand still as it is given its first one.
    ///
    /// # Errors
    ///
    /// Where it cannot be limited.
    pub fn prepare_disk(&self, file: &Path) -> Result<()> {
        let Limit { .. } = self.limit_disk(file, u64::from(u32::MAX))?;
        Ok(())
    }

    /// Leaves it so many bytes a second of the disk that has a file.
    ///
    /// # Errors
    ///
    /// Where it cannot be limited.
    pub fn limit_disk(&self, file: &Path, bytes: u64) -> Result<Limit> {
        let disk = disk_of(file)?;
        let (path, text, undo) = if self.v2 {
            (self.file("io", "io.max"), format!("{disk} rbps={bytes}"), format!("{disk} rbps=max"))
        } else {
            (
                self.file("blkio", "blkio.throttle.read_bps_device"),
                format!("{disk} {bytes}"),
                format!("{disk} 0"),
            )
        };
        write(&path, &text)?;
        Ok(Limit { undo: vec![(path, undo)], writer: None })
    }
}

impl Limit {
    /// It is in force no longer.
    ///
    /// # Errors
    ///
    /// Where it stays.
    pub fn lift(mut self) -> Result<()> {
        let undone = self.undo.iter().try_for_each(|(path, text)| write(path, text));
        if let Some(writer) = &mut self.writer {
            writer.kill().context("end the writer")?;
            writer.wait().context("wait for the writer")?;
        }
        undone
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {text} to {}", path.display()))
}

/// `MAJOR:MINOR` of the whole disk that has a file.
fn disk_of(file: &Path) -> Result<String> {
    let device = fs::metadata(file).with_context(|| format!("look at {}", file.display()))?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let folder = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"));
    let Ok(folder) = folder else { bail!("{} is on no disk", file.display()) };
    // A partition lies in the folder of its disk.
    let disk = if folder.join("partition").is_file() { folder.parent().unwrap_or(&folder) } else { &folder };
    let text =
        fs::read_to_string(disk.join("dev")).with_context(|| format!("read {}/dev", disk.display()))?;
    Ok(text.trim().to_owned())
}
