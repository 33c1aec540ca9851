//! What the GPUs of this node tell.
//!
//! In: a way to ask them, each but once. Out: findings and a page of what there is. A library that hangs is left to itself
//! after [`LOOK_MAX`]: nothing here waits longer.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Finding, Loss, State};
use crate::gpu::source::{Device, Failure, Found, GpuSource, Reading, Session};

/// The whole look, at most.
const LOOK_MAX: Duration = Duration::from_millis(1500);

/// The GPUs, as the agent would read them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gpus {
    /// Which library answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub library: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cuda: Option<String>,
    /// Why none does, or why it could not be asked for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Faults (XIDs) are told.
    pub tells_faults: bool,
    pub cards: Vec<Card>,
    #[serde(skip)]
    absent: bool,
}

/// One GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Card {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    pub index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why it was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// It tells which processes have memory on it.
    pub tells_processes: bool,
    pub instances: usize,
    /// What it can tell.
    pub tells: Vec<&'static str>,
    pub does_not_tell: Vec<&'static str>,
}

enum Told {
    Opened(Result<Gpus, Failure>),
    /// All GPUs, of which these are read later.
    Cards(Result<Vec<Card>, Failure>),
    Card(Box<Card>),
    Faults(bool),
}

/// Asks in a thread of its own.
pub(super) fn look(source: impl GpuSource + 'static) -> Gpus {
    let (tell, told) = channel();
    let ask = move || {
        // Where nobody waits any more, there is nobody to tell.
        let _late = ask(&source, &|one| tell.send(one).is_ok());
    };
    match std::thread::Builder::new().name("gpu-look".to_owned()).spawn(ask) {
        Ok(_left_to_itself) => hear(&told, Instant::now() + LOOK_MAX),
        Err(error) => Gpus { failure: Some(format!("no thread to ask: {error}")), ..Gpus::default() },
    }
}

fn ask(source: &dyn GpuSource, tell: &dyn Fn(Told) -> bool) -> Option<()> {
    let sent = |one| tell(one).then_some(());
    let session = match source.open() {
        Ok(session) => session,
        Err(failure) => return sent(Told::Opened(Err(failure))),
    };
    let driver = session.driver();
    let opened = Gpus {
        library: Some(driver.library.display().to_string()),
        driver: driver.version.clone(),
        cuda: driver.cuda.clone(),
        ..Gpus::default()
    };
    sent(Told::Opened(Ok(opened)))?;
    ask_gpus(&*session, &sent)?;
    sent(Told::Faults(session.events().is_ok()))
}

fn ask_gpus(session: &dyn Session, sent: &dyn Fn(Told) -> Option<()>) -> Option<()> {
    let devices = match session.devices() {
        Ok(devices) => devices,
        Err(failure) => return sent(Told::Cards(Err(failure))),
    };
    let card = |(index, device): (usize, &Found)| match device {
        Ok(device) => {
            let identity = device.identity();
            let (uuid, name) = (Some(identity.uuid.clone()), Some(identity.name.clone()));
            Card { uuid, index, name, failure: Some("it has not answered".to_owned()), ..Card::default() }
        }
        Err(failure) => Card { index, failure: Some(failure.to_string()), ..Card::default() },
    };
    let cards: Vec<Card> = devices.iter().enumerate().map(card).collect();
    sent(Told::Cards(Ok(cards.clone())))?;
    for (card, device) in cards.into_iter().zip(devices) {
        let Ok(mut device) = device else { continue };
        sent(Told::Card(Box::new(read(card, &mut *device))))?;
    }
    Some(())
}

fn read(card: Card, device: &mut dyn Device) -> Card {
    let reading = match device.read() {
        Ok(reading) => reading,
        Err(failure) => return Card { failure: Some(failure.to_string()), ..card },
    };
    let values = values(&reading);
    let of = |told: bool| values.iter().filter(|value| value.1 == told).map(|value| value.0).collect();
    Card {
        failure: None,
        tells_processes: reading.users.is_some(),
        instances: reading.instances.len(),
        tells: of(true),
        does_not_tell: of(false),
        ..card
    }
}

/// Everything that is read, and whether it was there. A profile takes two readings, and is no word on the card.
fn values(reading: &Reading) -> Vec<(&'static str, bool)> {
    let Reading { power, clocks, throttle, ecc, pcie, .. } = reading;
    vec![
        ("memory", reading.memory.is_some() || !reading.instances.is_empty()),
        ("temperature", reading.temperature.is_some()),
        ("memory temperature", reading.memory_temperature.is_some()),
        ("margin to slowdown", reading.margin.is_some()),
        ("slowdown temperature", reading.slowdown_temperature.is_some()),
        ("utilization", reading.utilization.is_some()),
        ("power", power.milliwatts.is_some()),
        ("power limit", power.limit_milliwatts.is_some()),
        ("energy counter", power.energy_millijoules.is_some()),
        ("clocks", clocks.sm.is_some()),
        ("throttle reasons", throttle.now.iter().any(Option::is_some)),
        ("throttle counters", throttle.lost_ns.iter().any(Option::is_some)),
        ("ECC errors", ecc.volatile.is_some()),
        ("remapped rows", reading.remapped.is_some()),
        ("retired pages", reading.retired.is_some()),
        ("PCIe throughput", pcie.sent_bytes_per_second.is_some()),
        ("NVLink", reading.nvlink.is_some()),
        ("fan", reading.fan_percent.is_some()),
        ("processes", reading.users.is_some()),
    ]
}

fn hear(told: &Receiver<Told>, until: Instant) -> Gpus {
    let mut gpus = Gpus::default();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match told.recv_timeout(left) {
            Ok(Told::Opened(Ok(opened))) => gpus = opened,
            Ok(Told::Opened(Err(failure))) => {
                gpus.absent = matches!(failure, Failure::Absent(_));
                gpus.failure = Some(failure.to_string());
            }
            Ok(Told::Cards(Ok(cards))) => gpus.cards = cards,
            Ok(Told::Cards(Err(failure))) => gpus.failure = Some(failure.to_string()),
            Ok(Told::Card(card)) => {
                let place = gpus.cards.iter_mut().find(|one| one.index == card.index);
                place.into_iter().for_each(|one| *one = (*card).clone());
            }
            Ok(Told::Faults(told)) => gpus.tells_faults = told,
            Err(RecvTimeoutError::Disconnected) => return gpus,
            Err(RecvTimeoutError::Timeout) => {
                gpus.failure = Some(format!("the library has not answered within {LOOK_MAX:?}"));
                return gpus;
            }
        }
    }
}

/// For information: a node without GPUs has nothing that is wrong.
pub(super) fn findings(gpus: &Gpus) -> Vec<Finding> {
    let mut findings = vec![library(gpus)];
    findings.extend(gpus.cards.iter().map(card));
    findings
}

fn library(gpus: &Gpus) -> Finding {
    const NAME: &str = "GPUs";
    let failure = gpus.failure.clone().unwrap_or_default();
    if gpus.absent {
        return Finding::ok(NAME, format!("none that could be read; one that appears is found: {failure}"));
    }
    let unknown = || "unknown".to_owned();
    let found = gpus.library.as_ref().map(|library| {
        let (driver, cuda) =
            (gpus.driver.clone().unwrap_or_else(unknown), gpus.cuda.clone().unwrap_or_else(unknown));
        let faults = if gpus.tells_faults { "faults are told" } else { "faults are not told" };
        format!("{} by {library} (driver {driver}, CUDA {cuda}), {faults}", gpus.cards.len())
    });
    match (found, gpus.failure.is_some()) {
        (Some(found), false) => Finding::ok(NAME, found),
        (found, _) => {
            let found = found.map_or_else(|| failure.clone(), |found| format!("{found}: {failure}"));
            let loss = Loss {
                costs: "requests are measured all the same; nothing, or not all, is told of the GPUs",
                remedy: "see whether nvidia-smi answers; a container needs the device nodes, a driver that was \
                         updated the library of its own version",
                cause: None,
            };
            Finding::lost(NAME, State::Degraded, found, loss)
        }
    }
}

fn card(card: &Card) -> Finding {
    const NAME: &str = "GPU";
    let title = format!("{} {}", card.index, card.name.as_deref().unwrap_or("of unknown name"));
    if let Some(failure) = &card.failure {
        let loss = Loss {
            costs: "requests are measured all the same; nothing is told of this GPU",
            remedy: "see what nvidia-smi and the kernel's log say of it",
            cause: None,
        };
        return Finding::lost(NAME, State::Degraded, format!("{title}: {failure}"), loss);
    }
    let split = if card.instances > 0 { format!(", {} instances", card.instances) } else { String::new() };
    let lacks = if card.does_not_tell.is_empty() {
        "tells everything".to_owned()
    } else {
        format!("tells all but {}", card.does_not_tell.join(", "))
    };
    Finding::ok(NAME, format!("{title}{split}: {lacks}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::source::{Driver, Events, Identity, Memory};

    /// Answers like one that has a GPU; `hangs` at the call of that name.
    struct Scripted {
        hangs: &'static str,
        absent: bool,
    }

    struct Part {
        hangs: &'static str,
        driver: Driver,
        identity: Identity,
    }

    fn enter(hangs: &str, call: &str) {
        if hangs == call {
            loop {
                std::thread::park();
            }
        }
    }

    impl Part {
        fn new(hangs: &'static str) -> Self {
            let driver = Driver { version: Some("575.57".to_owned()), ..Driver::default() };
            let identity =
                Identity { uuid: "GPU-a".to_owned(), name: "H100".to_owned(), ..Identity::default() };
            Self { hangs, driver, identity }
        }
    }

    impl GpuSource for Scripted {
        fn open(&self) -> Result<Box<dyn Session>, Failure> {
            enter(self.hangs, "open");
            if self.absent {
                return Err(Failure::Absent("there is no library".to_owned()));
            }
            Ok(Box::new(Part::new(self.hangs)))
        }
    }

    impl Session for Part {
        fn driver(&self) -> &Driver {
            &self.driver
        }

        fn devices(&self) -> Result<Vec<Found>, Failure> {
            enter(self.hangs, "devices");
            Ok(vec![Ok(Box::new(Self::new(self.hangs))), Err(Failure::Lost("off the bus".to_owned()))])
        }

        fn events(&self) -> Result<Box<dyn Events>, Failure> {
            Err(Failure::Refused("none".to_owned()))
        }
    }

    impl Device for Part {
        fn identity(&self) -> &Identity {
            &self.identity
        }

        fn read(&mut self) -> Result<Reading, Failure> {
            enter(self.hangs, "read");
            let memory = Some(Memory::default());
            Ok(Reading { memory, users: Some(Vec::new()), ..Reading::default() })
        }
    }

    fn found(hangs: &'static str, absent: bool) -> (Gpus, Vec<String>) {
        let begun = Instant::now();
        let gpus = look(Scripted { hangs, absent });
        assert!(begun.elapsed() < Duration::from_secs(2) || hangs.is_empty());
        let texts =
            findings(&gpus).into_iter().map(|finding| format!("{:?} {}", finding.state, finding.found));
        let texts = texts.collect();
        (gpus, texts)
    }

    #[test]
    fn what_each_gpu_tells_is_told() {
        let (gpus, texts) = found("", false);
        assert_eq!((gpus.driver.as_deref(), gpus.tells_faults), (Some("575.57"), false));
        assert_eq!(gpus.cards[0].tells, ["memory", "processes"]);
        assert!(gpus.cards[0].tells_processes && gpus.cards[0].does_not_tell.contains(&"energy counter"));
        assert!(texts[0].starts_with("Ok 2 by ") && texts[0].ends_with("faults are not told"), "{texts:?}");
        assert!(texts[1].starts_with("Ok 0 H100: tells all but temperature, "), "{texts:?}");
        assert_eq!(texts[2], "Degraded 1 of unknown name: off the bus");
    }

    #[test]
    fn no_library_is_nothing_that_is_wrong() {
        let (_, texts) = found("", true);
        assert_eq!(texts, ["Ok none that could be read; one that appears is found: there is no library"]);
    }

    #[test]
    fn a_library_that_hangs_is_left_to_itself() {
        for (hangs, cards) in [("open", 0), ("devices", 0), ("read", 2)] {
            let (gpus, texts) = found(hangs, false);
            assert_eq!(gpus.cards.len(), cards, "{hangs}");
            assert!(texts[0].starts_with("Degraded ") && texts[0].contains("has not answered"), "{texts:?}");
            assert_eq!(cards == 0, texts.len() == 1);
        }
    }
}
