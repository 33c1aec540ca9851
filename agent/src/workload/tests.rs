//! Servers that come and go on a node that is a folder.

use inferscope_common::process::{ProcessEvent, ProcessKind};

use super::fake_proc::{Fake, FakeProc};
use super::*;

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> BootTime {
    BootTime(seconds * SECOND)
}

fn event(kind: ProcessKind, tgid: u32) -> ProcessEvent {
    ProcessEvent { kind: kind as u32, tgid, ..ProcessEvent::default() }
}

fn fork(child: u32, parent: u32) -> ProcessEvent {
    ProcessEvent { parent_tgid: parent, ..event(ProcessKind::Fork, child) }
}

fn labels(workloads: &Workloads) -> Vec<String> {
    let mut labels: Vec<_> =
        workloads.states().iter().map(|state| state.workload.label.to_string()).collect();
    labels.sort();
    labels
}

fn found(workloads: &mut Workloads, tgid: u32) -> Option<(String, Option<Role>)> {
    workloads.find(tgid).map(|(workload, role)| (workload.label.to_string(), role))
}

#[test]
fn a_scan_finds_a_server_and_all_its_processes() {
    let proc = FakeProc::new();
    proc.run_all(&[
        (100, 1, "/usr/bin/python3 /opt/venv/bin/vllm serve m --port 8123"),
        (90, 100, "VLLM::EngineCore"),
        (101, 90, "VLLM::Worker_TP0"),
        (102, 100, "python -c from_multiprocessing.resource_tracker_import_main"),
        (103, 100, "vllm-rs --listen-fd 3"),
        (200, 1, "bash"),
        (201, 200, "top"),
    ]);
    let mut workloads = proc.workloads();
    let mut changes = workloads.scan(at(1));
    changes.watch.sort_unstable();
    assert_eq!(changes.watch, [90, 100, 101, 102, 103]);
    assert_eq!(changes.appeared.len(), 1);
    let label = "vllm-8123".to_owned();
    for (tgid, role) in [
        (100, Some(Role::Api)),
        (90, Some(Role::Engine)),
        (101, Some(Role::Worker)),
        (102, None),
        (103, Some(Role::Api)),
    ] {
        assert_eq!(found(&mut workloads, tgid), Some((label.clone(), role)), "{tgid}");
    }
    assert_eq!(found(&mut workloads, 201), None);
    assert_eq!(found(&mut workloads, 1), None);
}
