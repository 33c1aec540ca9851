//! A `/proc` for tests: a folder with what the kernel would show of a node.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{Roots, Settings, Workloads};

/// The folder; gone with this value.
pub(crate) struct FakeProc {
    folder: TempDir,
}

/// A process to be, with what differs from the common case.
#[derive(Clone, Copy)]
pub(crate) struct Fake<'a> {
    pub tgid: u32,
    pub parent: u32,
    pub command: &'a str,
    pub cgroup: &'a str,
    /// Clock ticks from boot to its start.
    pub began: u64,
}

impl Default for Fake<'_> {
    fn default() -> Self {
        Self { tgid: 100, parent: 1, command: "vllm serve m", cgroup: "0::/", began: 500 }
    }
}

impl FakeProc {
    /// A node with an init and nothing else.
    pub fn new() -> Self {
        let proc = Self { folder: TempDir::new().unwrap() };
        fs::create_dir(proc.folder.path().join("net")).unwrap();
        proc.run(Fake { tgid: 1, parent: 0, command: "/sbin/init", began: 1, ..Fake::default() });
        proc
    }

    pub fn workloads(&self) -> Workloads {
        self.workloads_with(Settings::default())
    }

    pub fn workloads_with(&self, settings: Settings) -> Workloads {
        Workloads::new(settings, self.roots()).unwrap()
    }

    pub fn roots(&self) -> Roots {
        Roots { proc: self.folder.path().into() }
    }

    /// A process whose arguments have no spaces in them.
    pub fn run(&self, fake: Fake<'_>) {
        let folder = self.path(fake.tgid, "");
        for name in ["fd", "ns", "root/etc", &format!("task/{}", fake.tgid)] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        // One namespace for all: its tables are the same from each.
        let _ = symlink("../net", folder.join("net"));
        self.set_command(fake.tgid, fake.command);
        self.write(fake.tgid, "cgroup", fake.cgroup);
        self.write(fake.tgid, "stat", &stat(&fake, 'S'));
        self.write(fake.tgid, &format!("task/{}/stat", fake.tgid), &stat(&fake, 'S'));
        self.set_net(fake.tgid, 4_026_531_840);
        let siblings = self.path(fake.parent, &format!("task/{}/children", fake.parent));
        if let Some(folder) = siblings.parent().filter(|folder| folder.exists()) {
            let before = fs::read_to_string(folder.join("children")).unwrap_or_default();
            fs::write(&siblings, format!("{before}{} ", fake.tgid)).unwrap();
        }
    }

    /// Several, each (tgid, parent, command).
    pub fn run_all(&self, processes: &[(u32, u32, &str)]) {
        for &(tgid, parent, command) in processes {
            self.run(Fake { tgid, parent, command, ..Fake::default() });
        }
    }

    pub fn set_command(&self, tgid: u32, command: &str) {
        let mut bytes = command.replace(' ', "\0");
        bytes.push('\0');
        self.write(tgid, "cmdline", &bytes);
    }

    pub fn set_net(&self, tgid: u32, inode: u64) {
        let link = self.path(tgid, "ns/net");
        let _ = fs::remove_file(&link);
        symlink(format!("net:[{inode}]"), link).unwrap();
    }

    /// `tgid` listens on TCP `port`, as it and its namespace show.
    pub fn listen(&self, tgid: u32, port: u16) {
        let inode = self.open_socket(tgid, port.into());
        let line = format!(
            "   0: 0100007F:{port:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0000000052a217aa 100 0 0 10 0"
        );
        self.append(tgid, "net/tcp", &line);
    }

    pub fn listen_unix(&self, tgid: u32, path: &str) {
        let inode = self.open_socket(tgid, 70_000);
        self.append(
            tgid,
            "net/unix",
            &format!("00000000feddc999: 00000002 00000000 00010000 0001 01 {inode} {path}"),
        );
    }

    /// `tgid` has the socket `number` open; returns its inode.
    pub fn open_socket(&self, tgid: u32, number: u64) -> u64 {
        let inode = 100_000 + number;
        let _ = symlink(format!("socket:[{inode}]"), self.path(tgid, &format!("fd/{number}")));
        inode
    }

    /// `tgid` listens on TCP `port` no longer.
    pub fn close(&self, tgid: u32, port: u16) {
        fs::remove_file(self.path(tgid, &format!("fd/{port}"))).unwrap();
    }

    /// The first thread ends while `tid` goes on.
    pub fn end_first_thread(&self, fake: Fake<'_>, tid: u32) {
        self.write(fake.tgid, "stat", &stat(&fake, 'Z'));
        fs::create_dir_all(self.path(fake.tgid, &format!("task/{tid}"))).unwrap();
        self.write(fake.tgid, &format!("task/{tid}/stat"), &stat(&fake, 'R'));
    }

    pub fn end(&self, tgid: u32) {
        fs::remove_dir_all(self.path(tgid, "")).unwrap();
    }

    /// The process runs in a pod of that name.
    pub fn set_pod(&self, tgid: u32, namespace: &str, name: &str) {
        let secrets = "root/var/run/secrets/kubernetes.io/serviceaccount";
        fs::create_dir_all(self.path(tgid, secrets)).unwrap();
        self.write(tgid, &format!("{secrets}/namespace"), namespace);
        self.write(tgid, "environ", &format!("HF_TOKEN=secret\0HOSTNAME={name}\0PATH=/bin\0"));
        self.set_net(tgid, 4_026_540_000 + u64::from(tgid));
    }

    pub fn write(&self, tgid: u32, name: &str, text: &str) {
        fs::write(self.path(tgid, name), text).unwrap();
    }

    fn append(&self, tgid: u32, name: &str, line: &str) {
        let path = self.path(tgid, name);
        let before = fs::read_to_string(&path).unwrap_or_else(|_| "header\n".to_owned());
        fs::write(path, format!("{before}{line}\n")).unwrap();
    }

    fn path(&self, tgid: u32, name: &str) -> PathBuf {
        self.folder.path().join(tgid.to_string()).join(name)
    }
}

fn stat(fake: &Fake<'_>, state: char) -> String {
    let Fake { tgid, parent, began, .. } = fake;
    let before = "0 0 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0";
    let after = "1000000 100 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0";
    format!("{tgid} (a (b) c) {state} {parent} {before} {began} {after}\n")
}
