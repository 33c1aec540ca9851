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
            self.in_pod |= part.contains("kubepods");
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
    // `kubepods-burstable-podUID.slice`, `podUID`; the kubelet of a node in a container has a prefix more.
    let uid = part.strip_suffix(".slice").unwrap_or(part).rsplit_once("pod")?.1;
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

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f8c2a1e9b7d6053c4f8c2a1e9b7d6053c4f8c2a1e9b7d6053c4f8c2a1e9b7d6";
    const UID: &str = "2f1b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d";
    const UID_LOW: &str = "2f1b3c4d_5e6f_7a8b_9c0d_1e2f3a4b5c6d";

    fn place(lines: &str) -> Place {
        let groups = lines.lines().map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let controllers = parts.next().unwrap().split(',').filter(|c| !c.is_empty()).map(str::to_owned);
            (controllers.collect(), parts.next().unwrap().to_owned())
        });
        Place::of(groups)
    }

    /// `ID`, `UID` and `UID_LOW` stand for the long texts.
    fn check(lines: &str, pod_uid: Option<&str>, container: Option<&str>, unit: Option<&str>) {
        let lines = lines.replace("UID_LOW", UID_LOW).replace("UID", UID).replace("ID", ID);
        let found = place(&lines);
        assert_eq!(
            (found.pod_uid.as_deref(), found.container.as_deref(), found.unit.as_deref()),
            (pod_uid, container, unit),
            "{lines}"
        );
        assert!(found.in_pod == (pod_uid.is_some() || lines.contains("kubepods")), "{lines}");
    }

    #[test]
    fn kubernetes_on_v2() {
        for line in [
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_LOW.slice/cri-containerd-ID.scope",
            "0::/kubepods.slice/kubepods-podUID_LOW.slice/cri-containerd-ID.scope",
            "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_LOW.slice/crio-ID.scope",
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_LOW.slice/crio-ID.scope/container",
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_LOW.slice/docker-ID.scope",
            "0::/kubepods/burstable/podUID/ID",
            "0::/kubepods/podUID/ID",
            // kind, where the kubelet has a slice of its own.
            "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_LOW.slice/cri-containerd-ID.scope",
            "0::/system.slice/k3s.service/kubepods/burstable/podUID/ID",
        ] {
            check(line, Some(UID), Some(ID), None);
        }
    }

    #[test]
    fn kubernetes_as_an_agent_in_a_container_sees_it() {
        check(
            "0::/../../kubepods-burstable-podUID_LOW.slice/cri-containerd-ID.scope",
            Some(UID),
            Some(ID),
            None,
        );
        check("0::/../../podUID/ID", Some(UID), Some(ID), None);
        check("0::/../cri-containerd-ID.scope", None, Some(ID), None);
    }

    #[test]
    fn kubernetes_on_v1() {
        for lines in [
            "12:memory:/kubepods/burstable/podUID/ID\n1:name=systemd:/kubepods/burstable/podUID/ID",
            "11:cpu,cpuacct:/kubepods.slice/kubepods-podUID_LOW.slice/crio-ID.scope\n0::/",
            "5:devices:/system.slice/containerd.service/kubepods-burstable-podUID_LOW.slice:cri-containerd:ID",
        ] {
            check(lines, Some(UID), Some(ID), None);
        }
    }

    #[test]
    fn a_static_pod_has_a_uid_without_dashes() {
        let uid = "d41d8cd98f00b204e9800998ecf8427e";
        check(&format!("0::/kubepods/burstable/pod{uid}/ID"), Some(uid), Some(ID), None);
    }

    #[test]
    fn containers_outside_kubernetes() {
        for line in [
            "0::/system.slice/docker-ID.scope",
            "0::/docker/ID",
            "9:memory:/docker/ID\n0::/",
            "0::/machine.slice/libpod-ID.scope",
            "0::/machine.slice/libpod-ID.scope/container",
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
            "0::/system.slice/containerd.service/default/ID",
        ] {
            check(line, None, Some(ID), None);
        }
    }

    #[test]
    fn units_and_quadlets() {
        let rhaiis = Some("rhaiis.service");
        check("0::/system.slice/rhaiis.service", None, None, rhaiis);
        check("0::/system.slice/rhaiis.service/libpod-payload-ID", None, Some(ID), rhaiis);
        check("0::/system.slice/rhaiis.service/container", None, None, rhaiis);
        check(
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/rhaiis.service/libpod-payload-ID",
            None,
            Some(ID),
            rhaiis,
        );
        check(
            "3:memory:/system.slice/rhaiis.service\n1:name=systemd:/system.slice/rhaiis.service/libpod-payload-ID",
            None,
            Some(ID),
            rhaiis,
        );
        check("0::/system.slice/system-vllm.slice/vllm@qwen.service", None, None, Some("vllm@qwen.service"));
        check("0::/system.slice/run-control.service", None, None, Some("run-control.service"));
    }

    #[test]
    fn what_only_launches_is_no_unit() {
        for line in [
            "0::/",
            "0::/init.scope",
            "0::/user.slice/user-0.slice/session-3.scope",
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/vte-spawn-1.scope",
            "0::/system.slice/ssh.service",
            "0::/system.slice/run-u123.service",
            "0::/system.slice/run-r2f1b3c4d5e6f7a8b9c0d1e2f3a4b5c6d.service",
            "0::/system.slice/crio-conmon-ID.scope",
        ] {
            check(line, None, None, None);
        }
    }

    #[test]
    fn the_path_is_that_of_the_hierarchy_that_says_most() {
        assert_eq!(place("4:memory:/box\n1:name=systemd:/a.service\n0::/").path, "/a.service");
        assert_eq!(place("4:memory:/box\n1:name=systemd:/\n0::/").path, "/box");
        assert_eq!(place("4:memory:/box\n1:name=systemd:/x\n0::/y").path, "/y");
        assert_eq!(place("0::/").path, "/");
        assert_eq!(place("").path, "");
    }

    #[test]
    fn odd_parts_are_nothing() {
        for part in [
            "pod",
            "podx",
            "kubepods-pod",
            "kubepods-pod.slice",
            "-",
            ".service/",
            &"f".repeat(63),
            &"f".repeat(65),
        ] {
            let found = place(&format!("0::/{part}"));
            assert_eq!((found.pod_uid, found.container), (None, None), "{part}");
        }
    }
}
