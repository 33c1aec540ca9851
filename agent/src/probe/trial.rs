//! What would a start get here? Loads and attaches the programs for a moment, and looks what became of it.
//!
//! In: the running kernel. Out: the way of each duty, and each program of every way with what the verifier
//! made of it. Measures nothing: no process is watched meanwhile.

use anyhow::Result;
use aya::Ebpf;
use serde::Serialize;

use super::attach::{self, Kernel, Outcome};
use super::plan::{CALLS, DUTIES, Duty, Family, Program};
use super::{Fitted, statistics};

/// One program, and whether the kernel takes it.
#[derive(Clone, Debug, Serialize)]
pub struct ProgramTrial {
    pub duty: &'static str,
    pub program: &'static str,
    /// As the kernel's own tools write it: `tp_btf/sock_send_length`.
    pub hook: String,
    /// The first family it is for.
    pub family: Family,
    /// A start on this kernel uses it.
    pub in_use: bool,
    /// Why the kernel does not take it; `None` where it does.
    pub absent: Option<String>,
    /// Instructions that the verifier walked, where the kernel tells (5.16).
    pub verified_instructions: Option<u32>,
}

/// Which ways a start takes.
///
/// # Errors
/// The kernel has no BTF, or refuses the tables.
pub fn start() -> Result<Vec<Outcome>> {
    Ok(super::attach(&Fitted::new()?, &Family::ALL)?.1)
}

/// Every program of every way. A program of two families is tried in the first of them that takes it.
///
/// # Errors
/// As [`start`].
pub fn every_program(outcomes: &[Outcome]) -> Result<Vec<ProgramTrial>> {
    let used: Vec<&Program> =
        outcomes.iter().filter_map(|outcome| outcome.way).flat_map(|way| way.programs).collect();
    let fitted = Fitted::new()?;
    let mut trials: Vec<ProgramTrial> = Vec::new();
    for family in Family::ALL {
        let (mut ebpf, kernel) = fitted.object(family)?;
        for (duty, program) in programs_of(family) {
            let known = trials.iter().position(|trial| trial.program == program.name);
            if known.is_some_and(|at| trials[at].absent.is_none()) {
                continue;
            }
            let trial = try_one(&mut ebpf, &kernel, (duty, program, family));
            let trial = ProgramTrial { in_use: used.contains(&program), ..trial };
            match known {
                Some(at) => trials[at] = ProgramTrial { family: trials[at].family, ..trial },
                None => trials.push(trial),
            }
        }
    }
    Ok(trials)
}

fn programs_of(family: Family) -> impl Iterator<Item = (&'static Duty, &'static Program)> {
    let duties = std::iter::once(&CALLS).chain(&DUTIES);
    duties.flat_map(move |duty| {
        duty.ways_of(family).flat_map(move |way| way.programs.iter().map(move |program| (duty, program)))
    })
}

fn try_one(
    ebpf: &mut Ebpf,
    kernel: &Kernel<'_>,
    (duty, program, family): (&Duty, &'static Program, Family),
) -> ProgramTrial {
    let attached = attach::attach(ebpf, kernel, program);
    let runs = ebpf.program(program.name).and_then(|loaded| statistics::read(program.name, loaded));
    ProgramTrial {
        duty: duty.name,
        program: program.name,
        hook: program.to_string(),
        family,
        in_use: false,
        absent: attached.err().map(|error| attach::in_short(&error)),
        verified_instructions: runs.and_then(|runs| runs.verified_instructions),
    }
}
