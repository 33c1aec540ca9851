//! What held up each watched thread lately.
//!
//! In: events of the STALLS ring, and the table of threads as it stands. Out: the stalls of a thread within a stretch
//! of time, those under way included.

use std::collections::{HashMap, VecDeque};

use inferscope_common::stall::{Spell, Stall, StallEvent, State, Thread};

/// Stalls of one thread that are kept one by one; beyond that the older half is summed in pairs.
const TOLD_MAX: usize = 1024;
/// Stalls of all threads together: 4 MiB.
const ALL_TOLD_MAX: usize = 131_072;

/// One stall, or several of a kind in a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    pub kind: Stall,
    pub start_ns: u64,
    pub end_ns: u64,
    /// How much of the stretch it was.
    pub stalled_ns: u64,
}

impl Told {
    /// All of the stretch.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.stalled_ns >= self.end_ns - self.start_ns
    }

    /// What of it is between two times, as if it were spread evenly.
    #[must_use]
    pub fn within(&self, from: u64, to: u64) -> u64 {
        let overlap = self.end_ns.min(to).saturating_sub(self.start_ns.max(from));
        let whole = self.end_ns - self.start_ns;
        if overlap == 0 || whole == 0 {
            return 0;
        }
        (u128::from(self.stalled_ns) * u128::from(overlap) / u128::from(whole)) as u64
    }

    /// The same of one kind, where it is a sum.
    pub(super) fn short(&self, kind: Stall, from: u64, to: u64) -> u64 {
        if self.kind == kind && !self.is_exact() { self.within(from, to) } else { 0 }
    }

    /// Both as one sum.
    fn and(self, other: Self) -> Self {
        Self {
            kind: self.kind,
            start_ns: self.start_ns.min(other.start_ns),
            end_ns: self.end_ns.max(other.end_ns),
            stalled_ns: self.stalled_ns + other.stalled_ns,
        }
    }
}

/// The stalls of all threads.
#[derive(Debug, Default)]
pub struct History {
    threads: HashMap<u32, Past>,
    told: usize,
    forgotten: u64,
}

#[derive(Debug, Default)]
struct Past {
    tgid: u32,
    /// In the order in which they were over.
    told: VecDeque<Told>,
    /// Under way, or short and not told yet, when the table was last read.
    pending: Vec<Told>,
}

impl History {
    /// A stall is over.
    pub fn on_event(&mut self, event: &StallEvent) {
        let Ok(kind) = Stall::try_from(event.kind) else { return };
        let told = Told {
            kind,
            start_ns: event.start_ns,
            end_ns: event.end_ns.max(event.start_ns),
            stalled_ns: event.stalled_ns,
        };
        let past = self.threads.entry(event.tid).or_default();
        if past.tgid != event.tgid {
            // The number was given again.
            self.told -= past.told.len();
            *past = Past { tgid: event.tgid, ..Past::default() };
        }
        past.pending.retain(|pending| (pending.kind, pending.start_ns) != (told.kind, told.start_ns));
        if past.told.len() >= TOLD_MAX || self.told >= ALL_TOLD_MAX {
            self.told -= past.halve();
        }
        if self.told >= ALL_TOLD_MAX {
            self.forgotten += 1;
            return;
        }
        past.told.push_back(told);
        self.told += 1;
    }

    /// How the threads stand at `now`; events that were told before the table was read may come after.
    pub fn on_table(&mut self, threads: &[(u32, Thread)], now: u64) {
        for past in self.threads.values_mut() {
            past.pending.clear();
        }
        for (tid, thread) in threads {
            let pending = pending(thread, now);
            if pending.is_empty() {
                continue;
            }
            let past = self.threads.entry(*tid).or_default();
            if past.tgid != thread.tgid {
                self.told -= past.told.len();
                *past = Past { tgid: thread.tgid, ..Past::default() };
            }
            past.pending = pending;
        }
    }

    /// What was over before `before` is asked for no more.
    pub fn forget_before(&mut self, before: u64) {
        let told = &mut self.told;
        self.threads.retain(|_, past| {
            let old = past.told.partition_point(|told| told.end_ns < before);
            past.told.drain(..old);
            *told -= old;
            !past.told.is_empty() || !past.pending.is_empty()
        });
    }

    /// A process has ended.
    pub fn forget_process(&mut self, tgid: u32) {
        let told = &mut self.told;
        self.threads.retain(|_, past| {
            let stays = past.tgid != tgid;
            *told -= if stays { 0 } else { past.told.len() };
            stays
        });
    }

    /// What held `tid` up between two times; nothing where it was another process's then. `tgid`: its process, where that is
    /// known.
    #[must_use]
    pub fn of(&self, tid: u32, tgid: Option<u32>, from: u64, to: u64) -> Vec<Told> {
        let past = self.threads.get(&tid).filter(|past| tgid.is_none_or(|tgid| past.tgid == tgid));
        let Some(past) = past else { return Vec::new() };
        let first = past.told.partition_point(|told| told.end_ns <= from);
        past.told
            .range(first..)
            .chain(&past.pending)
            .filter(|told| told.start_ns < to && told.end_ns > from)
            .copied()
            .collect()
    }

    /// Stalls that there was no room for.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

impl Past {
    /// Sums the older half in pairs of a kind; returns by how many there are less.
    fn halve(&mut self) -> usize {
        let before = self.told.len();
        let newer = self.told.split_off(before / 2);
        let mut open: HashMap<Stall, Told> = HashMap::new();
        let mut summed = Vec::with_capacity(before / 4);
        for told in self.told.drain(..) {
            match open.remove(&told.kind) {
                Some(first) => summed.push(first.and(told)),
                None => drop(open.insert(told.kind, told)),
            }
        }
        summed.extend(open.into_values());
        summed.sort_unstable_by_key(|told| told.end_ns);
        self.told = summed.into();
        self.told.extend(newer);
        before - self.told.len()
    }
}

/// What of a thread is in no event yet.
pub(super) fn pending(thread: &Thread, now: u64) -> Vec<Told> {
    const STATES: [(State, Stall); 5] = [
        (State::Stopped, Stall::Stopped),
        (State::Throttled, Stall::CpuThrottle),
        (State::Waits, Stall::RunQueue),
        (State::Reclaims, Stall::MemoryReclaim),
        (State::Io, Stall::BlockIo),
    ];
    let mut pending = Vec::new();
    let mut under_way = |kind, start_ns| {
        if start_ns < now {
            pending.push(Told { kind, start_ns, end_ns: now, stalled_ns: now - start_ns });
        }
    };
    if let Some((_, kind)) = STATES.iter().find(|(state, _)| *state as u32 == thread.state) {
        under_way(*kind, thread.since_ns);
    } else if thread.reclaims_since_ns != 0 {
        under_way(Stall::MemoryReclaim, thread.reclaims_since_ns);
    }
    let mut short = |kind, spell: &Spell| {
        if spell.start_ns != 0 && spell.start_ns < now {
            pending.push(Told { kind, start_ns: spell.start_ns, end_ns: now, stalled_ns: spell.stalled_ns });
        }
    };
    Stall::ALL.into_iter().zip(&thread.spells).for_each(|(kind, spell)| short(kind, spell));
    short(Stall::BlockIo, &thread.io);
    pending
}

#[cfg(test)]
mod tests;
