//! Whole groups, as each version of the hierarchy shows them.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::fs;
use std::path::Path;

use super::*;

fn group(root: &Path, mountinfo: &str, groups: &[(&[&str], &str)]) -> Group {
    let mounts = Mounts::of(&mountinfo.replace("ROOT", &root.display().to_string()));
    let groups = groups.iter().map(|(controllers, path)| {
        (controllers.iter().map(|&name| name.to_owned()).collect(), (*path).to_owned())
    });
    Group::of(&mounts, groups)
}

fn write(root: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[test]
fn a_group_of_v2_has_everything() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        &[
            ("vllm.service/cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 3\nthrottled_usec 40\n"),
            ("vllm.service/memory.stat", "anon 1\npgmajfault 17\n"),
            ("vllm.service/memory.events", "low 0\nhigh 5\nmax 2\noom 1\noom_kill 1\noom_group_kill 0\n"),
            ("vllm.service/memory.current", "4096\n"),
            ("vllm.service/memory.max", "8192\n"),
            ("vllm.service/memory.pressure", "some avg10=0.00 total=70\nfull avg10=0.00 total=60\n"),
        ],
    );
    let group = group(root.path(), "1 2 0:9 / ROOT rw - cgroup2 cgroup rw\n", &[(&[], "/vllm.service")]);
    let reading = group.read().unwrap();
    let micros = Duration::from_micros;
    assert_eq!(reading.cpu, Some(Cpu { periods: 9, throttled_periods: 3, throttled: micros(40) }));
    let memory = Memory {
        current_bytes: Some(4096),
        limit_bytes: Some(8192),
        high_events: Some(5),
        max_events: Some(2),
        oom_kills: Some(1),
        major_faults: Some(17),
    };
    assert_eq!(reading.memory, Some(memory));
    assert_eq!(reading.pressure.memory, Some(Pressure { some: micros(70), full: Some(micros(60)) }));
    assert_eq!((reading.pressure.cpu, reading.pressure.io), (None, None));

    fs::remove_dir_all(root.path().join("vllm.service")).unwrap();
    assert_eq!(group.read().unwrap(), Reading::default(), "it has gone");
}

#[test]
fn a_host_of_both_versions_has_its_controllers_in_v1() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        &[
            ("cpu/a/cpu.stat", "nr_periods 2\nnr_throttled 1\nthrottled_time 1500\n"),
            (
                "memory/a/memory.stat",
                "pgmajfault 1\nhierarchical_memory_limit 9223372036854771712\ntotal_pgmajfault 6\n",
            ),
            ("memory/a/memory.usage_in_bytes", "100\n"),
            ("memory/a/memory.failcnt", "3\n"),
            ("memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("unified/a/cgroup.procs", ""),
        ],
    );
    let mounts = "1 2 0:1 / ROOT/cpu rw - cgroup cgroup rw,cpu\n1 2 0:2 / ROOT/memory rw - cgroup cgroup rw,memory\n\
                  1 2 0:3 / ROOT/unified rw - cgroup2 cgroup2 rw\n";
    let group =
        group(root.path(), mounts, &[(&["cpu"], "/a"), (&["memory"], "/a"), (&["pids"], "/"), (&[], "/a")]);
    let reading = group.read().unwrap();
    let throttled = Duration::from_nanos(1500);
    assert_eq!(reading.cpu, Some(Cpu { periods: 2, throttled_periods: 1, throttled }));
    let memory = Memory {
        current_bytes: Some(100),
        limit_bytes: None,
        high_events: None,
        max_events: Some(3),
        oom_kills: Some(2),
        major_faults: Some(6),
    };
    assert_eq!((reading.memory, reading.pressure), (Some(memory), Pressures::default()));
}

#[test]
fn nonsense_is_an_error_with_its_file() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("a/cpu.stat", "nr_periods 2\n")]);
    let group = group(root.path(), "1 2 0:9 / ROOT rw - cgroup2 cgroup rw\n", &[(&[], "/a")]);
    let error = format!("{:#}", group.read().unwrap_err());
    assert!(error.contains("a/cpu.stat: there is no line nr_throttled"), "{error}");
}

#[test]
fn this_node_can_be_read() {
    let mounts = Mounts::read(Path::new("/proc")).unwrap();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let groups = own.lines().map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next().unwrap().split(',').filter(|name| !name.is_empty()).map(str::to_owned);
        (controllers.collect(), parts.next().unwrap().to_owned())
    });
    Group::of(&mounts, groups).read().unwrap();
    node_pressure(Path::new("/proc")).unwrap();
}
