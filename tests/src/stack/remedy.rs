//! The closed loop: two servers that a process manager keeps, and Event-Driven Ansible with the shipped rulebook.
//!
//! In: the environment of Python that has ansible-rulebook and supervisor. Out: servers that can be killed, and the audit of what
//! was done about it. One of the two cannot be started again: its remedy fails, and a person has to be told.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::scene::Place;
use super::services::NODE;
use crate::harness::{Guard, free_address};
use crate::stage::until;

/// Java starts slowly.
const READY_MAX: Duration = Duration::from_secs(90);
const STARTED_MAX: Duration = Duration::from_secs(20);
/// An alert has to be over in this time after an action.
const RECOVERS_WITHIN: u32 = 20;
/// The servers, by their labels.
pub const MENDED: &str = "mended";
pub const BROKEN: &str = "broken";

/// The process manager and the rulebook.
pub struct Remedy {
    rulebook: Option<Guard>,
    manager: Guard,
    tools: PathBuf,
    folder: PathBuf,
    /// Where alerts are sent.
    pub listen: SocketAddr,
}

impl Remedy {
    /// The folder of the environment's programs, where it is one that can run.
    #[must_use]
    pub fn missing(tools: &Path) -> Option<String> {
        let java = Command::new("java").arg("-version").output().is_ok_and(|output| output.status.success());
        let program = tools.join("bin/ansible-rulebook");
        if program.is_file() && java {
            return None;
        }
        Some(if java {
            format!("there is no {}", program.display())
        } else {
            "there is no Java for ansible-rulebook".to_owned()
        })
    }

    /// Starts the process manager with both servers.
    ///
    /// # Errors
    ///
    /// Where they do not start.
    pub fn start(tools: &Path, place: &Place) -> Result<Self> {
        let folder = place.folder.join("remedy");
        std::fs::create_dir_all(&folder)?;
        for name in [MENDED, BROKEN] {
            let script = folder.join(name);
            let program = place.programs.join("inferscope-demo-server");
            let line = format!(
                "#!/bin/sh\nexec {} --listen {} --log {}\n",
                program.display(),
                free_address()?,
                folder.join(format!("{name}.jsonl")).display()
            );
            std::fs::write(&script, line)?;
            std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        }
        std::fs::write(folder.join("supervisor.conf"), supervisor(&folder))?;
        let manager = spawn(
            Command::new(tools.join("bin/supervisord"))
                .arg("--nodaemon")
                .arg("--configuration")
                .arg(folder.join("supervisor.conf")),
            &folder.join("supervisor.log"),
        )?;
        let remedy =
            Self { rulebook: None, manager, tools: tools.to_owned(), folder, listen: free_address()? };
        let running = || remedy.pid(MENDED).and_then(|_| remedy.pid(BROKEN)).ok();
        until(STARTED_MAX, running).context("the process manager does not start the servers")?;
        Ok(remedy)
    }

    /// Rules by which the agent finds the two.
    #[must_use]
    pub fn agent_rules(folder: &Path) -> String {
        [MENDED, BROKEN]
            .map(|name| {
                let log = folder.join("remedy").join(name);
                format!(
                    "    {{ name = \"{name}\", command_regex = 'demo-server .*{}.jsonl' }},\n",
                    log.display()
                )
            })
            .concat()
    }

    /// Starts the shipped rulebook, with settings for these servers; dry run or not.
    ///
    /// # Errors
    ///
    /// Where it does not begin to listen.
    pub fn start_rulebook(
        &mut self,
        deploy: &Path,
        prometheus: SocketAddr,
        alertmanager: SocketAddr,
        dry_run: bool,
    ) -> Result<()> {
        let own = self.folder.join("rulebook");
        copy(&deploy.join("remediation"), &own)?;
        std::fs::write(own.join("settings.yml"), self.settings(prometheus, alertmanager, dry_run))?;
        std::fs::write(
            own.join("vars.yml"),
            format!(
                "listen_host: 127.0.0.1\nlisten_port: {}\nsettings_file: {}\n",
                self.listen.port(),
                own.join("settings.yml").display()
            ),
        )?;
        let python = self.tools.join("bin/python3");
        let node =
            format!("{{ ansible_connection: local, ansible_python_interpreter: {} }}", python.display());
        std::fs::write(own.join("inventory.yml"), format!("all:\n  hosts:\n    {NODE}: {node}\n"))?;
        let mut command = Command::new(self.tools.join("bin/ansible-rulebook"));
        command.args(["--rulebook", "rulebook.yml", "--inventory", "inventory.yml", "--vars", "vars.yml"]);
        command.args(["--execution-strategy", "parallel"]).current_dir(&own).env("HOME", &self.folder);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.tools.join("bin").display()));
        self.rulebook = Some(spawn(&mut command, &self.folder.join("rulebook.log"))?);
        let listens = || std::net::TcpStream::connect(self.listen).ok();
        until(READY_MAX, listens).with_context(|| format!("the rulebook does not listen: {}", self.log()))?;
        Ok(())
    }

    fn settings(&self, prometheus: SocketAddr, alertmanager: SocketAddr, dry_run: bool) -> String {
        let restart = |name: &str| {
            let words = [
                self.tools.join("bin/supervisorctl").display().to_string(),
                "--configuration".to_owned(),
                self.folder.join("supervisor.conf").display().to_string(),
                "restart".to_owned(),
                name.to_owned(),
            ];
            format!("  - workload: {name}\n    commands: {{ restart: [{}] }}\n", words.join(", "))
        };
        format!(
            "dry_run: {dry_run}\ncool_down: 600\nlimit_per_hour: 2\nrecovers_within: {RECOVERS_WITHIN}\nlooks_every: 1\n\
             audit: {}\nprometheus: http://{prometheus}\nalertmanager: http://{alertmanager}\ntargets:\n{}{}",
            self.folder.join("audit.jsonl").display(),
            restart(MENDED),
            restart(BROKEN),
        )
    }

    /// Ends the rulebook; the servers stay.
    ///
    /// # Errors
    ///
    /// Where it does not end.
    pub fn stop_rulebook(&mut self) -> Result<()> {
        self.rulebook.take().map_or(Ok(()), |mut rulebook| rulebook.end().map(drop))
    }

    /// Kills a server, as a fault of its own would.
    ///
    /// # Errors
    ///
    /// Where it does not run.
    pub fn kill(&self, name: &str) -> Result<()> {
        if name == BROKEN {
            std::fs::write(self.folder.join(name), "#!/bin/sh\nexit 1\n")?;
        }
        let pid = rustix::process::Pid::from_raw(self.pid(name)?).context("a process number")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).context("kill a server")
    }

    /// Starts a server by hand.
    ///
    /// # Errors
    ///
    /// Where it does not start.
    pub fn revive(&self, name: &str) -> Result<()> {
        self.manage(&["start", name])?;
        self.pid(name).map(drop)
    }

    fn manage(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(self.tools.join("bin/supervisorctl"));
        let command = command.arg("--configuration").arg(self.folder.join("supervisor.conf")).args(arguments);
        Ok(String::from_utf8_lossy(&command.output().context("run supervisorctl")?.stdout).into_owned())
    }

    fn pid(&self, name: &str) -> Result<i32> {
        let pid: i32 = self.manage(&["pid", name])?.trim().parse().context("the number of a process")?;
        ensure!(pid > 0, "{name} does not run");
        Ok(pid)
    }

    /// What was done, one entry a line of the audit.
    #[must_use]
    pub fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("audit.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The result of the newest entry of a server's restarts.
    #[must_use]
    pub fn result(&self, name: &str) -> Option<String> {
        let of = |entry: &Value| entry["workload"] == name && entry["remedy"] == "restart";
        let entry = self.audit().into_iter().rfind(of)?;
        Some(entry["result"].as_str()?.to_owned())
    }

    /// What the rulebook and its playbooks said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("rulebook.log")).unwrap_or_default()
    }

    /// Ends everything.
    ///
    /// # Errors
    ///
    /// Where something does not end.
    pub fn stop(mut self) -> Result<()> {
        self.stop_rulebook()?;
        self.manager.end().map(drop)
    }
}

fn supervisor(folder: &Path) -> String {
    let socket = folder.join("manager.sock");
    let programs = [MENDED, BROKEN].map(|name| {
        format!(
            "[program:{name}]\ncommand={}\nautorestart=false\nstartsecs=1\nstartretries=1\nredirect_stderr=true\nstdout_logfile={}\n",
            folder.join(name).display(),
            folder.join(format!("{name}.log")).display()
        )
    });
    format!(
        "[supervisord]\nuser=root\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile={pid}\n\
         [unix_http_server]\nfile={socket}\n\
         [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
         [supervisorctl]\nserverurl=unix://{socket}\n{programs}",
        pid = folder.join("manager.pid").display(),
        socket = socket.display(),
        programs = programs.concat(),
    )
}

fn spawn(command: &mut Command, log: &Path) -> Result<Guard> {
    let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let child = command.stdin(std::process::Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn();
    Ok(Guard(child.with_context(|| format!("run {}", command.get_program().display()))?))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-r").arg("--no-target-directory").arg(from).arg(to).status();
    if !status.context("run cp")?.success() {
        bail!("copy {}", from.display());
    }
    Ok(())
}
