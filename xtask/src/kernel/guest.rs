//! What runs inside: the first process, the steps one after the other, and the marks by which they are told apart.
//!
//! In: steps, each a shell script with a time limit. Out: the files of the first process and the steps, and from the
//! transcript how each step ended and what it said.

use super::initramfs::Tree;
use anyhow::Result;
use std::time::Duration;

/// The first line of every transcript.
pub const UP: &str = "::up";
const BEGIN: &str = "::begin ";
const END: &str = "::end ";

/// One script that runs in the guest.
#[derive(Debug, Clone)]
pub struct Step {
    pub name: String,
    pub script: String,
    pub limit: Duration,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub name: String,
    /// Exit status and seconds; `None`: the machine ended first.
    pub ended: Option<(u8, f64)>,
    pub output: String,
}

/// Everything is in memory already: no file system is mounted over it, so that programs may lie at any path.
const SET_UP: &str = "#!/bin/busybox sh
/bin/busybox mkdir -p /bin /sbin /usr/bin /usr/sbin /proc /sys /dev /tmp /run /root /etc
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TMPDIR=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t securityfs securityfs /sys/kernel/security
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo '+cpu +memory' >/sys/fs/cgroup/cgroup.subtree_control
chmod 1777 /tmp
ip link set lo up
hostname guest
stty -F /dev/ttyS1 raw -echo
while :; do printf . ; sleep 5; done >/dev/ttyS0 &
exec </dev/null >/dev/ttyS1 2>&1
up() { read -r up _ </proc/uptime; echo \"$up\"; }
step() {
    echo \"::begin $1\"
    began=$(up)
    timeout -s KILL \"$2\" sh \"$3\"
    status=$?
    echo
    echo \"::end $status $began $(up)\"
    # What a step that was killed has left would be taken for the doing of the next.
    [ $status = 137 ] && poweroff -f
}
echo ::up
uname -rv
cat /sys/kernel/debug/sched/preempt 2>/dev/null
cd /proc/sys/kernel && grep . softlockup_panic hung_task_panic hung_task_timeout_secs; cd /
";

/// Adds the first process, users, and the steps.
///
/// # Errors
/// When the tree refuses a path.
pub fn add(tree: &mut Tree, steps: &[Step], limit: Duration) -> Result<()> {
    tree.text(
        "/etc/passwd",
        "root:x:0:0::/root:/bin/sh\ntcpdump:x:101:101::/:/bin/sh\nagent:x:1000:1000::/:/bin/sh\n",
    )?;
    tree.text("/etc/group", "root:x:0:\ntcpdump:x:101:\nagent:x:1000:\n")?;
    let mut init = SET_UP.to_owned();
    // It also ends where nobody is left who waits for it.
    init.push_str(&format!("(sleep {}; poweroff -f) &\n", limit.as_secs()));
    for (number, step) in steps.iter().enumerate() {
        let script = format!("/steps/{number}");
        tree.text(&script, step.script.as_str())?;
        init.push_str(&format!("step '{}' {} {script}\n", step.name, step.limit.as_secs()));
    }
    init.push_str("poweroff -f\n");
    tree.text("/init", init)
}

/// What the first process writes at the beginning and the end of a step, for lines of progress.
#[derive(Debug, PartialEq)]
pub enum Mark<'a> {
    Up,
    Begin(&'a str),
    End { status: u8, seconds: f64 },
}

impl<'a> Mark<'a> {
    pub fn of(line: &'a str) -> Option<Self> {
        if line == UP {
            return Some(Self::Up);
        }
        if let Some(name) = line.strip_prefix(BEGIN) {
            return Some(Self::Begin(name));
        }
        let mut words = line.strip_prefix(END)?.split(' ');
        let status = words.next()?.parse().ok()?;
        let (began, ended): (f64, f64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self::End { status, seconds: ended - began })
    }
}

/// The steps of a transcript that began, in order.
pub fn outcomes(transcript: &str) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    for line in transcript.lines() {
        match (Mark::of(line), outcomes.last_mut()) {
            (Some(Mark::Begin(name)), _) => {
                outcomes.push(Outcome { name: name.to_owned(), ended: None, output: String::new() });
            }
            (Some(Mark::End { status, seconds }), Some(step)) => step.ended = Some((status, seconds)),
            (None, Some(step)) if step.ended.is_none() => {
                step.output.push_str(line);
                step.output.push('\n');
            }
            _ => {}
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_found_in_a_transcript() {
        let transcript = "::up\n::begin first\nsays\nmore\n\n::end 3 7.90 9.40\n::begin second step\nhangs\n";
        let found = outcomes(transcript);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].name, "first");
        assert_eq!(found[0].output, "says\nmore\n\n");
        let (status, seconds) = found[0].ended.unwrap();
        assert!(status == 3 && (seconds - 1.5).abs() < 1e-9);
        assert_eq!(
            found[1],
            Outcome { name: "second step".to_owned(), ended: None, output: "hangs\n".to_owned() }
        );
    }

    #[test]
    fn what_a_step_says_is_no_mark() {
        for line in ["::end", "::end of it", "::ended 0 1 2", "up", " ::up"] {
            assert_eq!(Mark::of(line), None, "{line}");
        }
    }
}
