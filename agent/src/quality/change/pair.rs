//! All streams of one model of one server.
//!
//! In: what a request showed, and what surrounded it. Out: each stream's [`State`], and what coincides with an alarm.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cause::{Around, Coincidence, Surroundings};
use super::measure::{self, Measure};
use super::share::{self, Share};
use super::{Alarm, Settings, State};

/// What is watched of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Of {
    Ttft,
    TimePerOutputToken,
    OutputTokens,
    PromptTokens,
    Confidence,
    Errors,
    /// Answers that were cut at their limit.
    FinishLength,
}

impl Of {
    pub const ALL: [Self; 7] = [
        Self::Ttft,
        Self::TimePerOutputToken,
        Self::OutputTokens,
        Self::PromptTokens,
        Self::Confidence,
        Self::Errors,
        Self::FinishLength,
    ];

    /// Value of the label `of`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ttft => "ttft",
            Self::TimePerOutputToken => "time_per_output_token",
            Self::OutputTokens => "output_tokens",
            Self::PromptTokens => "prompt_tokens",
            Self::Confidence => "confidence",
            Self::Errors => "errors",
            Self::FinishLength => "finish_length",
        }
    }

    /// Its effect is a difference of shares, else a ratio.
    #[must_use]
    pub fn is_share(self) -> bool {
        matches!(self, Self::Errors | Self::FinishLength)
    }
}

/// What a request showed; what it did not show is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shown {
    /// Bytes of the request: known of each, which tokens are not.
    pub size: u64,
    pub ttft: Option<Duration>,
    pub time_per_output_token: Option<Duration>,
    pub output_tokens: Option<u64>,
    pub prompt_tokens: Option<u64>,
    pub confidence: Option<f64>,
    pub failed: Option<bool>,
    pub cut_at_limit: Option<bool>,
    pub throttled: bool,
    pub stalled: Duration,
    pub took: Duration,
}

/// The streams.
#[derive(Clone, Debug)]
pub struct Pair {
    ttft: Measure,
    time_per_output_token: Measure,
    output_tokens: Measure,
    prompt_tokens: Measure,
    confidence: Measure,
    errors: Share,
    finish_length: Share,
    surroundings: Surroundings,
    settings: Settings,
    first_ns: Option<u64>,
}

/// What is kept over a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kept {
    ttft: Option<measure::Kept>,
    time_per_output_token: Option<measure::Kept>,
    output_tokens: Option<measure::Kept>,
    prompt_tokens: Option<measure::Kept>,
    confidence: Option<measure::Kept>,
    errors: Option<share::Kept>,
    finish_length: Option<share::Kept>,
    surroundings: Surroundings,
    first_ns: Option<u64>,
}

impl Pair {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::resume(settings, Kept::default())
    }

    /// A stream of which nothing sound was kept begins anew.
    #[must_use]
    pub fn resume(settings: Settings, kept: Kept) -> Self {
        let measure = |kept: Option<measure::Kept>| {
            kept.and_then(|kept| Measure::resume(settings, kept)).unwrap_or_else(|| Measure::new(settings))
        };
        let share = |kept: Option<share::Kept>| {
            kept.and_then(|kept| Share::resume(settings, kept)).unwrap_or_else(|| Share::new(settings))
        };
        Self {
            ttft: measure(kept.ttft),
            time_per_output_token: measure(kept.time_per_output_token),
            output_tokens: measure(kept.output_tokens),
            prompt_tokens: measure(kept.prompt_tokens),
            confidence: measure(kept.confidence),
            errors: share(kept.errors),
            finish_length: share(kept.finish_length),
            surroundings: kept.surroundings,
            settings,
            first_ns: kept.first_ns,
        }
    }

    #[must_use]
    pub fn kept(&self) -> Kept {
        Kept {
            ttft: self.ttft.kept().cloned(),
            time_per_output_token: self.time_per_output_token.kept().cloned(),
            output_tokens: self.output_tokens.kept().cloned(),
            prompt_tokens: self.prompt_tokens.kept().cloned(),
            confidence: self.confidence.kept().cloned(),
            errors: Some(self.errors.kept().clone()),
            finish_length: Some(self.finish_length.kept().clone()),
            surroundings: self.surroundings.clone(),
            first_ns: self.first_ns,
        }
    }

    /// Takes what a request showed that ended at this time, in nanoseconds since 1970.
    pub fn add(&mut self, now_ns: u64, shown: &Shown) {
        let first_ns = *self.first_ns.get_or_insert(now_ns);
        let size = shown.size;
        if let Some(ttft) = shown.ttft {
            self.ttft.add(now_ns, size, ttft.as_secs_f64());
        }
        if let Some(time) = shown.time_per_output_token {
            self.time_per_output_token.add(now_ns, size, time.as_secs_f64());
        }
        if let Some(tokens) = shown.output_tokens {
            self.output_tokens.add(now_ns, size, tokens as f64);
        }
        // The load itself: of every size.
        if let Some(tokens) = shown.prompt_tokens {
            self.prompt_tokens.add(now_ns, 0, tokens as f64);
        }
        if let Some(confidence) = shown.confidence {
            self.confidence.add(now_ns, size, confidence);
        }
        if let Some(failed) = shown.failed {
            self.errors.add(now_ns, failed);
        }
        if let Some(cut) = shown.cut_at_limit {
            self.finish_length.add(now_ns, cut);
        }
        let around = Around {
            throttled: shown.throttled,
            stalled_seconds: shown.stalled.as_secs_f64(),
            seconds: shown.took.as_secs_f64(),
            size,
        };
        let learning = now_ns.saturating_sub(first_ns) <= self.settings.reference.as_nanos() as u64;
        self.surroundings.add(now_ns, &around, learning);
    }

    /// Something else changed.
    pub fn note(&mut self, now_ns: u64, what: Coincidence) {
        self.surroundings.note(now_ns, what);
    }

    #[must_use]
    pub fn state(&self, of: Of, now_ns: u64) -> State {
        match of {
            Of::Ttft => self.ttft.state(now_ns),
            Of::TimePerOutputToken => self.time_per_output_token.state(now_ns),
            Of::OutputTokens => self.output_tokens.state(now_ns),
            Of::PromptTokens => self.prompt_tokens.state(now_ns),
            Of::Confidence => self.confidence.state(now_ns),
            Of::Errors => self.errors.state(now_ns),
            Of::FinishLength => self.finish_length.state(now_ns),
        }
    }

    /// What else changed in the time of an alarm.
    #[must_use]
    pub fn coincidences(&self, alarm: &Alarm) -> Vec<Coincidence> {
        self.surroundings.of(alarm.since_ns, alarm.raised_ns)
    }
}
