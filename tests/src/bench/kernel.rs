//! Nanoseconds of each kernel program in each situation, by the kernel's own run-time statistics.
//!
//! In: a scene, the floor. Out: rows, each the median of rounds, less an empty program. In every situation bytes go
//! one way, and one end is watched: the programs of the other end and direction show the unwatched cost.

use std::process::Command;

use anyhow::{Context as _, Result};
use inferscope::probe::plan;
use inferscope::probe::statistics;

use super::floor::{Floor, Needs, Primitive};
use super::report::{Figure, KernelRow, ProgramRow};
use super::runs::{Window, median};
use super::scene::Scene;
use super::server::{Direction, Order, PIECES};
use super::traffic;

const CALLS: u32 = 20_000;
const EXECS: usize = 200;

const READ: &str = "socket_read";
const WRITE: &str = "socket_write";
const SEND: &str = "socket_send";
const ARRIVE: &str = "socket_arrive";

/// Budgets of DESIGN, nanoseconds of one call, all its programs together.
const UNWATCHED_NS: f64 = 50.0;
const SMALL_NS: f64 = 500.0;
const LARGE_NS: f64 = 1000.0;

/// What a call cannot do without. A write's other program looks the socket up a second time and takes the clock;
/// a read's runs when bytes arrive, of which many may be before one read, and is left out.
const UNWATCHED: Needs = &[(Primitive::Thread, 1)];
const LOOKED_UP: Needs = &[(Primitive::Thread, 1), (Primitive::Storage, 1)];
const LOOKED_UP_TWICE: Needs = &[(Primitive::Thread, 2), (Primitive::Storage, 2)];
const HTTP_READ: Needs = &[
    (Primitive::Thread, 1),
    (Primitive::Storage, 1),
    (Primitive::Clock, 1),
    (Primitive::Registers, 1),
    (Primitive::Copy, 1),
    (Primitive::Ring, 1),
];
const HTTP_READ_LARGE: Needs = &[
    (Primitive::Thread, 1),
    (Primitive::Storage, 1),
    (Primitive::Clock, 1),
    (Primitive::Registers, 1),
    (Primitive::CopyLarge, 1),
    (Primitive::RingLarge, 1),
];
const HTTP_WRITE: Needs = &[
    (Primitive::Thread, 2),
    (Primitive::Storage, 2),
    (Primitive::Clock, 1),
    (Primitive::Registers, 1),
    (Primitive::Copy, 1),
    (Primitive::Ring, 1),
];
const HTTP_WRITE_LARGE: Needs = &[
    (Primitive::Thread, 2),
    (Primitive::Storage, 2),
    (Primitive::Clock, 1),
    (Primitive::Registers, 1),
    (Primitive::CopyLarge, 1),
    (Primitive::RingLarge, 1),
];
/// A copy for the list of pieces, and one for each.
const HTTP_WRITE_PIECES: Needs = &[
    (Primitive::Thread, 2),
    (Primitive::Storage, 2),
    (Primitive::Clock, 1),
    (Primitive::Registers, 1),
    (Primitive::Copy, 1 + PIECES as u32),
    (Primitive::RingLarge, 1),
];

/// A situation: what passes, and the bytes of one call.
struct Situation {
    name: &'static str,
    /// `None`: both ends are unwatched.
    direction: Option<Direction>,
    bytes: usize,
    reads: bool,
    budget_ns: f64,
    needs: Needs,
}

impl Situation {
    /// The program of the call, and the one that runs beside it.
    fn programs(&self) -> [&'static str; 2] {
        if self.reads { [READ, ARRIVE] } else { [WRITE, SEND] }
    }
}

/// A write of an unwatched process; the rows below say what differs.
const PLAIN: Situation = Situation {
    name: "unwatched process, write",
    direction: None,
    bytes: 256,
    reads: false,
    budget_ns: UNWATCHED_NS,
    needs: UNWATCHED,
};

const SITUATIONS: [Situation; 9] = [
    PLAIN,
    Situation { name: "unwatched process, read", reads: true, ..PLAIN },
    Situation {
        name: "watched, not HTTP, write",
        direction: Some(Direction::OutWrite),
        budget_ns: SMALL_NS,
        needs: LOOKED_UP_TWICE,
        ..PLAIN
    },
    Situation {
        name: "watched, not HTTP, read",
        direction: Some(Direction::OutRead),
        reads: true,
        budget_ns: SMALL_NS,
        needs: LOOKED_UP,
        ..PLAIN
    },
    Situation { name: "watched HTTP, write 256 B", ..WRITTEN },
    Situation { name: "watched HTTP, read 256 B", ..ASKED },
    Situation {
        name: "watched HTTP, write 4 KiB",
        bytes: 4096,
        budget_ns: LARGE_NS,
        needs: HTTP_WRITE_LARGE,
        ..WRITTEN
    },
    Situation {
        name: "watched HTTP, read 4 KiB",
        bytes: 4096,
        budget_ns: LARGE_NS,
        needs: HTTP_READ_LARGE,
        ..ASKED
    },
    Situation {
        name: "watched HTTP, write 48 pieces",
        direction: Some(Direction::WritePieces),
        bytes: 4080,
        budget_ns: LARGE_NS,
        needs: HTTP_WRITE_PIECES,
        ..PLAIN
    },
];
const WRITTEN: Situation =
    Situation { direction: Some(Direction::Write), budget_ns: SMALL_NS, needs: HTTP_WRITE, ..PLAIN };
const ASKED: Situation = Situation {
    direction: Some(Direction::Read),
    reads: true,
    budget_ns: SMALL_NS,
    needs: HTTP_READ,
    ..PLAIN
};

/// Every situation.
pub(super) fn rows(scene: &Scene, floor: &Floor) -> Result<Vec<KernelRow>> {
    SITUATIONS.iter().map(|one| row(scene, one, floor)).collect()
}

fn row(scene: &Scene, situation: &Situation, floor: &Floor) -> Result<KernelRow> {
    let Situation { name, bytes, budget_ns, needs, .. } = *situation;
    let programs = situation.programs();
    let windows = median(&programs, || match situation.direction {
        Some(direction) => traffic::perform(scene.server, Order { direction, calls: CALLS, bytes, port: 0 }),
        None => traffic::perform_unwatched(CALLS, bytes),
    })?;
    let [call, beside] = windows[..] else { unreachable!("a window for each of two programs") };
    let (own_ns, beside_ns) = (call.ns() - floor.empty_ns, (beside.ns() - floor.empty_ns).max(0.0));
    let beside_per_call = if call.runs == 0 { 0.0 } else { beside.runs as f64 / call.runs as f64 };
    let net_ns = own_ns + beside_ns * beside_per_call;
    let floor_ns = floor.of(needs);
    Ok(KernelRow {
        situation: name,
        program: programs[0],
        runs: call.runs,
        gross_ns: call.ns(),
        own_ns,
        beside: programs[1],
        beside_ns: beside_ns * beside_per_call,
        net_ns,
        budget_ns,
        ratio: net_ns / budget_ns,
        floor_ns,
        ratio_to_floor: net_ns / floor_ns.max(1.0),
    })
}

/// Programs that run at every system call of the node: none where the kernel has better hooks.
pub(super) fn system_call_figure() -> Figure {
    let at_calls: Vec<&str> =
        plan::programs().iter().filter(|one| one.hook.starts_with("sys_")).map(|one| one.name).collect();
    let loaded = statistics::loaded().into_iter().filter(|one| at_calls.contains(&one.program.as_str()));
    Figure::new("programs at every system call of the node", loaded.count() as f64, "").within(0.0)
}

/// What the verifier had to walk for each of the agent's programs, and the average over the whole bench.
pub(super) fn programs(empty_ns: f64) -> Vec<ProgramRow> {
    let ours: Vec<&str> = plan::programs().iter().map(|program| program.name).collect();
    let loaded = statistics::loaded().into_iter().filter(|one| ours.contains(&one.program.as_str()));
    let rows = loaded.map(|one| ProgramRow {
        mean_net_ns: Window { runs: one.runs, time: one.run_time }.ns() - empty_ns,
        program: one.program,
        runs: one.runs,
        recursion_misses: one.recursion_misses,
        verified_instructions: one.verified_instructions,
    });
    rows.collect()
}

/// What the start of any program on the node costs it.
pub(super) fn exec_figure(empty_ns: f64) -> Result<Figure> {
    let windows = median(&["process_exec"], || {
        for _ in 0..EXECS {
            Command::new("true").status().context("run `true`")?;
        }
        Ok(())
    })?;
    Ok(Figure::new("start of any program, kernel time", windows[0].ns() - empty_ns, "ns"))
}
