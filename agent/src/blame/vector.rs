//! The blame vector: a request's wall time by cause. Pure.
//!
//! In: the request's own times, and what held up the threads on its way. Out: for each phase the nanoseconds of each
//! cause, which sum to the phase. Where causes overlap, the first in the order of [`Cause`] has the time.

use std::time::Duration;

use inferscope_common::stall::{KINDS, Stall};

use super::history::Told;
use crate::gpu::Slowed;

/// What a request's time went to. The order settles an overlap: the first wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum Cause {
    /// A thread was stopped by a signal, a debugger or the freezer.
    Stopped,
    /// The group's quota of processor time was used up.
    CpuThrottle,
    /// A thread could run, and others had the processors.
    RunQueue,
    /// A thread had to find memory, or to wait until some was found.
    MemoryReclaim,
    /// A page had to be read from disk.
    MajorFault,
    /// A thread waited for a disk otherwise.
    BlockIo,
    /// The GPU's clocks were held down: the time that was lost by it, not all the while.
    GpuThrottle,
    /// The request lay at the socket while the thread that reads it did something else.
    EventLoop,
    /// The client took no more bytes.
    SendWait,
    /// None of these: the engine's own queue and its computing.
    Rest,
}

/// Causes of a vector.
pub const CAUSES: usize = 10;

impl Cause {
    /// Every cause, in order.
    pub const ALL: [Self; CAUSES] = [
        Self::Stopped,
        Self::CpuThrottle,
        Self::RunQueue,
        Self::MemoryReclaim,
        Self::MajorFault,
        Self::BlockIo,
        Self::GpuThrottle,
        Self::EventLoop,
        Self::SendWait,
        Self::Rest,
    ];

    /// Value of the label `cause`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::CpuThrottle => "cpu_throttle",
            Self::RunQueue => "run_queue",
            Self::MemoryReclaim => "memory_reclaim",
            Self::MajorFault => "major_fault",
            Self::BlockIo => "block_io",
            Self::GpuThrottle => "gpu_throttle",
            Self::EventLoop => "event_loop",
            Self::SendWait => "send_wait",
            Self::Rest => "rest",
        }
    }
}

impl From<Stall> for Cause {
    fn from(stall: Stall) -> Self {
        match stall {
            Stall::Stopped => Self::Stopped,
            Stall::CpuThrottle => Self::CpuThrottle,
            Stall::RunQueue => Self::RunQueue,
            Stall::MemoryReclaim => Self::MemoryReclaim,
            Stall::MajorFault => Self::MajorFault,
            Stall::BlockIo => Self::BlockIo,
        }
    }
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Of a stream: arrival to the first token.
    BeforeFirstToken,
    /// Of a stream: the first token to the end.
    After,
    /// Of a request without a stream, or without a token: arrival to end.
    Whole,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 3] = [Self::BeforeFirstToken, Self::After, Self::Whole];

    /// Value of the label `phase`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::BeforeFirstToken => "before_first_token",
            Self::After => "after",
            Self::Whole => "whole",
        }
    }
}

/// Nanoseconds by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vector([u64; CAUSES]);

impl Vector {
    /// Of times by cause.
    #[must_use]
    pub fn of_times(times: impl IntoIterator<Item = (Cause, Duration)>) -> Self {
        let mut vector = Self::default();
        times.into_iter().for_each(|(cause, time)| vector.add(cause, time.as_nanos() as u64));
        vector
    }

    /// Time that a cause has.
    #[must_use]
    pub fn of(&self, cause: Cause) -> Duration {
        Duration::from_nanos(self.0[cause as usize])
    }

    /// All of it: the time of the phase.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.0.iter().sum())
    }

    /// This and another.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
        self
    }

    fn add(&mut self, cause: Cause, ns: u64) {
        self.0[cause as usize] += ns;
    }
}

/// When a request did what, nanoseconds since boot.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub arrival: u64,
    pub first_read: u64,
    /// Of a stream that had one.
    pub first_token: Option<u64>,
    pub end: u64,
    /// Time in which the client took no bytes, until the first token and in all.
    pub send_wait_before: u64,
    pub send_wait: u64,
}

/// What held up the threads on a request's way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way<'a> {
    /// The thread that read it: while it lies at the socket nobody else can be to blame.
    pub reader: &'a [Told],
    /// Threads that each do a part, one after the other; the reader is one of them.
    pub serial: &'a [Vec<Told>],
    /// Threads that work side by side: the one that was held up longest counts.
    pub parallel: &'a [Vec<Told>],
    /// Times in which the clocks of its GPUs were held down, in order and without overlap.
    pub gpu: &'a [Slowed],
}

/// The request's time by phase and cause.
#[must_use]
pub fn blame(times: &Times, way: &Way<'_>) -> Vec<(Phase, Vector)> {
    let first_read = times.first_read.clamp(times.arrival, times.end);
    let reading = reading(times.arrival, first_read, way);
    let Some(first_token) = times.first_token else {
        let rest = served(first_read, times.end, times.send_wait, way);
        return vec![(Phase::Whole, reading.plus(&rest))];
    };
    let first_token = first_token.clamp(first_read, times.end);
    let before = served(first_read, first_token, times.send_wait_before, way);
    let waited = times.send_wait.saturating_sub(times.send_wait_before);
    let after = served(first_token, times.end, waited, way);
    vec![(Phase::BeforeFirstToken, reading.plus(&before)), (Phase::After, after)]
}

/// It lies at the socket.
fn reading(from: u64, to: u64, way: &Way<'_>) -> Vector {
    let mut part = Part::new(from, to);
    part.take(&[way.reader], &[]);
    part.vector.add(Cause::EventLoop, part.left);
    part.vector
}

/// The server has it.
fn served(from: u64, to: u64, send_wait: u64, way: &Way<'_>) -> Vector {
    let mut part = Part::new(from, to);
    let longest =
        way.parallel.iter().max_by_key(|lane| lane.iter().map(|told| told.within(from, to)).sum::<u64>());
    let lanes: Vec<&[Told]> = way.serial.iter().chain(longest).map(Vec::as_slice).collect();
    part.take(&lanes, way.gpu);
    part.take_up_to(Cause::SendWait, send_wait);
    part.vector.add(Cause::Rest, part.left);
    part.vector
}

/// A stretch of time that is shared out.
struct Part {
    from: u64,
    to: u64,
    left: u64,
    vector: Vector,
}

impl Part {
    fn new(from: u64, to: u64) -> Self {
        Self { from, to, left: to - from, vector: Vector::default() }
    }

    /// What is known to the nanosecond first, then sums of short stalls: of these the longest of a lane, as far as
    /// there is time for it.
    fn take(&mut self, lanes: &[&[Told]], gpu: &[Slowed]) {
        let mut edges = Vec::new();
        let mut edge = |cause: Cause, start: u64, end: u64, part: f64| {
            let (start, end) = (start.max(self.from), end.min(self.to));
            if start < end {
                edges.push(Edge { time: start, cause, begins: Some(part) });
                edges.push(Edge { time: end, cause, begins: None });
            }
        };
        let exact = lanes.iter().flat_map(|lane| lane.iter()).filter(|told| told.is_exact());
        exact.for_each(|told| edge(told.kind.into(), told.start_ns, told.end_ns, 1.0));
        gpu.iter().for_each(|slowed| edge(Cause::GpuThrottle, slowed.start_ns, slowed.end_ns, slowed.lost));
        self.sweep(edges);
        for kind in Stall::ALL {
            let sum =
                |lane: &&[Told]| lane.iter().map(|told| told.short(kind, self.from, self.to)).sum::<u64>();
            let longest = lanes.iter().map(sum).max().unwrap_or(0);
            self.take_up_to(kind.into(), longest);
        }
    }

    fn take_up_to(&mut self, cause: Cause, ns: u64) {
        let taken = ns.min(self.left);
        self.vector.add(cause, taken);
        self.left -= taken;
    }

    /// Goes through the edges in time; between two of them the first cause that is open has the time, or its part of it.
    fn sweep(&mut self, mut edges: Vec<Edge>) {
        // An end before a beginning: of one cause the part that begins then is the one that holds.
        edges.sort_by_key(|edge| (edge.time, edge.begins.is_some()));
        let (mut open, mut parts, mut at) = ([0_u32; CAUSES], [1.0; CAUSES], self.from);
        for Edge { time, cause, begins } in edges {
            if let Some(first) = Cause::ALL.into_iter().find(|cause| open[*cause as usize] > 0) {
                self.take_up_to(first, part_of(time - at, parts[first as usize]));
            }
            at = time;
            let count = &mut open[cause as usize];
            if let Some(part) = begins {
                *count += 1;
                parts[cause as usize] = part;
            } else {
                *count -= 1;
            }
        }
    }
}

/// Where a cause begins or ends.
struct Edge {
    time: u64,
    cause: Cause,
    /// The part of the time that it has from here on; `None`: here it ends.
    begins: Option<f64>,
}

/// All of it to the nanosecond where the part is 1: a `f64` would not have them all.
fn part_of(ns: u64, part: f64) -> u64 {
    if part >= 1.0 { ns } else { (ns as f64 * part) as u64 }
}

const _: () = assert!(KINDS < CAUSES);

#[cfg(test)]
mod tests;
