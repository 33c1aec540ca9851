//! Do the packages install, run, upgrade and go as an operator expects?
//!
//! Needs root, what `cargo xtask package` made, and the system of Debian 12 that set-up made with debootstrap. Each test
//! unpacks that system into a folder of its own; what is mounted there is so in a namespace that ends with the program
//! inside. No systemd runs in it: in its place a script writes down what it is asked.
//!
//! There is no system of RHEL here. The package for it is installed by rpm into the same Debian, with an empty data base and
//! `--nodeps`: its files, scripts and what becomes of configuration are rpm's own, the C library is Debian's.

#![allow(clippy::unwrap_used, reason = "a test says by a panic what went wrong")]

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use inferscope_tests::harness::free_address;
use inferscope_tests::oracle::http_get;
use inferscope_tests::skip;
use inferscope_tests::socket::Endpoint;
use inferscope_tests::stage::tool;
use tempfile::TempDir;

const SERVER: &str = env!("CARGO_BIN_EXE_inferscope-demo-server");
const CONFIG: &str = "etc/inferscope/inferscope.toml";
const UNIT: &str = "usr/lib/systemd/system/inferscope.service";
const WANTED: &str = "etc/systemd/system/multi-user.target.wants/inferscope.service";
/// What the unit's StateDirectory would hold.
const STATE: &str = "var/lib/private/inferscope/state";
/// What a later version ships beside what this one does.
const LATER: &str = "# Of a later version.\n";
/// From its start to its page.
const PAGE_WITHIN: Duration = Duration::from_secs(120);
/// Another test's agent is waited for.
const NODE_BUSY: &str = "another inferscope";
/// That of RHEL 9.
const GLIBC: u32 = 34;
/// What glibc and the compiler's runtime are.
const LIBRARIES: [&str; 4] = ["ld-linux-x86-64.so.2", "libc.so.6", "libgcc_s.so.1", "libm.so.6"];
/// In place of systemd; `/run/systemd/system` says that it runs. Debian's presets enable what is installed.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$@" >>/asked
wants=/etc/systemd/system/multi-user.target.wants
case "$*" in
*is-enabled*) echo enabled ;;
*enable-only*preset*) mkdir -p $wants && ln -s /usr/lib/systemd/system/inferscope.service $wants/ ;;
esac
"#;
/// A program inside: the kernel's folders as they are here, and a `/usr` that nobody writes to.
const INSIDE: &str = "set -e; root=$1; usr=$2; shift 2
for folder in proc sys dev; do mount --rbind /$folder \"$root/$folder\"; done
mount --bind \"$root/usr\" \"$root/usr\"; mount -o remount,bind,$usr \"$root/usr\"
exec chroot \"$root\" \"$@\"";

static ONE_AGENT: Mutex<()> = Mutex::new(());

/// The packages of this version, and the machine's programs that make and install them.
struct Packages {
    deb: PathBuf,
    rpm: PathBuf,
}

impl Packages {
    fn find() -> Option<Self> {
        let folder = Path::new(SERVER).ancestors().nth(2).unwrap().join("package");
        let files: Vec<_> = fs::read_dir(&folder)
            .map_or(Vec::new(), |list| list.map(|entry| entry.unwrap().path()).collect());
        let of =
            |end: &str| files.iter().find(|path| path.extension().is_some_and(|found| found == end)).cloned();
        let (Some(deb), Some(rpm)) = (of("deb"), of("rpm")) else {
            skip("there are no packages: `cargo xtask package` makes them");
            return None;
        };
        if let Some(absent) = ["dpkg-deb", "rpm"].into_iter().find(|name| !starts(name)) {
            skip(&format!("there is no {absent}"));
            return None;
        }
        Some(Self { deb, rpm })
    }
}

fn starts(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok()
}

/// A system to install into; it goes with its folder.
struct Root {
    folder: TempDir,
    listen: SocketAddr,
    _one_agent: MutexGuard<'static, ()>,
}

impl Root {
    /// `None` where this machine cannot have one; the skip has been told.
    fn unpack() -> Option<Self> {
        let one_agent = ONE_AGENT.lock().unwrap_or_else(PoisonError::into_inner);
        if !rustix::process::geteuid().is_root() {
            skip("packages are installed by root");
            return None;
        }
        if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
            skip("this machine allows no mounts");
            return None;
        }
        let archive = tool(Path::new(SERVER), "debian-12.tar")?;
        let folder = tempfile::tempdir().unwrap();
        said(Command::new("tar").args(["--numeric-owner", "-xf"]).arg(archive).arg("-C").arg(folder.path()));
        let root = Self { folder, listen: free_address().unwrap(), _one_agent: one_agent };
        fs::create_dir_all(root.path("run/systemd/system")).unwrap();
        fs::write(root.path("usr/bin/systemctl"), SYSTEMCTL).unwrap();
        fs::set_permissions(root.path("usr/bin/systemctl"), Permissions::from_mode(0o755)).unwrap();
        Some(root)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn has(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// What the script in place of systemd was asked to do since the last time: verb and unit, without the options of each, and
    /// once where it was asked the same twice.
    fn asked(&self) -> Vec<String> {
        let asked = fs::read_to_string(self.path("asked")).unwrap_or_default();
        let _there_is_none = fs::remove_file(self.path("asked"));
        let words =
            |line: &str| line.split(' ').filter(|word| !word.starts_with('-')).collect::<Vec<_>>().join(" ");
        let asks = |words: &String| !words.starts_with("is-");
        let mut asked: Vec<_> = asked.lines().map(words).filter(asks).collect();
        asked.dedup();
        asked
    }

    /// `usr`: `ro` or `rw`.
    fn inside(&self, usr: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", INSIDE, "sh"]).arg(self.folder.path()).arg(usr).args(arguments);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        command
    }

    /// dpkg in the system, as it runs where nobody is there to be asked: what was changed is kept.
    fn dpkg(&self, arguments: &[&str]) -> String {
        said(&mut self.inside("rw", &[&["dpkg", "--force-confold"], arguments].concat()))
    }

    fn install_deb(&self, package: &Path) -> String {
        fs::copy(package, self.path("package.deb")).unwrap();
        self.dpkg(&["--install", "/package.deb"])
    }

    /// The machine's rpm upon the system; its scripts run inside.
    fn rpm(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("rpm");
        command.arg("--root").arg(self.folder.path()).args(["--dbpath", "/var/lib/rpm"]).args(arguments);
        said(&mut command)
    }

    /// As an operator: the page somewhere else.
    fn change_config(&self) -> String {
        let changed = format!("[export]\nlisten = \"{}\"\n", self.listen);
        fs::write(self.path(CONFIG), &changed).unwrap();
        changed
    }

    /// Starts what is installed and waits for its page, where the changed configuration has it.
    fn page(&self) -> String {
        self.page_of(&["/usr/bin/inferscope", "run"])
    }

    fn page_of(&self, arguments: &[&str]) -> String {
        let began = Instant::now();
        let log = self.path("log");
        loop {
            let file = File::create(&log).unwrap();
            let mut command = self.inside("ro", arguments);
            let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
            let mut agent = Running(child);
            while agent.0.try_wait().unwrap().is_none() && began.elapsed() < PAGE_WITHIN {
                let get = |path| http_get(&Endpoint::Tcp(self.listen), path);
                if get("/readyz").is_ok() {
                    return String::from_utf8(get("/metrics").unwrap()).unwrap();
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let told = self.read("log");
            assert!(told.contains(NODE_BUSY) && began.elapsed() < PAGE_WITHIN, "{told}");
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

/// Ends with its guard.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already where a test fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What it says on both outputs.
fn said(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    assert!(status.success(), "{command:?}: {text}");
    text
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn shipped(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap()
}

/// The same package of a version after this one, with another configuration.
fn later_deb(deb: &Path, folder: &Path) -> PathBuf {
    let (tree, made) = (folder.join("tree"), folder.join("later.deb"));
    said(Command::new("dpkg-deb").arg("--raw-extract").arg(deb).arg(&tree));
    let control = fs::read_to_string(tree.join("DEBIAN/control")).unwrap();
    let later = control.replace(env!("CARGO_PKG_VERSION"), concat!(env!("CARGO_PKG_VERSION"), "+later"));
    assert_ne!(control, later);
    fs::write(tree.join("DEBIAN/control"), later).unwrap();
    fs::write(tree.join(CONFIG), shipped("deploy/inferscope.toml") + LATER).unwrap();
    said(Command::new("dpkg-deb").args(["-Zgzip", "-z1", "--build"]).arg(&tree).arg(&made));
    made
}

/// As [`later_deb`], made from a workspace that differs in that file.
fn later_rpm(folder: &Path) -> Option<PathBuf> {
    let generate = tool(Path::new(SERVER), "cargo-generate-rpm/bin/cargo-generate-rpm")?;
    let (workspace, made) = (workspace(), folder.join("later.rpm"));
    for file in ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT", "docs"] {
        symlink(workspace.join(file), folder.join(file)).unwrap();
    }
    said(Command::new("cp").arg("-a").arg(workspace.join("deploy")).arg(folder));
    fs::write(folder.join("deploy/inferscope.toml"), shipped("deploy/inferscope.toml") + LATER).unwrap();
    fs::create_dir(folder.join("agent")).unwrap();
    for manifest in ["Cargo.toml", "agent/Cargo.toml"] {
        fs::copy(workspace.join(manifest), folder.join(manifest)).unwrap();
    }
    let mut command = Command::new(generate);
    command.args(["--auto-req", "builtin", "--set-metadata", "release = \"2\"", "--target-dir"]);

    command
        .arg(Path::new(SERVER).ancestors().nth(2).unwrap())
        .args(["--payload-compress", "gzip"])
        .arg("--output")
        .arg(&made);
    said(command.current_dir(folder.join("agent")));
    Some(made)
}

#[test]
fn both_packages_hold_the_same_files_and_need_the_c_library_alone() {
    let Some(Packages { deb, rpm }) = Packages::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    said(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(folder.path()));
    let listed = said(Command::new("find").arg(folder.path()).args(["-type", "f", "-printf", "/%P\n"]));
    // Debian's own form of the licences.
    let debian: BTreeSet<_> = listed.lines().filter(|path| !path.ends_with("/copyright")).collect();
    let listed = said(
        Command::new("rpm").args(["-qp", "--queryformat", "[%{FILEMODES:perms} %{FILENAMES}\n]"]).arg(&rpm),
    );
    let red_hat: BTreeSet<_> =
        listed.lines().filter_map(|line| line.strip_prefix('-')?.split(' ').nth(1)).collect();
    assert_eq!(debian, red_hat);
    assert!(debian.contains("/usr/share/inferscope/prometheus/rules/inferscope.yml"), "{debian:?}");
    assert_eq!(fs::read_to_string(folder.path().join(UNIT)).unwrap(), shipped("deploy/inferscope.service"));

    let depends = said(Command::new("dpkg-deb").arg("--field").arg(&deb).arg("Depends"));
    assert_eq!(depends.trim(), format!("libc6 (>= 2.{GLIBC}), libgcc-s1"));
    let requires = said(Command::new("rpm").args(["-qp", "--requires"]).arg(&rpm));
    let libraries: BTreeSet<_> = requires.lines().filter(|line| line.contains(".so.")).collect();
    assert!(!libraries.is_empty(), "{requires}");
    for library in libraries {
        let (name, version) = library.split_once('(').unwrap();
        let newer = version.strip_prefix("GLIBC_2.").and_then(|rest| rest.split(['.', ')']).next());
        let newer = newer.is_some_and(|minor| minor.parse::<u32>().unwrap() > GLIBC);
        assert!(LIBRARIES.contains(&name) && !newer, "{library}");
    }
}

#[test]
fn debian_installs_runs_upgrades_removes_and_purges() {
    let Some(packages) = Packages::find() else { return };
    let Some(root) = Root::unpack() else { return };
    root.install_deb(&packages.deb);
    assert_eq!(root.asked(), ["preset inferscope.service", "daemon-reload", "start inferscope.service"]);
    assert!(root.has(WANTED));
    assert_eq!(root.read(CONFIG), shipped("deploy/inferscope.toml"));
    said(&mut root.inside("ro", &["/usr/bin/inferscope", "check"]));

    let changed = root.change_config();
    fs::write(root.path("etc/inferscope/environment"), "INFERSCOPE_LIMITS_MODELS=9\n").unwrap();
    fs::create_dir_all(root.path(STATE).parent().unwrap()).unwrap();
    fs::write(root.path(STATE), "learnt").unwrap();
    let folder = tempfile::tempdir().unwrap();
    root.install_deb(&later_deb(&packages.deb, folder.path()));
    assert_eq!(root.asked(), ["daemon-reload", "restart inferscope.service"]);
    assert_eq!(root.read(CONFIG), changed);
    assert!(root.read(&format!("{CONFIG}.dpkg-dist")).ends_with(LATER));
    assert!(root.page().contains("inferscope_build_info"));

    root.dpkg(&["--remove", "inferscope"]);
    assert_eq!(root.asked(), ["stop inferscope.service", "daemon-reload"]);
    assert!(!root.has("usr/bin/inferscope") && !root.has(UNIT) && !root.has("usr/share/inferscope"));
    assert_eq!((root.read(CONFIG), root.has(STATE)), (changed, true));

    root.dpkg(&["--purge", "inferscope"]);
    for gone in ["etc/inferscope", "var/lib/private/inferscope", WANTED] {
        assert!(!root.has(gone), "{gone}");
    }
}

#[test]
fn rpm_installs_runs_upgrades_and_erases() {
    let Some(packages) = Packages::find() else { return };
    let Some(root) = Root::unpack() else { return };
    let folder = tempfile::tempdir().unwrap();
    let Some(later) = later_rpm(folder.path()) else { return };
    root.rpm(&["--initdb"]);
    root.rpm(&["--install", "--nodeps", packages.rpm.to_str().unwrap()]);
    // As the host's presets say: nothing is started.
    assert_eq!(root.asked(), ["preset inferscope.service", "daemon-reload"]);
    assert_eq!(root.read(CONFIG), shipped("deploy/inferscope.toml"));
    assert_eq!(root.read(UNIT), shipped("deploy/inferscope.service"));
    root.rpm(&["--verify", "--nodeps", "inferscope"]);

    let changed = root.change_config();
    root.rpm(&["--upgrade", "--nodeps", later.to_str().unwrap()]);
    assert_eq!(root.asked(), ["daemon-reload", "try-restart inferscope.service"]);
    assert_eq!(root.read(CONFIG), changed);
    assert!(root.read(&format!("{CONFIG}.rpmnew")).ends_with(LATER));
    assert!(root.page().contains("inferscope_build_info"));

    fs::remove_file(root.path(&format!("{CONFIG}.rpmnew"))).unwrap();
    root.rpm(&["--erase", "inferscope"]);
    assert_eq!(root.asked(), ["disable inferscope.service", "daemon-reload"]);
    assert_eq!(root.read(&format!("{CONFIG}.rpmsave")), changed);
    for gone in ["usr/bin/inferscope", UNIT, "usr/share/inferscope", "usr/share/doc/inferscope"] {
        assert!(!root.has(gone), "{gone}");
    }
}

/// What the Containerfile puts on its base, which is Debian 12, runs in a namespace as its last lines say. No engine builds it here.
#[test]
fn the_contents_of_the_image_run() {
    let Some(root) = Root::unpack() else { return };
    let release = Path::new(SERVER).ancestors().nth(2).unwrap().join("release");
    if !release.join("inferscope").is_file() {
        return skip("there is no release build: `cargo xtask package` makes one");
    }
    let text = shipped("deploy/container/Containerfile");
    let (mut copied, mut words) = (0, Vec::new());
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("ARG", base)) => assert_eq!(base, "BASE=debian:12-slim"),
            Some(("COPY", paths)) => {
                let (from, to) = paths.split_once(' ').unwrap();
                let from = match from.strip_prefix("target/release/") {
                    Some(built) => release.join(built),
                    None => workspace().join(from),
                };
                let to = root.path(to.trim_start_matches('/'));
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(&from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
                copied += 1;
            }
            Some(("ENTRYPOINT" | "CMD", list)) => {
                words.extend(serde_json::from_str::<Vec<String>>(list).unwrap());
            }
            _ => {}
        }
    }
    assert_eq!(copied, 2);
    root.change_config();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert!(root.page_of(&words).contains("inferscope_build_info"));
}
