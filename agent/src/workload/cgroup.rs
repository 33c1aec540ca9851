//! Where a process runs: pod, container and systemd unit, from its cgroup paths.
//!
//! In: the lines of `/proc/TGID/cgroup`, of v1, v2 or both. Out: a [`Place`]. Reads no file.
//!
//! An agent in a container sees paths relative to its own cgroup (`/../../kubepods-pod...`), so parts are
//! recognised by themselves and not by what stands before them.

/// Services that run other people's programs: their name says nothing of the server.
const LAUNCHERS: [&str; 14] = [
    "containerd",
    "docker",
    "crio",
    "cri-docker",
    "kubelet",
    "k3s",
    "k3s-agent",
    "rke2-agent",
    "rke2-server",
    "podman",
    "ssh",
    "sshd",
    "cron",
    "crond",
];
/// Templates whose instances do the same: user managers, logins, connections.
const LAUNCHER_TEMPLATES: [&str; 5] = ["user@", "sshd@", "ssh@", "getty@", "serial-getty@"];
/// Units that `systemd-run` names by a number.
const TRANSIENT: &str = "run-";
/// A container's id as runtimes shorten it at most.
const CONTAINER_DIGITS: usize = 64;

/// Where a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its cgroup path: that of v2, else of systemd's hierarchy, else the first that is not the root.
    pub path: String,
    /// It runs under Kubernetes, whether or not the pod's uid could be read.
    pub in_pod: bool,
    /// With dashes, `2f1b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d`; of a static pod 32 digits.
    pub pod_uid: Option<String>,
    /// 64 hexadecimal digits.
    pub container: Option<String>,
    /// `rhaiis.service`; none for services that only launch what others ask for.
    pub unit: Option<String>,
}

impl Place {
    /// From (controllers, path) of each hierarchy.
    pub fn of(groups: impl Iterator<Item = (Vec<String>, String)>) -> Self {
        let mut place = Self::default();
        let mut rank = 0;
        for (controllers, path) in groups {
            place.take(&path);
            let found = match controllers.first().map(String::as_str) {
                _ if path == "/" => 1,
                None => 4,
                Some("name=systemd") => 3,
                Some(_) => 2,
            };
            if found > rank {
                rank = found;
                place.path = path;
            }
        }
        place
    }

    fn take(&mut self, path: &str) {
        // containerd told to use systemd's names on a kubelet that does not joins parts by colons.
        for part in path.split(['/', ':']) {
            self.in_pod |=
                part == "kubepods" || part.starts_with("kubepods-") || part.starts_with("kubepods.");
            if let Some(uid) = pod_uid(part) {
                self.in_pod = true;
                self.pod_uid = Some(uid);
            }
            if let Some(container) = container(part) {
                self.container = Some(container.to_owned());
            }
            if let Some(unit) = unit(part) {
                self.unit = Some(unit.to_owned());
            }
        }
    }
}

fn pod_uid(part: &str) -> Option<String> {
    let part = part.strip_suffix(".slice").unwrap_or(part);
    let uid = match part.strip_prefix("kubepods") {
        Some(rest) => rest.rsplit_once("-pod")?.1,
        None => part.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes = uid.bytes().filter(|&byte| byte == b'-').count();
    (digits == 32 && digits + dashes == uid.len() && matches!(dashes, 0 | 4)).then_some(uid)
}

fn container(part: &str) -> Option<&str> {
    // `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`, `libpod-payload-ID`, `ID`.
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let (runtime, id) = part.rsplit_once('-').unwrap_or(("", part));
    let is_id = id.len() == CONTAINER_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_id && !runtime.ends_with("conmon")).then_some(id)
}

fn unit(part: &str) -> Option<&str> {
    let name = part.strip_suffix(".service")?;
    let launches = LAUNCHERS.contains(&name)
        || LAUNCHER_TEMPLATES.iter().any(|template| name.starts_with(template))
        || name.strip_prefix(TRANSIENT).is_some_and(|rest| rest.bytes().any(|byte| byte.is_ascii_digit()));
    (!launches).then_some(part)
}
