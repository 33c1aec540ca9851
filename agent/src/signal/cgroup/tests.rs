//! Readings in, lines of the page out.

use std::collections::HashMap;

use super::*;
use crate::blame::Totals as Stalls;
use crate::cgroup::{Groups, Pressure};
use crate::clock::BootTime;
use crate::engine::Engines;
use crate::gpu::Gpus;
use crate::signal::latency::tests::workload;

fn tick(signal: &mut CgroupSignal, reading: Option<Reading>, failure: Option<&str>) -> Result<()> {
    let readings: HashMap<_, _> = reading.map(|reading| ("w".into(), reading)).into_iter().collect();
    let groups = Groups { readings, failure: failure.map(str::to_owned) };
    signal.on_tick(&Tick {
        now: BootTime(1),
        workloads: &[],
        open: &[],
        stalls: &Stalls::default(),
        groups: &groups,
        engines: &Engines::default(),
        gpus: &Gpus::default(),
        quality: &crate::quality::Standings::default(),
    })
}

fn lines(registries: &Registries) -> Vec<String> {
    let page = String::from_utf8(registries.text().unwrap()).unwrap();
    page.lines().filter(|line| line.contains("workload=")).map(str::to_owned).collect()
}

fn reading() -> Reading {
    let pressure = Pressure { some: Duration::from_millis(70), full: Some(Duration::from_millis(60)) };
    let memory = Memory {
        current_bytes: Some(4096),
        limit_bytes: Some(8192),
        high_events: Some(5),
        ..Memory::default()
    };
    Reading {
        cpu: Some(Cpu { periods: 9, throttled_periods: 3, throttled: Duration::from_millis(1500) }),
        memory: Some(memory),
        pressure: Pressures { memory: Some(pressure), ..Pressures::default() },
    }
}

#[test]
fn a_reading_feeds_its_series_and_what_is_not_there_is_absent() {
    let mut registries = Registries::new(false);
    let mut signal = CgroupSignal::new(&mut registries);
    tick(&mut signal, Some(reading()), None).unwrap();
    let mut expected = [
        r#"cgroup_pressure_seconds_total{workload="w",resource="memory",kind="some"} 0.07"#,
        r#"cgroup_pressure_seconds_total{workload="w",resource="memory",kind="full"} 0.06"#,
        r#"cgroup_cpu_throttled_seconds_total{workload="w"} 1.5"#,
        r#"cgroup_cpu_periods_total{workload="w"} 9"#,
        r#"cgroup_cpu_throttled_periods_total{workload="w"} 3"#,
        r#"cgroup_memory_bytes{workload="w"} 4096"#,
        r#"cgroup_memory_limit_bytes{workload="w"} 8192"#,
        r#"cgroup_memory_events_total{workload="w",event="high"} 5"#,
    ];
    let mut found = lines(&registries);
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);

    let memory = Memory { limit_bytes: None, ..reading().memory.unwrap() };
    tick(&mut signal, Some(Reading { memory: Some(memory), ..reading() }), None).unwrap();
    assert!(!lines(&registries).iter().any(|line| line.contains("limit")), "a limit that was taken away");
}

#[test]
fn a_group_that_is_forgotten_leaves_no_series_and_a_failure_is_told() {
    let mut registries = Registries::new(false);
    let mut signal = CgroupSignal::new(&mut registries);
    let failed = tick(&mut signal, Some(reading()), Some("read cpu.stat"));
    assert_eq!(failed.unwrap_err().to_string(), "read cpu.stat");
    assert!(!lines(&registries).is_empty(), "what could be read is there");
    signal.forget_workload(&workload("w"));
    assert_eq!(lines(&registries), Vec::<String>::new());
}
