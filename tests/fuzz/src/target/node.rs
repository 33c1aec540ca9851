//! The node as `/proc` shows it: any bytes as the files of a process, through the readers and on into the labels.
//!
//! Input: files, each behind a mark and the letter that names it; the ring's process events are one of them.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use inferscope::clock::BootTime;
use inferscope::workload::labels::is_label;
use inferscope::workload::node::Node;
use inferscope::workload::pod::Pod;
use inferscope::workload::{Changes, Roots, Settings, Workloads};
use inferscope_common::decode;
use tempfile::TempDir;

/// Begins a file; the next byte says which.
const MARK: u8 = 0xff;
/// The process whose files these are; 1 is its parent.
const TGID: u32 = 100;
/// Workloads that can have a label.
const WORKLOADS_MAX: usize = 4;
/// What a real process shows, where the input has nothing else for it.
const FILES: [(u8, &str, &[u8]); 9] = [
    (b's', "stat", b"100 (vllm) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 500 1000000 100 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"),
    (b'c', "cmdline", b"vllm\0serve\0m\0--port\08000\0"),
    (b'g', "cgroup", b"0::/system.slice/vllm.service\n"),
    (b't', "net/tcp", b"  sl\n   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0 100 0 0 10 0\n"),
    (b'6', "net/tcp6", b""),
    (b'u', "net/unix", b"Num\n00000000feddc999: 00000002 00000000 00010000 0001 01 8 /run/a.sock\n"),
    (b'e', "environ", b"HOSTNAME=chat-7d9c8b5f6d-x2x9z\0"),
    (b'h', "root/etc/hostname", b"chat-0\n"),
    (b'n', "root/var/run/secrets/kubernetes.io/serviceaccount/namespace", b"prod"),
];

struct Proc {
    folder: TempDir,
    /// Files that are not as usual.
    changed: Vec<&'static str>,
}

thread_local! {
    /// Made once: a folder for each input would be most of the work.
    static PROC: RefCell<Option<Proc>> = const { RefCell::new(None) };
}

pub fn run(bytes: &[u8]) {
    PROC.with_borrow_mut(|slot| {
        let proc = slot.get_or_insert_with(make_proc);
        let (folder, mut events) = (proc.folder.path(), Vec::new());
        let changed = std::mem::take(&mut proc.changed);
        for (_, name, usual) in FILES.iter().filter(|(_, name, _)| changed.contains(name)) {
            write(folder, name, usual);
        }
        for part in bytes.split(|byte| *byte == MARK).filter(|part| !part.is_empty()) {
            match FILES.iter().find(|(letter, _, _)| *letter == part[0]) {
                Some((_, name, _)) => {
                    write(folder, name, &part[1..]);
                    proc.changed.push(name);
                }
                None => events.extend(decode::process(part)),
            }
        }
        read_files(folder);
        follow(folder, &events);
    });
}

fn make_proc() -> Proc {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    let folder = folder.expect("a folder can be made");
    let own = folder.path().join(TGID.to_string());
    for name in ["fd", "net", "ns", "root/etc", "root/var/run/secrets/kubernetes.io/serviceaccount"] {
        fs::create_dir_all(own.join(name)).expect("a folder can be made");
    }
    for socket in [7, 8] {
        let link = own.join("fd").join(socket.to_string());
        std::os::unix::fs::symlink(format!("socket:[{socket}]"), link).expect("a link can be made");
    }
    Proc { folder, changed: FILES.map(|(_, name, _)| name).to_vec() }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    fs::write(folder.join(TGID.to_string()).join(name), bytes).expect("a file can be written");
}

/// Each reader by itself.
fn read_files(folder: &Path) {
    let node = Node::new(Roots { proc: folder.into() });
    if let Some(birth) = node.birth(TGID) {
        assert!(node.moment(birth.began) <= BootTime(u64::MAX));
    }
    let place = node.place(TGID);
    assert!(
        place.container.is_none_or(|id| id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
    );
    assert!(place.pod_uid.is_none_or(|uid| matches!(uid.len(), 32 | 36) && place.in_pod));
    assert!(place.unit.is_none_or(|unit| unit.ends_with(".service") && !unit.contains('/')));
    let table = node.listen_table(TGID);
    let found = node.listeners(TGID, &table);
    assert!(found.ports.iter().all(|port| table.has_port(*port)), "{:?}", found.ports);
    let pod = Pod::of(&node, TGID);
    for text in [pod.namespace, pod.name].into_iter().flatten() {
        assert!(!text.is_empty() && !text.contains('\n') && text.trim() == text, "{text:?}");
    }
}

/// All of them together, as scans and events come.
fn follow(folder: &Path, events: &[inferscope_common::process::ProcessEvent]) {
    let settings = Settings { workloads_max: WORKLOADS_MAX, ..Settings::default() };
    let roots = Roots { proc: folder.into() };
    let mut workloads = Workloads::new(settings, roots).expect("there are no rules that could be wrong");
    let changes = workloads.scan(BootTime(1));
    check(&workloads, &changes);
    for (number, event) in events.iter().enumerate() {
        let changes = workloads.on_process(event, BootTime(number as u64));
        check(&workloads, &changes);
        let found = workloads.find(event.tgid);
        assert!(found.is_none_or(|(workload, _)| is_label(&workload.label)));
    }
    let changes = workloads.scan(BootTime(u64::MAX));
    check(&workloads, &changes);
}

fn check(workloads: &Workloads, changes: &Changes) {
    let states = workloads.states();
    assert!(states.len() <= WORKLOADS_MAX, "{} workloads", states.len());
    assert!(states.iter().all(|state| is_label(&state.workload.label)), "{states:?}");
    assert!(changes.watch.iter().all(|tgid| !changes.unwatch.contains(tgid)), "{changes:?}");
    assert!(changes.listen_ports.iter().all(|port| !changes.unlisten_ports.contains(port)), "{changes:?}");
}
