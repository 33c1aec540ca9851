//! Does a server serve, and if a request stands still, what does the server do meanwhile? Pure.
//!
//! In: what is known of a workload at a tick, what its threads do, the requests under way. Out: why it is down, if it
//! is, and why requests are stalled. Independent of its health route, which answers as long as its event loop does.

use crate::request::record::{OpenRequest, Stall};
use crate::workload::{Down, WorkloadState};

/// Of one processor: below this a server does nothing.
const IDLE: f64 = 0.02;
/// Above this the thread that should read and write does nothing else than compute.
const BURNS: f64 = 0.8;

/// What the threads of a workload do, as shares of one processor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// All of its threads.
    pub all: f64,
    /// The thread of the request's socket.
    pub reader: f64,
}

/// What holds up a request of which no byte has passed for long: what is known from its socket, told apart by what the
/// server does. `None`: the kernel does not tell.
#[must_use]
pub fn why_stalled(stall: Stall, load: Option<Load>) -> Stall {
    match (stall, load) {
        (Stall::NoResponse | Stall::ResponseStopped, Some(load)) if load.reader >= BURNS => {
            Stall::EventLoopBlocked
        }
        (Stall::NoResponse | Stall::ResponseStopped, Some(load)) if load.all < IDLE => Stall::ServerIdle,
        _ => stall,
    }
}

/// Why a workload does not serve; `None` where it does. `open`: all requests under way, of any workload.
#[must_use]
pub fn why_down(state: &WorkloadState, stopped: bool, open: &[OpenRequest]) -> Option<Down> {
    if !state.up {
        return Some(Down::NoProcess);
    }
    if !state.listens {
        return Some(Down::NotListening);
    }
    if state.engine_lost {
        return Some(Down::EngineLost);
    }
    if stopped {
        return Some(Down::Stopped);
    }
    let mut own = open.iter().filter(|open| open.workload.label == state.workload.label).peekable();
    let unanswered = own.peek().is_some() && own.all(|open| open.stalled == Some(Stall::ServerIdle));
    unanswered.then_some(Down::Unanswered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::BootTime;
    use crate::signal::latency::tests::workload;

    fn state() -> WorkloadState {
        WorkloadState {
            workload: workload("w"),
            up: true,
            listens: true,
            engine_lost: false,
            listening: None,
            down: None,
        }
    }

    fn open(label: &str, stalled: Option<Stall>) -> OpenRequest {
        OpenRequest {
            workload: workload(label),
            model: "m".into(),
            arrival: BootTime(1),
            first_token: None,
            request_bytes: 1,
            tid: 1,
            stalled,
        }
    }

    #[test]
    fn a_server_is_down_for_the_first_reason_that_holds() {
        assert_eq!(why_down(&state(), false, &[]), None);
        let states = [
            (WorkloadState { up: false, listens: false, ..state() }, Down::NoProcess),
            (WorkloadState { listens: false, engine_lost: true, ..state() }, Down::NotListening),
            (WorkloadState { engine_lost: true, ..state() }, Down::EngineLost),
        ];
        for (state, expected) in states {
            assert_eq!(why_down(&state, true, &[]), Some(expected));
        }
        assert_eq!(why_down(&state(), true, &[]), Some(Down::Stopped));
    }

    #[test]
    fn a_server_that_does_nothing_while_all_wait_is_down() {
        let idle = open("w", Some(Stall::ServerIdle));
        assert_eq!(why_down(&state(), false, &[idle.clone(), idle.clone()]), Some(Down::Unanswered));
        for other in
            [None, Some(Stall::EventLoopBlocked), Some(Stall::ClientNotReading), Some(Stall::NoResponse)]
        {
            assert_eq!(why_down(&state(), false, &[idle.clone(), open("w", other)]), None, "{other:?}");
        }
        assert_eq!(why_down(&state(), false, &[open("another", Some(Stall::ServerIdle))]), None);
    }

    #[test]
    fn a_stall_is_told_apart_by_what_the_server_does() {
        let load = |all, reader| Some(Load { all, reader });
        for stall in [Stall::NoResponse, Stall::ResponseStopped] {
            assert_eq!(why_stalled(stall, load(0.001, 0.0)), Stall::ServerIdle);
            assert_eq!(why_stalled(stall, load(1.0, 0.99)), Stall::EventLoopBlocked);
            assert_eq!(why_stalled(stall, load(0.9, 0.1)), stall, "the engine computes");
            assert_eq!(why_stalled(stall, None), stall);
        }
        for stall in [Stall::RequestUnfinished, Stall::ClientNotReading] {
            assert_eq!(why_stalled(stall, load(0.0, 0.0)), stall, "it is the client");
        }
    }
}
