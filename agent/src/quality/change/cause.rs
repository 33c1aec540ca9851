//! What else changed when a stream did?
//!
//! In: what surrounded each request, and facts about its server with their times. Out: a few names, the weightiest first. A name
//! says that the two coincide, no more: a slow GPU is no changed model.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::SECOND_NS;

const MINUTE_NS: u64 = 60 * SECOND_NS;
/// Minutes that are kept: a change that is older is compared by the last three hours of it.
const MINUTES_MAX: usize = 180;
/// Facts that are kept, the newest.
const FACTS_MAX: usize = 16;
/// A fact this long before a change, or after, belongs to it: evidence gathers later than what it is evidence of.
const AROUND_NS: u64 = 15 * MINUTE_NS;
/// A share has risen where it is higher by this, and by half.
const SHARE_RISEN: f64 = 0.05;
const RISEN: f64 = 1.5;
/// Logarithm by which the mean size of requests has changed: a fifth.
const SIZE_CHANGED_LN: f64 = 0.2;

/// What may coincide with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coincidence {
    GpuThrottle,
    Stalls,
    Driver,
    ModelFiles,
    Arguments,
    ServerRestart,
    LoadMix,
    LoadRate,
}

impl Coincidence {
    pub const ALL: [Self; 8] = [
        Self::GpuThrottle,
        Self::Stalls,
        Self::Driver,
        Self::ModelFiles,
        Self::Arguments,
        Self::ServerRestart,
        Self::LoadMix,
        Self::LoadRate,
    ];

    /// Value of a label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::GpuThrottle => "gpu_throttle",
            Self::Stalls => "stalls",
            Self::Driver => "driver",
            Self::ModelFiles => "model_files",
            Self::Arguments => "arguments",
            Self::ServerRestart => "server_restart",
            Self::LoadMix => "load_mix",
            Self::LoadRate => "load_rate",
        }
    }
}

/// What surrounded one request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Around {
    /// Its own GPUs were held down meanwhile.
    pub throttled: bool,
    /// Seconds for which threads on its way could not go on, and all that it took.
    pub stalled_seconds: f64,
    pub seconds: f64,
    /// Its size.
    pub size: u64,
}

/// Requests together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Together {
    count: u64,
    throttled: u64,
    stalled_seconds: f64,
    seconds: f64,
    size_ln: f64,
}

impl Together {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.throttled += other.throttled;
        self.stalled_seconds += other.stalled_seconds;
        self.seconds += other.seconds;
        self.size_ln += other.size_ln;
    }

    fn of(around: &Around) -> Self {
        Self {
            count: 1,
            throttled: u64::from(around.throttled),
            stalled_seconds: around.stalled_seconds,
            seconds: around.seconds,
            size_ln: (around.size.max(1) as f64).ln(),
        }
    }

    fn share_throttled(&self) -> f64 {
        self.throttled as f64 / self.count.max(1) as f64
    }

    fn share_stalled(&self) -> f64 {
        if self.seconds > 0.0 { self.stalled_seconds / self.seconds } else { 0.0 }
    }

    fn mean_size_ln(&self) -> f64 {
        self.size_ln / self.count.max(1) as f64
    }
}

/// What surrounds the requests of one model of one server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Surroundings {
    usual: Together,
    usual_since_ns: Option<u64>,
    usual_until_ns: u64,
    /// By minute, the newest last.
    minutes: VecDeque<(u64, Together)>,
    facts: VecDeque<(u64, Coincidence)>,
}

impl Surroundings {
    /// Takes what surrounded a request that ended then; `learning` while the reference is learnt.
    pub fn add(&mut self, now_ns: u64, around: &Around, learning: bool) {
        let one = Together::of(around);
        if learning {
            self.usual.add(&one);
            self.usual_since_ns.get_or_insert(now_ns);
            self.usual_until_ns = now_ns;
        }
        let minute = now_ns / MINUTE_NS;
        match self.minutes.back_mut().filter(|(of, _)| *of >= minute) {
            Some((_, together)) => together.add(&one),
            None => self.minutes.push_back((minute, one)),
        }
        if self.minutes.len() > MINUTES_MAX {
            self.minutes.pop_front();
        }
    }

    /// Something else changed then.
    pub fn note(&mut self, now_ns: u64, what: Coincidence) {
        if self.facts.len() >= FACTS_MAX {
            self.facts.pop_front();
        }
        self.facts.push_back((now_ns, what));
    }

    /// What coincides with a change that began then and was seen later, the weightiest first.
    #[must_use]
    pub fn of(&self, since_ns: u64, seen_ns: u64) -> Vec<Coincidence> {
        let mut now = Together::default();
        let since = since_ns / MINUTE_NS;
        let mut minutes = 0_u64;
        for (_, together) in self.minutes.iter().filter(|(minute, _)| *minute >= since) {
            now.add(together);
            minutes += 1;
        }
        let during = (since_ns.saturating_sub(AROUND_NS))..=(seen_ns.saturating_add(AROUND_NS));
        let noted = |what| self.facts.iter().any(|(time, fact)| *fact == what && during.contains(time));
        let holds = |what: &Coincidence| match what {
            Coincidence::GpuThrottle => has_risen(self.usual.share_throttled(), now.share_throttled()),
            Coincidence::Stalls => has_risen(self.usual.share_stalled(), now.share_stalled()),
            Coincidence::LoadMix => {
                now.count > 0
                    && self.usual.count > 0
                    && (now.mean_size_ln() - self.usual.mean_size_ln()).abs() > SIZE_CHANGED_LN
            }
            Coincidence::LoadRate => {
                let usual = self.usual_per_minute();
                usual > 0.0 && now.count as f64 / minutes.max(1) as f64 > RISEN * usual
            }
            fact => noted(*fact),
        };
        Coincidence::ALL.into_iter().filter(holds).collect()
    }

    fn usual_per_minute(&self) -> f64 {
        let since_ns = self.usual_since_ns.unwrap_or(self.usual_until_ns);
        let minutes = self.usual_until_ns.saturating_sub(since_ns) as f64 / MINUTE_NS as f64;
        self.usual.count as f64 / minutes.max(1.0)
    }
}

fn has_risen(usual: f64, now: f64) -> bool {
    now > usual + SHARE_RISEN && now > usual * RISEN
}
