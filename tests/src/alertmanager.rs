//! A real Alertmanager as a process, and who hears of its alerts.
//!
//! In: its binary and the shipped configuration, whose receivers are put on loopback. Out: what each receiver was sent. It listens
//! and sends on loopback only, is no part of a cluster, and ends with its guard.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::harness::{Guard, free_address};
use crate::oracle::http_get;
use crate::socket::Endpoint;
use crate::stage::until;

const READY_TIME_MAX: Duration = Duration::from_secs(20);

/// What was sent, each with the path it was sent to.
type Heard = Arc<Mutex<Vec<(String, Value)>>>;

/// Somebody who is told of alerts: a chat, a pager, whatever takes JSON.
#[derive(Debug)]
pub struct Receiver {
    pub address: SocketAddr,
    heard: Heard,
    _runtime: Runtime,
}

impl Receiver {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).context("listen for alerts")?;
        let address = listener.local_addr()?;
        let heard = Heard::default();
        let hear = |State(heard): State<Heard>, path: Uri, body: String| async move {
            let value = serde_json::from_str(&body).unwrap_or(Value::String(body));
            heard.lock().unwrap_or_else(PoisonError::into_inner).push((path.path().to_owned(), value));
            // What Slack says; the others look at the status alone.
            "ok"
        };
        let app = Router::new().fallback(hear).with_state(heard.clone());
        runtime.spawn(async move { axum::serve(listener, app).await });
        Ok(Self { address, heard, _runtime: runtime })
    }

    /// As if nothing had been sent yet.
    pub fn forget(&self) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What was sent to a path so far.
    #[must_use]
    pub fn heard(&self, path: &str) -> Vec<Value> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().filter(|(to, _)| to == path).map(|(_, value)| value.clone()).collect()
    }
}

/// A running Alertmanager.
#[derive(Debug)]
pub struct Alertmanager {
    guard: Guard,
    pub address: SocketAddr,
    log: PathBuf,
}

impl Alertmanager {
    /// Starts it with the shipped configuration, whose receivers are paths of `receiver`: `/slack`, `/teams`, `/pagerduty`,
    /// `/on-call`, `/remediation`.
    ///
    /// # Errors
    ///
    /// Where it ends or does not become ready; the text has its log.
    pub fn start(binary: &Path, deploy: &Path, folder: &Path, receiver: &Receiver) -> Result<Self> {
        Self::start_changed(binary, deploy, folder, receiver, |config| config)
    }

    /// The same with a change of that configuration, which is told with the receiver's addresses in it.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_changed(
        binary: &Path,
        deploy: &Path,
        folder: &Path,
        receiver: &Receiver,
        change: impl FnOnce(String) -> String,
    ) -> Result<Self> {
        let folder = folder.join("alertmanager");
        let secrets = folder.join("secrets");
        std::fs::create_dir_all(folder.join("templates"))?;
        std::fs::create_dir_all(&secrets)?;
        let template = "templates/inferscope.tmpl";
        std::fs::copy(deploy.join("alertmanager").join(template), folder.join(template))
            .context("copy the templates")?;
        let url = |path: &str| format!("http://{}/{path}", receiver.address);
        for (file, path) in [("slack-url", "slack"), ("teams-url", "teams"), ("on-call-url", "on-call")] {
            std::fs::write(secrets.join(file), url(path))?;
        }
        std::fs::write(secrets.join("pagerduty-key"), "key")?;
        let shipped = std::fs::read_to_string(deploy.join("alertmanager/alertmanager.yml"))
            .context("read the configuration")?;
        let config = shipped
            .replace("/etc/alertmanager/secrets", &secrets.display().to_string())
            .replace("http://127.0.0.1:5001/alerts", &url("remediation"))
            .replace("global:\n", &format!("global:\n  pagerduty_url: {}\n", url("pagerduty")));
        std::fs::write(folder.join("alertmanager.yml"), change(config))?;
        let (address, log) = (free_address()?, folder.join("alertmanager.log"));
        let output = File::create(&log)?;
        let share = binary.with_file_name("share");
        // Debian's reads its own templates from where they would be installed: they are put there for this process alone.
        let inside = "mount -t tmpfs none /usr/share && mkdir -p /usr/share/prometheus \
                      && cp -r \"$0\" /usr/share/prometheus/alertmanager && exec \"$@\"";
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", inside])
            .arg(share)
            .arg(binary)
            .arg(format!("--config.file={}", folder.join("alertmanager.yml").display()))
            .arg(format!("--storage.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--cluster.listen-address=")
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("run {}", binary.display()))?;
        let mut alertmanager = Self { guard: Guard(child), address, log };
        let ready = || http_get(&Endpoint::Tcp(address), "/-/ready").ok().map(drop);
        if until(READY_TIME_MAX, ready).is_none() {
            let _ended = alertmanager.guard.end();
            bail!("alertmanager does not start: {}", alertmanager.log()?);
        }
        Ok(alertmanager)
    }

    /// What it logged.
    ///
    /// # Errors
    ///
    /// Where that cannot be read.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).context("read the log of alertmanager")
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// Where it does not end.
    pub fn stop(mut self) -> Result<()> {
        self.guard.end().map(drop)
    }
}
