//! Folders that are nodes, one for each family of kernels.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::gpu::nvml::Places;
use crate::probe::plan::{Kind, Program};
use crate::probe::{btf, offsets, plan};
use crate::workload::fake_proc::FakeProc;

const EVERY_CAPABILITY: u64 = 0x1ff_ffff_ffff;
/// Hooks of Linux 6.3, and those that came later: what of the programs' hooks Debian's 5.10 and 6.1 lack.
const SINCE_6_3: [&str; 3] = ["sk_data_ready", "sock_send_length", "sock_recv_length"];
const SINCE_6_16: &str = "btf_trace_tcp_sendmsg_locked";

/// A node to write into a folder; `Default` is a host with a recent kernel, seen by root.
struct Sample {
    release: &'static str,
    arch: &'static str,
    /// No BTF.
    untyped: bool,
    /// Hooks of the programs that this kernel lacks; a tracepoint by its type's name where a function is called the same.
    lacks: Vec<&'static str>,
    /// Has the helpers of 5.16.
    helpers: bool,
    lockdown: Option<&'static str>,
    kprobes: bool,
    capabilities: u64,
    memory_lock: &'static str,
    pid_namespace: u64,
    user_namespace: u64,
    cgroup: &'static str,
    pressure: bool,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            release: "6.18.44",
            arch: "x86_64",
            untyped: false,
            lacks: Vec::new(),
            helpers: true,
            lockdown: Some("[none] integrity confidentiality"),
            kprobes: true,
            capabilities: EVERY_CAPABILITY,
            memory_lock: "8388608",
            pid_namespace: 4_026_531_836,
            user_namespace: 4_026_531_837,
            cgroup: "cgroup.controllers",
            pressure: true,
        }
    }
}

/// What a kernel would say of its types, as far as the programs ask.
fn types(sample: &Sample) -> Vec<u8> {
    // Before the same structs as arguments, of which nothing is known.
    let mut structures: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (_, structure, member) in offsets::BY_ADDRESS {
        structures.entry(structure).or_default().push(member);
    }
    let mut types = structures.iter().fold(btf::sample::Sample::default(), |types, (structure, members)| {
        types.structure(structure, members)
    });
    for program in plan::programs() {
        let Program { kind, hook, takes, .. } = program;
        let tracepoint = format!("btf_trace_{hook}");
        types = match kind {
            Kind::Tracepoint if !sample.lacks.contains(hook) && !sample.lacks.contains(&&*tracepoint) => {
                types.tracepoint(hook, takes)
            }
            Kind::Entry | Kind::Return if !sample.lacks.contains(hook) => types.function(hook, takes),
            Kind::Iterator if !sample.lacks.contains(hook) => {
                types.function(&format!("bpf_iter_{hook}"), takes)
            }
            _ => types,
        };
    }
    let helper = if sample.helpers { "BPF_FUNC_skc_to_unix_sock" } else { "BPF_FUNC_unspec" };
    types.constant("bpf_func_id", helper).finish()
}

impl Sample {
    fn write(&self) -> (TempDir, Node) {
        let folder = tempfile::tempdir().unwrap();
        let (proc, sys) = (folder.path().join("proc"), folder.path().join("sys"));
        file(&proc.join("sys/kernel/osrelease"), format!("{}\n", self.release));
        file(&proc.join("sys/kernel/perf_event_paranoid"), "3\n");
        file(&proc.join("self/status"), format!("Name:\tinferscope\nCapEff:\t{:016x}\n", self.capabilities));
        let limits = format!("Max locked memory         {}              8388608  bytes\n", self.memory_lock);
        file(&proc.join("self/limits"), limits);
        fs::create_dir_all(proc.join("self/ns")).unwrap();
        symlink(format!("pid:[{}]", self.pid_namespace), proc.join("self/ns/pid")).unwrap();
        symlink(format!("user:[{}]", self.user_namespace), proc.join("self/ns/user")).unwrap();
        if self.pressure {
            file(&proc.join("pressure/memory"), "some avg10=0.00\n");
        }
        if !self.untyped {
            file(&sys.join("kernel/btf/vmlinux"), types(self));
        }
        if let Some(lockdown) = self.lockdown {
            file(&sys.join("kernel/security/lockdown"), lockdown);
        }
        if self.kprobes {
            file(&sys.join("bus/event_source/devices/kprobe/type"), "8\n");
        }
        file(&sys.join("fs/cgroup").join(self.cgroup), "cpu memory\n");
        let gpus = Places { configured: None, loader: false, roots: vec![folder.path().to_owned()] };
        (folder, Node { proc, sys, arch: self.arch.to_owned(), gpus })
    }
}

fn file(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// The exit status, and every finding that is not ok.
fn check(sample: &Sample, exit_code: u8, expected: &[(&str, State)]) {
    let (_folder, node) = sample.write();
    let report = Report::of(&node);
    let not_ok: Vec<(&str, State)> = report
        .findings
        .iter()
        .filter(|finding| finding.state != State::Ok)
        .map(|finding| (finding.name, finding.state))
        .collect();
    assert_eq!(not_ok, expected, "{}", report.text());
    assert_eq!(report.exit_code, exit_code, "{}", report.text());
}

#[test]
fn host_with_a_recent_kernel_has_all() {
    check(&Sample::default(), 0, &[]);
}

#[test]
fn debian_13_times_writes_at_a_function() {
    let sample = Sample { release: "6.12.43+deb13-amd64", lacks: vec![SINCE_6_16], ..Sample::default() };
    check(&sample, 0, &[("time of writes", State::Degraded)]);
}

#[test]
fn debian_11_and_12_trace_functions() {
    let lacks = [&SINCE_6_3[..], &[SINCE_6_16]].concat();
    let rows: [(&str, bool, &[&str]); 2] =
        [("5.10.0-46-amd64", false, &["task_file"]), ("6.1.0-56-amd64", true, &[])];
    for (release, helpers, more) in rows {
        let sample = Sample { release, helpers, lacks: [&lacks[..], more].concat(), ..Sample::default() };
        let found = ["socket bytes", "time of writes"].map(|name| (name, State::Degraded));
        check(&sample, 0, &found);
        let (_folder, node) = sample.write();
        let bytes =
            Report::of(&node).findings.into_iter().find(|finding| finding.name == "socket bytes").unwrap();
        assert!(
            bytes.found.starts_with("fexit/tcp_recvmsg, fexit/tcp_sendmsg, fexit/unix"),
            "{}",
            bytes.found
        );
    }
}

#[test]
fn without_hooks_at_sockets_system_calls_are_left() {
    let functions = ["tcp_recvmsg", "sock_def_readable", "tcp_sendmsg_locked", "unix_release", "task_file"];
    let sample = Sample { lacks: [&SINCE_6_3[..], &functions].concat(), ..Sample::default() };
    let expected = [
        ("socket bytes", State::Degraded),
        ("time of writes", State::Missing),
        ("arrival of data", State::Degraded),
        ("end of Unix sockets", State::Missing),
    ];
    // By address there, so that no list of open sockets is needed.
    check(&sample, 22, &expected);
}

#[test]
fn hardened_machine_with_cgroup_v1_has_all_that_counts() {
    let sample = Sample {
        release: "6.18.44",
        lockdown: Some("none [integrity] confidentiality"),
        kprobes: false,
        cgroup: "memory/tasks",
        ..Sample::default()
    };
    check(&sample, 0, &[("kprobes", State::Missing), ("cgroup", State::Degraded)]);
}

#[test]
fn kernel_without_type_information_cannot_run() {
    check(&Sample { untyped: true, ..Sample::default() }, 10, &[("BTF", State::Missing)]);
}

#[test]
fn old_kernel_is_refused() {
    let sample = Sample { release: "4.18.0-553.el8.x86_64", ..Sample::default() };
    check(&sample, 12, &[("kernel", State::Missing)]);
    check(&Sample { release: "strange", ..Sample::default() }, 12, &[("kernel", State::Missing)]);
}

#[test]
fn one_direction_alone_measures_nothing() {
    for lacking in ["sock_send_length", "sock_recv_length"] {
        let sample = Sample { lacks: vec![lacking, "tcp_sendmsg", "sys_exit"], ..Sample::default() };
        check(&sample, 13, &[("socket bytes", State::Missing)]);
    }
}

#[test]
fn kernel_with_few_hooks_names_each_loss() {
    let lacks = [
        &["sk_data_ready", "sock_def_readable", "tcp_probe", "tcp_sendmsg_locked", "inet_sock_set_state"][..],
        &["sched_process_exec", "sched_process_exit"],
    ];
    let expected = [
        ("time of writes", State::Missing),
        ("arrival of data", State::Missing),
        ("connection end", State::Missing),
        ("process events", State::Missing),
        ("process ends", State::Missing),
    ];
    check(&Sample { lacks: lacks.concat(), ..Sample::default() }, 21, &expected);
}

#[test]
fn broken_type_information_is_none() {
    let (_folder, node) = Sample::default().write();
    file(&node.sys.join("kernel/btf/vmlinux"), "no types at all, but longer than a header");
    let report = Report::of(&node);
    assert_eq!(report.exit_code, 10);
    let found = report.findings.iter().find(|finding| finding.name == "BTF").unwrap();
    assert!(found.found.ends_with(": no BTF header"), "{}", found.found);
}

#[test]
fn user_without_rights_lacks_both_permissions() {
    let sample = Sample { capabilities: 0, ..Sample::default() };
    check(&sample, 11, &[("load programs", State::Missing), ("read processes", State::Degraded)]);
}

#[test]
fn capabilities_that_suffice() {
    let bits = |bits: &[u32]| bits.iter().map(|bit| 1 << bit).sum::<u64>();
    let rows: &[(&[u32], u8)] = &[
        (&[39, 38, 19, 2], 0),
        (&[21, 19, 1], 0),
        (&[39, 38], 20),
        (&[39, 38, 19], 20),
        (&[39, 19, 2], 11),
        (&[38, 19, 2], 11),
    ];
    for (held, expected) in rows {
        let (_folder, node) = Sample { capabilities: bits(held), ..Sample::default() }.write();
        assert_eq!(Report::of(&node).exit_code, *expected, "capabilities {held:?}");
    }
}

#[test]
fn root_of_a_user_namespace_is_not_root() {
    let sample = Sample { user_namespace: 4_026_532_000, ..Sample::default() };
    check(&sample, 11, &[("load programs", State::Missing)]);
}

#[test]
fn container_without_the_hosts_processes_finds_no_server() {
    let sample = Sample { pid_namespace: 4_026_532_100, ..Sample::default() };
    check(&sample, 14, &[("process numbers", State::Missing)]);
}

#[test]
fn locked_memory_counts_before_5_11_only() {
    let old = |memory_lock, capabilities| Sample {
        release: "5.10.0-35-amd64",
        memory_lock,
        capabilities,
        ..Sample::default()
    };
    let without_resource = EVERY_CAPABILITY & !(1 << 24);
    check(&old("65536", without_resource), 15, &[("locked memory", State::Missing)]);
    check(&old("65536", EVERY_CAPABILITY), 0, &[]);
    check(&old("unlimited", without_resource), 0, &[]);
    check(&Sample { memory_lock: "65536", capabilities: without_resource, ..Sample::default() }, 0, &[]);
}

#[test]
fn confidentiality_stops_it_and_says_so() {
    let lockdown = Some("none integrity [confidentiality]");
    for helpers in [false, true] {
        let sample = Sample { lockdown, helpers, ..Sample::default() };
        check(&sample, 13, &[("socket bytes", State::Missing)]);
        let (_folder, node) = sample.write();
        let mut findings = Report::of(&node).findings.into_iter();
        let bytes = findings.find(|finding| finding.name == "socket bytes").unwrap();
        assert!(bytes.found.contains("lockdown `confidentiality` forbids"), "{}", bytes.found);
    }
}

#[test]
fn arm64_is_a_stated_loss() {
    check(&Sample { arch: "aarch64", ..Sample::default() }, 25, &[("processor", State::Degraded)]);
    check(&Sample { lockdown: None, ..Sample::default() }, 0, &[]);
}

#[test]
fn what_this_version_does_not_use_costs_no_status() {
    let sample = Sample { pressure: false, cgroup: "other", kprobes: false, ..Sample::default() };
    let expected = [("kprobes", State::Missing), ("cgroup", State::Missing), ("pressure", State::Missing)];
    check(&sample, 0, &expected);
}

#[test]
fn running_agent_is_shown() {
    let (_folder, node) = Sample::default().write();
    file(&node.proc.join("locks"), "1: FLOCK  ADVISORY  WRITE 4121 00:04:4026531836 0 EOF\n");
    let report = Report::of(&node);
    let agent = report.findings.iter().find(|finding| finding.name == "agent").unwrap();
    assert_eq!(agent.found, "runs (tgid 4121)");
}

#[test]
fn servers_are_listed_by_label_and_kind() {
    let (_folder, node) = Sample::default().write();
    let servers = |report: &Report| {
        let line = report.findings.iter().find(|finding| finding.name == "servers").unwrap();
        assert_eq!((line.state, report.exit_code), (State::Ok, 0));
        line.found.clone()
    };
    let none = Report::of(&node);
    assert_eq!(servers(&none), "none by the built-in rules; one that starts is followed");
    assert!(none.servers.is_empty());

    let proc = FakeProc::new();
    proc.run_all(&[
        (100, 1, "vllm serve m"),
        (101, 100, "VLLM::EngineCore"),
        (200, 1, "llama-server --port 9"),
    ]);
    let found = servers::find(&Node { proc: proc.roots().proc, ..node.clone() });
    assert_eq!(servers::finding(&found).found, "llama_cpp-9 (llama_cpp), vllm-8000 (vllm)");
    assert_eq!(found.servers[1], Server { label: "vllm-8000".to_owned(), kind: "vllm" });

    for tgid in 300..308 {
        proc.run_all(&[(tgid, 1, &format!("vllm serve m --port {tgid}"))]);
    }
    let found = servers::find(&Node { proc: proc.roots().proc, ..node.clone() });
    let text = servers::finding(&found).found;
    assert!(text.ends_with(", 2 more than `limits.workloads` has by default"), "{text}");

    let gone = servers::find(&Node { proc: "/no/such/folder".into(), ..node });
    assert_eq!(servers::finding(&gone).found, "unknown, /proc cannot be read");
}

#[test]
fn text_says_what_it_costs_and_what_to_do() {
    let (_folder, node) = Sample { pid_namespace: 1, ..Sample::default() }.write();
    let mut out = Vec::new();
    assert_eq!(run(&node, false, false, &mut out).unwrap(), 14);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("missing   process numbers       those of a container\n"), "{text}");
    assert!(
        text.contains("  costs: kernel programs report") && text.contains("  do: give the container"),
        "{text}"
    );
    assert!(text.ends_with("\ncannot run: not in the host's process namespace (exit status 14)\n"), "{text}");
}

#[test]
fn json_carries_the_same() {
    let (_folder, node) = Sample { arch: "aarch64", ..Sample::default() }.write();
    let mut out = Vec::new();
    run(&node, true, false, &mut out).unwrap();
    let page: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(page["exit_code"], 25);
    let findings = page["findings"].as_array().unwrap();
    let processor = findings.iter().find(|finding| finding["name"] == "processor").unwrap();
    assert_eq!((&processor["state"], &processor["exit_code"]), (&"degraded".into(), &25.into()));
    assert!(findings.iter().all(|finding| finding["found"].is_string()));
    assert_eq!(page["servers"], serde_json::json!([]));
}

#[test]
fn every_cause_is_in_the_table_of_help_once_and_in_order() {
    let table = Cause::table();
    let codes: Vec<u8> =
        table.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    let expected: Vec<u8> = std::iter::once(0).chain(Cause::ALL.into_iter().map(Cause::code)).collect();
    assert_eq!(codes, expected);
    assert!(codes.is_sorted());
}

#[test]
fn shipped_unit_gives_what_is_looked_for() {
    let unit = include_str!("../../../../deploy/inferscope.service");
    let line = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    for capability in ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"] {
        for key in ["AmbientCapabilities=", "CapabilityBoundingSet="] {
            assert!(line(key).contains(capability), "{key} lacks {capability}");
        }
    }
    assert_eq!(line("LimitMEMLOCK="), "infinity");
}
