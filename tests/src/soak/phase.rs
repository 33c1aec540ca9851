//! The phases: what traffic is made, and what happens meanwhile.
//!
//! In: a kind of phase. Out: its row. What a phase comes to is judged in [`super::parts`].

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client;
use crate::fake_server::every_kind;

use super::parts::Load;
use super::report::PhaseRow;
use super::scene::{Name, Scene};

/// Requests of one phase at most: fewer than the agent lists.
const REQUESTS_MAX: usize = 500;
/// Requests under way at once, of one load.
const CONCURRENCY: usize = 8;
/// A load that is disturbed goes on for so long before.
const BEFORE: Duration = Duration::from_secs(2);
const IDLE_TIME: Duration = Duration::from_secs(8);
/// New names in each phase of them: after a few phases there are more than labels.
const NEW_MODELS: u32 = 3;

/// What happens in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Every kind of request, and every script.
    Tcp,
    Unix,
    /// Two servers at once.
    Both,
    /// Most clients leave early.
    Aborts,
    /// New model names come, and old ones are asked for no more.
    Models,
    /// A connection for every request.
    Churn,
    Idle,
    /// The agent reads its settings anew under load.
    Reload,
    /// A server ends under load, and another takes its place.
    Restart,
    Kill,
    KillUnix,
    /// A server ends and starts at another port.
    Move,
}

impl Kind {
    pub(super) const ALL: [Self; 12] = [
        Self::Tcp,
        Self::Unix,
        Self::Both,
        Self::Aborts,
        Self::Models,
        Self::Churn,
        Self::Idle,
        Self::Reload,
        Self::Restart,
        Self::Kill,
        Self::KillUnix,
        Self::Move,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Tcp => "everything over tcp",
            Self::Unix => "everything over a unix socket",
            Self::Both => "two servers at once",
            Self::Aborts => "clients that leave",
            Self::Models => "new models",
            Self::Churn => "a connection a request",
            Self::Idle => "idle",
            Self::Reload => "settings read anew",
            Self::Restart => "server restarted",
            Self::Kill => "server killed",
            Self::KillUnix => "server on a unix socket killed",
            Self::Move => "server at another port",
        }
    }
}

impl Scene {
    /// Plays one phase, which ends soon after `left`; `Err` where going on makes no sense.
    pub(super) fn play(&mut self, kind: Kind, left: Duration) -> Result<PhaseRow> {
        let began = Instant::now();
        self.played += 1;
        let mut row = self.play_kind(kind, left)?;
        row.kind = kind.label();
        row.runs = 1;
        row.seconds = began.elapsed().as_secs_f64();
        Ok(row)
    }

    fn play_kind(&mut self, kind: Kind, left: Duration) -> Result<PhaseRow> {
        let undisturbed = |_: &mut Self| Ok(());
        match kind {
            Kind::Tcp => self.exact(vec![self.everything(Name::Alpha)?], undisturbed),
            Kind::Unix => self.exact(vec![self.everything(Name::Beta)?], undisturbed),
            Kind::Both => {
                let loads = vec![self.everything(Name::Alpha)?, self.everything(Name::Beta)?];
                self.exact(loads, undisturbed)
            }
            Kind::Aborts => {
                let mix = "close=3,reset=3,half-close=2,close-whole=2,chat-stream-usage=2";
                self.exact(vec![self.ordinary(Name::Alpha, mix)?], undisturbed)
            }
            Kind::Models => self.new_models(),
            Kind::Churn => self.exact(vec![self.churn()?], undisturbed),
            Kind::Idle => self.idle(left),
            Kind::Reload => {
                let load = self.ordinary(Name::Alpha, "demo")?;
                self.exact(vec![load], |scene| {
                    std::thread::sleep(BEFORE);
                    scene.reload()
                })
            }
            Kind::Restart => self.disturbed(Name::Alpha, |scene| scene.restart(Name::Alpha)),
            Kind::Kill => self.disturbed(Name::Alpha, |scene| scene.kill(Name::Alpha)),
            Kind::KillUnix => self.disturbed(Name::Beta, |scene| scene.kill(Name::Beta)),
            Kind::Move => {
                self.move_away(Name::Alpha)?;
                self.exact(vec![self.ordinary(Name::Alpha, "demo")?], undisturbed)
            }
        }
    }

    fn everything(&self, name: Name) -> Result<Load> {
        let mut load = self.ordinary(name, "all")?;
        load.options.scenarios = every_kind();
        Ok(load)
    }

    /// A load of this mix at a steady rate, some eight seconds of it.
    pub(super) fn ordinary(&self, name: Name, mix: &str) -> Result<Load> {
        let mut rng = fastrand::Rng::with_seed(self.rng.clone().u64(..) ^ self.played);
        let rate = rng.f64() * 20.0 + 10.0;
        let requests = ((rate * (rng.f64() * 4.0 + 4.0)) as usize).min(REQUESTS_MAX);
        let options = client::Options {
            seed: rng.u64(..) ^ name as u64,
            requests,
            rate: Some(rate),
            concurrency: CONCURRENCY,
            mix: mix.parse()?,
            // The log of a server that follows scripts is asked for.
            scenarios: ["python", "rust"].map(str::to_owned).to_vec(),
            models: vec!["small".to_owned(), "large/model-7b".to_owned()],
            ..client::Options::new(self.endpoint(name)?)
        };
        Ok(Load { name, options })
    }

    fn churn(&self) -> Result<Load> {
        let mut load = self.ordinary(Name::Alpha, "chat-whole=3,chat-stream=1,health=1")?;
        load.options.scenarios = vec!["closes-after".to_owned()];
        load.options.rate = None;
        load.options.requests = REQUESTS_MAX;
        load.options.time_max = Duration::from_secs(6);
        Ok(load)
    }

    fn new_models(&mut self) -> Result<PhaseRow> {
        let mut load = self.ordinary(Name::Alpha, "demo")?;
        load.options.models = (self.models..self.models + NEW_MODELS).map(|n| format!("soak/{n}")).collect();
        self.models += NEW_MODELS;
        self.exact(vec![load], |_| Ok(()))
    }

    fn idle(&mut self, left: Duration) -> Result<PhaseRow> {
        let before = crate::books::Books::settled(&self.agent)?;
        std::thread::sleep(IDLE_TIME.min(left));
        let after = crate::books::Books::settled(&self.agent)?;
        let mut row = PhaseRow::default();
        for stage in ["request_begun", "connection_missed"] {
            if before.event(stage) != after.event(stage) {
                row.faults.push(format!("{stage} rises without traffic"));
            }
        }
        let told = before.faults();
        row.faults.extend(after.faults().into_iter().filter(|fault| !told.contains(fault)));
        Ok(row)
    }

    /// Time for a load to be under way.
    pub(super) fn wait_before() {
        std::thread::sleep(BEFORE);
    }
}
