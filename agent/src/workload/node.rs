//! The node as `/proc` shows it: one reader for everything the other files of this room ask of it.
//!
//! In: a folder, `/proc` or a test's. Out: command lines, ancestry, cgroups, listeners, and of pods the
//! two texts that name them. A process may end at any moment, so what cannot be read is `None`, not an
//! error. Does not judge what it reads.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use procfs::{FromRead as _, ProcessCGroups};

use super::cgroup::Place;
use super::within::{self, Bounds};
use crate::clock::BootTime;

/// Most bytes read of a command line: the server's name and its port stand well before this.
const COMMAND_BYTES_MAX: u64 = 32 << 10;
/// Most bytes read of an environment, of which one variable is used.
const ENVIRON_BYTES_MAX: u64 = 256 << 10;
/// Most bytes read of a process's or thread's numbers: a name and 52 of them.
/// Of one thread: some 8,000 processes.
const CHILDREN_BYTES_MAX: u64 = 64 << 10;
const STAT_BYTES_MAX: u64 = 4096;
/// Most bytes read of a small file inside a container.
const SMALL_BYTES_MAX: u64 = 64 << 10;
/// Most bytes read of a table of sockets: 200,000 connections.
const SOCKETS_BYTES_MAX: u64 = 32 << 20;
/// State of a listening socket in `/proc/TGID/net/tcp`.
const TCP_LISTEN: &str = "0A";
/// Flag of a listening socket in `/proc/TGID/net/unix` (`__SO_ACCEPTCON`).
const UNIX_LISTEN: u32 = 1 << 16;

/// Where the node's files are; a test gives a folder.
#[derive(Clone, Debug)]
pub struct Roots {
    pub proc: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into() }
    }
}

/// Who a process is, as far as its number can be given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    pub parent: u32,
    /// Clock ticks from boot to its start: with the tgid, never the same twice.
    pub began: u64,
    /// The first thread has ended; others may go on.
    pub zombie: bool,
}

/// What a process or the namespace it lives in listens on.
#[derive(Debug, Default)]
pub struct Listeners {
    pub ports: BTreeSet<u16>,
    /// Paths of Unix listeners.
    pub paths: HashSet<String>,
}

/// Sockets that listen in one network namespace, by inode.
#[derive(Debug, Default)]
pub struct ListenTable {
    tcp: Vec<(u64, u16)>,
    unix: Vec<(u64, String)>,
}

impl ListenTable {
    /// A socket of this namespace listens on TCP `port`.
    #[must_use]
    pub fn has_port(&self, port: u16) -> bool {
        self.tcp.iter().any(|&(_, listening)| listening == port)
    }
}

/// Reads `/proc`.
#[derive(Debug)]
pub struct Node {
    proc: PathBuf,
    ticks_per_second: u64,
}

impl Node {
    #[must_use]
    pub fn new(roots: Roots) -> Self {
        Self { proc: roots.proc, ticks_per_second: procfs::ticks_per_second().max(1) }
    }

    /// Every process, in ascending order.
    ///
    /// # Errors
    /// `/proc` itself cannot be read.
    pub fn tgids(&self) -> std::io::Result<Vec<u32>> {
        let names = fs::read_dir(&self.proc)?.flatten().map(|entry| entry.file_name());
        let mut tgids: Vec<u32> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
        tgids.sort_unstable();
        Ok(tgids)
    }

    #[must_use]
    pub fn birth(&self, tgid: u32) -> Option<Birth> {
        birth(&read_bounded(&self.path(tgid, "stat"), STAT_BYTES_MAX)?)
    }

    /// The moment of [`Birth::began`].
    #[must_use]
    pub fn moment(&self, ticks: u64) -> BootTime {
        BootTime(ticks.saturating_mul(1_000_000_000 / self.ticks_per_second))
    }

    /// The arguments, each ended by a zero; empty for a kernel thread.
    #[must_use]
    pub fn command(&self, tgid: u32) -> Option<Vec<u8>> {
        read_bounded(&self.path(tgid, "cmdline"), COMMAND_BYTES_MAX)
    }

    #[must_use]
    pub fn place(&self, tgid: u32) -> Place {
        let groups = fs::File::open(self.path(tgid, "cgroup")).ok();
        let groups = groups.and_then(|file| ProcessCGroups::from_read(file).ok());
        Place::of(groups.into_iter().flatten().map(|group| (group.controllers, group.pathname)))
    }

    /// What its threads started and has not ended; nothing where the kernel does not tell (`CONFIG_PROC_CHILDREN`).
    #[must_use]
    pub fn children(&self, tgid: u32) -> Vec<u32> {
        let Ok(tasks) = fs::read_dir(self.path(tgid, "task")) else { return Vec::new() };
        let lists = tasks
            .flatten()
            .filter_map(|task| read_bounded(&task.path().join("children"), CHILDREN_BYTES_MAX));
        let lists = lists.flat_map(|list| {
            let words: Vec<u32> = String::from_utf8_lossy(&list)
                .split_ascii_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect();
            words
        });
        lists.collect()
    }

    /// A thread other than the first is alive.
    #[must_use]
    pub fn has_other_thread(&self, tgid: u32) -> bool {
        let Ok(tasks) = fs::read_dir(self.path(tgid, "task")) else { return false };
        let tids = tasks.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        tids.filter(|&tid| tid != tgid).any(|tid| {
            let stat = read_bounded(&self.path(tgid, &format!("task/{tid}/stat")), STAT_BYTES_MAX);
            stat.and_then(|stat| birth(&stat)).is_some_and(|thread| !thread.zombie)
        })
    }

    /// Name of its network namespace, `net:[4026531840]`.
    #[must_use]
    pub fn net_namespace(&self, tgid: u32) -> Option<PathBuf> {
        fs::read_link(self.path(tgid, "ns/net")).ok()
    }

    /// What listens in the network namespace of `tgid`.
    #[must_use]
    pub fn listen_table(&self, tgid: u32) -> ListenTable {
        let read = |name: &str| {
            let bytes = read_bounded(&self.path(tgid, name), SOCKETS_BYTES_MAX).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        // A node may have 100,000 connections: only the lines of listeners are taken apart.
        let mut tcp: Vec<_> = read("net/tcp").lines().filter_map(tcp_listener).collect();
        tcp.extend(read("net/tcp6").lines().filter_map(tcp_listener));
        ListenTable { tcp, unix: read("net/unix").lines().filter_map(unix_listener).collect() }
    }

    /// Those of `table` that `tgid` has open.
    #[must_use]
    pub fn listeners(&self, tgid: u32, table: &ListenTable) -> Listeners {
        let mut found = Listeners::default();
        if table.tcp.is_empty() && table.unix.is_empty() {
            return found;
        }
        let Ok(files) = fs::read_dir(self.path(tgid, "fd")) else { return found };
        for inode in files.flatten().filter_map(|file| socket_inode(&fs::read_link(file.path()).ok()?)) {
            found.ports.extend(table.tcp.iter().filter(|(of, _)| *of == inode).map(|(_, port)| *port));
            found
                .paths
                .extend(table.unix.iter().filter(|(of, _)| *of == inode).map(|(_, path)| path.clone()));
        }
        found
    }

    /// Namespace of the pod that `tgid` runs in, from its service account.
    #[must_use]
    pub fn namespace(&self, tgid: u32) -> Option<String> {
        let path = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
        first_line(self.file_of(tgid, path)?.as_bytes())
    }

    /// Host name inside the container of `tgid`: its pod's name, unless the pod uses the node's network.
    /// Of the environment nothing but this variable is looked at.
    #[must_use]
    pub fn host_name(&self, tgid: u32) -> Option<String> {
        let environ = read_bounded(&self.path(tgid, "environ"), ENVIRON_BYTES_MAX).unwrap_or_default();
        let variable = environ.split(|&byte| byte == 0).find_map(|text| text.strip_prefix(b"HOSTNAME="));
        variable.and_then(first_line).or_else(|| first_line(self.file_of(tgid, "/etc/hostname")?.as_bytes()))
    }

    /// A small file that `tgid` knows by `path`.
    ///
    /// A link inside a container (`/var/run` to `/run`) is followed there: by the usual means it would lead
    /// to the agent's own files. What is no plain file is not opened: a pipe would hold the agent.
    #[must_use]
    pub fn file_of(&self, tgid: u32, path: &str) -> Option<String> {
        let (folder, bounds) = match path.starts_with('/') {
            true => ("root", Bounds::Root),
            false => ("cwd", Bounds::Below),
        };
        let folder = fs::File::open(self.path(tgid, folder)).ok()?;
        let file = within::open(folder, Path::new(path), bounds)?;
        let mut text = String::new();
        file.take(SMALL_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn path(&self, tgid: u32, name: &str) -> PathBuf {
        let mut path = self.proc.join(tgid.to_string());
        path.push(name);
        path
    }
}

fn read_bounded(path: &Path, bytes_max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(bytes_max).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// From the numbers of a process or thread. By hand: the library's reader panics where its parentheses are not in
/// order, and reads fifty numbers to give three.
fn birth(stat: &[u8]) -> Option<Birth> {
    // A name may hold anything, parentheses too: what follows the last one is of the kernel.
    let name_end = memchr::memrchr(b')', stat)?;
    let mut words = std::str::from_utf8(&stat[name_end + 1..]).ok()?.split_ascii_whitespace();
    let state = words.next()?;
    let parent = words.next()?.parse().ok()?;
    let began = words.nth(17)?.parse().ok()?;
    Some(Birth { parent, began, zombie: matches!(state, "Z" | "X") })
}

fn first_line(bytes: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(bytes).ok()?.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// Inode and port of one line, if it is a listener.
fn tcp_listener(line: &str) -> Option<(u64, u16)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let local = words.next()?;
    if words.nth(1)? != TCP_LISTEN {
        return None;
    }
    let inode = words.nth(5)?.parse().ok()?;
    let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
    Some((inode, port))
}

fn unix_listener(line: &str) -> Option<(u64, String)> {
    let mut words = line.split_ascii_whitespace().skip(3);
    let flags = u32::from_str_radix(words.next()?, 16).ok()?;
    if flags & UNIX_LISTEN == 0 {
        return None;
    }
    let inode = words.nth(2)?.parse().ok()?;
    Some((inode, words.next()?.to_owned()))
}

fn socket_inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use rustix::fs::Mode;

    use super::super::fake_proc::{Fake, FakeProc};
    use super::*;

    #[test]
    fn a_stat_with_parentheses_in_its_name_is_read() {
        let proc = FakeProc::new();
        proc.run(Fake { tgid: 7, parent: 3, began: 12_345, ..Fake::default() });
        let node = Node::new(proc.roots());
        assert_eq!(node.birth(7), Some(Birth { parent: 3, began: 12_345, zombie: false }));
        assert_eq!(node.birth(8), None);
        assert_eq!(node.tgids().unwrap(), [1, 7]);
    }

    #[test]
    fn a_broken_stat_is_none() {
        for stat in ["", "7", "7 (a", "7 )a( S 1", "7 (a) S", "7 (a) S x 1 1", ") ( Z 1 1 1 0 -1 4194"] {
            assert_eq!(birth(stat.as_bytes()), None, "{stat}");
        }
        assert_eq!(birth(b"7 (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18"), None);
        let whole = birth(b"7 (\xff) X 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19");
        assert_eq!(whole, Some(Birth { parent: 1, began: 19, zombie: true }));
    }

    #[test]
    fn listeners_are_those_the_process_has_open() {
        let proc = FakeProc::new();
        proc.run(Fake { tgid: 7, ..Fake::default() });
        proc.run(Fake { tgid: 8, ..Fake::default() });
        proc.listen(7, 8000);
        proc.listen(8, 9000);
        proc.listen_unix(7, "/run/a.sock");
        let node = Node::new(proc.roots());
        let table = node.listen_table(7);
        assert!(table.has_port(8000) && table.has_port(9000) && !table.has_port(1));
        let found = node.listeners(7, &table);
        assert_eq!(Vec::from_iter(found.ports), [8000]);
        assert_eq!(Vec::from_iter(found.paths), ["/run/a.sock"]);
    }

    #[test]
    fn lines_of_the_socket_tables() {
        let v6 = "   1: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31415 1 0000000000000000 100 0 0 10 0";
        assert_eq!(tcp_listener(v6), Some((31_415, 8080)));
        let connected = "   0: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0";
        assert_eq!(tcp_listener(connected), None);
        let named = "00000000feddc999: 00000002 00000000 00010000 0001 01 20528 /tmp/a";
        assert_eq!(unix_listener(named), Some((20_528, "/tmp/a".into())));
        assert_eq!(unix_listener("00000000feddc999: 00000003 00000000 00000000 0001 03 20529 /tmp/a"), None);
        for odd in ["", "sl local_address", "Num RefCount", "0: 1 2 0A", "0: x:y z 0A 1 2 3 4 5 notanumber"] {
            assert_eq!((tcp_listener(odd), unix_listener(odd)), (None, None), "{odd}");
        }
    }

    #[test]
    fn a_link_in_a_container_leads_into_the_container() {
        let proc = FakeProc::new();
        proc.run(Fake { tgid: 7, ..Fake::default() });
        let root = proc.roots().proc.join("7/root");
        fs::create_dir_all(root.join("var")).unwrap();
        std::os::unix::fs::symlink("/run", root.join("var/run")).unwrap();
        fs::create_dir_all(root.join("run/secrets/kubernetes.io/serviceaccount")).unwrap();
        fs::write(root.join("run/secrets/kubernetes.io/serviceaccount/namespace"), "prod").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("etc/hostname")).unwrap();
        let node = Node::new(proc.roots());
        assert_eq!(node.namespace(7).as_deref(), Some("prod"));
        assert_eq!(node.host_name(7), None, "the node's own file is out of reach");
    }

    #[test]
    fn a_relative_file_is_that_of_the_process() {
        let proc = FakeProc::new();
        proc.run(Fake { tgid: 7, ..Fake::default() });
        let folder = proc.roots().proc.join("7");
        fs::create_dir(folder.join("cwd")).unwrap();
        fs::write(folder.join("cwd/a.yaml"), "port: 1").unwrap();
        let node = Node::new(proc.roots());
        assert_eq!(node.file_of(7, "a.yaml").as_deref(), Some("port: 1"));
        assert_eq!(node.file_of(7, "../cmdline"), None);
        assert_eq!(node.file_of(7, "/"), None, "a folder is no file");
    }

    #[test]
    fn a_pipe_does_not_hold_the_agent() {
        let proc = FakeProc::new();
        proc.run(Fake { tgid: 7, ..Fake::default() });
        let root = fs::File::open(proc.roots().proc.join("7/root")).unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(root, "pipe", rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(Node::new(proc.roots()).file_of(7, "/pipe"), None);
    }

    #[test]
    fn this_very_process_is_read() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let node = Node::new(Roots::default());
        let own = std::process::id();
        assert!(node.listeners(own, &node.listen_table(own)).ports.contains(&port));
        let birth = node.birth(own).unwrap();
        assert_eq!(birth.parent, std::os::unix::process::parent_id());
        assert!(BootTime::now().since(node.moment(birth.began)) < std::time::Duration::from_secs(3600));
        assert!(!node.command(own).unwrap().is_empty());
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || receive.recv());
        assert!(node.has_other_thread(own));
        drop(send);
        assert!(other.join().unwrap().is_err());
    }
}
