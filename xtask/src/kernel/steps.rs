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
/// What a lockdown mode adds to a name.
pub const UNDER: &str = ", lockdown=";

/// Loading every program of every fallback: 20 s on an emulated processor that is shared.
const DOCTOR_LIMIT: Duration = Duration::from_secs(120);
const HOOKS_LIMIT: Duration = Duration::from_secs(60);
/// A test that waits for what never comes says so itself, after its own, longer limits.
const REQUESTS_LIMIT: Duration = Duration::from_secs(600);
const SHORT_LIMIT: Duration = Duration::from_secs(240);
/// As many as there are scripts: each once.
const REQUESTS: u32 = 34;
const REQUESTS_SHORT: u32 = 16;
/// No user of a distribution.
const USER: u32 = 1000;

/// The programs under test, as built.
pub struct Programs {
    /// The folder of agent, server, load and comparison. They keep their paths in the guest: tests look for what
    /// they start where it was built.
    pub folder: PathBuf,
    /// The test that makes load in every way.
    pub requests: PathBuf,
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
        let names = ["inferscope", "inferscope-demo-server", "inferscope-load", "inferscope-compare"];
        names.iter().map(|name| self.folder.join(name)).chain([self.requests.clone()]).collect()
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
        for name in ["tcpdump", "setpriv"] {
            let path = shell::find(name).with_context(|| format!("find {name} on this machine"))?;
            tree.program(&path, &Path::new("/usr/bin").join(name))?;
        }
        Ok(())
    }

    fn agent(&self) -> String {
        self.folder.join("inferscope").display().to_string()
    }

    fn requests(&self, filters: &[&str], requests: u32, settings: &str) -> String {
        format!(
            "export XTASK_BOUNDS=emulated XTASK_TEST_REQUIRE=all XTASK_REQUESTS={requests} {settings}\n\
             exec {} --test-threads=1 --nocapture {}\n",
            self.requests.display(),
            filters.join(" ")
        )
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

/// Everything that is tried on a kernel of this family, in order.
pub fn trials(programs: &Programs, family: &Family) -> Vec<Trial> {
    let mut trials = vec![
        trial(PROGRAMS, DOCTOR_LIMIT, doctor(programs)),
        trial(HOOKS, HOOKS_LIMIT, hooks()),
        trial("requests", REQUESTS_LIMIT, programs.requests(&[], REQUESTS, "")),
    ];
    for forced in family.forced {
        let settings = format!("XTASK_SOCKET_HOOK={}", forced.family);
        let script = programs.requests(forced.tests, REQUESTS_SHORT, &settings);
        trials.push(trial(format!("requests, socket_hook={}", forced.family), SHORT_LIMIT, script));
    }
    trials.push(trial("requests, two capabilities", SHORT_LIMIT, two_capabilities(programs)));
    for (mode, expected) in [("integrity", Expected::Passes), ("confidentiality", family.confidential)] {
        let raise = format!("echo {mode} >/sys/kernel/security/lockdown || exit\n");
        let script = raise + &doctor(programs);
        trials.push(trial(format!("{PROGRAMS}{UNDER}{mode}"), DOCTOR_LIMIT, script));
        let script = programs.requests(&["after_the_agent"], REQUESTS_SHORT, "");
        let requests = trial(format!("requests{UNDER}{mode}"), SHORT_LIMIT, script);
        trials.push(Trial { expected, ..requests });
    }
    trials
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
    r#"tr '\0' '\n' </sys/kernel/btf/vmlinux >/tmp/types
grep -o '"[a-z_]*/[a-z0-9_]*"' /tmp/doctor.json | tr -d '"' | sort -u | while IFS=/ read -r kind name; do
    case $kind in
        tp_btf) type=btf_trace_$name ;;
        iter) type=bpf_iter_$name ;;
        *) type=$name ;;
    esac
    grep -qxF "$type" /tmp/types && echo "$kind/$name"
done
:
"#
    .to_owned()
}

/// Server and agent of a user that is not root. Locked memory is what 5.10 charges maps to.
fn two_capabilities(programs: &Programs) -> String {
    let folder = programs.folder.display();
    format!(
        r#"export XTASK_BOUNDS=emulated
ulimit -l unlimited
mkdir -p /tmp/two && cd /tmp/two && chown {USER}:{USER} . || exit
user="setpriv --reuid {USER} --regid {USER} --clear-groups"
caps="-all,+bpf,+perfmon"
echo 'workload = [{{ name = "demo", command_regex = "inferscope-demo-server" }}]' >agent.toml
$user --bounding-set -all {folder}/inferscope-demo-server --listen 127.0.0.1:8100 >server.log 2>&1 &
server=$!
$user --bounding-set $caps --inh-caps $caps --ambient-caps $caps \
    {folder}/inferscope run --config agent.toml >agent.log 2>&1 &
agent=$!
fail() {{ echo "$1"; cat server.log agent.log; exit 1; }}
waited=0
until wget -q -O /dev/null http://127.0.0.1:9940/readyz 2>/dev/null && grep -q ': following ' agent.log; do
    waited=$((waited + 1))
    [ $waited -gt 90 ] && fail "the agent does not follow the server"
    kill -0 $agent 2>/dev/null || fail "the agent has ended"
    sleep 1
done
grep -E '^(Uid|Cap(Prm|Eff|Bnd|Amb)):' /proc/$agent/status
{folder}/inferscope-load --server 127.0.0.1:8100 --requests {REQUESTS_SHORT} --capture --log truth.jsonl || fail "no load"
sleep 2
{folder}/inferscope-compare --log truth.jsonl || fail "the times or counts differ"
kill $agent
wait $agent || fail "the agent did not end well"
kill $server
wait $server || fail "the server did not end well"
"#
    )
}
