//! Servers that come and go on a node that is a folder.

use inferscope_common::process::{ProcessEvent, ProcessKind};

use super::fake_proc::{Fake, FakeProc};
use super::*;

mod several;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 24 * 60 * 60;

fn at(seconds: u64) -> BootTime {
    BootTime(seconds * SECOND)
}

fn event(kind: ProcessKind, tgid: u32) -> ProcessEvent {
    ProcessEvent { kind: kind as u32, tgid, ..ProcessEvent::default() }
}

fn fork(child: u32, parent: u32) -> ProcessEvent {
    ProcessEvent { parent_tgid: parent, ..event(ProcessKind::Fork, child) }
}

fn listen(tgid: u32, port: u32, seconds: u64) -> ProcessEvent {
    ProcessEvent { port, time_ns: seconds * SECOND, ..event(ProcessKind::Listen, tgid) }
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

fn label_of(workloads: &mut Workloads, tgid: u32) -> Option<String> {
    found(workloads, tgid).map(|(label, _)| label)
}

fn state(workloads: &Workloads, label: &str) -> WorkloadState {
    workloads.states().into_iter().find(|state| *state.workload.label == *label).unwrap()
}

fn rule(text: &str) -> Rule {
    toml::from_str(text).unwrap()
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
    assert_eq!(workloads.scan(at(11)), Changes::default());
}

#[test]
fn a_server_that_starts_later_is_found_as_it_runs() {
    let proc = FakeProc::new();
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    proc.run_all(&[(50, 1, "sh -c vllm serve m"), (51, 50, "vllm serve m")]);
    assert_eq!(workloads.on_process(&event(ProcessKind::Exec, 50), at(2)), Changes::default());
    let changes = workloads.on_process(&event(ProcessKind::Exec, 51), at(2));
    assert_eq!((changes.watch, changes.appeared.len()), (vec![51], 1));
    assert_eq!(label_of(&mut workloads, 51).as_deref(), Some("vllm-8000"));
    assert_eq!(found(&mut workloads, 50), None, "what started a server is not part of it");
}

#[test]
fn a_server_whose_exec_was_lost_is_found_by_the_next_scan() {
    let proc = FakeProc::new();
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    proc.run_all(&[(100, 1, "llama-server -m x.gguf"), (101, 100, "llama-server -m x.gguf")]);
    let mut watch = workloads.scan(at(11)).watch;
    watch.sort_unstable();
    assert_eq!(watch, [100, 101]);
    assert_eq!(labels(&workloads), ["llama_cpp-8080"]);
}

#[test]
fn children_belong_to_it_at_once_whatever_they_run() {
    let proc = FakeProc::new();
    proc.run(Fake::default());
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    proc.run_all(&[(101, 100, "vllm serve m")]);
    assert_eq!(workloads.on_process(&fork(101, 100), at(2)).watch, [101]);
    proc.set_command(101, "VLLM::Worker_TP1");
    assert_eq!(workloads.on_process(&event(ProcessKind::Exec, 101), at(2)), Changes::default());
    assert_eq!(found(&mut workloads, 101), Some(("vllm-8000".into(), Some(Role::Worker))));
    // A grandchild whose fork was lost is found through its ancestors, and named in the next changes.
    proc.run_all(&[(102, 101, "ptxas --help")]);
    assert_eq!(found(&mut workloads, 102), Some(("vllm-8000".into(), None)));
    assert_eq!(workloads.scan(at(3)).watch, [102]);
}

#[test]
fn a_child_gets_its_role_when_it_has_its_title() {
    let proc = FakeProc::new();
    proc.run_all(&[(100, 1, "vllm serve m"), (101, 100, "python -c from_multiprocessing.spawn")]);
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    assert_eq!(found(&mut workloads, 101), Some(("vllm-8000".into(), None)));
    proc.set_command(101, "VLLM::EngineCore\0\0\0\0");
    workloads.scan(at(11));
    assert_eq!(found(&mut workloads, 101), Some(("vllm-8000".into(), Some(Role::Engine))));
}

#[test]
fn a_process_lives_as_long_as_one_of_its_threads() {
    let proc = FakeProc::new();
    let server = Fake::default();
    proc.run(server);
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    proc.end_first_thread(server, 150);
    assert_eq!(workloads.scan(at(3)), Changes::default());
    assert!(state(&workloads, "vllm-8000").up);
    assert_eq!(workloads.on_process(&event(ProcessKind::Exit, 100), at(4)).unwatch, [100]);
    assert!(!state(&workloads, "vllm-8000").up);
}

#[test]
fn a_process_that_has_ended_is_nobody_while_it_can_still_be_seen() {
    let proc = FakeProc::new();
    proc.run_all(&[(100, 1, "vllm serve m"), (101, 100, "VLLM::EngineCore")]);
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    for _ in 0..2 {
        workloads.on_process(&event(ProcessKind::Exit, 101), at(2));
        assert_eq!(found(&mut workloads, 101), None);
    }
    assert!(state(&workloads, "vllm-8000").up);
}

#[test]
fn an_end_that_no_event_told_is_seen_by_the_scan() {
    let proc = FakeProc::new();
    proc.run_all(&[(100, 1, "vllm serve m"), (101, 100, "VLLM::EngineCore")]);
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    proc.end(101);
    assert_eq!(workloads.scan(at(2)).unwatch, [101]);
    assert!(state(&workloads, "vllm-8000").up);
    proc.end(100);
    assert_eq!(workloads.scan(at(3)).unwatch, [100]);
    assert!(!state(&workloads, "vllm-8000").up);
}

#[test]
fn a_number_given_again_is_another_process() {
    let proc = FakeProc::new();
    proc.run_all(&[(100, 1, "vllm serve m"), (101, 100, "VLLM::EngineCore")]);
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    let other = |tgid, command| Fake { tgid, command, began: 900, ..Fake::default() };
    proc.run(other(101, "nginx"));
    assert_eq!(workloads.on_process(&event(ProcessKind::Exec, 101), at(2)).unwatch, [101]);
    assert_eq!(found(&mut workloads, 101), None);
    proc.run(other(100, "nginx"));
    assert_eq!(workloads.scan(at(3)).unwatch, [100]);
    assert_eq!(found(&mut workloads, 100), None);
    // And a child of the new one is not taken for a child of the old.
    proc.run_all(&[(102, 100, "nginx")]);
    assert_eq!(found(&mut workloads, 102), None);
}

#[test]
fn a_number_given_to_another_child_is_followed_as_that() {
    let proc = FakeProc::new();
    proc.run_all(&[(100, 1, "vllm serve m"), (101, 100, "VLLM::EngineCore")]);
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    proc.run(Fake { tgid: 101, parent: 100, command: "vllm serve m", began: 900, ..Fake::default() });
    let changes = workloads.on_process(&fork(101, 100), at(2));
    assert_eq!((changes.watch, changes.unwatch), (vec![101], vec![]));
    assert_eq!(found(&mut workloads, 101), Some(("vllm-8000".into(), None)));
    assert_eq!(workloads.scan(at(3)), Changes::default());
}

#[test]
fn a_restarted_server_has_its_label_again() {
    let proc = FakeProc::new();
    let run = |tgid, began, port| {
        let command = format!("vllm serve m --port {port}");
        let cgroup = "0::/system.slice/chat.service";
        proc.run(Fake { tgid, began, command: &command, cgroup, ..Fake::default() });
    };
    run(100, 500, 8000);
    run(200, 600, 8001);
    let mut workloads = proc.workloads();
    let first = workloads.scan(at(1)).appeared;
    assert_eq!(labels(&workloads), ["chat.service", "chat.service-8001"]);
    for tgid in [100, 200] {
        proc.end(tgid);
        workloads.on_process(&event(ProcessKind::Exit, tgid), at(2));
    }
    assert!(workloads.states().iter().all(|state| !state.up));
    // In the other order, with other numbers.
    run(300, 700, 8001);
    workloads.on_process(&event(ProcessKind::Exec, 300), at(3));
    run(400, 800, 8000);
    let second = workloads.on_process(&event(ProcessKind::Exec, 400), at(4)).appeared;
    assert_eq!(label_of(&mut workloads, 300).as_deref(), Some("chat.service-8001"));
    assert_eq!(label_of(&mut workloads, 400).as_deref(), Some("chat.service"));
    let chat = first.iter().find(|workload| &*workload.label == "chat.service").unwrap();
    assert_eq!(second[0].label, chat.label);
    assert!(second[0].started > chat.started);
    // And the same from an agent that starts now.
    let mut again = proc.workloads();
    again.scan(at(5));
    assert_eq!(label_of(&mut again, 300).as_deref(), Some("chat.service-8001"));
}

#[test]
fn a_server_that_moves_to_another_port_keeps_the_label_of_its_unit() {
    let proc = FakeProc::new();
    let run = |tgid, command| {
        proc.run(Fake { tgid, command, cgroup: "0::/system.slice/chat.service", ..Fake::default() });
    };
    run(100, "vllm serve m");
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    proc.end(100);
    run(101, "vllm serve m --port 9000");
    workloads.scan(at(2));
    assert_eq!(labels(&workloads), ["chat.service"]);
}

#[test]
fn a_workload_is_forgotten_after_a_day_of_absence() {
    let proc = FakeProc::new();
    proc.run(Fake::default());
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    proc.end(100);
    workloads.scan(at(10));
    assert_eq!(workloads.scan(at(9 + DAY)).gone.len(), 0);
    assert!(!state(&workloads, "vllm-8000").up);
    let gone = workloads.scan(at(10 + DAY)).gone;
    assert_eq!(gone.iter().map(|workload| &*workload.label).collect::<Vec<_>>(), ["vllm-8000"]);
    assert_eq!(workloads.states().len(), 0);
}

#[test]
fn listening_is_seen_by_event_and_by_scan() {
    let proc = FakeProc::new();
    proc.run_all(&[(100, 1, "vllm serve m"), (101, 100, "VLLM::Worker")]);
    let mut workloads = proc.workloads();
    assert_eq!(workloads.scan(at(1)).listen_ports, [0u16; 0]);
    // Where the processes meet is no place for clients.
    assert_eq!(workloads.on_process(&listen(101, 34_567, 5), at(5)), Changes::default());
    assert_eq!(workloads.on_process(&listen(100, 29_500, 6), at(6)).listen_ports, [29_500]);
    assert!(!state(&workloads, "vllm-8000").listens);
    let changes = workloads.on_process(&listen(100, 8000, 7), at(8));
    assert_eq!((changes.listen_ports, changes.unlisten_ports), (vec![8000], vec![29_500]));
    let now = state(&workloads, "vllm-8000");
    assert_eq!((now.listens, now.listening), (true, Some(at(7))), "the kernel's time, not the agent's");
    proc.listen(100, 29_500);
    proc.listen(100, 8000);
    proc.listen(101, 34_567);
    for seconds in 10..20 {
        assert_eq!(workloads.scan(at(seconds)), Changes::default());
    }
    proc.end(100);
    proc.end(101);
    assert_eq!(workloads.scan(at(30)).unlisten_ports, [8000]);
}

#[test]
fn a_server_that_listened_before_it_was_found_has_no_first_moment() {
    let proc = FakeProc::new();
    proc.run(Fake::default());
    proc.listen(100, 8000);
    let mut workloads = proc.workloads();
    assert_eq!(workloads.scan(at(1)).listen_ports, [8000]);
    let now = state(&workloads, "vllm-8000");
    assert_eq!((now.listens, now.listening), (true, None));
}

#[test]
fn a_listen_before_the_first_scan_has_a_first_moment() {
    let proc = FakeProc::new();
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    proc.run(Fake::default());
    workloads.on_process(&event(ProcessKind::Exec, 100), at(2));
    workloads.on_process(&listen(100, 8000, 3), at(3));
    assert_eq!(state(&workloads, "vllm-8000").listening, Some(at(3)));
}

#[test]
fn what_a_server_started_before_it_was_watched_is_its_own_at_once() {
    let proc = FakeProc::new();
    proc.run_all(&[
        (100, 1, "vllm serve m"),
        (101, 100, "VLLM::EngineCore"),
        (102, 101, "VLLM::Worker"),
        (90, 1, "bash"),
    ]);
    let mut workloads = proc.workloads();
    let appeared = workloads.on_process(&event(ProcessKind::Exec, 100), at(1));
    assert_eq!((appeared.appeared.len(), appeared.watch), (1, vec![100]));
    let found = workloads.find_children(at(1));
    assert_eq!(found.watch, [101, 102]);
    assert_eq!(workloads.find(102).map(|(_, role)| role), Some(Some(Role::Worker)));
    // One that began while these were not watched yet, and then none.
    proc.run_all(&[(103, 101, "VLLM::Worker_TP1")]);
    assert_eq!(workloads.find_children(at(1)).watch, [103]);
    assert_eq!(workloads.find_children(at(1)), Changes::default());
    proc.run_all(&[(104, 101, "VLLM::Worker_TP2")]);
    assert_eq!(workloads.find_children(at(2)), Changes::default(), "from here on events tell");
}

#[test]
fn a_listener_that_is_closed_is_missed_once_no_other_is_left() {
    let proc = FakeProc::new();
    proc.run_all(&[(100, 1, "vllm serve m"), (101, 100, "vllm-rs")]);
    proc.listen(100, 8000);
    proc.listen(101, 8000);
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    assert!(state(&workloads, "vllm-8000").listens);
    let closed = |workloads: &mut Workloads, tgid| {
        proc.close(tgid, 8000);
        workloads.on_process(&event(ProcessKind::Unlisten, tgid), at(2));
        workloads.find_closed(at(3)).unlisten_ports
    };
    assert_eq!(closed(&mut workloads, 101), [0_u16; 0], "the other one listens");
    assert!(state(&workloads, "vllm-8000").listens);
    assert_eq!(closed(&mut workloads, 100), [8000]);
    assert!(!state(&workloads, "vllm-8000").listens);
    // The process that had the last one ends, and the rest runs on.
    proc.listen(101, 8000);
    workloads.on_process(&listen(101, 8000, 4), at(4));
    assert!(state(&workloads, "vllm-8000").listens);
    proc.end(101);
    workloads.on_process(&event(ProcessKind::Exit, 101), at(5));
    workloads.find_closed(at(6));
    let now = state(&workloads, "vllm-8000");
    assert!(now.up && !now.listens);
}

#[test]
fn a_child_that_has_gone_before_it_was_looked_at_is_watched_no_longer() {
    let proc = FakeProc::new();
    proc.run(Fake::default());
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    assert_eq!(workloads.on_process(&fork(101, 100), at(2)), Changes::default());
    assert_eq!(workloads.on_process(&event(ProcessKind::Exit, 101), at(2)).unwatch, [101]);
    // A child of one that is nobody's.
    proc.run_all(&[(200, 1, "bash"), (201, 200, "ls")]);
    assert_eq!(workloads.on_process(&fork(201, 200), at(3)).unwatch, [201]);
    assert_eq!(workloads.followed(), 1);
}

#[test]
fn a_listener_that_a_child_inherited_is_the_servers() {
    let proc = FakeProc::new();
    proc.run_all(&[(100, 1, "vllm serve m"), (101, 100, "vllm-rs")]);
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    proc.listen(101, 8000);
    assert_eq!(workloads.scan(at(11)).listen_ports, [8000]);
    assert_eq!(state(&workloads, "vllm-8000").listening, Some(at(11)));
}

#[test]
fn a_unix_socket_is_a_place_to_listen() {
    let proc = FakeProc::new();
    proc.run(Fake { command: "vllm serve m --uds /run/chat.sock", ..Fake::default() });
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    proc.listen_unix(100, "/tmp/80284d3d-3510-45a8-b157-e51a356b4706");
    workloads.scan(at(11));
    assert!(!state(&workloads, "vllm-uds-chat").listens, "an inner socket is not the clients'");
    proc.listen_unix(100, "/run/chat.sock");
    workloads.scan(at(21));
    let now = state(&workloads, "vllm-uds-chat");
    assert_eq!((now.listens, now.listening), (true, Some(at(21))));
}
