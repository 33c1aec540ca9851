//! What runs in a guest, step by step: the programs, the scripted server against its script, and the same where less is
//! allowed.
//!
//! In: the kernel's family, and where the programs under test lie. Out: files and steps of the guest. Lockdown is
//! raised in the running kernel, which it allows and does as at boot: one boot serves all.

use super::expect::{Expected, Family};
use super::guest::Step;
use super::initramfs::Tree;
use crate::shell;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names that the verdict looks for.
pub const PROGRAMS: &str = "programs";
pub const HOOKS: &str = "hooks";
/// Without them there is no verdict.
pub const ALWAYS: [&str; 2] = [PROGRAMS, HOOKS];

/// Loading every program of every fallback: 20 s on an emulated processor that is shared.
const DOCTOR_LIMIT: Duration = Duration::from_secs(120);
const HOOKS_LIMIT: Duration = Duration::from_secs(60);
/// A test that waits for what never comes says so itself, after its own, longer limits.
const REQUESTS_LIMIT: Duration = Duration::from_secs(600);
const SHORT_LIMIT: Duration = Duration::from_secs(240);
/// As many as there are kinds of scripts: each once.
const REQUESTS: u32 = 35;
const REQUESTS_SHORT: u32 = 16;
const FAULTS_LIMIT: Duration = Duration::from_secs(300);
/// Requests a second while there are faults: as many as an emulated processor has time for.
const FAULT_RATE: u32 = 2;

/// The programs under test, as built.
pub struct Programs {
    /// The folder of agent and server. All keep their paths in the guest: tests look for what they start where it
    /// was built.
    pub folder: PathBuf,
    /// The tests of requests, and of what the agent may do.
    pub requests: PathBuf,
    pub privileges: PathBuf,
    pub busybox: PathBuf,
    /// Without symbols, which would double what a guest has to unpack.
    pub stripped: PathBuf,
}

impl Programs {
    /// Copies them without symbols, where this machine can.
    ///
    /// # Errors
    /// When one is not there.
    pub fn strip(&self) -> Result<()> {
        std::fs::create_dir_all(&self.stripped).context("make a folder for programs without symbols")?;
        for program in self.built() {
            let to = self.stripped.join(program.file_name().context("name a program")?);
            std::fs::copy(&program, &to).with_context(|| format!("copy {}", program.display()))?;
            if shell::exists("strip") {
                shell::captured(std::process::Command::new("strip").arg("--strip-debug").arg(&to))?;
            }
        }
        Ok(())
    }

    fn built(&self) -> Vec<PathBuf> {
        let names = ["inferscope", "inferscope-demo-server", "inferscope-lab-server", "inferscope-faults"]
            .map(|name| self.folder.join(name));
        names.into_iter().chain([self.requests.clone(), self.privileges.clone()]).collect()
    }

    /// Puts them into a guest, with the programs of this machine that the steps call.
    ///
    /// # Errors
    /// When one is not there.
    pub fn add(&self, tree: &mut Tree) -> Result<()> {
        for program in self.built() {
            let copy = self.stripped.join(program.file_name().context("name a program")?);
            tree.program(&copy, &program)?;
        }
        tree.program(&self.busybox, Path::new("/bin/busybox"))?;
        let tcpdump = shell::find("tcpdump").context("find tcpdump on this machine")?;
        tree.program(&tcpdump, Path::new("/usr/bin/tcpdump"))
    }

    fn agent(&self) -> String {
        self.folder.join("inferscope").display().to_string()
    }
}

/// A step, and how it should end.
pub struct Trial {
    pub step: Step,
    pub expected: Expected,
}

fn trial(name: impl Into<String>, limit: Duration, script: String) -> Trial {
    Trial { step: Step { name: name.into(), script, limit }, expected: Expected::Passes }
}

/// Everything that is tried on a kernel of this family, in order. Starts of the agent are few: the verifier walks its
/// programs for half a minute of an emulated processor each time.
pub fn trials(programs: &Programs, family: &Family) -> Vec<Trial> {
    let sockets = |hook: Option<&str>, kinds: &str, requests: u32| {
        let hook = hook.map(|hook| format!("XTASK_SOCKET_HOOK={hook}")).unwrap_or_default();
        let settings = format!("XTASK_REQUESTS={requests} XTASK_SOCKETS={kinds} {hook}");
        run_test(&programs.requests, "measured_by_one_agent", &settings)
    };
    let mut trials = vec![
        trial(PROGRAMS, DOCTOR_LIMIT, doctor(programs)),
        trial(HOOKS, HOOKS_LIMIT, hooks()),
        trial("requests", REQUESTS_LIMIT, sockets(None, "ipv4,ipv6,unix", REQUESTS)),
    ];
    for forced in family.forced {
        let script = sockets(Some(forced.family), forced.sockets, REQUESTS_SHORT);
        trials.push(trial(format!("requests, socket_hook={}", forced.family), SHORT_LIMIT, script));
    }
    for (mode, expected) in [("integrity", Expected::Passes), ("confidentiality", family.confidential)] {
        let raise = format!("echo {mode} >/sys/kernel/security/lockdown || exit\n");
        let settings = format!("XTASK_REQUESTS={REQUESTS_SHORT}");
        let script = raise + &run_test(&programs.privileges, "with_two_capabilities_measures", &settings);
        let two = trial(format!("two capabilities, lockdown={mode}"), SHORT_LIMIT, script);
        trials.push(Trial { expected, ..two });
    }
    trials
}

/// What this machine's control groups may not be able to do to a server, and a guest's can: groups of version 2. Not among
/// the trials: how much an emulated processor has left for the server is the luck of this machine, and to be looked at.
pub fn faults(programs: &Programs) -> Trial {
    let script = format!(
        "export XTASK_BOUNDS=emulated\n\
         ulimit -l unlimited\n\
         exec {} --programs {} --disk /tmp --rate {FAULT_RATE} --fault memory --fault quota\n",
        programs.folder.join("inferscope-faults").display(),
        programs.folder.display()
    );
    trial("faults", FAULTS_LIMIT, script)
}

/// Runs one of a test program's tests, where none may be skipped. 5.10 charges maps to locked memory, which the systemd
/// unit does not limit either.
fn run_test(program: &Path, test: &str, settings: &str) -> String {
    format!(
        "export XTASK_BOUNDS=emulated XTASK_TEST_REQUIRE=all {settings}\n\
         ulimit -l unlimited\n\
         exec {} --test-threads=1 --nocapture {test}\n",
        program.display()
    )
}

/// Its exit status tells what the node lacks, which is not judged here.
fn doctor(programs: &Programs) -> String {
    format!(
        "{} doctor --load --json >/tmp/doctor.json; cat /tmp/doctor.json; [ -s /tmp/doctor.json ]\n",
        programs.agent()
    )
}

/// Which of the hooks that the agent knows this kernel's types have, by other means than the agent's.
fn hooks() -> String {
    r#"grep -o '"[a-z_]*/[a-z0-9_]*"' /tmp/doctor.json | tr -d '"' | sort -u | while IFS=/ read -r kind name; do
    case $kind in
        tp_btf) type=btf_trace_$name ;;
        iter) type=bpf_iter_$name ;;
        *) type=$name ;;
    esac
    echo "$type $kind/$name"
done >/tmp/wanted
tr '\0' '\n' </sys/kernel/btf/vmlinux | awk '
    NR == FNR { hooks[$1] = hooks[$1] $2 "\n"; next }
    $0 in hooks { printf "%s", hooks[$0] }
' /tmp/wanted -
"#
    .to_owned()
}
