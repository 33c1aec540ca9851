//! The GPUs of the golden page: one with all there is, one that is split, and one that left the bus.

use inferscope::blame::Totals;
use inferscope::cgroup::Groups;
use inferscope::clock::BootTime;
use inferscope::engine::Engines;
use inferscope::gpu::source::{
    Clocks, Driver, Ecc, EccCounts, Instance, Memory, NvLink, Pcie, Power, Profile, RemappedRows,
    RetiredPages, THROTTLE_CAUSES, Throttle, Utilization,
};
use inferscope::gpu::{Card, CardState, EnergySource, Gpus, Reading, Sums, Use};
use inferscope::registry::Registries;
use inferscope::signal::gpu::GpuSignal;
use inferscope::signal::{Signal as _, Tick};

use super::after;

/// The series of these GPUs, after some twenty seconds.
pub fn signal(registries: &mut Registries) {
    let mut gpu = GpuSignal::new(true, registries);
    for second in 40..=63 {
        let now = after(second * 1000);
        gpu.on_tick(&Tick {
            now,
            workloads: &[],
            open: &[],
            stalls: &Totals::default(),
            groups: &Groups::default(),
            engines: &Engines::default(),
            gpus: &gpus(now),
            quality: &inferscope::quality::Standings::default(),
        })
        .unwrap();
    }
}

/// What a GPU says that has all there is.
fn reading(at: BootTime) -> Reading {
    let counts = |corrected, uncorrected| Some(EccCounts { corrected, uncorrected });
    let mut now = [Some(false); THROTTLE_CAUSES];
    now[0] = Some(true);
    Reading {
        at,
        memory: Some(Memory { used: 64 << 30, total: 80 << 30, reserved: Some(1 << 29) }),
        temperature: Some(71),
        memory_temperature: Some(80),
        margin: Some(16),
        slowdown_temperature: Some(87),
        shutdown_temperature: Some(92),
        utilization: Some(Utilization { gpu: 97, memory: 41 }),
        power: Power { milliwatts: Some(650_500), limit_milliwatts: Some(700_000), energy_millijoules: None },
        clocks: Clocks { sm: Some(1755), memory: Some(2619), sm_max: Some(1980), memory_max: Some(2619) },
        performance_state: Some(0),
        throttle: Throttle { now, ..Throttle::default() },
        ecc: Ecc { volatile: counts(5, 0), aggregate: counts(50, 1) },
        remapped: Some(RemappedRows { corrected: 1, uncorrected: 2, pending: true, failed: false }),
        retired: Some(RetiredPages { corrected: 3, uncorrected: 4, pending: Some(false) }),
        pcie: Pcie {
            generation: Some(4),
            generation_max: Some(5),
            width: Some(16),
            width_max: Some(16),
            sent_bytes_per_second: Some(1000),
            received_bytes_per_second: Some(2000),
            replays: Some(7),
        },
        nvlink: Some(NvLink {
            links_active: 18,
            replay_errors: Some(1),
            recovery_errors: Some(2),
            crc_errors: Some(3),
        }),
        fan_percent: Some(30),
        compute_mode: Some("default"),
        profile: Some(Profile {
            sm_active: Some(0.875),
            sm_occupancy: Some(0.25),
            tensor_active: Some(0.5),
            memory_active: Some(0.625),
        }),
        ..Reading::default()
    }
}

fn gpus(at: BootTime) -> Gpus {
    let identity = |index: u32| inferscope::gpu::Identity {
        uuid: format!("GPU-{index}"),
        index,
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        bus_id: format!("00000000:{index}B:00.0"),
    };
    let sums = Sums {
        throttled_ns: std::array::from_fn(|cause| cause as u64 * 250_000_000),
        throttle_known: [true; THROTTLE_CAUSES],
        energy_millijoules: Some(2_500_500),
        energy_source: EnergySource::Counter,
    };
    let user = Use { workload: "llm/chat".into(), memory_bytes: Some(60 << 30), sm_percent: Some(90) };
    let card = |number, state, reading, xids: &[(u64, u64)]| {
        let mut card = Card::default();
        (card.identity, card.state, card.reading) = (identity(number), state, reading);
        card.xids = xids.iter().copied().collect();
        card
    };
    let mut whole = card(0, CardState::Answers, Some(reading(at)), &[(31, 2)]);
    (whole.sums, whole.users) = (sums, vec![user]);
    let instance = |number: u32| Instance {
        uuid: format!("MIG-{number}"),
        profile: "3g.40gb".to_owned(),
        memory: Some(Memory { used: 1 << 30, total: 40 << 30, reserved: None }),
        ..Instance::default()
    };
    let instances = vec![instance(1), instance(2)];
    let split = card(1, CardState::Answers, Some(Reading { at, instances, ..Reading::default() }), &[]);
    let lost = card(2, CardState::Lost("it left the bus".to_owned()), None, &[(79, 1)]);
    let (version, cuda) = (Some("580.82.07".to_owned()), Some("13.0".to_owned()));
    Gpus::of(Ok(Driver { version, cuda, ..Driver::default() }), vec![whole, split, lost])
}
