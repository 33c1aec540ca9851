//! One GPU as it stands, and what its readings sum to.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::{info, warn};

use super::energy::{Energy, Stretch};
use super::source::{Identity, Reading, THROTTLE_CAUSES};
use super::throttle::Throttles;
use crate::clock::BootTime;

/// Codes of faults that are told apart on one GPU; the others share [`OTHER_XID`].
pub(super) const XIDS_MAX: usize = 16;
/// No fault has this code.
pub const OTHER_XID: u64 = u64::MAX;

/// How it is with a GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CardState {
    /// It was found, and has said nothing yet.
    #[default]
    Found,
    Answers,
    /// It was asked at this time and has not answered yet.
    Unresponsive(BootTime),
    /// It is not there any more: off the bus, or to be reset. The text says what the driver said.
    Lost(String),
    /// It could not be read the last time, or the driver answers no more.
    Failed(String),
}

impl CardState {
    /// Every value of the label `state`.
    pub const LABELS: [&'static str; 5] = ["found", "answers", "unresponsive", "lost", "failed"];

    /// Value of the label `state`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Answers => "answers",
            Self::Unresponsive(_) => "unresponsive",
            Self::Lost(_) => "lost",
            Self::Failed(_) => "failed",
        }
    }
}

/// One GPU as it stands.
#[derive(Clone, Debug, Default)]
pub struct Card {
    pub identity: Identity,
    pub state: CardState,
    /// The newest; `None` while it does not answer, so that nothing old is shown as if it were new.
    pub reading: Option<Reading>,
    /// How often each fault came since the agent began, by code.
    pub xids: BTreeMap<u64, u64>,
    /// Since the agent began.
    pub sums: Sums,
    /// The workloads that have memory on it, as of the newest tick, by label; none while it does not answer.
    pub users: Vec<Use>,
    pub(crate) past: Past,
}

/// What its readings sum to since the agent began. Nothing of it ever becomes less: a driver that is loaded again, or that
/// does not answer for a while, takes nothing back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// For how long each cause held the clocks down.
    pub throttled_ns: [u64; THROTTLE_CAUSES],
    /// The driver tells of the cause, by a count or by whether it holds now.
    pub throttle_known: [bool; THROTTLE_CAUSES],
    /// `None`: it tells neither energy nor power.
    pub energy_millijoules: Option<u64>,
    pub energy_source: EnergySource,
}

/// Where the energy is from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EnergySource {
    /// The driver counts it.
    #[default]
    Counter,
    /// Power, integrated from reading to reading.
    Integrated,
}

impl EnergySource {
    /// Value of the label `source`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Integrated => "integrated",
        }
    }
}

/// What a workload has of a GPU: all its processes together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Use {
    pub workload: Arc<str>,
    /// `None`: nobody may know.
    pub memory_bytes: Option<u64>,
    /// Percent of the time in which its kernels ran, lately.
    pub sm_percent: Option<u32>,
}

/// What is remembered of a GPU beside its newest reading.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    pub(super) throttles: Throttles,
    pub(super) energy: Energy,
    /// Workloads that had memory on it when that was last told.
    pub(super) owners: Vec<Arc<str>>,
    /// What all its users have that are of no workload.
    pub(super) strangers: Option<Use>,
}

impl Card {
    pub(super) fn new(identity: Identity) -> Self {
        Self { identity, ..Self::default() }
    }

    pub(super) fn on_read(&mut self, reading: Reading) {
        if self.state != CardState::Answers {
            info!("{} is read", self.title());
        }
        self.past.throttles.on_read(self.reading.as_ref(), &reading, &mut self.sums);
        self.past.energy.on_read(&reading, &mut self.sums);
        self.state = CardState::Answers;
        self.reading = Some(reading);
    }

    pub(super) fn on_state(&mut self, state: CardState) {
        if self.state.label() != state.label() {
            match &state {
                CardState::Unresponsive(_) => warn!("{} does not answer", self.title()),
                CardState::Lost(why) => warn!("{} is lost: {why}", self.title()),
                CardState::Failed(why) => warn!("{} cannot be read: {why}", self.title()),
                CardState::Found | CardState::Answers => {}
            }
        }
        self.on_silence(state);
    }

    /// The same where why is said elsewhere.
    pub(super) fn on_silence(&mut self, state: CardState) {
        self.state = state;
        self.reading = None;
    }

    /// For people.
    fn title(&self) -> String {
        let Identity { uuid, index, name, .. } = &self.identity;
        format!("GPU {index} ({name}, {uuid})")
    }

    pub(super) fn on_fault(&mut self, code: u64) {
        let known = self.xids.contains_key(&code) || self.xids.len() < XIDS_MAX;
        *self.xids.entry(if known { code } else { OTHER_XID }).or_default() += 1;
    }

    /// What it took in the stretches between readings that ended after a time, the oldest first.
    pub fn energy_after(&self, time: BootTime) -> impl Iterator<Item = &Stretch> {
        self.past.energy.after(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_beyond_the_limit_share_one() {
        let mut card = Card::new(Identity::default());
        (0..XIDS_MAX as u64 + 5).for_each(|code| card.on_fault(code));
        card.on_fault(0);
        assert_eq!(card.xids.len(), XIDS_MAX + 1);
        assert_eq!((card.xids[&0], card.xids[&OTHER_XID]), (2, 5));
    }
}
