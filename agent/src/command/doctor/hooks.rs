//! Which hooks this node gets, and what each missing one costs.
//!
//! In: a node, and what a start was found to get, where it was tried. Out: findings. Untried, the kernel's type
//! information tells which hooks there are; that the kernel takes the programs, only a try can tell.

use super::{Cause, Finding, Loss, Node, State};
use crate::probe::attach::{Outcome, predict};
use crate::probe::features::{self, Features, Preemption};
use crate::probe::plan::{CALLS, Duty, Family};

/// The type information, and what becomes of each duty.
pub(super) fn all(node: &Node, tried: Option<&[Outcome]>) -> Vec<Finding> {
    let types = match node.kernel_types() {
        Ok(types) => types,
        Err(error) => return vec![no_btf(&error)],
    };
    let lockdown = features::lockdown(&node.sys.join("kernel/security/lockdown"));
    let predicted =
        predict(&types, &Features::of(&types, lockdown.as_deref(), Preemption::of_node()), &Family::ALL);
    let outcomes = tried.unwrap_or(&predicted);
    let mut findings = vec![Finding::ok("BTF", "/sys/kernel/btf/vmlinux")];
    findings.extend(outcomes.iter().map(finding));
    findings
}

fn no_btf(error: &anyhow::Error) -> Finding {
    let loss = Loss {
        costs: "the programs cannot be fitted to this kernel, so none loads; which hooks it has is unknown",
        remedy: "use a kernel built with CONFIG_DEBUG_INFO_BTF=y (all current distributions), and let a \
                 container see the host's /sys",
        cause: Some(Cause::NoBtf),
    };
    Finding::lost("BTF", State::Missing, format!("{error:#}"), loss)
}

fn finding(outcome: &Outcome) -> Finding {
    let duty = outcome.duty;
    let Some(way) = outcome.way else {
        let (cause, remedy) = without(duty);
        let loss = Loss { costs: duty.without, remedy, cause };
        let reasons = outcome.reasons();
        let found = if reasons.is_empty() { "none beside the system calls".to_owned() } else { reasons };
        return Finding::lost(duty.name, State::Missing, found, loss);
    };
    let hooks: Vec<String> = way.programs.iter().map(ToString::to_string).collect();
    let hooks = hooks.join(", ");
    let Some(costs) = way.costs else { return Finding::ok(duty.name, hooks) };
    let costly = std::ptr::eq(duty, &raw const CALLS) && way.family == Family::SystemCall;
    let loss = Loss {
        costs,
        remedy: "a newer kernel, or one whose functions may be traced, has a better hook",
        cause: costly.then_some(Cause::CostlySocketHook),
    };
    let found = if outcome.refused.is_empty() { hooks } else { format!("{hooks} ({})", outcome.reasons()) };
    Finding::lost(duty.name, State::Degraded, found, loss)
}

/// Part in the exit status, and what to do.
fn without(duty: &Duty) -> (Option<Cause>, &'static str) {
    match duty.name {
        "socket bytes" => (
            Some(Cause::NoSocketHook),
            "use a kernel that has the tracepoints of sockets (Linux 6.3 or later: Debian 13, Ubuntu 24.04, RHEL 10) or \
             whose functions may be traced (5.10 or later, not hardened against it), and boot with lockdown=integrity \
             rather than confidentiality",
        ),
        "time of writes" => (
            Some(Cause::NoSendTime),
            "nothing where processors are not full; else a kernel with this tracepoint: Linux 6.16 or later",
        ),
        "arrival of data" => {
            (Some(Cause::NoArrival), "use a kernel with this tracepoint: Linux 6.3 or later")
        }
        "process events" | "process ends" => {
            (Some(Cause::NoProcessEvents), "use a kernel with these tracepoints")
        }
        "stalls" | "reclaim of memory" => (Some(Cause::NoStalls), "use a kernel with these tracepoints"),
        "lost ends" => (None, "nothing: only a flood beyond the agent's capacity loses events"),
        "skipped calls" => (None, "see what was refused: the kernel takes the same programs as first copies"),
        _ => (Some(Cause::NoConnectionEnd), "use a kernel with one of these hooks"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::plan::DUTIES;

    #[test]
    fn every_duty_has_a_cause_and_a_remedy_of_its_own_kind() {
        let causes: Vec<Option<Cause>> =
            std::iter::once(&CALLS).chain(&DUTIES).map(|duty| without(duty).0).collect();
        let expected = [
            Some(Cause::NoSocketHook),
            Some(Cause::NoSendTime),
            Some(Cause::NoArrival),
            Some(Cause::NoConnectionEnd),
            Some(Cause::NoConnectionEnd),
            Some(Cause::NoConnectionEnd),
            None,
            Some(Cause::NoProcessEvents),
            Some(Cause::NoProcessEvents),
            None,
            Some(Cause::NoStalls),
            Some(Cause::NoStalls),
        ];
        assert_eq!(causes, expected);
    }
}
