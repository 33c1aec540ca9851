//! All signals on one page: how large it becomes.

use std::sync::Arc;
use std::time::Duration;

use inferscope_common::stall::Stall;

use super::*;
use crate::blame::{Cause, Owner, Phase, Vector};
use crate::cgroup::{Cpu, Memory, Pressure, Pressures, Reading};
use crate::gpu::source::Driver;
use crate::gpu::{Card, Use};
use crate::registry::Registries;
use crate::request::record::RequestRecord;
use crate::signal::latency::tests::{record, workload};
use crate::workload::Role;

/// Of a node of eight servers and eight GPUs, and of it an allowance for the agent's own metrics.
const SERIES_MAX: usize = 4000;
const OWN_SERIES: usize = 300;
/// As `deploy/inferscope.toml` says to whoever sets limits.
const SERIES_OF_MODEL: usize = 176;
const SERVERS: usize = 8;
const NOW: BootTime = BootTime(1_010_000_000_000);

fn signals(registries: &mut Registries) -> Vec<Box<dyn Signal>> {
    let options = latency::Options::default();
    vec![
        Box::new(latency::LatencySignal::new(options, registries, BootTime(1_000_000_000_000))),
        Box::new(slo::SloSignal::new(crate::slo::Settings::default().objectives(), registries)),
        Box::new(slow::SlowSignal::new(registries)),
        Box::new(stalls::StallSignal::new(registries)),
        Box::new(cgroup::CgroupSignal::new(registries)),
        Box::new(engine::EngineSignal::new(registries)),
        Box::new(gpu::GpuSignal::new(true, registries)),
        Box::new(energy::EnergySignal::new(&crate::cost::Settings::default(), registries)),
    ]
}

/// Whatever a control group can say.
fn group() -> Reading {
    let pressure = Some(Pressure { some: Duration::ZERO, full: Some(Duration::ZERO) });
    let memory = Memory {
        current_bytes: Some(1),
        limit_bytes: Some(1),
        high_events: Some(1),
        max_events: Some(1),
        oom_kills: Some(1),
        major_faults: Some(1),
    };
    Reading {
        cpu: Some(Cpu { periods: 1, throttled_periods: 1, throttled: Duration::ZERO }),
        memory: Some(memory),
        pressure: Pressures { cpu: pressure, memory: pressure, io: pressure },
    }
}

/// Servers of three processes that have stalled in every way, each with a GPU that says all that one can.
fn crowd(servers: &[Arc<Workload>]) -> (Totals, Groups, Gpus) {
    let (mut stalls, mut groups) = (Totals::default(), Groups::default());
    let mut cards = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        for role in [Some(Role::Api), Some(Role::Engine), Some(Role::Worker), None] {
            let owner = Owner { workload: server.label.clone(), role };
            stalls.add_pending(owner, Stall::RunQueue, 1);
        }
        groups.readings.insert(server.label.clone(), group());
        let mut card = Card { ..gpu::tests::full() };
        card.identity.uuid = format!("GPU-{number}");
        card.users = vec![Use { workload: server.label.clone(), memory_bytes: Some(1), sm_percent: Some(1) }];
        cards.push(card);
    }
    (stalls, groups, Gpus::of(Ok(Driver::default()), cards))
}

/// Series of all signals where each server has served so many models.
fn series(models: usize) -> usize {
    let mut registries = Registries::new(false);
    let mut signals = signals(&mut registries);
    let servers: Vec<_> = (0..SERVERS).map(|number| workload(&format!("server-{number}"))).collect();
    let (stalls, groups, gpus) = crowd(&servers);
    let state = |workload: &Arc<Workload>| WorkloadState {
        workload: workload.clone(),
        up: true,
        listens: true,
        engine_lost: false,
        listening: Some(NOW),
        down: None,
    };
    let workloads: Vec<_> = servers.iter().map(state).collect();
    let (open, engines) = (&[][..], &Engines::default());
    let tick = Tick {
        now: NOW,
        workloads: &workloads,
        open,
        stalls: &stalls,
        groups: &groups,
        engines,
        gpus: &gpus,
        quality: &crate::quality::Standings::default(),
    };
    let took = Vector::of_times([(Cause::Rest, Duration::from_millis(120))]);
    let verdict =
        Verdict { phases: vec![(Phase::Whole, took)], throttles: Some(Vec::new()), ..Verdict::default() };
    for signal in &mut signals {
        signal.on_tick(&tick).unwrap();
        for (server, model) in servers.iter().flat_map(|server| (0..models).map(move |model| (server, model)))
        {
            let model = format!("{}-{model}", server.label).into();
            signal.on_request(&RequestRecord { workload: server.clone(), model, ..record() }, &verdict);
        }
        signal.on_tick(&tick).unwrap();
    }
    let page = String::from_utf8(registries.text().unwrap()).unwrap();
    page.lines().filter(|line| !line.starts_with('#')).count()
}

#[test]
fn eight_servers_of_a_model_each_on_eight_full_gpus_are_below_what_the_defaults_promise() {
    let all = series(1);
    let of_gpus = SERVERS * (gpu::SERIES_MAX + gpu::USE_SERIES);
    assert!(all > 2 * of_gpus, "{all}: the count counts");
    // None of them is in the count: what requests show is only told once it was learnt.
    let of_changes = SERVERS * live::SERIES_MAX;
    assert!(all + OWN_SERIES + of_changes <= SERIES_MAX, "{all} series");
    // Also one that is `unknown` or `other`. The first one of a server has a few more, of its start.
    let more = (series(2) - all) / SERVERS;
    assert_eq!(more, SERIES_OF_MODEL, "series of one more model of a server");
}
