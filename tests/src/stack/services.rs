//! Who listens to the agent: a Prometheus with the rules of its settings, an Alertmanager, and a receiver that hears of everything.
//!
//! In: an agent. Out: of each alert when it fired, and when it reached a receiver or which other alert held it back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::rules::compressed;
use super::scene::Place;
use crate::alertmanager::{Alertmanager, Receiver};
use crate::oracle::http_get;
use crate::prometheus::Prometheus;
use crate::socket::Endpoint;
use crate::stage::until;

/// Label `instance` of the agent, whatever its port.
pub const NODE: &str = "node-1";
/// Path of the receiver that hears of every alert.
const EVERY: &str = "/every";
const READY_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The first route: every alert at once, whatever else is told of it.
const ROUTE: &str = "  routes:
    - matchers: [alertname!=\"\"]
      receiver: every
      group_by: [alertname]
      group_wait: 0s
      group_interval: 1s
      continue: true
";

/// When what was first heard of an alert.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    pub fired: Option<Instant>,
    pub arrived: Option<Instant>,
    /// The alert that is told in its place.
    pub held_by: Option<String>,
}

pub type Log = BTreeMap<String, Heard>;

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Tools {
    pub prometheus: PathBuf,
    pub alertmanager: PathBuf,
    /// `deploy` of the repository.
    pub deploy: PathBuf,
}

/// All of them, running.
pub struct Services {
    // First: it has Prometheus and the receiver, too, and ends before they do.
    watch: Watching,
    pub prometheus: Arc<Prometheus>,
    pub alertmanager: Alertmanager,
    pub receiver: Arc<Receiver>,
    /// Names of the alerts there are, with their severity.
    pub alerts: Vec<(String, String)>,
    log: Arc<Mutex<Log>>,
    targets: PathBuf,
}

/// Who looks; it ends with its value.
struct Watching {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _watched = thread.join();
        }
    }
}

impl Services {
    /// Starts them on an agent whose settings are `inferscope.toml` in the folder; `remediation` is where alerts are sent that
    /// something is done about.
    ///
    /// # Errors
    ///
    /// Where one does not start.
    pub fn start(tools: &Tools, place: &Place, agent: SocketAddr, remediation: SocketAddr) -> Result<Self> {
        let folder = &place.folder;
        let rules = rules(&place.agent, &folder.join("inferscope.toml"))?;
        let alerts = alerts(&rules);
        std::fs::write(folder.join("rules.yml"), compressed(&rules))?;
        let receiver = Arc::new(Receiver::start()?);
        let own = format!("http://{}/remediation", receiver.address);
        let every = format!(
            "receivers:\n  - name: every\n    webhook_configs:\n      - url: http://{}{EVERY}\n        max_alerts: 0\n",
            receiver.address
        );
        let change = |config: String| {
            config
                .replace(&own, &format!("http://{remediation}/alerts"))
                .replacen("  routes:\n", ROUTE, 1)
                .replacen("receivers:\n", &every, 1)
                .replace("group_wait: 30s", "group_wait: 1s")
                .replace("group_wait: 10s", "group_wait: 1s")
                .replace("group_interval: 5m", "group_interval: 2s")
        };
        let alertmanager =
            Alertmanager::start_changed(&tools.alertmanager, &tools.deploy, folder, &receiver, change)?;
        let targets = folder.join("targets.json");
        point(&targets, Some(agent))?;
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s, external_labels: {{ cluster: stack }} }}\n\
             rule_files: [rules.yml]\n\
             alerting:\n  alertmanagers:\n  - static_configs:\n    - targets: [\"{}\"]\n\
             scrape_configs:\n- job_name: inferscope\n  file_sd_configs:\n  - files: [targets.json]\n    refresh_interval: 1s\n",
            alertmanager.address
        );
        let prometheus = Arc::new(Prometheus::start(&tools.prometheus, folder, &config, &[])?);
        let (log, over) = (Arc::new(Mutex::new(Log::new())), Arc::new(AtomicBool::new(false)));
        let watch = Watch {
            prometheus: Arc::clone(&prometheus),
            receiver: Arc::clone(&receiver),
            alertmanager: Endpoint::Tcp(alertmanager.address),
            log: Arc::clone(&log),
            over: Arc::clone(&over),
        };
        let watch = Watching { over, thread: Some(std::thread::spawn(move || watch.run())) };
        Ok(Self { watch, prometheus, alertmanager, receiver, alerts, log, targets })
    }

    /// Has Prometheus scrape this address, or nobody.
    ///
    /// # Errors
    ///
    /// Where that cannot be written.
    pub fn scrape(&self, address: Option<SocketAddr>) -> Result<()> {
        point(&self.targets, address)
    }

    /// Waits until the agent is scraped and no alert is left of the start, and begins to listen then.
    ///
    /// # Errors
    ///
    /// Where that is not soon.
    pub fn begin(&self) -> Result<()> {
        let query = |expression: &str| self.prometheus.query(expression).unwrap_or_default();
        let ready = || (!query("up == 1").is_empty() && query("ALERTS").is_empty()).then_some(());
        until(READY_MAX, ready).with_context(|| format!("alerts at the start: {:?}", query("ALERTS")))?;
        let mut log = lock(&self.log);
        self.receiver.forget();
        log.clear();
        Ok(())
    }

    /// What was heard so far.
    #[must_use]
    pub fn heard(&self) -> Log {
        lock(&self.log).clone()
    }

    /// Ends them.
    ///
    /// # Errors
    ///
    /// Where one does not end.
    pub fn stop(self) -> Result<()> {
        drop(self.watch);
        if let Some(prometheus) = Arc::into_inner(self.prometheus) {
            prometheus.stop()?;
        }
        self.alertmanager.stop()
    }
}

fn point(targets: &Path, address: Option<SocketAddr>) -> Result<()> {
    let list: Vec<Value> = address
        .map(|address| serde_json::json!({"targets": [address], "labels": {"instance": NODE}}))
        .into_iter()
        .collect();
    let new = targets.with_extension("new");
    std::fs::write(&new, serde_json::to_vec(&list)?)?;
    std::fs::rename(&new, targets).with_context(|| format!("write {}", targets.display()))
}

/// The rules of the agent's settings, levels that do not ship included.
fn rules(agent: &Path, config: &Path) -> Result<String> {
    let output =
        Command::new(agent).arg("rules").arg("--config").arg(config).output().context("render rules")?;
    if !output.status.success() {
        bail!("render rules: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Names and severities, in the order of the rules.
fn alerts(rules: &str) -> Vec<(String, String)> {
    let mut alerts: Vec<(String, String)> = Vec::new();
    for line in rules.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            alerts.push((name.to_owned(), String::new()));
        } else if let Some((severity, (_, place))) = line.strip_prefix("severity: ").zip(alerts.last_mut()) {
            place.clear();
            place.push_str(severity);
        }
    }
    // An alert may have several levels of one name.
    alerts.dedup_by(|later, earlier| later.0 == earlier.0);
    alerts
}

/// Looks at everybody, twice a second.
struct Watch {
    prometheus: Arc<Prometheus>,
    receiver: Arc<Receiver>,
    alertmanager: Endpoint,
    log: Arc<Mutex<Log>>,
    over: Arc<AtomicBool>,
}

impl Watch {
    fn run(&self) {
        while !self.over.load(Ordering::Relaxed) {
            self.look();
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn look(&self) {
        let firing = self.prometheus.query("ALERTS{alertstate=\"firing\"}").unwrap_or_default();
        let held = self.held().unwrap_or_default();
        let told = self.receiver.heard(EVERY);
        let now = Instant::now();
        let mut log = lock(&self.log);
        for name in firing.iter().filter_map(|element| element.labels.get("alertname")) {
            log.entry(name.clone()).or_default().fired.get_or_insert(now);
        }
        for (name, by) in held {
            log.entry(name).or_default().held_by.get_or_insert(by);
        }
        for alert in told.iter().filter_map(|said| said["alerts"].as_array()).flatten() {
            if let (Some(name), "firing") =
                (alert["labels"]["alertname"].as_str(), alert["status"].as_str().unwrap_or_default())
            {
                log.entry(name.to_owned()).or_default().arrived.get_or_insert(now);
            }
        }
    }

    /// Alerts that another one is told in place of.
    fn held(&self) -> Result<Vec<(String, String)>> {
        let alerts: Vec<Value> = serde_json::from_slice(&http_get(&self.alertmanager, "/api/v2/alerts")?)?;
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().unwrap_or_default().to_owned();
        let by_print: BTreeMap<&str, String> =
            alerts.iter().filter_map(|alert| Some((alert["fingerprint"].as_str()?, name(alert)))).collect();
        let held = alerts.iter().filter_map(|alert| {
            let by = alert["status"]["inhibitedBy"].as_array()?.first()?.as_str()?;
            Some((name(alert), by_print.get(by)?.clone()))
        });
        Ok(held.collect())
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
