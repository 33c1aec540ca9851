//! Who uses which GPU, and what did its throttles mean to them?
//!
//! In: the processes of each GPU, as the newest reading has them, and whose they are. Out: the workloads of each GPU with
//! what each has of it; and for a stretch of time, when the clocks of a workload's own GPUs were held down.
//!
//! The driver tells processes by their numbers in the node's namespace, or (newer ones) in that of who asks; the agent's
//! `/proc` has the latter. Both are the same where the agent shares the node's namespace, as it needs to. Where it does
//! not, an older driver's numbers name nobody whom the agent knows, or in a rare case somebody else.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::card::{Card, Use};
use super::source::{Reading, ThrottleCause, User};
use super::{Gpus, Interval};
use crate::clock::BootTime;
use crate::workload::Workloads;

/// A stretch of time in which a GPU lost a share of its time, 0 to 1: the part that was throttled times the speed lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slowed {
    pub start_ns: u64,
    pub end_ns: u64,
    pub lost: f64,
}

/// What throttles did to a workload's GPUs in a stretch of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeldDown {
    /// In order, without overlap: one GPU that is slow holds up all that compute with it, so the slowest counts.
    pub slowed: Vec<Slowed>,
    /// Each once.
    pub causes: Vec<ThrottleCause>,
}

impl Gpus {
    /// Says whose the processes of the newest readings are.
    pub fn join(&mut self, workloads: &mut Workloads) {
        self.join_by(|tgid| workloads.find(tgid).map(|(workload, _)| workload.label.clone()));
    }

    pub(crate) fn join_by(&mut self, mut find: impl FnMut(u32) -> Option<Arc<str>>) {
        self.cards.values_mut().for_each(|card| card.join(&mut find));
    }

    /// What throttles did to a workload between two times; `None` where it is not known to have a GPU. What holds at the
    /// newest reading is taken to go on until the next: who asks does not wait for that.
    #[must_use]
    pub fn held_down(&self, workload: &str, from: BootTime, to: BootTime) -> Option<HeldDown> {
        let mut own = self.cards.values().filter(|card| card.is_of(workload)).peekable();
        own.peek()?;
        let (from, to) = (from.0, to.0);
        let (mut pieces, mut causes) = (Vec::new(), Vec::new());
        for interval in own.flat_map(|card| card.intervals(from, to)) {
            let (start_ns, end_ns) = (interval.start.0.max(from), interval.end.0.min(to));
            if start_ns < end_ns {
                causes.push(interval.cause);
                pieces.push(Slowed { start_ns, end_ns, lost: interval.density() * interval.lost });
            }
        }
        causes.sort_unstable();
        causes.dedup();
        Some(HeldDown { slowed: slowest(&pieces), causes })
    }
}

impl Card {
    fn intervals(&self, from: u64, to: u64) -> impl Iterator<Item = Interval> {
        let going_on = self.reading.iter().flat_map(|newest| self.past.throttles.going_on(newest));
        self.past.throttles.between(from, to).copied().chain(going_on)
    }

    /// Whether it is one of a workload's, as far as was last known.
    fn is_of(&self, workload: &str) -> bool {
        self.past.owners.iter().any(|owner| **owner == *workload)
    }

    fn join(&mut self, find: impl FnMut(u32) -> Option<Arc<str>>) {
        let Some(users) = self.reading.as_ref().and_then(all_users) else {
            // Whose it was when it last answered stays true for what happened until then.
            self.users.clear();
            return;
        };
        (self.users, self.past.strangers) = uses(&users, find);
        self.past.owners = self.users.iter().map(|each| each.workload.clone()).collect();
    }

    /// How much of what the GPU does is each workload's, in parts of 1; they sum to less where it has other users. By the
    /// time in which their kernels ran, where that is known and any did; else by memory; else all have as much.
    #[must_use]
    pub fn shares(&self) -> Vec<(Arc<str>, f64)> {
        let all = || self.users.iter().chain(&self.past.strangers);
        let by = |of: fn(&Use) -> Option<f64>| {
            let sum: Option<f64> = all().map(of).sum();
            let sum = sum.filter(|sum| *sum > 0.0)?;
            Some(self.users.iter().map(move |each| of(each).unwrap_or(0.0) / sum).collect::<Vec<f64>>())
        };
        let parts = by(|each| each.sm_percent.map(f64::from))
            .or_else(|| by(|each| each.memory_bytes.map(|bytes| bytes as f64)))
            .unwrap_or_else(|| vec![1.0 / all().count() as f64; self.users.len()]);
        self.users.iter().map(|each| each.workload.clone()).zip(parts).collect()
    }
}

/// Of the GPU and its instances, each process once; `None` where nobody may know.
fn all_users(reading: &Reading) -> Option<Vec<User>> {
    let of_instances = || reading.instances.iter().filter_map(|instance| instance.users.as_ref());
    if reading.users.is_none() && of_instances().next().is_none() {
        return None;
    }
    let mut users = reading.users.clone().unwrap_or_default();
    let whole = users.len();
    for user in of_instances().flatten() {
        if !users[..whole].iter().any(|other| other.tgid == user.tgid) {
            users.push(*user);
        }
    }
    Some(users)
}

/// The workloads among the users, by label, and all others as one.
fn uses(users: &[User], mut find: impl FnMut(u32) -> Option<Arc<str>>) -> (Vec<Use>, Option<Use>) {
    let mut of: BTreeMap<Option<Arc<str>>, Use> = BTreeMap::new();
    for user in users {
        let owner = find(user.tgid);
        let workload = owner.clone().unwrap_or_default();
        let one = Use { workload, memory_bytes: user.memory_bytes, sm_percent: user.sm_percent };
        match of.entry(owner) {
            Entry::Vacant(entry) => drop(entry.insert(one)),
            Entry::Occupied(mut entry) => entry.get_mut().add(&one),
        }
    }
    let strangers = of.remove(&None);
    (of.into_values().collect(), strangers)
}

impl Use {
    /// What is not known of one of them is not counted.
    fn add(&mut self, other: &Self) {
        fn sum<T: Copy + std::ops::Add<Output = T>>(a: Option<T>, b: Option<T>) -> Option<T> {
            a.zip(b).map(|(a, b)| a + b).or(a).or(b)
        }
        self.memory_bytes = sum(self.memory_bytes, other.memory_bytes);
        self.sm_percent = sum(self.sm_percent, other.sm_percent);
    }
}

/// The greatest loss at each moment, as stretches without overlap.
fn slowest(pieces: &[Slowed]) -> Vec<Slowed> {
    // What is not below 0 is ordered as its bits are.
    let bits = |piece: &Slowed| piece.lost.max(0.0).to_bits();
    let begins = pieces.iter().map(|piece| (piece.start_ns, true, bits(piece)));
    let ends = pieces.iter().map(|piece| (piece.end_ns, false, bits(piece)));
    let mut edges: Vec<(u64, bool, u64)> = begins.chain(ends).collect();
    edges.sort_unstable();
    let mut open: BTreeMap<u64, u32> = BTreeMap::new();
    let mut found: Vec<Slowed> = Vec::new();
    let mut at = 0;
    for (time, begins, bits) in edges {
        if let Some((&most, _)) = open.last_key_value()
            && at < time
        {
            let lost = f64::from_bits(most);
            match found.last_mut() {
                Some(last) if last.end_ns == at && last.lost.to_bits() == most => last.end_ns = time,
                _ => found.push(Slowed { start_ns: at, end_ns: time, lost }),
            }
        }
        at = time;
        let count = open.entry(bits).or_default();
        if begins {
            *count += 1;
        } else {
            *count -= 1;
            if *count == 0 {
                open.remove(&bits);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
