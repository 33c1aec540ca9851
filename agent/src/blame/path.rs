//! Which threads lie on a request's way: from the threads of its socket back along who wakes whom.
//!
//! In: the table of threads, each with the few that wake it most and the time it ran; what each process does. Out:
//! [`Lanes`] of one request.
//!
//! An answer comes to the thread of the socket because somebody woke it, and that one because of another: for vLLM the
//! event loop, the receiver of messages beside it, the sender in the engine's process, the engine's loop. What goes in
//! wakes the same threads the other way round, so the chain closes. A thread of the server that wakes none of these is
//! a bystander, whatever it is called.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use inferscope_common::stall::{State, Thread, Waker};

use crate::workload::Role;

/// Threads on one request's way at most.
pub const WAY_MAX: usize = 64;
/// Part of a thread's wake-ups that makes its waker one of those it waits for.
const SHARE: f64 = 0.05;
/// Of two threads of a process that compute, the lesser runs at least this part of the time of the busiest.
const COMPUTES: f64 = 0.2;
/// What is known of a thread fades over so many seconds in which it was woken or ran.
const MEMORY_SECONDS: f64 = 10.0;

/// The threads that serve a request.
///
/// Each with what its process does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// They work one after the other.
    pub serial: BTreeMap<u32, Option<Role>>,
    /// They work side by side: the slowest decides.
    pub parallel: BTreeMap<u32, Option<Role>>,
}

/// Who wakes whom, and who computes.
#[derive(Debug, Default)]
pub struct Paths {
    threads: HashMap<u32, Seen>,
    /// Of each process, and how much it ran.
    busiest: HashMap<u32, (u32, f64)>,
    seen_ns: u64,
}

#[derive(Debug, Default)]
struct Seen {
    tgid: u32,
    /// As they were last read.
    wakers: Vec<Waker>,
    /// Wake-ups by waker, faded.
    wakes: HashMap<u32, f64>,
    /// As it was last read.
    ran_ns: u64,
    /// Time on a processor, faded.
    ran: f64,
    /// Mean share of a processor over the last seconds.
    share: f64,
}

impl Paths {
    /// Takes the threads as they stand at `now`; those that are not among them are forgotten.
    pub fn observe(&mut self, threads: &[(u32, Thread)], now: u64) {
        let seconds = now.saturating_sub(self.seen_ns) as f64 / 1e9;
        self.seen_ns = now;
        let mut before = std::mem::take(&mut self.threads);
        for (tid, thread) in threads {
            let known = before.remove(tid).filter(|seen| seen.tgid == thread.tgid);
            let mut seen = known.unwrap_or_else(|| Seen { tgid: thread.tgid, ..Seen::default() });
            seen.observe(thread, now, seconds);
            self.threads.insert(*tid, seen);
        }
        self.busiest = self.find_busiest();
    }

    /// Whether a thread was there when the table was last read.
    #[must_use]
    pub fn knows(&self, tid: u32) -> bool {
        self.threads.contains_key(&tid)
    }

    /// The process of a thread, when the table was last read.
    #[must_use]
    pub fn process(&self, tid: u32) -> Option<u32> {
        self.threads.get(&tid).map(|seen| seen.tgid)
    }

    /// A process has ended.
    pub fn forget_process(&mut self, tgid: u32) {
        self.threads.retain(|_, seen| seen.tgid != tgid);
        self.busiest.remove(&tgid);
    }

    /// Mean share of a processor that a thread had over the last seconds; `None` where it is not known.
    #[must_use]
    pub fn share(&self, tid: u32) -> Option<f64> {
        self.threads.get(&tid).map(|seen| seen.share)
    }

    /// The lanes of a request whose socket `ends` used. `role` says what a process of the request's own workload does,
    /// and `None` of any other process.
    pub fn lanes(&self, ends: &[u32], mut role: impl FnMut(u32) -> Option<Option<Role>>) -> Lanes {
        let mut roles: HashMap<u32, Option<Option<Role>>> = HashMap::new();
        let mut own = |tgid| *roles.entry(tgid).or_insert_with(|| role(tgid));
        let mut way: BTreeSet<u32> = ends.iter().copied().collect();
        let mut next: Vec<u32> = way.iter().copied().collect();
        while let Some(tid) = next.pop() {
            for waker in self.wakers(tid) {
                let Some(seen) = self.threads.get(&waker) else { continue };
                if way.len() < WAY_MAX && own(seen.tgid).is_some() && way.insert(waker) {
                    next.push(waker);
                }
            }
        }
        let computes = |tid: &u32, seen: &Seen| {
            let Some((loop_tid, ran)) = self.busiest.get(&seen.tgid) else { return false };
            loop_tid != tid && seen.ran >= ran * COMPUTES && !ends.contains(tid)
        };
        let mut lanes = Lanes::default();
        for tid in &way {
            let seen = self.threads.get(tid);
            let role = seen.and_then(|seen| own(seen.tgid)).flatten();
            let side_by_side = seen.is_some_and(|seen| computes(tid, seen));
            if side_by_side {
                lanes.parallel.insert(*tid, role)
            } else {
                lanes.serial.insert(*tid, role)
            };
        }
        let engine_known = lanes.serial.values().any(|role| *role == Some(Role::Engine));
        for (tid, seen) in &self.threads {
            if way.contains(tid) || lanes.parallel.len() >= WAY_MAX {
                continue;
            }
            let Some(role) = own(seen.tgid) else { continue };
            let leads = self.busiest.get(&seen.tgid).is_some_and(|(busiest, _)| busiest == tid);
            // Processes that hand work on through shared memory, and look for it without sleep, wake nobody.
            let unseen =
                leads && (role == Some(Role::Worker) || (role == Some(Role::Engine) && !engine_known));
            let helps = computes(tid, seen) && self.wakers(*tid).iter().any(|waker| way.contains(waker));
            if unseen || helps {
                lanes.parallel.insert(*tid, role);
            }
        }
        lanes
    }

    /// Those that wake a thread often enough to be what it waits for.
    fn wakers(&self, tid: u32) -> Vec<u32> {
        let Some(seen) = self.threads.get(&tid) else { return Vec::new() };
        let all: f64 = seen.wakes.values().sum();
        let often = |weight: f64| weight > 0.0 && weight >= all * SHARE;
        seen.wakes.iter().filter(|(_, weight)| often(**weight)).map(|(waker, _)| *waker).collect()
    }

    fn find_busiest(&self) -> HashMap<u32, (u32, f64)> {
        let mut busiest: HashMap<u32, (u32, f64)> = HashMap::new();
        for (tid, seen) in &self.threads {
            let most = busiest.entry(seen.tgid).or_insert((*tid, seen.ran));
            if (seen.ran, *tid == seen.tgid) > (most.1, most.0 == seen.tgid) {
                *most = (*tid, seen.ran);
            }
        }
        busiest
    }
}

impl Seen {
    fn observe(&mut self, thread: &Thread, now: u64, seconds: f64) {
        let fade = (-seconds / MEMORY_SECONDS).exp();
        let wakers: Vec<Waker> = thread.wakers.into_iter().filter(|waker| waker.count > 0).collect();
        let more = |waker: &Waker| {
            let before = self.wakers.iter().find(|before| before.tid == waker.tid);
            f64::from(waker.count.saturating_sub(before.map_or(0, |before| before.count)))
        };
        let more: Vec<(u32, f64)> = wakers.iter().map(|waker| (waker.tid, more(waker))).collect();
        // A thread that nobody wakes keeps its wakers: the next request comes the same way.
        if more.iter().any(|(_, more)| *more > 0.0) {
            self.wakes.values_mut().for_each(|weight| *weight *= fade);
            self.wakes.retain(|_, weight| *weight > 0.01);
            more.into_iter().for_each(|(tid, more)| *self.wakes.entry(tid).or_default() += more);
        }
        self.wakers = wakers;
        let running =
            if thread.state == State::Runs as u32 { now.saturating_sub(thread.since_ns) } else { 0 };
        let ran_ns = thread.ran_ns + running;
        let ran = ran_ns.saturating_sub(self.ran_ns);
        if ran > 0 {
            self.ran = self.ran * fade + ran as f64;
        }
        if seconds > 0.0 {
            self.share = self.share * fade + (1.0 - fade) * (ran as f64 / 1e9 / seconds).min(1.0);
        }
        self.ran_ns = ran_ns;
    }
}

#[cfg(test)]
mod tests;
