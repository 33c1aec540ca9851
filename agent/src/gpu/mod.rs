//! What do the GPUs say? Asks the driver's library beside the pipeline, and joins its answers to workloads.
//!
//! In: [`Reading`]s and faults, told by threads that nothing else waits for. Out: every GPU as it stands
//! ([`Card`]), by UUID. The pipeline owns [`Gpus`] and takes the [`News`] at each tick.

pub mod card;
pub mod energy;
pub mod nvml;
pub mod settings;
pub mod source;
mod throttle;
mod users;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use anyhow::Result;
use tracing::{info, warn};

pub use self::card::{Card, CardState, EnergySource, OTHER_XID, Sums, Use};
use self::nvml::{Nvml, Places};
pub use self::settings::Settings;
pub use self::source::{Driver, Failure, Identity, Reading, ThrottleCause, Xid};
pub use self::throttle::Interval;
pub use self::users::{HeldDown, Slowed};
use self::watch::{Times, Watch};
use crate::clock::BootTime;

/// News that wait for the pipeline, at most; what is beyond is counted and lost. Those of 16 GPUs at ten a second for
/// half a minute.
pub const NEWS_MAX: usize = 4096;

/// What the threads that ask tell, in the order in which it happened.
#[derive(Clone, Debug)]
pub enum News {
    /// The library answers, or why it does not.
    Driver(Result<Driver, Failure>),
    /// There are these GPUs from now on, and no others.
    Cards(Vec<Identity>),
    /// One was read.
    Read { uuid: String, reading: Box<Reading> },
    /// One could not be read.
    Failed { uuid: String, failure: Failure },
    /// One was asked at this time and has not answered yet: longer than any answer takes.
    Unresponsive { uuid: String, asked: BootTime },
    /// One has a fault.
    Fault(Xid),
    /// The driver tells no faults, and why.
    NoFaults(Failure),
    /// It does again.
    FaultsAgain,
}

/// The GPUs of this node.
#[derive(Debug, Default)]
pub struct Gpus {
    watch: Option<Watch>,
    news: Option<Receiver<News>>,
    driver: Option<Result<Driver, Failure>>,
    no_faults: Option<Failure>,
    cards: BTreeMap<String, Card>,
}

impl Gpus {
    /// GPUs that are known already, without anybody who tells more of them.
    #[must_use]
    pub fn of(driver: Result<Driver, Failure>, cards: Vec<Card>) -> Self {
        let cards = cards.into_iter().map(|card| (card.identity.uuid.clone(), card)).collect();
        Self { driver: Some(driver), cards, ..Self::default() }
    }

    /// Hears these news from now on.
    pub fn hear(&mut self, news: Receiver<News>) {
        self.news = Some(news);
    }

    /// Starts to read the GPUs of this node, where the settings want it: threads, so only once rights were given up.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(&mut self, settings: &Settings) -> Result<()> {
        if settings.enabled {
            let source = Nvml::new(Places::of_node(settings.library.clone()));
            let (watch, news) = Watch::start(Arc::new(source), Times::of(settings.interval))?;
            self.watch = Some(watch);
            self.hear(news);
        }
        Ok(())
    }

    /// News that found no room, since the agent began.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.watch.as_ref().map_or(0, Watch::lost)
    }

    /// Takes what was told since.
    pub fn take(&mut self) {
        let Some(news) = self.news.take() else { return };
        news.try_iter().take(NEWS_MAX).for_each(|one| self.on_news(one));
        self.news = Some(news);
    }

    fn on_news(&mut self, news: News) {
        match news {
            News::Driver(driver) => self.on_driver(driver),
            News::Cards(identities) => self.on_cards(identities),
            News::Read { uuid, reading } => self.with(&uuid, |card| card.on_read(*reading)),
            News::Failed { uuid, failure: Failure::Lost(why) } => {
                self.with(&uuid, |card| card.on_state(CardState::Lost(why)));
            }
            News::Failed { uuid, failure } => {
                self.with(&uuid, |card| card.on_state(CardState::Failed(failure.to_string())));
            }
            News::Unresponsive { uuid, asked } => {
                self.with(&uuid, |card| card.on_state(CardState::Unresponsive(asked)));
            }
            News::Fault(xid) => self.with(&xid.uuid, |card| card.on_fault(xid.code)),
            News::NoFaults(failure) => {
                if self.no_faults.is_none() {
                    info!("no faults of GPUs (XIDs) are told: {failure}");
                }
                self.no_faults = Some(failure);
            }
            News::FaultsAgain => {
                if self.no_faults.take().is_some() {
                    info!("faults of GPUs (XIDs) are told again");
                }
            }
        }
    }

    /// One line for all: of what its library does, no GPU has to say more.
    fn on_driver(&mut self, driver: Result<Driver, Failure>) {
        if self.driver.as_ref() == Some(&driver) {
            return;
        }
        match &driver {
            Ok(Driver { library, version, .. }) => {
                let version = version.as_deref().unwrap_or("of unknown version");
                info!("GPUs are read through {} (driver {version})", library.display());
            }
            Err(Failure::Absent(why)) => info!("no GPUs are read, until there is a library for it: {why}"),
            Err(failure) => warn!("no GPUs are read: {failure}"),
        }
        if let Err(failure) = &driver {
            let failed = || CardState::Failed(failure.to_string());
            self.cards.values_mut().for_each(|card| card.on_silence(failed()));
        }
        self.driver = Some(driver);
    }

    /// A GPU that is not among them was taken out; one that is keeps what is known of it.
    fn on_cards(&mut self, identities: Vec<Identity>) {
        let mut before = std::mem::take(&mut self.cards);
        for identity in identities {
            let known = before.remove(&identity.uuid);
            let card = match known {
                Some(card) => Card { identity, ..card },
                None => Card::new(identity),
            };
            self.cards.insert(card.identity.uuid.clone(), card);
        }
    }

    fn with(&mut self, uuid: &str, change: impl FnOnce(&mut Card)) {
        if let Some(card) = self.cards.get_mut(uuid) {
            change(card);
        }
    }

    /// Every GPU, by UUID.
    pub fn cards(&self) -> impl Iterator<Item = &Card> {
        self.cards.values()
    }

    /// What answers, or why nothing does; `None` before anybody was asked, or where nobody is.
    #[must_use]
    pub fn driver(&self) -> Option<&Result<Driver, Failure>> {
        self.driver.as_ref()
    }

    /// Why no faults are told.
    #[must_use]
    pub fn no_faults(&self) -> Option<&Failure> {
        self.no_faults.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    fn identity(uuid: &str) -> Identity {
        Identity { uuid: uuid.to_owned(), ..Identity::default() }
    }

    #[test]
    fn a_gpu_that_goes_and_comes_back_keeps_its_faults() {
        let (tell, news) = sync_channel(NEWS_MAX);
        let mut gpus = Gpus::default();
        gpus.hear(news);
        let fault = |code| News::Fault(Xid { uuid: "a".to_owned(), code, at: BootTime(1) });
        let read = || News::Read { uuid: "a".to_owned(), reading: Box::default() };
        let state = |gpus: &Gpus| gpus.cards().map(|card| card.state.label()).collect::<Vec<_>>();
        tell.send(News::Driver(Ok(Driver::default()))).unwrap();
        tell.send(News::Cards(vec![identity("a"), identity("b")])).unwrap();
        for news in [read(), fault(79), fault(79), fault(31)] {
            tell.send(news).unwrap();
        }
        gpus.take();
        assert_eq!(state(&gpus), ["answers", "found"]);
        let lost = Failure::Lost("it is gone".to_owned());
        tell.send(News::Failed { uuid: "a".to_owned(), failure: lost }).unwrap();
        tell.send(News::Unresponsive { uuid: "b".to_owned(), asked: BootTime(5) }).unwrap();
        gpus.take();
        assert_eq!(state(&gpus), ["lost", "unresponsive"]);
        assert!(gpus.cards().all(|card| card.reading.is_none()));
        tell.send(News::Driver(Err(Failure::Session("it went".to_owned())))).unwrap();
        gpus.take();
        assert_eq!(state(&gpus), ["failed", "failed"]);
        tell.send(News::Driver(Ok(Driver::default()))).unwrap();
        tell.send(News::Cards(vec![identity("a")])).unwrap();
        tell.send(read()).unwrap();
        gpus.take();
        assert_eq!(state(&gpus), ["answers"]);
        let card = gpus.cards().next().unwrap();
        assert_eq!(card.xids, BTreeMap::from([(31, 1), (79, 2)]));
    }

    /// Lines that are logged meanwhile.
    fn logged(what: impl FnOnce()) -> Vec<String> {
        #[derive(Clone, Default)]
        struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);
        impl std::io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
        tracing::subscriber::with_default(log.finish(), what);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_change_is_logged_once_however_often_it_is_told() {
        let mut gpus = Gpus::default();
        let mut tell = |news: &News| {
            let lines = logged(|| (0..5).for_each(|_| gpus.on_news(news.clone())));
            assert!(lines.len() <= 1, "{lines:?}");
            lines.concat()
        };
        let failed = |failure| News::Failed { uuid: "a".to_owned(), failure };
        tell(&News::Cards(vec![identity("a"), identity("b")]));
        let read = News::Read { uuid: "a".to_owned(), reading: Box::default() };
        for (news, expected) in [
            (read.clone(), "is read"),
            (News::Unresponsive { uuid: "a".to_owned(), asked: BootTime(1) }, "does not answer"),
            (failed(Failure::Lost("off the bus".to_owned())), "is lost: off the bus"),
            (failed(Failure::Refused("busy".to_owned())), "cannot be read: busy"),
            (read, "is read"),
            (News::Driver(Err(Failure::Absent("no library".to_owned()))), "no library"),
            (News::NoFaults(Failure::Refused("none".to_owned())), "no faults"),
            (News::FaultsAgain, "told again"),
        ] {
            let line = tell(&news);
            assert!(line.contains(expected), "{news:?}: {line:?}");
        }
    }
}
