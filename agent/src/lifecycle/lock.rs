//! One agent per node: two would watch every socket twice, and each would serve half of its neighbour's cost.
//!
//! In: a file whose lock stands for the node. Out: a [`NodeLock`] held while the agent lives, or who holds
//! it. The kernel lets it go with the process, however that ends.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// The file that is locked: the agent's own process namespace.
///
/// A lock below `/run` is as private as a container's mounts, an abstract socket as its network; both let a
/// second agent in beside the first. The namespace of process numbers is what an agent must share with the
/// host anyway (programs report the host's numbers), it is one inode for all mounts and networks, and
/// locking it writes nothing. Tried across mount, network, user and process namespaces.
pub const NODE_FILE: &str = "/proc/self/ns/pid";

/// Held while this agent is the node's.
#[derive(Debug)]
pub struct NodeLock {
    _file: File,
}

impl NodeLock {
    /// Takes the lock of `file`, which is [`NODE_FILE`] but in tests. `proc` names the holder.
    ///
    /// # Errors
    /// Another agent has it, or the file cannot be opened.
    pub fn take(file: &Path, proc: &Path) -> Result<Self> {
        let opened = File::open(file).with_context(|| format!("open {} to lock the node", file.display()))?;
        match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: opened }),
            Err(error) if std::io::Error::from(error).kind() == ErrorKind::WouldBlock => {
                let inode = opened.metadata().map(|about| about.ino()).unwrap_or_default();
                bail!("{}", refusal(holder(proc, inode)))
            }
            Err(error) => Err(error).with_context(|| format!("lock {}", file.display())),
        }
    }
}

/// The process that holds the lock of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub tgid: u32,
    pub command: String,
}

/// Who holds the lock of the file with this inode, as `/proc/locks` tells it.
#[must_use]
pub fn holder(proc: &Path, inode: u64) -> Option<Holder> {
    let locks = std::fs::read_to_string(proc.join("locks")).ok()?;
    let tgid = locks.lines().find_map(|line| {
        // 1: FLOCK  ADVISORY  WRITE 4121 00:04:4026531836 0 EOF
        let mut words = line.split_whitespace().skip(1);
        let (kind, tgid, file) = (words.next()?, words.nth(2)?, words.next()?);
        let same = kind == "FLOCK" && file.rsplit(':').next()?.parse() == Ok(inode);
        same.then(|| tgid.parse().ok()).flatten()
    })?;
    let command = std::fs::read_to_string(proc.join(format!("{tgid}/comm"))).unwrap_or_default();
    Some(Holder { tgid, command: command.trim_end().to_owned() })
}

fn refusal(holder: Option<Holder>) -> String {
    let who = match holder {
        Some(Holder { tgid, command }) if command == "inferscope" => {
            format!("another inferscope (tgid {tgid}) runs on this node")
        }
        Some(Holder { tgid, command }) => {
            format!("another agent runs on this node: `{command}` (tgid {tgid}) holds its lock")
        }
        None => "another inferscope runs on this node".to_owned(),
    };
    format!("{who}; one agent measures all servers of a node, so stop that one first or use it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_agent_is_refused_until_the_first_is_gone() {
        // Any namespace file will do; the node's own may be held by an agent that runs here.
        let node = Path::new("/proc/self/ns/uts");
        let first = NodeLock::take(node, Path::new("/proc")).unwrap();
        let error = NodeLock::take(node, Path::new("/proc")).unwrap_err().to_string();
        assert!(error.contains(&format!("(tgid {})", std::process::id())), "{error}");
        drop(first);
        NodeLock::take(node, Path::new("/proc")).unwrap();
    }

    #[test]
    fn refusal_names_the_holder() {
        let holder = |command: &str| Some(Holder { tgid: 4121, command: command.to_owned() });
        let check = |holder, expected: &str| {
            let text = refusal(holder);
            assert!(text.starts_with(expected), "{text}");
        };
        check(holder("inferscope"), "another inferscope (tgid 4121) runs on this node;");
        check(holder("sleep"), "another agent runs on this node: `sleep` (tgid 4121) holds its lock;");
        check(None, "another inferscope runs on this node;");
    }

    #[test]
    fn holder_is_read_from_the_list_of_locks() {
        let proc = tempfile::tempdir().unwrap();
        let locks = "1: POSIX  ADVISORY  WRITE 7 00:04:50 0 EOF\n2: FLOCK  ADVISORY  WRITE 8 00:04:51 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 00:04:50 0 EOF\n3: -> FLOCK  ADVISORY  WRITE 10 00:04:52 0 EOF\n";
        std::fs::write(proc.path().join("locks"), locks).unwrap();
        std::fs::create_dir(proc.path().join("9")).unwrap();
        std::fs::write(proc.path().join("9/comm"), "inferscope\n").unwrap();
        let check = |inode, expected| assert_eq!(holder(proc.path(), inode), expected, "inode {inode}");
        check(50, Some(Holder { tgid: 9, command: "inferscope".to_owned() }));
        check(51, Some(Holder { tgid: 8, command: String::new() }));
        check(52, None);
        check(53, None);
    }
}
