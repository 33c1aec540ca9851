//! Servers that answer nothing, in whatever number a test wants.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use inferscope_tests::stage::Stage;
use rustix::process::{Pid, Signal, kill_process};

const CROWD: &str = env!("CARGO_BIN_EXE_inferscope-crowd-server");

/// One of them; it ends with its test.
pub struct Crowd(pub Child);

impl Crowd {
    /// Starts one of the workload `name`, once it has begun. Its rule is [`rule`]'s.
    pub fn start(stage: &Stage, name: &str, more: &[&str]) -> Self {
        let mut crowd = Self::begin(stage, name, more);
        crowd.wait_until_begun();
        crowd
    }

    /// Starts one, and does not wait.
    pub fn begin(stage: &Stage, name: &str, more: &[&str]) -> Self {
        Self::begin_at(stage.path(), name, more)
    }

    /// The same of the stage with this folder.
    pub fn begin_at(folder: &Path, name: &str, more: &[&str]) -> Self {
        Self::begin_by(Command::new(CROWD), folder, name, more)
    }

    /// Starts one by a program that runs another, with numbers of its own: `unshare`'s.
    pub fn begin_apart(folder: &Path, name: &str, more: &[&str]) -> Self {
        let mut apart = Command::new("unshare");
        apart.args(["--pid", "--fork", "--kill-child", CROWD]);
        Self::begin_by(apart, folder, name, more)
    }

    fn begin_by(mut command: Command, folder: &Path, name: &str, more: &[&str]) -> Self {
        command.args(["--name", &full(folder, name)]).args(more);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Until it says that it has begun.
    pub fn wait_until_begun(&mut self) {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "it says {line:?}");
    }

    /// Gives the word that one started with `--burn-when-told` waits for.
    pub fn tell(&self) {
        self.0.stdin.as_ref().unwrap().write_all(b"\n").unwrap();
    }

    pub fn tgid(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn full(folder: &Path, name: &str) -> String {
    format!("{}/{name}", folder.display())
}

/// A rule, without the brackets around it, for the workload `name` of this stage.
pub fn rule(stage: &Stage, name: &str) -> String {
    // No other name of this stage begins like it and a space, and no other program that has it among its arguments.
    format!(
        "{{ name = \"{name}\", command_regex = '^[^ ]*crowd-server --name {}( |$)' }}",
        full(stage.path(), name)
    )
}

/// Settings with these workloads, and the demonstration server's, `demo`.
pub fn settings(stage: &Stage, names: &[&str]) -> String {
    let demo = format!("{{ name = \"demo\", command_regex = '{}' }}", stage.servers_regex());
    let rules: Vec<String> = names.iter().map(|name| rule(stage, name)).chain([demo]).collect();
    format!("workload = [{}]\n", rules.join(", "))
}
