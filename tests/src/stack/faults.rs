//! Which fault raises which alert.

/// What is done, or happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Longer,
    Gpus,
    GpuLost,
    GpuHeats,
    Errors,
    Empty,
    Crawl,
    Stuck,
    ServerKilled,
    EventLoop,
    EngineStopped,
    Hogs,
    Quota,
    Memory,
    Predictions,
    PredictionsGone,
    Evaluation,
    Canary,
    CanaryFiles,
    PageGone,
    Flood,
    Frozen,
    Restarts,
    Stopped,
    Forgotten,
}

impl Fault {
    /// In few words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Longer => "answers 300 ms later and three times as long",
            Self::Gpus => "GPUs hot, full, busy, held down, idle, with faults and worn memory",
            Self::GpuLost => "a GPU falls off its bus",
            Self::GpuHeats => "a GPU heats up to where its clocks go down",
            Self::Errors => "one request in thirty fails",
            Self::Empty => "one answer in thirty is empty",
            Self::Crawl => "first tokens after 2.6 s, one every 0.4 s",
            Self::Stuck => "answers that do not come",
            Self::ServerKilled => "two servers are killed",
            Self::EventLoop => "an event loop computes for half a second, again and again",
            Self::EngineStopped => "an engine's process is stopped, again and again",
            Self::Hogs => "others burn the processor of a server",
            Self::Quota => "a control group's quota is too small",
            Self::Memory => "a control group has hardly memory left",
            Self::Predictions => "predictions are wrong, unsure and others than before",
            Self::PredictionsGone => "the files of predictions are gone",
            Self::Evaluation => "an evaluation is 11 points worse",
            Self::Canary => "a model answers the canary's questions otherwise",
            Self::CanaryFiles => "the canary's questions are gone",
            Self::PageGone => "a server's own page of metrics does not come",
            Self::Flood => "three times the connections that are followed",
            Self::Frozen => "the agent's pipeline stands still",
            Self::Restarts => "the agent restarts five times",
            Self::Stopped => "the agent is stopped",
            Self::Forgotten => "Prometheus has no agent to scrape",
        }
    }
}

/// Every alert, and what raises it.
pub const OF_ALERTS: [(&str, Fault); 51] = [
    ("ErrorBudgetBurnsFast", Fault::Errors),
    ("ErrorBudgetBurns", Fault::Errors),
    ("LatencyBudgetBurns", Fault::Longer),
    ("UptimeBudgetBurnsFast", Fault::ServerKilled),
    ("UptimeBudgetBurns", Fault::ServerKilled),
    ("ErrorRateHigh", Fault::Errors),
    ("ErrorRateCritical", Fault::Errors),
    ("TimeToFirstTokenHigh", Fault::Crawl),
    ("TimeToFirstTokenCritical", Fault::Crawl),
    ("TimePerOutputTokenHigh", Fault::Crawl),
    ("TimePerOutputTokenCritical", Fault::Crawl),
    ("GPUHighTemperature", Fault::Gpus),
    ("GPUMemoryPressure", Fault::Gpus),
    ("GPUOutOfMemory", Fault::Gpus),
    ("GPUUtilizationHigh", Fault::Gpus),
    ("GPUUtilizationCritical", Fault::Gpus),
    ("GPUUnderused", Fault::Gpus),
    ("HighInferenceLatency", Fault::Longer),
    ("CriticalInferenceLatency", Fault::Longer),
    ("ModelAccuracyDegraded", Fault::Predictions),
    ("ModelAccuracyCritical", Fault::Predictions),
    ("SignificantModelDrift", Fault::Predictions),
    ("ServerDown", Fault::ServerKilled),
    ("RequestsStalled", Fault::Stuck),
    ("SlowRequests", Fault::Longer),
    ("EventLoopDelay", Fault::EventLoop),
    ("EmptyAnswers", Fault::Empty),
    ("EngineStarved", Fault::Hogs),
    ("EngineThrottled", Fault::Quota),
    ("EngineStopped", Fault::EngineStopped),
    ("MemoryStall", Fault::Memory),
    ("GPULost", Fault::GpuLost),
    ("GPUThrottled", Fault::Gpus),
    ("GPUTemperatureRising", Fault::GpuHeats),
    ("GPUFault", Fault::Gpus),
    ("GPUApplicationFault", Fault::Gpus),
    ("GPUMemoryErrors", Fault::Gpus),
    ("ConfidenceFell", Fault::Predictions),
    ("ConfidenceLow", Fault::Predictions),
    ("MMLUScoreFell", Fault::Evaluation),
    ("ServingChanged", Fault::Longer),
    ("ServingChangedWithCause", Fault::Errors),
    ("CanaryAnswersChanged", Fault::Canary),
    ("CanaryFails", Fault::CanaryFiles),
    ("DriftScoreStale", Fault::PredictionsGone),
    ("InferscopeDown", Fault::Stopped),
    ("InferscopeAbsent", Fault::Forgotten),
    ("InferscopeStale", Fault::Frozen),
    ("InferscopeLosesEvents", Fault::Flood),
    ("InferscopeSignalFailed", Fault::PageGone),
    ("InferscopeRestarts", Fault::Restarts),
];

/// What raises an alert.
#[must_use]
pub fn of(alert: &str) -> Option<Fault> {
    OF_ALERTS.iter().find(|(name, _)| *name == alert).map(|(_, fault)| *fault)
}
