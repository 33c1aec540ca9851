//! The list of the signals, and what the server shares with them.

use crate::clock::BootTime;
use crate::config::Config;
use crate::export::Shared;
use crate::health::Health;
use crate::quality::Learnt;
use crate::quality::change::Settings;
use crate::registry::Registries;
use crate::signal::Signal;
use crate::signal::canary::CanarySignal;
use crate::signal::cgroup::CgroupSignal;
use crate::signal::drift::DriftSignal;
use crate::signal::energy::EnergySignal;
use crate::signal::engine::EngineSignal;
use crate::signal::gpu::GpuSignal;
use crate::signal::latency::LatencySignal;
use crate::signal::live::{LiveSignal, Options};
use crate::signal::mmlu::MmluSignal;
use crate::signal::slo::SloSignal;
use crate::signal::slow::SlowSignal;
use crate::signal::stalls::StallSignal;

/// Makes every signal, which measures from `now` on.
pub(super) fn all(config: &Config, now: BootTime, learnt: Learnt) -> (Vec<Box<dyn Signal>>, Shared) {
    let mut registries = Registries::new(config.export.native_histograms);
    let health = Health::new(&mut registries.common);
    let latency = LatencySignal::new(config.latency(), &mut registries, now);
    let slo = SloSignal::new(config.slo.objectives(), &mut registries);
    let slow = SlowSignal::new(&mut registries);
    let stalls = StallSignal::new(&mut registries);
    let cgroup = CgroupSignal::new(&mut registries);
    let engine = EngineSignal::new(&mut registries);
    let gpu = GpuSignal::new(config.gpu.enabled, &mut registries);
    let energy = EnergySignal::new(&config.cost, &mut registries);
    let drift = DriftSignal::new(!config.drift.files.is_empty(), &mut registries);
    let mmlu = MmluSignal::new(!config.mmlu.results.is_empty(), &mut registries);
    let canary = CanarySignal::new(config.canary.enabled, &mut registries);
    let live = LiveSignal::new(live_options(config, learnt), &mut registries);
    let shared = Shared {
        latency: latency.view(),
        slow: slow.view(),
        stalls: stalls.view(),
        gpus: gpu.view(),
        predictions: drift.view(),
        evaluations: mmlu.view(),
        canary: canary.view(),
        changes: live.view(),
        registries,
        health,
    };
    let signals: Vec<Box<dyn Signal>> = vec![
        Box::new(latency),
        Box::new(slo),
        Box::new(slow),
        Box::new(stalls),
        Box::new(cgroup),
        Box::new(engine),
        Box::new(gpu),
        Box::new(energy),
        Box::new(drift),
        Box::new(mmlu),
        Box::new(canary),
        Box::new(live),
    ];
    (signals, shared)
}

fn live_options(config: &Config, learnt: Learnt) -> Options {
    let drift = &config.drift;
    let settings = Settings { between_false_alarms: drift.between_false_alarms, reference: drift.reference };
    let (kept, save) = (learnt.kept, learnt.save);
    Options { enabled: drift.live, settings, kept, save }
}
