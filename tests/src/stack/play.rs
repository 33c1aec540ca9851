//! One fault after the other, and who hears of it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::ptrace;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use rustix::process::Signal;

use super::faults::{self, Fault};
use super::predictions::{Feeder, Shares};
use super::remedy::{BROKEN, MENDED, Remedy};
use super::report::{Loop, Report, Row};
use super::scene::{CONNECTIONS_MAX, MEMORY_MAX, Place, Scene, load, load_lab};
use super::services::{Services, Tools};
use crate::lab::{self, inject};
use crate::socket::Endpoint;
use crate::stage::{metrics_text, until};

/// The faults of the GPUs begin here in their scenario, and here in the play, which begins with the load.
const GPU_FAULTS: Duration = Duration::from_secs(100);
const FAULTS: Duration = Duration::from_secs(75);
/// From here on no alert may fire.
const USUAL: Duration = Duration::from_secs(30);
/// Something changes before anything is wrong with a GPU: what requests show changes by itself then.
const CHANGE: Duration = Duration::from_secs(62);
/// Load goes on for so long.
const LOAD: Duration = Duration::from_secs(200);
/// That of which so many fail, are empty, crawl or stay out.
const BAD: Duration = Duration::from_secs(25);
/// What is done to the laboratory's server, one after the other, each for so long.
const LAB: [(lab::Fault, Fault); 5] = [
    (lab::Fault::EventLoop, Fault::EventLoop),
    (lab::Fault::StopEngine, Fault::EngineStopped),
    (lab::Fault::Hogs, Fault::Hogs),
    (lab::Fault::Quota, Fault::Quota),
    (lab::Fault::Memory, Fault::Memory),
];
const LAB_TIME: Duration = Duration::from_secs(12);
/// And again where nobody has heard of it yet.
const LAB_TIMES_MAX: usize = 3;
/// So many times the usual load on a server that has hardly memory left.
const MORE: f64 = 3.0;
/// Longest window and wait of the shorter rules, and then some.
const SOON: Duration = Duration::from_secs(15);
/// An alert is heard of in this time, or not at all.
const HEARD_MAX: Duration = Duration::from_secs(30);
/// A playbook takes seconds.
const REMEDIED_MAX: Duration = Duration::from_secs(90);
const WELL: Shares = Shares { right: 0.96, confidence: 0.9 };
const ILL: Shares = Shares { right: 0.8, confidence: 0.51 };
const LONGER: &str =
    r#"{"head_after_us": 300000, "first_after_us": 1000, "gaps_us": [3000], "content": 24, "says": " A"}"#;
/// Changes of the start in one window that raise an alert, and one more.
const RESTARTS: usize = 5;

/// Plays it. `ansible`: the environment of the remedies.
///
/// # Errors
///
/// Where something does not start, or a fault cannot be done here.
pub fn run(tools: &Tools, place: Place, ansible: &Path) -> Result<Report> {
    let mut remedy = Remedy::start(ansible, &place)?;
    let rules = Remedy::agent_rules(&place.folder);
    say("everything that is measured starts");
    // The services take a moment to start, too.
    let scene = Scene::start(place, GPU_FAULTS - FAULTS - Duration::from_secs(4), &rules)?;
    let services = Services::start(tools, &scene.place, scene.agent.listen, remedy.listen)?;
    let (to, from) = (services.prometheus.address, services.alertmanager.address);
    remedy.start_rulebook(&tools.deploy, to, from, false)?;
    let feeder = Feeder::start(&scene.place.folder, WELL)?;
    let mut play = Play {
        began: Instant::now(),
        scene,
        services,
        remedy,
        feeder: Some(feeder),
        faults: BTreeMap::new(),
    };
    let first = metrics_text(&play.scene.agent)?;
    let false_alerts = play.healthy()?;
    play.serving()?;
    play.quality()?;
    let pages = (first, metrics_text(&play.scene.agent)?);
    let play = play.agent()?;
    play.report(false_alerts, pages)
}

fn say(words: &str) {
    println!("stack: {words}");
}

struct Play {
    began: Instant,
    scene: Scene,
    services: Services,
    remedy: Remedy,
    feeder: Option<Feeder>,
    /// When each began.
    faults: BTreeMap<Fault, Instant>,
}

impl Play {
    fn begin(&mut self, fault: Fault) {
        say(&format!("{:>4.0} s: {}", self.began.elapsed().as_secs_f64(), fault.words()));
        self.faults.entry(fault).or_insert_with(Instant::now);
    }

    fn wait_until(&self, time: Duration) {
        std::thread::sleep(time.saturating_sub(self.began.elapsed()));
    }

    /// Waits until the alerts of a fault have been heard of.
    fn wait_for(&self, fault: Fault) {
        let _told_by_the_report = until(HEARD_MAX, || self.heard_of(fault).then_some(()));
    }

    fn heard_of(&self, fault: Fault) -> bool {
        let heard = self.services.heard();
        let arrived = |name: &str| {
            heard.get(name).is_some_and(|heard| heard.arrived.is_some() || heard.held_by.is_some())
        };
        faults::OF_ALERTS.iter().filter(|(_, of)| *of == fault).all(|(name, _)| arrived(name))
    }

    /// Nothing is wrong: which alerts fire all the same?
    fn healthy(&mut self) -> Result<Vec<String>> {
        say("   0 s: load, and nothing is wrong");
        self.began = Instant::now();
        let demo = self.scene.demo.endpoint.clone();
        // 3,000 values are learnt from. Whoever makes the load is not waited for.
        drop(load(&demo, "granite", "chat-whole", &[], 50.0, LOAD));
        drop(load(&demo, "granite", "logprobs-stream,chat-stream-usage", &[], 8.0, LOAD));
        drop(load_lab(&self.scene.lab.endpoint, 1.0, LOAD));
        // The first answers are not what is usual.
        self.wait_until(USUAL);
        self.services.begin()?;
        self.wait_until(CHANGE);
        let fired = self.services.heard().into_iter().filter(|(_, heard)| heard.fired.is_some());
        Ok(fired.map(|(name, _)| name).collect())
    }

    /// Requests, servers, GPUs.
    fn serving(&mut self) -> Result<()> {
        self.begin(Fault::Longer);
        self.faults.insert(Fault::Canary, Instant::now());
        self.scene.answer_by(LONGER)?;
        self.wait_until(FAULTS);
        self.begin(Fault::Gpus);
        self.faults.insert(Fault::GpuHeats, Instant::now());
        self.faults.insert(Fault::GpuLost, Instant::now() + Duration::from_secs(25));
        let demo = self.scene.demo.endpoint.clone();
        for (fault, model, mix, scenario, rate) in [
            (Fault::Errors, "granite", "chat-whole", "server-error", 3.0),
            (Fault::Empty, "granite", "chat-stream-usage", "empty", 3.0),
            (Fault::Crawl, "crawling", "chat-stream-usage", "crawling", 4.0),
            (Fault::Stuck, "stuck", "chat-stream-usage", "stuck", 1.0),
        ] {
            self.begin(fault);
            drop(load(&demo, model, mix, &[scenario], rate, BAD));
        }
        self.remedy.kill(MENDED)?;
        self.remedy.kill(BROKEN)?;
        self.begin(Fault::ServerKilled);
        for (done, fault) in LAB {
            self.begin(fault);
            for _ in 0..LAB_TIMES_MAX {
                if fault == Fault::Memory {
                    // A fast disk gives memory back soon: more steps take some.
                    drop(load_lab(&self.scene.lab.endpoint, MORE, LAB_TIME));
                }
                inject(done, &self.scene.victim, LAB_TIME)?;
                if self.heard_of(fault) {
                    break;
                }
            }
        }
        // Whoever lifts a limit lifts all of it.
        self.scene.group.limit_memory_to(MEMORY_MAX)
    }

    /// Predictions, evaluations, the canary.
    fn quality(&mut self) -> Result<()> {
        self.begin(Fault::Predictions);
        if let Some(feeder) = &self.feeder {
            feeder.set(ILL);
        }
        self.begin(Fault::Evaluation);
        self.scene.files().evaluation(1)?;
        self.wait_for(Fault::Predictions);
        self.begin(Fault::PredictionsGone);
        self.feeder = None;
        std::fs::remove_file(self.scene.place.folder.join("recent.npy")).context("remove predictions")?;
        self.wait_for(Fault::PredictionsGone);
        self.wait_for(Fault::Canary);
        self.begin(Fault::CanaryFiles);
        std::fs::remove_file(self.scene.place.folder.join("questions.csv")).context("remove questions")?;
        self.begin(Fault::PageGone);
        self.scene.lab_api(Signal::STOP)?;
        self.wait_for(Fault::PageGone);
        self.scene.lab_api(Signal::CONT)?;
        let wait = Instant::now();
        while wait.elapsed() < Duration::from_secs(70) && self.missing("CanaryFails") {
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    }

    fn missing(&self, alert: &str) -> bool {
        self.services.heard().get(alert).is_none_or(|heard| heard.arrived.is_none())
    }

    /// The agent itself.
    fn agent(mut self) -> Result<Self> {
        self.begin(Fault::Flood);
        let flood = flood(&self.scene.demo.endpoint)?;
        self.wait_for(Fault::Flood);
        drop(flood);

        self.begin(Fault::Frozen);
        let thread = Pid::from_raw(self.scene.agent.tgid().cast_signed());
        ptrace::seize(thread, ptrace::Options::empty()).context("trace the agent")?;
        ptrace::interrupt(thread).context("stop the agent's pipeline")?;
        waitpid(thread, None).context("see the agent's pipeline stop")?;
        self.wait_for(Fault::Frozen);
        ptrace::detach(thread, None).context("let the agent's pipeline go on")?;

        self.begin(Fault::Stopped);
        self.scene.agent.signal(Signal::STOP)?;
        self.wait_for(Fault::Stopped);
        self.scene.agent.signal(Signal::CONT)?;

        self.begin(Fault::Restarts);
        for _ in 0..RESTARTS {
            self.scene = self.scene.restart_agent()?;
            std::thread::sleep(Duration::from_secs(2));
        }
        self.wait_for(Fault::Restarts);

        self.begin(Fault::Forgotten);
        self.services.scrape(None)?;
        self.wait_for(Fault::Forgotten);
        std::thread::sleep(SOON / 5);
        Ok(self)
    }

    /// What became of the servers that were killed.
    fn loops(&self) -> Vec<Loop> {
        let result = |server: &str| {
            let over = || self.remedy.result(server).filter(|result| result != "begun");
            until(REMEDIED_MAX, over).unwrap_or_else(|| "nothing".to_owned())
        };
        let mended =
            Loop { server: MENDED.to_owned(), result: result(MENDED), expected: "recovered", told: None };
        let broken =
            Loop { server: BROKEN.to_owned(), result: result(BROKEN), expected: "failed: ", told: None };
        let told = until(HEARD_MAX, || self.services.heard().get("RemediationFailed")?.arrived).is_some();
        vec![mended, Loop { told: Some(told), ..broken }]
    }

    fn report(self, false_alerts: Vec<String>, pages: (String, String)) -> Result<Report> {
        let loops = self.loops();
        let heard = self.services.heard();
        let row = |(alert, severity): &(String, String)| {
            let fault = faults::of(alert)?;
            let began = self.faults.get(&fault).copied();
            let heard = heard.get(alert).cloned().unwrap_or_default();
            let after = |time: Option<Instant>| Some(time?.saturating_duration_since(began?).as_secs_f64());
            Some(Row {
                alert: alert.clone(),
                severity: severity.clone(),
                fault: fault.words(),
                fired_after: after(heard.fired),
                arrived_after: after(heard.arrived),
                held_by: heard.held_by,
            })
        };
        let rows = self.services.alerts.iter().filter_map(row).collect();
        let unknown = self.services.alerts.iter().filter(|(name, _)| faults::of(name).is_none());
        let without_fault = unknown.map(|(name, _)| name.clone()).collect();
        self.services.stop()?;
        self.scene.stop()?;
        self.remedy.stop()?;
        Ok(Report { rows, false_alerts, without_fault, loops, pages })
    }
}

/// Connections that each have a request under way, three times as many as are followed.
fn flood(endpoint: &Endpoint) -> Result<Vec<TcpStream>> {
    let Endpoint::Tcp(address) = endpoint else { return Ok(Vec::new()) };
    let body = r#"{"model":"flood","stream":true,"messages":[]}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-scenario: stuck\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let connect = |_| {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(request.as_bytes())?;
        Ok(stream)
    };
    (0..CONNECTIONS_MAX * 3)
        .map(connect)
        .collect::<std::io::Result<_>>()
        .context("connect three times as often as is followed")
}
