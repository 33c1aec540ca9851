//! Cards in, lines of the page and pages of the API out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::blame::Totals;
use crate::cgroup::Groups;
use crate::engine::Engines;
use crate::gpu::source::{
    Clocks, Ecc, EccCounts, Instance, Memory, NvLink, Pcie, Power, Profile, RemappedRows, RetiredPages,
    THROTTLE_CAUSES, Throttle, Utilization,
};
use crate::gpu::{Driver, EnergySource, Identity, OTHER_XID, Reading, Sums, Use};

const GIB: u64 = 1 << 30;

/// A GPU that has all there is.
pub(crate) fn full() -> Card {
    let identity = Identity {
        uuid: "GPU-a".to_owned(),
        index: 3,
        name: "H".to_owned(),
        bus_id: "00000000:3B:00.0".to_owned(),
    };
    let sums = Sums {
        throttled_ns: [1_500_000_000; THROTTLE_CAUSES],
        throttle_known: [true; THROTTLE_CAUSES],
        energy_millijoules: Some(2500),
        energy_source: EnergySource::Counter,
    };
    let user = Use { workload: "w".into(), memory_bytes: Some(60 * GIB), sm_percent: Some(90) };
    Card {
        identity,
        state: CardState::Answers,
        reading: Some(reading()),
        xids: (1000..1016).chain([OTHER_XID]).map(|code| (code, 2)).collect(),
        sums,
        users: vec![user],
        ..Card::default()
    }
}

fn reading() -> Reading {
    let mut now = [Some(false); THROTTLE_CAUSES];
    now[1] = Some(true);
    Reading {
        at: BootTime(1),
        took: Duration::from_millis(3),
        memory: Some(Memory { used: 60 * GIB, total: 80 * GIB, reserved: Some(GIB) }),
        temperature: Some(71),
        memory_temperature: Some(80),
        margin: Some(-2),
        slowdown_temperature: Some(87),
        shutdown_temperature: Some(92),
        utilization: Some(Utilization { gpu: 97, memory: 41 }),
        power: Power {
            milliwatts: Some(650_500),
            limit_milliwatts: Some(700_000),
            energy_millijoules: Some(9),
        },
        clocks: Clocks { sm: Some(1755), memory: Some(2619), sm_max: Some(1980), memory_max: Some(2619) },
        performance_state: Some(0),
        throttle: Throttle { now, lost_ns: [Some(1); THROTTLE_CAUSES] },
        ecc: Ecc {
            volatile: Some(EccCounts { corrected: 5, uncorrected: 1 }),
            aggregate: Some(EccCounts { corrected: 50, uncorrected: 2 }),
        },
        remapped: Some(RemappedRows { corrected: 1, uncorrected: 2, pending: true, failed: false }),
        retired: Some(RetiredPages { corrected: 3, uncorrected: 4, pending: Some(false) }),
        pcie: Pcie {
            generation: Some(4),
            generation_max: Some(5),
            width: Some(8),
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
            sm_active: Some(0.9),
            sm_occupancy: Some(0.25),
            tensor_active: Some(0.4),
            memory_active: Some(0.6),
        }),
        users: None,
        instances: Vec::new(),
    }
}

fn gpus(cards: Vec<Card>) -> Gpus {
    let driver =
        Driver { version: Some("580.82".to_owned()), cuda: Some("13.0".to_owned()), ..Driver::default() };
    Gpus::of(Ok(driver), cards)
}

fn at(card: &Card, second: u64) -> Card {
    let mut card = card.clone();
    if let Some(reading) = &mut card.reading {
        reading.at = BootTime(second * 1_000_000_000);
    }
    card
}

struct Agent {
    registries: Registries,
    signal: GpuSignal,
    second: u64,
}

impl Agent {
    fn new(enabled: bool) -> Self {
        let mut registries = Registries::new(true);
        let signal = GpuSignal::new(enabled, &mut registries);
        Self { registries, signal, second: 0 }
    }

    fn tick(&mut self, gpus: &Gpus) -> Result<()> {
        self.second += 1;
        self.signal.on_tick(&Tick {
            now: BootTime(self.second * 1_000_000_000),
            workloads: &[],
            open: &[],
            stalls: &Totals::default(),
            groups: &Groups::default(),
            engines: &Engines::default(),
            gpus,
            quality: &crate::quality::Standings::default(),
        })
    }

    /// The lines, without the labels that every series of the one GPU has.
    fn lines(&self) -> Vec<String> {
        let page = String::from_utf8(self.registries.text().unwrap()).unwrap();
        let lines = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let short = |line: &str| {
            line.replace(r#"gpu="3",uuid="GPU-a",name="H""#, "").replace("{}", "").replace("{,", "{")
        };
        lines.map(short).collect()
    }

    fn names(&self) -> BTreeSet<String> {
        let name = |line: &String| line.split(['{', ' ']).next().unwrap().to_owned();
        self.lines().iter().map(name).collect()
    }

    fn says(&self, line: &str) {
        assert!(self.lines().iter().any(|other| other == line), "{line} in {:#?}", self.lines());
    }

    /// The API's page.
    fn view(&self) -> Value {
        serde_json::to_value(&*self.signal.view().latest()).unwrap()
    }
}

#[test]
fn a_gpu_that_has_all_there_is_has_so_many_series_and_no_more() {
    let mut agent = Agent::new(true);
    for second in 1..=12 {
        agent.tick(&gpus(vec![at(&full(), second)])).unwrap();
    }
    for line in [
        "gpu_memory_used_bytes 64424509440",
        "gpu_memory_total_bytes 85899345920",
        "gpu_memory_reserved_bytes 1073741824",
        "gpu_temperature_celsius 71",
        "gpu_memory_temperature_celsius 80",
        "gpu_temperature_margin_celsius -2",
        "gpu_slowdown_temperature_celsius 87",
        "gpu_shutdown_temperature_celsius 92",
        "gpu_temperature_slope_celsius_per_second 0.0",
        "gpu_seconds_to_slowdown 0.0",
        "gpu_utilization_percent 97",
        "gpu_memory_bandwidth_utilization_percent 41",
        r#"gpu_profile_ratio{metric="tensor_active"} 0.4"#,
        "gpu_power_watts 650.5",
        "gpu_power_limit_watts 700.0",
        r#"gpu_energy_joules_total{source="counter"} 2.5"#,
        r#"gpu_clock_hertz{clock="sm"} 1755000000"#,
        r#"gpu_clock_max_hertz{clock="memory"} 2619000000"#,
        "gpu_performance_state 0",
        r#"gpu_throttle_seconds_total{cause="hw_slowdown"} 1.5"#,
        r#"gpu_throttled{cause="sw_thermal"} 1"#,
        r#"gpu_throttled{cause="power_cap"} 0"#,
        r#"gpu_ecc_errors_total{kind="uncorrected",counter="aggregate"} 2"#,
        r#"gpu_remapped_rows{kind="uncorrected"} 2"#,
        "gpu_remapped_rows_pending 1",
        "gpu_remapped_rows_failed 0",
        r#"gpu_retired_pages{kind="corrected"} 3"#,
        "gpu_retired_pages_pending 0",
        "gpu_pcie_link_generation 4",
        "gpu_pcie_link_generation_max 5",
        "gpu_pcie_link_width 8",
        "gpu_pcie_link_width_max 16",
        r#"gpu_pcie_throughput_bytes_per_second{direction="received"} 2000"#,
        "gpu_pcie_replays_total 7",
        "gpu_nvlink_links_active 18",
        r#"gpu_nvlink_errors_total{kind="crc"} 3"#,
        "gpu_fan_speed_percent 30",
        r#"gpu_info{bus_id="00000000:3B:00.0",compute_mode="default"} 1"#,
        r#"gpu_state{state="answers"} 1"#,
        r#"gpu_state{state="lost"} 0"#,
        r#"gpu_xid_errors_total{xid="1000",class="unknown"} 2"#,
        r#"gpu_xid_errors_total{xid="other",class="unknown"} 2"#,
        r#"gpu_xid_errors_total{xid="79",class="hardware"} 0"#,
        r#"gpu_workload_memory_bytes{workload="w"} 64424509440"#,
        r#"gpu_workload_utilization_percent{workload="w"} 90"#,
        r#"gpu_driver_info{driver="580.82",cuda="13.0"} 1"#,
    ] {
        agent.says(line);
    }
    // One is the driver's.
    assert_eq!(agent.lines().len(), SERIES_MAX + USE_SERIES + 1, "{:#?}", agent.lines());
    let again = agent.registries.openmetrics().unwrap();
    assert!(String::from_utf8(again).unwrap().contains("gpu_energy_joules_total{"));
    agent.registries.protobuf().unwrap().unwrap();
}

#[test]
fn what_is_not_known_is_absent() {
    let bare =
        Card { reading: Some(Reading::default()), ..Card { state: CardState::Answers, ..Card::default() } };
    let mut agent = Agent::new(true);
    agent.tick(&gpus(vec![bare])).unwrap();
    let expected = ["gpu_driver_info", "gpu_info", "gpu_state", "gpu_xid_errors_total"];
    assert_eq!(agent.names(), expected.map(str::to_owned).into());
    let view = agent.view();
    assert!(view["gpus"][0]["temperature_celsius"].is_null() && view["gpus"][0]["nvlink"].is_null());
}

#[test]
fn one_that_does_not_answer_keeps_its_counters_and_one_that_is_taken_out_has_nothing() {
    let counters = [
        "gpu_driver_info",
        "gpu_ecc_errors_total",
        "gpu_energy_joules_total",
        "gpu_info",
        "gpu_nvlink_errors_total",
        "gpu_pcie_replays_total",
        "gpu_state",
        "gpu_throttle_seconds_total",
        "gpu_xid_errors_total",
    ];
    let mut agent = Agent::new(true);
    agent.tick(&gpus(vec![full()])).unwrap();
    for state in [CardState::Unresponsive(BootTime(1)), CardState::Lost("it left the bus".to_owned())] {
        let label = state.label();
        let gone = gpus(vec![Card { state, reading: None, ..full() }]);
        let failed = agent.tick(&gone).unwrap_err().to_string();
        assert!(failed.starts_with("no GPU answers; GPU 3: it "), "{failed}");
        assert_eq!(agent.names(), counters.map(str::to_owned).into());
        agent.says(&format!(r#"gpu_state{{state="{label}"}} 1"#));
        agent.says(r#"gpu_info{bus_id="00000000:3B:00.0",compute_mode="default"} 1"#);
        let gpu = &agent.view()["gpus"][0];
        assert_eq!((&gpu["state"], &gpu["power_watts"]), (&label.into(), &Value::Null));
        assert!(gpu["state_reason"].is_string() && gpu["users"] == Value::Array(Vec::new()));
        assert_eq!(gpu["ecc_errors"]["aggregate_uncorrected"], 2);
    }
    agent.tick(&gpus(Vec::new())).unwrap();
    assert_eq!(agent.names(), ["gpu_driver_info".to_owned()].into());
    assert!(agent.signal.followed.is_empty());
}

#[test]
fn a_driver_that_is_loaded_again_takes_nothing_back() {
    let with = |second, corrected, replays| {
        let mut card = at(&full(), second);
        let reading = card.reading.as_mut().unwrap();
        reading.ecc.volatile = Some(EccCounts { corrected, uncorrected: 0 });
        reading.pcie.replays = replays;
        gpus(vec![card])
    };
    let mut agent = Agent::new(true);
    for (second, corrected, replays, expected) in [
        (1, 5, Some(7), (5, 7)),
        (2, 5, None, (5, 7)),
        (3, 0, Some(0), (5, 7)),
        (4, 2, Some(1), (7, 8)),
        (5, 2, Some(9), (7, 16)),
    ] {
        agent.tick(&with(second, corrected, replays)).unwrap();
        agent.says(&format!(r#"gpu_ecc_errors_total{{kind="corrected",counter="volatile"}} {}"#, expected.0));
        agent.says(&format!("gpu_pcie_replays_total {}", expected.1));
    }
}

#[test]
fn the_memory_of_a_split_gpu_is_that_of_its_instances() {
    let instance = |number: u64| Instance {
        uuid: format!("MIG-{number}"),
        profile: "3g.40gb".to_owned(),
        gpu_instance: Some(number as u32),
        compute_instance: Some(0),
        memory: Some(Memory { used: number * GIB, total: 40 * GIB, reserved: Some(0) }),
        users: None,
    };
    let mut card = full();
    let reading = card.reading.as_mut().unwrap();
    (reading.memory, reading.utilization) = (None, None);
    reading.instances = vec![instance(1), instance(2)];
    let mut agent = Agent::new(true);
    agent.tick(&gpus(vec![card])).unwrap();
    let of_memory = |line: &String| line.starts_with("gpu_memory_") && line.contains("_bytes{");
    let memory: Vec<String> = agent.lines().into_iter().filter(of_memory).collect();
    assert_eq!(memory.len(), 2 * INSTANCE_SERIES, "{memory:#?}");
    agent.says(r#"gpu_memory_used_bytes{gpu="3",uuid="MIG-2",name="H MIG 3g.40gb"} 2147483648"#);
    assert!(!agent.names().contains("gpu_utilization_percent"));
    let instances = &agent.view()["gpus"][0]["instances"];
    assert_eq!(
        (&instances[1]["uuid"], &instances[1]["memory_used_bytes"]),
        (&"MIG-2".into(), &(2 * GIB).into())
    );
}

#[test]
fn a_node_without_gpus_is_no_failure_and_a_driver_that_fails_is() {
    let unsupported = |why: &str| Some(Unavailable::Unsupported(why.to_owned()));
    let answers = Card { state: CardState::Answers, ..full() };
    let lost = Card { state: CardState::Lost("it is gone".to_owned()), reading: None, ..full() };
    let mut second = full();
    second.identity.uuid = "GPU-b".to_owned();
    let why = "the driver went".to_owned();
    let rows = [
        (Gpus::default(), None, None),
        (
            Gpus::of(Err(Failure::Absent("no library".to_owned())), Vec::new()),
            unsupported("no library"),
            None,
        ),
        (gpus(Vec::new()), unsupported("the driver knows no GPU"), None),
        (gpus(vec![answers]), None, None),
        (gpus(vec![lost.clone(), second]), None, None),
        (gpus(vec![lost.clone()]), None, Some("no GPU answers; GPU 3: it is gone")),
        (Gpus::of(Err(Failure::Session(why)), vec![lost]), None, Some("the driver went")),
    ];
    let mut agent = Agent::new(true);
    for (gpus, unavailable, failed) in rows {
        let ticked = agent.tick(&gpus).map_err(|error| error.to_string());
        assert_eq!(ticked.err().as_deref(), failed);
        assert_eq!(agent.signal.unavailable(), unavailable);
    }
    let mut off = Agent::new(false);
    off.tick(&Gpus::default()).unwrap();
    assert_eq!(off.signal.unavailable(), Some(Unavailable::Disabled));
    assert!(off.lines().is_empty());
}

#[test]
fn the_page_of_the_api_says_what_now_is_and_what_to_do() {
    let mut card = full();
    card.xids = BTreeMap::from([(79, 1), (31, 4)]);
    let mut agent = Agent::new(true);
    for second in 1..=3 {
        let mut card = at(&card, second);
        card.sums.throttled_ns[1] += second * 250_000_000;
        agent.tick(&gpus(vec![card])).unwrap();
    }
    let view = agent.view();
    assert_eq!((&view["driver"]["version"], &view["reason"]), (&"580.82".into(), &Value::Null));
    let gpu = &view["gpus"][0];
    assert_eq!(gpu["throttled"], serde_json::json!(["sw_thermal"]));
    assert_eq!(gpu["throttle_seconds_per_second"]["sw_thermal"], 0.25);
    assert_eq!(gpu["xids"][1]["xid"], "79");
    assert_eq!(gpu["xids"][1]["class"], "hardware");
    assert!(gpu["xids"][1]["action"].as_str().unwrap().contains("restart the node"));
    assert_eq!(
        gpu["users"][0],
        serde_json::json!({
            "workload": "w", "memory_bytes": 60 * GIB, "utilization_percent": 90,
        })
    );
    assert_eq!(gpu["history"]["temperature_celsius"], serde_json::json!([71, 71, 71]));
    assert_eq!(gpu["read_took_seconds"], 0.003);
}

/// Names of all fields, those of nested objects too.
fn fields(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, inner) in object {
                names.insert(name.clone());
                fields(inner, names);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| fields(value, names)),
        _ => {}
    }
}

#[test]
fn every_field_of_the_page_is_told_and_every_series_stands_at_the_head() {
    let mut card = full();
    card.reading.as_mut().unwrap().instances = vec![Instance::default()];
    let mut agent = Agent::new(true);
    for second in 1..=12 {
        agent.tick(&gpus(vec![at(&card, second)])).unwrap();
    }
    let mut names = BTreeSet::new();
    fields(&agent.view(), &mut names);
    let told = include_str!("../../export/api.rs").split("/api/v1/gpus").nth(1).unwrap();
    let untold: Vec<&String> = names.iter().filter(|name| !told.contains(&format!("`{name}`"))).collect();
    assert!(untold.is_empty(), "{untold:?}");
    let head = include_str!("mod.rs");
    let suffixes = ["_total_bytes", "_reserved_bytes", "_pending", "_failed", "_max"];
    let stands = |name: &&String| {
        let whole = [format!("`{name}`"), format!("`{name}{{")].iter().any(|form| head.contains(form));
        whole || suffixes.iter().any(|suffix| name.ends_with(suffix) && head.contains(&format!("`{suffix}`")))
    };
    let names = agent.names();
    let missing: Vec<&String> = names.iter().filter(|name| !stands(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
