//! The pipeline's books: what kernel and rooms counted, handed to health; and what a reload takes over.
//!
//! `seen = passed on + lost` holds at each stage, once nothing waits in a ring:
//!
//! | What | is the sum of |
//! |---|---|
//! | `socket_seen`: calls and changes of followed sockets, in the kernel | `socket_sent`, lost at `socket_ring` as `full` |
//! | `socket_sent` | `socket_taken`, lost at `socket_ring` as `undecodable` |
//! | `socket_taken` | `connection_followed`, `connection_ignored`, `connection_idle`, lost at `connection` as `unclaimed` |
//! | `request_begun` | `request_finished`, `request_void`, lost at `request` as `unfinished`, requests under way |
//! | `process_sent` | `process_taken`, lost at `process_ring` as `undecodable` |
//! | `stall_sent` | `stall_taken`, lost at `stall_ring` as `undecodable` |
//! | `stall_taken` | stalls that are somebody's, lost at `stall` as `unclaimed` |
//!
//! `request_own` is the part of `request_finished` that the agent asked itself (the canary): it leaves no record.
//! `connection_missed` is the part of what the ring lost that shows as a gap in a connection's numbers: what was
//! under way there is incomplete. Lost at `program` as `recursion`: runs that the kernel skipped, of programs that
//! run for unwatched processes too, so at most so many calls were not seen. `call_taken_over` are those of reads and
//! writes that a second copy of the program ran for instead; they are not lost. The units of `evicted`, `forgotten`
//! and `vanished` are connections; those of `workload_table` and `process_table` are looks at a server or process for which
//! there was no room, those of `thread_table` what the scheduler did with a thread for which there was none. `stall_deferred`
//! are stalls that the ring had no room for and that were summed with later ones of their thread, `switch_untold` switches to a
//! thread of which the kernel told only that they were over; neither is lost.

use anyhow::Result;
use inferscope_common::counter::Counter;
use tracing::warn;

use crate::blame;
use crate::config::{Config, Sources};
use crate::health::{Health, ProbeState, SignalState};
use crate::lifecycle::logs::LogHandle;
use crate::probe::Probe;
use crate::probe::attach::Outcome;
use crate::probe::plan::is_second_copy;
use crate::probe::statistics::{ProgramRuns, Sampling};
use crate::request::{Connections, Counts};
use crate::signal::{Signal, Unavailable};
use crate::workload::labels::ModelLabels;
use crate::workload::{Overflow, Workloads};

/// Ticks between two samples of the programs' run times, of one tick each.
const SAMPLE_EVERY: u64 = 60;

/// Stages and reasons of what the kernel programs count.
const KERNEL_EVENTS: [(Counter, &str); 9] = [
    (Counter::SocketSeen, "socket_seen"),
    (Counter::SocketSent, "socket_sent"),
    (Counter::SocketIgnored, "socket_ignored"),
    (Counter::SocketUndecided, "socket_undecided"),
    (Counter::ProcessSent, "process_sent"),
    (Counter::CallTakenOver, "call_taken_over"),
    (Counter::StallSent, "stall_sent"),
    (Counter::StallDeferred, "stall_deferred"),
    (Counter::SwitchUntold, "switch_untold"),
];
const KERNEL_LOST: [(Counter, &str, &str); 6] = [
    (Counter::SocketRingFull, "socket_ring", "full"),
    (Counter::SocketTableFull, "socket_table", "full"),
    (Counter::ProcessRingFull, "process_ring", "full"),
    (Counter::StallRingFull, "stall_ring", "full"),
    (Counter::StallBackwards, "stall", "backwards"),
    (Counter::ThreadTableFull, "thread_table", "full"),
];

/// What the pipeline itself counts.
#[derive(Default)]
pub(super) struct Account {
    /// Events taken from the rings.
    pub(super) socket_events: u64,
    pub(super) process_events: u64,
    pub(super) stall_events: u64,
    tables_refused: u64,
    /// Runs that the kernel skipped and nothing took over.
    skipped: u64,
    ticks: u64,
    samples_programs: bool,
    sampling: Option<Sampling>,
}

impl Account {
    /// Samples the programs' run times where it is asked to.
    pub(super) fn new(samples_programs: bool) -> Self {
        Self { samples_programs, ..Self::default() }
    }

    /// Notes what became of a change to a kernel table; the first refusal is logged, all are counted.
    pub(super) fn note(&mut self, change: Result<()>) {
        if let Err(error) = change {
            if self.tables_refused == 0 {
                warn!("a kernel table does not take a change: {error:#}");
            }
            self.tables_refused += 1;
        }
    }

    /// Hands all counts to health.
    pub(super) fn publish(
        &mut self,
        health: &Health,
        probe: &Probe,
        connections: &Connections,
        models: &ModelLabels,
        stalls: blame::Lost,
    ) {
        // What the kernel skipped before what was taken over of it: no call is in both.
        let runs = probe.statistics();
        let taken_over = self.publish_kernel(health, probe);
        self.publish_skipped(health, &runs, taken_over);
        health.set_events("socket_taken", self.socket_events);
        health.set_events("process_taken", self.process_events);
        health.set_events("stall_taken", self.stall_events);
        health.set_lost("stall", "forgotten", stalls.forgotten);
        health.set_lost("stall", "unclaimed", stalls.unclaimed);
        health.set_lost("stall_ring", "undecodable", probe.stalls.undecodable());
        let undecodable = probe.rings.undecodable();
        health.set_lost("socket_ring", "undecodable", undecodable.sockets);
        health.set_lost("process_ring", "undecodable", undecodable.processes);
        health.set_lost("socket_table", "refused", self.tables_refused);
        publish_requests(health, connections.counts());
        health.set_model_overflow(models.overflow());
        self.sample();
    }

    /// Returns how many calls a second copy of a program took over.
    fn publish_kernel(&mut self, health: &Health, probe: &Probe) -> Option<u64> {
        let counters = match probe.tables.counters() {
            Ok(counters) => counters,
            Err(error) => {
                self.note(Err(error));
                return None;
            }
        };
        for (counter, stage) in KERNEL_EVENTS {
            health.set_events(stage, counters[counter as usize]);
        }
        for (counter, stage, reason) in KERNEL_LOST {
            health.set_lost(stage, reason, counters[counter as usize]);
        }
        Some(counters[Counter::CallTakenOver as usize])
    }

    fn publish_skipped(&mut self, health: &Health, runs: &[ProgramRuns], taken_over: Option<u64>) {
        for program in runs {
            health.set_program_runs(&program.program, program.runs, program.run_time);
        }
        let first = runs.iter().filter(|program| !is_second_copy(&program.program));
        let skipped: u64 = first.map(|program| program.recursion_misses).sum();
        if let Some(taken_over) = taken_over {
            self.skipped = self.skipped.max(skipped.saturating_sub(taken_over));
        }
        health.set_lost("program", "recursion", self.skipped);
    }

    /// Statistics of the programs: on for one tick a minute.
    fn sample(&mut self) {
        match self.ticks % SAMPLE_EVERY {
            0 if self.samples_programs => self.sampling = Sampling::start(),
            1 => self.sampling = None,
            _ => {}
        }
        self.ticks += 1;
    }
}

/// What there was no room for in the books of servers.
pub(super) fn publish_overflow(health: &Health, overflow: Overflow) {
    health.set_lost("workload_table", "full", overflow.workloads);
    health.set_lost("process_table", "full", overflow.processes);
    health.set_lost("scan", "failed", overflow.scans_failed);
}

fn publish_requests(health: &Health, counts: &Counts) {
    for (stage, total) in [
        ("connection_followed", counts.events_followed),
        ("connection_ignored", counts.events_ignored),
        ("connection_idle", counts.events_idle),
        ("connection_missed", counts.events_missed),
        ("request_begun", counts.requests_begun),
        ("request_finished", counts.requests_finished),
        ("request_own", counts.requests_own),
        ("request_void", counts.requests_void),
    ] {
        health.set_events(stage, total);
    }
    for (stage, reason, total) in [
        ("connection", "unclaimed", counts.events_unclaimed),
        ("connection", "evicted", counts.connections_evicted),
        ("connection", "forgotten", counts.connections_forgotten),
        ("connection", "vanished", counts.connections_vanished),
        ("request", "unfinished", counts.requests_unfinished),
        ("request", "refused", counts.requests_refused),
    ] {
        health.set_lost(stage, reason, total);
    }
    for (failure, total) in counts.failures() {
        health.set_parse_failures(failure, total);
    }
}

/// Reads the configuration again and takes over what a running agent can.
///
/// # Errors
/// The new configuration is not right; the running one stays.
pub(super) fn reload(running: &mut Config, sources: &Sources, log: &LogHandle) -> Result<()> {
    let next = Config::load(sources)?;
    let changes = running.changes(&next);
    if !changes.restart.is_empty() {
        warn!("a restart is needed for {}", changes.restart.join(", "));
    }
    log.set_level(next.log.level)?;
    *running = next;
    Ok(())
}

/// How a signal is after its tick.
pub(super) fn publish_signal(health: &Health, signal: &dyn Signal, ticked: Result<()>) {
    let state = match (ticked, signal.unavailable()) {
        (Err(error), _) => {
            health.count_signal_failure(signal.name());
            SignalState::Failed(format!("{error:#}"))
        }
        (Ok(()), Some(Unavailable::Disabled)) => SignalState::Disabled,
        (Ok(()), Some(Unavailable::Unsupported(why))) => SignalState::Unsupported(why),
        (Ok(()), None) => SignalState::Ok,
    };
    health.set_signal(signal.name(), state);
}

/// One row a program that is attached, with what is lost where it is not the best one; and one a duty that none does.
pub(super) fn probe_states(outcomes: &[Outcome]) -> Vec<ProbeState> {
    let mut states = Vec::new();
    for outcome in outcomes {
        let reason = outcome.loss().map(|loss| format!("{loss}: {}", outcome.reasons()));
        let Some(way) = outcome.way else {
            let program = outcome.refused.first().map_or(outcome.duty.name, |refusal| refusal.program);
            states.push(ProbeState { program: program.to_owned(), hook: None, reason });
            continue;
        };
        states.extend(way.programs.iter().map(|program| ProbeState {
            program: program.name.to_owned(),
            hook: Some(program.to_string()),
            reason: reason.clone(),
        }));
    }
    states
}

/// One line for the service manager and the log.
pub(super) fn summary(probe: &Probe, workloads: &Workloads) -> String {
    let outcomes = probe.outcomes();
    let ways = outcomes.iter().filter_map(|outcome| outcome.way);
    let attached: usize = ways.map(|way| way.programs.len()).sum();
    let lost = outcomes.iter().filter(|outcome| outcome.way.is_none()).count();
    let up = workloads.states().iter().filter(|state| state.up).count();
    format!("{attached} kernel programs attached, {lost} hooks missing, {up} workloads")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::workload::Workload;

    struct Only(Option<Unavailable>);

    impl Signal for Only {
        fn name(&self) -> &'static str {
            "only"
        }

        fn unavailable(&self) -> Option<Unavailable> {
            self.0.clone()
        }

        fn forget_workload(&mut self, _workload: &Workload) {}

        fn forget_model(&mut self, _workload: &str, _model: &str) {}
    }

    #[test]
    fn a_signal_is_what_its_tick_and_it_say() {
        let unsupported = || Some(Unavailable::Unsupported("no library".to_owned()));
        for (unavailable, ticked, state, reason) in [
            (None, Ok(()), "ok", None),
            (Some(Unavailable::Disabled), Ok(()), "disabled", None),
            (unsupported(), Ok(()), "unsupported", Some("no library")),
            (unsupported(), Err(anyhow!("it went")), "failed", Some("it went")),
        ] {
            let health = Health::new(&mut Registry::default());
            publish_signal(&health, &Only(unavailable), ticked);
            let report = health.report(crate::clock::BootTime(1));
            assert_eq!((report.signals[0].state, report.signals[0].reason.as_deref()), (state, reason));
        }
    }
}
