//! Servers within and beside each other, limits, reloads, and the live `/proc`.

use super::*;

#[test]
fn a_server_inside_another_is_part_of_it() {
    let proc = FakeProc::new();
    proc.run_all(&[
        (300, 1, "python3 /usr/bin/ilab model serve"),
        (101, 300, "python -m vllm.entrypoints.openai.api_server --port 51234"),
        (102, 101, "VLLM::EngineCore"),
    ]);
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    assert_eq!(labels(&workloads), ["rhel_ai-8000"]);
    assert_eq!(found(&mut workloads, 101), Some(("rhel_ai-8000".into(), Some(Role::Api))));
    assert_eq!(found(&mut workloads, 102), Some(("rhel_ai-8000".into(), Some(Role::Engine))));
    // Started later, with its fork lost.
    proc.run_all(&[(103, 300, "vllm serve m --port 51235")]);
    workloads.on_process(&event(ProcessKind::Exec, 103), at(2));
    assert_eq!(labels(&workloads), ["rhel_ai-8000"]);
}

#[test]
fn a_rule_can_name_a_server_inside_another() {
    let proc = FakeProc::new();
    proc.run_all(&[(300, 1, "swap-proxy"), (101, 300, "llama-server --port 9001"), (102, 101, "helper")]);
    let rules = vec![
        rule("name = 'proxy'\ncommand_regex = '^swap-proxy'"),
        rule("name = 'small'\ncommand_regex = 'llama-server'\nport = 9001"),
    ];
    let mut workloads = proc.workloads_with(Settings { rules, ..Settings::default() });
    workloads.scan(at(1));
    assert_eq!(labels(&workloads), ["proxy", "small"]);
    assert_eq!(label_of(&mut workloads, 102).as_deref(), Some("small"));
    // Restarted by the proxy: a child of it first, a server of its own when it runs the program.
    for tgid in [101, 102] {
        proc.end(tgid);
        workloads.on_process(&event(ProcessKind::Exit, tgid), at(2));
    }
    proc.run_all(&[(103, 300, "swap-proxy")]);
    workloads.on_process(&fork(103, 300), at(3));
    assert_eq!(label_of(&mut workloads, 103).as_deref(), Some("proxy"));
    proc.set_command(103, "llama-server --port 9001");
    let changes = workloads.on_process(&event(ProcessKind::Exec, 103), at(3));
    assert_eq!((changes.watch, changes.unwatch, changes.appeared.len()), (vec![103], vec![], 1));
    assert_eq!(label_of(&mut workloads, 103).as_deref(), Some("small"));
    assert!(workloads.states().iter().all(|state| state.up));
}

#[test]
fn a_fork_told_after_a_scan_changes_nothing() {
    let proc = FakeProc::new();
    proc.run_all(&[(100, 1, "vllm serve m"), (101, 100, "VLLM::EngineCore")]);
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    assert_eq!(workloads.on_process(&fork(101, 100), at(2)), Changes::default());
    assert_eq!(found(&mut workloads, 101), Some(("vllm-8000".into(), Some(Role::Engine))));
}

#[test]
fn a_rule_by_port_waits_until_it_listens() {
    let proc = FakeProc::new();
    proc.run_all(&[
        (100, 1, "python app.py"),
        (101, 100, "python app.py"),
        (200, 1, "python other.py"),
        (300, 1, "nginx"),
    ]);
    let rules = vec![rule("name = 'mine'\nport = 9100")];
    let mut workloads = proc.workloads_with(Settings { rules, ..Settings::default() });
    assert_eq!(workloads.scan(at(1)), Changes::default());
    proc.listen(200, 9200);
    assert_eq!(workloads.scan(at(11)), Changes::default());
    // Both hold the listener, as a server that forks its workers does: the first is the server.
    proc.listen(101, 9100);
    proc.listen(100, 9100);
    let mut changes = workloads.scan(at(21));
    changes.watch.sort_unstable();
    assert_eq!((changes.watch, changes.listen_ports), (vec![100, 101], vec![9100]));
    assert_eq!(changes.appeared[0].kind, ServerKind::OpenAi);
    assert_eq!(found(&mut workloads, 101), Some(("mine".into(), Some(Role::Api))));
    assert_eq!(labels(&workloads), ["mine"]);
}

#[test]
fn each_of_several_rules_by_port_finds_its_server() {
    let proc = FakeProc::new();
    proc.run_all(&[(100, 1, "python app.py"), (200, 1, "python app.py")]);
    proc.listen(100, 9102);
    proc.listen(200, 9101);
    let rules = vec![rule("port = 9101"), rule("port = 9102")];
    let mut workloads = proc.workloads_with(Settings { rules, ..Settings::default() });
    workloads.scan(at(1));
    assert_eq!(label_of(&mut workloads, 100).as_deref(), Some("openai-9102"));
    assert_eq!(label_of(&mut workloads, 200).as_deref(), Some("openai-9101"));
}

#[test]
fn several_servers_of_one_unit_are_told_apart_by_port() {
    let proc = FakeProc::new();
    for (tgid, port) in [(103, 8000), (102, 8001), (101, 8002)] {
        let command = format!("vllm serve m --port {port}");
        proc.run(Fake { tgid, command: &command, cgroup: "0::/system.slice/a.service", ..Fake::default() });
    }
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    assert_eq!(labels(&workloads), ["a.service", "a.service-8001", "a.service-8002"]);
    assert_eq!(label_of(&mut workloads, 103).as_deref(), Some("a.service"));
}

#[test]
fn copies_of_one_pod_side_by_side_are_one_workload() {
    let proc = FakeProc::new();
    let pod = |tgid, name: &str| {
        let cgroup = format!(
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod2f1b3c4d_5e6f_7a8b_9c0d_1e2f3a4b5c6d.slice/cri-containerd-{}.scope",
            "ab".repeat(32)
        );
        proc.run(Fake { tgid, cgroup: &cgroup, ..Fake::default() });
        proc.set_pod(tgid, "prod\n", name);
    };
    pod(100, "qwen-7d9c8b5f6d-x2x9z");
    let mut workloads = proc.workloads();
    let appeared = workloads.scan(at(1)).appeared;
    assert_eq!(appeared[0].pod.as_deref(), Some("qwen-7d9c8b5f6d-x2x9z"));
    assert_eq!(appeared[0].namespace.as_deref(), Some("prod"));
    assert_eq!(appeared[0].container.as_deref(), Some("ab".repeat(32).as_str()));
    // A rollout: the new one comes before the old one goes.
    pod(200, "qwen-55b8c7d9f4-bcdfg");
    assert_eq!(workloads.on_process(&event(ProcessKind::Exec, 200), at(2)).appeared.len(), 1);
    assert_eq!(labels(&workloads), ["prod/qwen"]);
    proc.end(100);
    let changes = workloads.on_process(&event(ProcessKind::Exit, 100), at(3));
    assert_eq!((changes.unwatch, changes.gone.len()), (vec![100], 0));
    let now = state(&workloads, "prod/qwen");
    assert!(now.up);
    assert_eq!(now.workload.pod.as_deref(), Some("qwen-55b8c7d9f4-bcdfg"));
}

#[test]
fn a_workload_beyond_the_slots_is_counted_and_not_watched() {
    let proc = FakeProc::new();
    for tgid in 100..103 {
        let command = format!("vllm serve m --port {tgid}");
        proc.run(Fake { tgid, command: &command, ..Fake::default() });
    }
    let settings = Settings { workloads_max: 2, ..Settings::default() };
    let mut workloads = proc.workloads_with(settings);
    let changes = workloads.scan(at(1));
    assert_eq!((changes.watch.len(), changes.appeared.len()), (2, 2));
    assert_eq!(workloads.overflow().workloads, 1);
    assert_eq!(found(&mut workloads, 102), None);
    // A slot whose workload does not run is given to one that does.
    proc.end(100);
    let changes = workloads.scan(at(11));
    assert_eq!((changes.unwatch, changes.watch), (vec![100], vec![102]));
    assert_eq!(changes.gone.iter().map(|gone| &*gone.label).collect::<Vec<_>>(), ["vllm-100"]);
    assert_eq!(labels(&workloads), ["vllm-101", "vllm-102"]);
}

#[test]
fn processes_beyond_the_limit_are_counted_and_not_watched() {
    let proc = FakeProc::new();
    proc.run(Fake { tgid: 10_000, ..Fake::default() });
    let mut workloads = proc.workloads();
    workloads.scan(at(1));
    proc.run(Fake { tgid: 20_000, parent: 10_000, ..Fake::default() });
    for _ in 1..PROCESSES_MAX {
        // The same folder, as if it were another process each time: 4,096 folders take seconds.
        let child = 30_000 + u32::try_from(workloads.processes.len()).unwrap();
        workloads.add(child, 500, 0);
    }
    assert_eq!(workloads.processes.len(), PROCESSES_MAX);
    let changes = workloads.on_process(&fork(20_000, 10_000), at(2));
    assert_eq!(changes.unwatch, [20_000]);
    assert_eq!(workloads.overflow().processes, 1);
    assert_eq!(found(&mut workloads, 20_000), None);
}

#[test]
fn a_reload_takes_new_rules_and_refuses_bad_ones() {
    let proc = FakeProc::new();
    proc.run(Fake { command: "my-server", ..Fake::default() });
    let mut workloads = proc.workloads();
    assert_eq!(workloads.scan(at(1)), Changes::default());
    let with = |text| Settings { rules: vec![rule(text)], ..Settings::default() };
    assert!(workloads.reload(with("name = 'x'")).is_err());
    workloads.reload(with("name = 'x'\ncommand_regex = 'my-server'")).unwrap();
    assert_eq!(workloads.scan(at(2)).watch, [100]);
}

#[test]
fn the_live_proc_is_scanned_without_trouble() {
    let mut workloads = Workloads::new(Settings::default(), Roots::default()).unwrap();
    workloads.scan(BootTime::now());
    workloads.scan(BootTime::now());
    assert_eq!(workloads.overflow().scans_failed, 0);
    assert_eq!(workloads.find(std::process::id()), None);
}

#[test]
fn a_live_server_is_found_named_and_seen_to_end() {
    // A shell under the name of a server, with a child below it that has a name of its own.
    let folder = tempfile::TempDir::new().unwrap();
    let program = folder.path().join("llama-server");
    std::os::unix::fs::symlink("/bin/sh", &program).unwrap();
    let mut server = std::process::Command::new(&program)
        .args(["-c", "sleep 60 & wait", "--port", "18080"])
        .spawn()
        .unwrap();
    let tgid = server.id();
    // Other servers may run where the tests do.
    let settings = Settings { workloads_max: 64, ..Settings::default() };
    let mut workloads = Workloads::new(settings, Roots::default()).unwrap();
    let child = scan_until(&mut workloads, |workloads| {
        let label = workloads.find(tgid)?.0.label.clone();
        workloads.processes(&label).map(|(tgid, _)| tgid).find(|&other| other != tgid)
    });
    let (workload, role) = workloads.find(tgid).unwrap();
    assert_eq!((workload.kind, role), (ServerKind::LlamaCpp, Some(Role::Api)));
    assert!(BootTime::now().since(workload.started) < Duration::from_secs(60));
    for tgid in [tgid, child] {
        let process = rustix::process::Pid::from_raw(i32::try_from(tgid).unwrap()).unwrap();
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    }
    server.wait().unwrap();
    scan_until(&mut workloads, |workloads| (!state(workloads, &workload.label).up).then_some(()));
    assert_eq!(workloads.find(tgid), None);
}

/// Scans the real `/proc` until `done` has an answer.
fn scan_until<T>(workloads: &mut Workloads, done: impl Fn(&mut Workloads) -> Option<T>) -> T {
    let begin = BootTime::now();
    while BootTime::now().since(begin) < Duration::from_secs(20) {
        workloads.scan(BootTime::now());
        if let Some(answer) = done(workloads) {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("not seen within 20 s");
}
