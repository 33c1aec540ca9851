//! Loads each program to its hook, the best way first, and says what became of it.
//!
//! The choice is made by what the running kernel's types have, never by its version, and by what it takes:
//! a program that does not load or attach is absent, whatever the error, and the next way is tried.

use anyhow::{Context as _, Result};
use aya::programs::{BtfTracePoint, FEntry, FExit, Iter};
use aya::{Btf, Ebpf};
use tracing::{debug, info, warn};

use super::btf::KernelTypes;
use super::features::Features;
use super::plan::{CALLS, DUTIES, Duty, Family, Kind, Program, Way};

/// A duty and what became of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub duty: &'static Duty,
    /// The way that was taken.
    pub way: Option<&'static Way>,
    /// Why the ways before it were not.
    pub refused: Vec<Refusal>,
}

/// A program that a kernel does not have the hook for, or did not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub program: &'static str,
    pub reason: String,
}

impl Outcome {
    /// What this node loses by it, if anything.
    #[must_use]
    pub fn loss(&self) -> Option<&'static str> {
        match self.way {
            Some(way) => way.costs,
            None => Some(self.duty.without),
        }
    }

    /// All refusals in one line.
    #[must_use]
    pub fn reasons(&self) -> String {
        let reasons: Vec<&str> = self.refused.iter().map(|refusal| refusal.reason.as_str()).collect();
        reasons.join("; ")
    }
}

/// What it takes to attach.
pub(super) struct Kernel<'a> {
    pub types: &'a KernelTypes,
    pub features: Features,
    pub btf: &'a Btf,
}

/// Which way each duty would go, as far as the kernel's types tell.
#[must_use]
pub fn predict(types: &KernelTypes, features: &Features, families: &[Family]) -> Vec<Outcome> {
    let calls = |family| {
        let features = features.within(family);
        take(&CALLS, family, |program| program.check(types, &features))
    };
    let mut refused = Vec::new();
    for &family in families {
        let mut outcome = calls(family);
        refused.append(&mut outcome.refused);
        if outcome.way.is_some() {
            let features = features.within(family);
            let rest = DUTIES.iter().filter(|duty| duty.applies(&features));
            let rest = rest.map(|duty| take(duty, family, |program| program.check(types, &features)));
            return std::iter::once(Outcome { refused, ..outcome }).chain(rest).collect();
        }
    }
    vec![Outcome { duty: &CALLS, way: None, refused }]
}

/// The first way all of whose programs go; those of a way that does not are to be undone by the caller.
fn take(duty: &'static Duty, family: Family, mut go: impl FnMut(&'static Program) -> Result<()>) -> Outcome {
    let mut refused = Vec::new();
    for way in duty.ways_of(family) {
        let refusal = way.programs.iter().find_map(|program| {
            let error = go(program).err()?;
            debug!(program = program.name, "refused: {error:#}");
            Some(Refusal { program: program.name, reason: in_short(&error) })
        });
        let Some(refusal) = refusal else { return Outcome { duty, way: Some(way), refused } };
        if !refused.contains(&refusal) {
            refused.push(refusal);
        }
    }
    Outcome { duty, way: None, refused }
}

/// Attaches the programs at the calls themselves, if the kernel takes those of this family.
pub(super) fn attach_calls(ebpf: &mut Ebpf, kernel: &Kernel<'_>, family: Family) -> Outcome {
    attach_duty(ebpf, kernel, &CALLS, family)
}

/// Attaches everything else that the kernel can take.
pub(super) fn attach_rest(ebpf: &mut Ebpf, kernel: &Kernel<'_>, family: Family) -> Vec<Outcome> {
    let duties = DUTIES.iter().filter(|duty| duty.applies(&kernel.features));
    duties.map(|duty| attach_duty(ebpf, kernel, duty, family)).collect()
}

fn attach_duty(ebpf: &mut Ebpf, kernel: &Kernel<'_>, duty: &'static Duty, family: Family) -> Outcome {
    let outcome = take(duty, family, |program| attach(ebpf, kernel, program));
    // Those of a way that was given up half done.
    let kept = outcome.way.map_or(&[][..], |way| way.programs);
    for program in duty.ways.iter().flat_map(|way| way.programs).filter(|program| !kept.contains(program)) {
        undo(ebpf, program);
    }
    outcome
}

/// Says in the log what this node gets.
pub(super) fn report(outcomes: &[Outcome]) {
    for outcome in outcomes {
        let duty = outcome.duty.name;
        for program in outcome.way.map_or(&[][..], |way| way.programs) {
            debug!(duty, program = program.name, hook = %program, "attached");
        }
        match (outcome.way, outcome.loss()) {
            (None, _) => warn!(duty, "not attached, {}: {}", outcome.duty.without, outcome.reasons()),
            (Some(_), Some(costs)) => {
                info!(duty, "attached another way, {costs}: {}", outcome.reasons());
            }
            (Some(_), None) => {}
        }
    }
}

/// Loads and attaches one program, whole or not at all; a second time is no error.
pub(super) fn attach(ebpf: &mut Ebpf, kernel: &Kernel<'_>, plan: &Program) -> Result<()> {
    plan.check(kernel.types, &kernel.features)?;
    let program = ebpf.program_mut(plan.name).context("program is not in the object")?;
    if program.fd().is_ok() {
        return Ok(());
    }
    load(program, plan, kernel.btf).inspect_err(|_| undo(ebpf, plan))
}

fn load(program: &mut aya::programs::Program, plan: &Program, btf: &Btf) -> Result<()> {
    match plan.kind {
        Kind::Tracepoint => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(plan.hook, btf).context("load")?;
            program.attach().context("attach")?;
        }
        Kind::Entry => {
            let program: &mut FEntry = program.try_into()?;
            program.load(plan.hook, btf).context("load")?;
            program.attach().context("attach")?;
        }
        Kind::Return => {
            let program: &mut FExit = program.try_into()?;
            program.load(plan.hook, btf).context("load")?;
            program.attach().context("attach")?;
        }
        // Attached anew for each pass.
        Kind::Iterator => {
            let program: &mut Iter = program.try_into()?;
            program.load(plan.hook, btf).context("load")?;
        }
    }
    Ok(())
}

/// An error without most of the verifier's log, which may be megabytes.
pub(super) fn in_short(error: &anyhow::Error) -> String {
    const CHARACTERS_MAX: usize = 300;
    let text = format!("{error:#}");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // The log ends in what was refused, and some lines of statistics.
    let refusal = lines.iter().rposition(|line| line.starts_with("verification time")).unwrap_or(0);
    let (first, last) = (lines.first().copied().unwrap_or_default(), lines.get(refusal.wrapping_sub(1)));
    let first = first.split(". Verifier output").next().unwrap_or_default();
    let said = last.map_or_else(|| first.to_owned(), |last| format!("{first}: {last}"));
    said.chars().take(CHARACTERS_MAX).collect()
}

/// Takes one program back.
pub(super) fn undo(ebpf: &mut Ebpf, plan: &Program) {
    let Some(program) = ebpf.program_mut(plan.name) else { return };
    if program.fd().is_err() {
        return;
    }
    let undone = match plan.kind {
        Kind::Tracepoint => <&mut BtfTracePoint>::try_from(program).and_then(BtfTracePoint::unload),
        Kind::Entry => <&mut FEntry>::try_from(program).and_then(FEntry::unload),
        Kind::Return => <&mut FExit>::try_from(program).and_then(FExit::unload),
        Kind::Iterator => <&mut Iter>::try_from(program).and_then(Iter::unload),
    };
    if let Err(error) = undone {
        warn!(program = plan.name, "unload a program that is not used: {error}");
    }
}
