//! What the kernel's own primitives cost on this machine, so that a figure over its budget can be told from a slow
//! machine.
//!
//! In: the bench's kernel programs, each attached by itself. Out: nanoseconds of each, net of the empty one, and
//! the sum of those that a call cannot do without.

use anyhow::Result;
use inferscope::probe::baseline::{Baseline, EMPTY};

use super::report::FloorRow;
use super::{runs, traffic};

/// Of one round; what the ring gets of them fits it with a wide margin.
const CALLS: u32 = 5_000;
/// The empty program is taken off everything, so it is measured longer.
const EMPTY_CALLS: u32 = 40_000;
const SMALL_BYTES: usize = 256;
const LARGE_BYTES: usize = 4096;

/// A step that the kernel does for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Primitive {
    Thread,
    Clock,
    Storage,
    Registers,
    Copy,
    CopyLarge,
    Ring,
    RingLarge,
}

/// Program, bytes of the writes that it sees, and what it does.
const PROGRAMS: [(Primitive, &str, usize, &str); 8] = [
    (Primitive::Thread, "bench_thread", SMALL_BYTES, "whose call it is"),
    (Primitive::Clock, "bench_clock", SMALL_BYTES, "the clock"),
    (Primitive::Storage, "bench_storage", SMALL_BYTES, "what is kept in a socket"),
    (Primitive::Registers, "bench_registers", SMALL_BYTES, "the call's registers"),
    (Primitive::Copy, "bench_copy", SMALL_BYTES, "copy of 256 bytes of user memory"),
    (Primitive::CopyLarge, "bench_copy_4k", LARGE_BYTES, "copy of 4 KiB of user memory"),
    (Primitive::Ring, "bench_ring", SMALL_BYTES, "312 bytes into the ring"),
    (Primitive::RingLarge, "bench_ring_4k", LARGE_BYTES, "4,152 bytes into the ring"),
];

/// How often a call needs each.
pub(super) type Needs = &'static [(Primitive, u32)];

/// Nanoseconds of each, net.
pub(super) struct Floor {
    pub(super) empty_ns: f64,
    costs: Vec<(Primitive, f64)>,
}

impl Floor {
    /// # Errors
    ///
    /// Where the kernel does not take the programs.
    pub(super) fn measure() -> Result<Self> {
        let empty_ns = run_ns(EMPTY, EMPTY_CALLS, SMALL_BYTES)?;
        let mut floor = Self { empty_ns, costs: Vec::new() };
        for (primitive, program, bytes, _) in PROGRAMS {
            let mut net_ns = run_ns(program, CALLS, bytes)? - empty_ns;
            if matches!(primitive, Primitive::Copy | Primitive::CopyLarge) {
                // The program has to find the bytes first.
                net_ns -= floor.cost(Primitive::Registers);
            }
            floor.costs.push((primitive, net_ns.max(0.0)));
        }
        Ok(floor)
    }

    fn cost(&self, wanted: Primitive) -> f64 {
        self.costs.iter().find(|(primitive, _)| *primitive == wanted).map_or(0.0, |(_, ns)| *ns)
    }

    /// All that a call needs.
    pub(super) fn of(&self, needs: Needs) -> f64 {
        needs.iter().map(|(primitive, count)| self.cost(*primitive) * f64::from(*count)).sum()
    }

    pub(super) fn rows(&self) -> Vec<FloorRow> {
        PROGRAMS
            .iter()
            .map(|&(primitive, _, _, what)| FloorRow { what, net_ns: self.cost(primitive) })
            .collect()
    }
}

/// One run of the program, with what the statistics take.
fn run_ns(program: &str, calls: u32, bytes: usize) -> Result<f64> {
    let mut attached = Baseline::attach(program)?;
    let windows = runs::median(&[program], || {
        traffic::perform_unwatched(calls, bytes)?;
        attached.drain();
        Ok(())
    })?;
    Ok(windows[0].ns())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_of_a_call_is_the_sum_of_what_it_needs() {
        let floor = Floor { empty_ns: 60.0, costs: vec![(Primitive::Clock, 70.0), (Primitive::Copy, 110.0)] };
        assert!((floor.of(&[(Primitive::Clock, 1), (Primitive::Copy, 3)]) - 400.0).abs() < 1e-9);
        assert!(floor.of(&[]).abs() < 1e-9);
    }

    #[test]
    fn every_primitive_is_measured_once() {
        for (index, (primitive, program, ..)) in PROGRAMS.iter().enumerate() {
            let others = &PROGRAMS[index + 1..];
            assert!(others.iter().all(|(other, name, ..)| other != primitive && name != program));
            // The kernel keeps so many characters of a name, by which its figures are found.
            assert!(program.len() <= 15, "{program}");
        }
    }
}
