//! Which pod and whose: namespace and owner without asking the Kubernetes API.
//!
//! In: a process whose cgroup is a pod's. Out: [`Pod`]. Of the environment only the host name is used.

use super::node::Node;

/// Characters Kubernetes makes its random suffixes and hashes of: no vowels, nothing that looks alike.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of the random suffix of a pod's name.
const SUFFIX_LEN: usize = 5;
/// A ReplicaSet's hash is a number of 32 bits in that alphabet, one character a decimal digit; shorter
/// ones are one in 40,000, and `vllm` would be one.
const HASH_LEN: std::ops::RangeInclusive<usize> = 6..=10;
/// Digits of the time (minutes since 1970) in the name of a CronJob's job.
const CRON_DIGITS: usize = 8;
/// Digits of a replica's number in a StatefulSet.
const ORDINAL_DIGITS_MAX: usize = 4;

/// The pod a process runs in, as far as it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    pub namespace: Option<String>,
    pub name: Option<String>,
}

impl Pod {
    /// The pod of `tgid`, which runs in one.
    #[must_use]
    pub fn of(node: &Node, tgid: u32) -> Self {
        // On the node's network the host name is the node's, which must not be taken for a pod's.
        let on_node_network = node
            .net_namespace(tgid)
            .is_some_and(|net| node.net_namespace(1).is_some_and(|first| first == net));
        let name = if on_node_network { None } else { node.host_name(tgid) };
        Self { namespace: node.namespace(tgid), name }
    }
}

/// What made the pod: its name without what is different in every copy.
///
/// Deployment `name-HASH-SUFFIX`, DaemonSet and Job `name-SUFFIX`, CronJob `name-MINUTES-SUFFIX`,
/// StatefulSet and LeaderWorkerSet `name-ORDINAL`. No more is taken off than one of these adds: models
/// have names like `llama-3`.
#[must_use]
pub fn owner(pod: &str) -> &str {
    if let Some((rest, suffix)) = pod.rsplit_once('-')
        && suffix.len() == SUFFIX_LEN
        && is_random(suffix)
        && !rest.is_empty()
    {
        return match rest.rsplit_once('-') {
            Some((name, middle)) if !name.is_empty() && (is_hash(middle) || is_cron(middle)) => name,
            _ => rest,
        };
    }
    without_ordinal(pod)
}

fn without_ordinal(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((rest, ordinal))
            if !rest.is_empty()
                && (1..=ORDINAL_DIGITS_MAX).contains(&ordinal.len())
                && ordinal.bytes().all(|byte| byte.is_ascii_digit())
                && (ordinal == "0" || !ordinal.starts_with('0')) =>
        {
            rest
        }
        _ => name,
    }
}

fn is_random(text: &str) -> bool {
    text.bytes().all(|byte| SUFFIX_ALPHABET.contains(&byte))
}

fn is_hash(text: &str) -> bool {
    HASH_LEN.contains(&text.len()) && is_random(text)
}

fn is_cron(text: &str) -> bool {
    text.len() == CRON_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::super::fake_proc::{Fake, FakeProc};
    use super::*;

    fn check(pod: &str, expected: &str) {
        assert_eq!(owner(pod), expected, "{pod}");
    }

    #[test]
    fn what_differs_in_every_copy_is_taken_off() {
        check("vllm-qwen-7d9c8b5f6d-x2x9z", "vllm-qwen");
        check("llama-3-55b8c7d9f4-bcdfg", "llama-3");
        check("vllm-x2x9z", "vllm");
        check("app-vllm-x2x9z", "app-vllm");
        check("llama-3-x2x9z", "llama-3");
        check("eval-28391040-x2x9z", "eval");
        check("vllm-0", "vllm");
        check("llama-3-12", "llama-3");
    }

    #[test]
    fn what_a_person_chose_stays() {
        for name in [
            "vllm",
            "vllm-server",
            "qwen-llama",
            "my-model",
            "server-01",
            "gpu-20240101",
            "-0",
            "-",
            "",
            "-x2x9z",
        ] {
            check(name, name);
        }
    }

    fn pod(prepare: impl Fn(&FakeProc)) -> (Option<String>, Option<String>) {
        let proc = FakeProc::new();
        proc.run(Fake::default());
        proc.set_pod(100, "prod", "chat-7d9c8b5f6d-x2x9z");
        prepare(&proc);
        let Pod { namespace, name } = Pod::of(&Node::new(proc.roots()), 100);
        (namespace, name)
    }

    #[test]
    fn namespace_and_name_come_from_inside_the_container() {
        let (namespace, name) = pod(|_| {});
        assert_eq!((namespace.as_deref(), name.as_deref()), (Some("prod"), Some("chat-7d9c8b5f6d-x2x9z")));
    }

    #[test]
    fn on_the_nodes_network_the_host_name_is_not_the_pods() {
        assert_eq!(pod(|proc| proc.set_net(100, 4_026_531_840)), (Some("prod".into()), None));
    }

    #[test]
    fn without_the_variable_the_containers_own_host_name_serves() {
        let name = pod(|proc| {
            proc.write(100, "environ", "HOSTNAMES=x\0PATH=/bin\0");
            proc.write(100, "root/etc/hostname", "chat-0\n");
        });
        assert_eq!(name.1.as_deref(), Some("chat-0"));
    }
}
