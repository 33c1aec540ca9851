//! What the agent may still do once it measures: as little as measuring needs.
//!
//! In: section `[sandbox]` of the configuration, and what the process was started with. Out: a process that
//! has given up the rest for good, and a [`Confinement`] that says what is in force. Which system calls are
//! left is in `system_calls.rs`.
//!
//! Capabilities belong to threads and pass to those that a thread starts, so this is done while there is one.

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CapabilitySet, CapabilitySets};
use rustix::thread::{capabilities, capability_is_in_bounding_set, clear_ambient_capability_set};
use rustix::thread::{remove_capability_from_bounding_set, set_capabilities, set_no_new_privs};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

pub use super::system_calls::Needs;
use super::system_calls::{self, Refusal};

/// A capability that the agent asks for.
#[derive(Clone, Copy, Debug)]
pub struct Capability {
    pub name: &'static str,
    pub set: CapabilitySet,
    /// Also needed after everything is attached.
    pub kept: bool,
    /// What is lost without it.
    pub without: &'static str,
}

/// All of them; the unit file gives these and no others.
pub const CAPABILITIES: [Capability; 4] = [
    Capability {
        name: "CAP_BPF",
        set: CapabilitySet::BPF,
        // Before Linux 5.19 every call of a process without it is refused, reading a table included.
        kept: true,
        without: "nothing is measured",
    },
    Capability {
        name: "CAP_PERFMON",
        set: CapabilitySet::PERFMON,
        // The kernel asks for it when a program is loaded, never when one is attached.
        kept: false,
        without: "nothing is measured",
    },
    Capability {
        name: "CAP_SYS_PTRACE",
        set: CapabilitySet::SYS_PTRACE,
        // Which sockets a process holds, its namespaces, root and environment.
        kept: true,
        without: "ports and pods of other users' servers are not known, and names come from their command lines",
    },
    Capability {
        name: "CAP_DAC_READ_SEARCH",
        set: CapabilitySet::DAC_READ_SEARCH,
        // The folder of descriptors in /proc may be listed by its owner alone.
        kept: true,
        without: "ports of other users' servers are not known",
    },
];

/// What `program_statistics` keeps.
const STATISTICS: CapabilitySet = CapabilitySet::SYS_ADMIN;
/// Capabilities that a kernel can have: bits of its sets.
const CAPABILITY_BITS: u32 = 64;

/// Section `sandbox` of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub mode: Mode,
    /// Sample the run time of the kernel programs, which takes keeping CAP_SYS_ADMIN.
    pub program_statistics: bool,
}

/// How far the agent is confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Other capabilities are given up, other system calls refused.
    #[default]
    Enforce,
    /// Likewise, but other system calls are allowed, and logged by the kernel.
    Log,
    /// Nothing is given up.
    Off,
}

impl Mode {
    /// As the configuration says it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Log => "log",
            Self::Off => "off",
        }
    }
}

/// What is in force, as `/healthz` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confinement {
    pub mode: Mode,
    /// Held from now on.
    pub capabilities: Vec<String>,
    /// Capabilities that the agent would keep and was not given.
    pub lacking: Vec<Lacking>,
    /// System calls that are not needed.
    pub other_system_calls: OtherCalls,
    /// Why less is in force than `mode` says.
    pub reason: Option<String>,
}

/// A capability that was not given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lacking {
    pub capability: &'static str,
    pub without: &'static str,
}

/// What becomes of system calls that are not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OtherCalls {
    Refused,
    Logged,
    Allowed,
}

impl OtherCalls {
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Logged => "logged",
            Self::Allowed => "allowed",
        }
    }
}

/// Gives up what is not needed any more. What `settings` need besides `needs` is added to them.
///
/// # Errors
/// This process has more than one thread, or the kernel does not let it give up a capability, which it has
/// no reason to. Without system call filters the agent goes on, and says so.
pub fn confine(settings: &Settings, needs: Needs) -> Result<Confinement> {
    if settings.mode == Mode::Off {
        warn!("sandbox.mode is off: the agent keeps every capability and system call it was started with");
        let held = capabilities(None).context("read the capabilities of this process")?.effective;
        return Ok(Confinement::of(settings, held, OtherCalls::Allowed, None));
    }
    let threads = std::fs::read_dir("/proc/self/task").context("list the threads of this process")?.count();
    ensure!(threads == 1, "{threads} threads run where capabilities are given up, and each has its own");
    let held = give_up_capabilities(settings.kept())?;
    set_no_new_privs(true).context("give up new privileges")?;
    let (refusal, calls) = match settings.mode {
        Mode::Log => (Refusal::LoggedOnly, OtherCalls::Logged),
        _ => (Refusal::Enforced, OtherCalls::Refused),
    };
    let needs = Needs { statistics: settings.program_statistics, ..needs };
    let filtered = system_calls::filter(refusal, needs);
    let (calls, reason) = match filtered {
        Ok(()) => (calls, None),
        Err(error) => (OtherCalls::Allowed, Some(format!("{error:#}"))),
    };
    let confinement = Confinement::of(settings, held, calls, reason);
    confinement.tell();
    Ok(confinement)
}

impl Settings {
    fn kept(&self) -> CapabilitySet {
        let statistics = if self.program_statistics { STATISTICS } else { CapabilitySet::empty() };
        let kept = CAPABILITIES.iter().filter(|one| one.kept);
        kept.fold(statistics, |all, one| all | one.set)
    }
}

impl Confinement {
    fn of(
        settings: &Settings,
        held: CapabilitySet,
        other_system_calls: OtherCalls,
        reason: Option<String>,
    ) -> Self {
        let lacking = CAPABILITIES.iter().filter(|one| one.kept && !held.contains(one.set));
        let lacking = lacking.map(|one| Lacking { capability: one.name, without: one.without }).collect();
        Self { mode: settings.mode, capabilities: names(held), lacking, other_system_calls, reason }
    }

    fn tell(&self) {
        for Lacking { capability, without } in &self.lacking {
            warn!("{capability} is not held: {without}");
        }
        if let Some(reason) = &self.reason {
            warn!("every system call stays allowed: {reason}");
        }
        let calls = self.other_system_calls.label();
        info!("confined to {}; other system calls are {calls}", self.capabilities.join(", "));
    }
}

fn names(set: CapabilitySet) -> Vec<String> {
    set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect()
}

/// Keeps of `kept` what the calling thread has, and nothing else; what that is.
fn give_up_capabilities(kept: CapabilitySet) -> Result<CapabilitySet> {
    for bit in 0..CAPABILITY_BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        // An error: this kernel has no more.
        let Ok(bounding) = capability_is_in_bounding_set(one) else { break };
        if bounding && !kept.contains(one) {
            // Needs CAP_SETPCAP. A manager that does not give it has set the bounds itself; and nothing is
            // ever executed that could gain what they leave.
            let _refused = remove_capability_from_bounding_set(one);
        }
    }
    clear_ambient_capability_set().context("clear the ambient capabilities")?;
    let permitted = capabilities(None).context("read the capabilities of this process")?.permitted & kept;
    let sets = CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).context("give up capabilities")?;
    Ok(permitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_the_settings_say() {
        let default = CapabilitySet::BPF | CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH;
        assert_eq!(Settings::default().kept(), default);
        let settings = Settings { program_statistics: true, ..Settings::default() };
        assert_eq!(settings.kept(), default | CapabilitySet::SYS_ADMIN);
    }

    #[test]
    fn a_thread_keeps_only_what_it_had_of_what_is_kept() {
        // Capabilities belong to a thread: this one's go with it.
        let given_up = || {
            let before = capabilities(None).unwrap();
            let kept = CapabilitySet::BPF | CapabilitySet::SYS_PTRACE;
            let held = give_up_capabilities(kept).unwrap();
            assert_eq!(held, before.permitted & kept);
            let expected =
                CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() };
            assert_eq!(capabilities(None).unwrap(), expected);
            let bounded = capability_is_in_bounding_set(CapabilitySet::SYS_ADMIN).unwrap();
            assert!(!bounded || !before.effective.contains(CapabilitySet::SETPCAP));
        };
        std::thread::spawn(given_up).join().unwrap();
    }

    #[test]
    fn several_threads_are_not_confined() {
        let (send, receive) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || receive.recv());
        let error = confine(&Settings::default(), Needs::default()).unwrap_err().to_string();
        assert!(error.contains("threads run where capabilities are given up"), "{error}");
        drop(send);
        assert!(other.join().unwrap().is_err());
    }

    #[test]
    fn what_is_lacking_is_said_with_what_it_costs() {
        let held = CapabilitySet::BPF | CapabilitySet::DAC_READ_SEARCH;
        let confinement = Confinement::of(&Settings::default(), held, OtherCalls::Refused, None);
        assert_eq!(confinement.capabilities, ["CAP_DAC_READ_SEARCH", "CAP_BPF"]);
        let lacking: Vec<_> = confinement.lacking.iter().map(|one| one.capability).collect();
        assert_eq!(lacking, ["CAP_SYS_PTRACE"]);
    }
}
