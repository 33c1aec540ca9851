//! One thread, as the one over it sees it: whether it asks, since when, and whether it is to end.
//!
//! The lock is held while something is told, so what a thread says and what is said about it keep their order. It is
//! never held in a call of the library.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::BootTime;

/// Shared by a thread and the one over it.
#[derive(Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    asked: Option<(Instant, BootTime)>,
    /// That it has not come back was told.
    told: bool,
    /// The last answer was a failure.
    failing: bool,
    stopped: bool,
    ended: bool,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread begins a call. False: it is to end instead.
    pub(super) fn begin(&self) -> bool {
        let mut state = self.lock();
        state.asked = Some((Instant::now(), BootTime::now()));
        !state.stopped
    }

    /// The call came back; `tell` says with what. False: nobody wants to know any more, and the thread is to end.
    pub(super) fn end(&self, failing: bool, tell: impl FnOnce()) -> bool {
        let mut state = self.lock();
        (state.asked, state.told, state.failing) = (None, false, failing);
        if !state.stopped {
            tell();
        }
        !state.stopped
    }

    /// Waits until then. False: the thread is to end.
    pub(super) fn sleep_until(&self, until: Instant) -> bool {
        let mut state = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.stopped || left.is_zero() {
                return !state.stopped;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    pub(super) fn is_ended(&self) -> bool {
        self.lock().ended
    }

    pub(super) fn is_failing(&self) -> bool {
        self.lock().failing
    }

    /// Since when it asks, where that is longer than `longer`.
    pub(super) fn hangs(&self, longer: Duration) -> Option<BootTime> {
        hanging(&self.lock(), longer)
    }

    /// Tells once that it has not come back for so long: `tell` says whether it was heard.
    pub(super) fn complain(&self, longer: Duration, tell: impl FnOnce(BootTime) -> bool) {
        let mut state = self.lock();
        if !state.told
            && let Some(asked) = hanging(&state, longer)
        {
            state.told = tell(asked);
        }
    }
}

fn hanging(state: &State, longer: Duration) -> Option<BootTime> {
    let (since, at) = state.asked.filter(|_| !state.ended)?;
    (since.elapsed() > longer).then_some(at)
}

/// Held by the thread: however it ends, its desk says so.
pub(super) struct Seat(pub(super) Arc<Desk>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}
