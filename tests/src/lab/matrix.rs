//! What was done beside what was blamed.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::blamed::Blamed;
use super::fault::Fault;

/// A request is affected when it overlaps the fault by so many seconds, and took this part longer than the slowest
/// hundredth without.
const OVERLAP_MIN: f64 = 0.02;
const LONGER: f64 = 1.2;
/// Share of affected requests that must be put down to the fault, and of others that may be put down to anything.
const RIGHT_MIN: f64 = 0.95;
const WRONG_MAX: f64 = 0.01;
/// Of a fault: requests put down to something else that are shown.
const SHOWN_MAX: usize = 5;
/// Of the slow requests of what a server's own work does: share that must be called so. At most the others may stay
/// `rest`.
const NAMED_MIN: f64 = 0.8;

/// One fault.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    pub fault: &'static str,
    pub expected: Vec<&'static str>,
    /// Share of the hit ones that must be right.
    pub right_min: f64,
    /// Requests that it hit; of what the server's own work does, the slow ones.
    pub affected: usize,
    /// Those of them with the expected causes first, in any order.
    pub right: usize,
    /// First causes of those that it hit; or what they are called.
    pub causes: BTreeMap<String, usize>,
    /// Requests that it did not hit, and those of them that are slow by a cause of the machine's.
    pub others: usize,
    pub wrong: usize,
    /// Some that are put down to something else, and some others that are blamed, with what the agent says of them.
    pub shown: Vec<String>,
    /// Why it could not be done.
    pub refused: Option<String>,
    /// Not every machine can do it.
    pub excused: bool,
}

/// All faults.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Matrix {
    pub rows: Vec<Row>,
}

impl Row {
    /// Of one that could not be done.
    #[must_use]
    pub fn refused(fault: Fault, reason: String) -> Self {
        let excused = fault.needs_group();
        Self { fault: fault.name(), refused: Some(reason), excused, ..Self::default() }
    }

    /// Of requests without and with the fault, which was there in these stretches of time.
    #[must_use]
    pub fn of(fault: Fault, clean: &[Blamed], faulted: &[Blamed], stretches: &[(f64, f64)]) -> Self {
        let expected = fault.expected();
        let mut durations: Vec<f64> = clean.iter().map(|request| request.duration_seconds).collect();
        durations.sort_by(f64::total_cmp);
        let worst = durations.get(durations.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default();
        let overlap =
            |request: &Blamed| stretches.iter().map(|stretch| request.overlap(*stretch)).sum::<f64>();
        let hit = |request: &&Blamed| {
            !expected.is_empty()
                && overlap(request) >= OVERLAP_MIN
                && request.duration_seconds > worst * LONGER
                && (!fault.hits_arrivals_only()
                    || stretches.iter().any(|stretch| request.arrived_in(*stretch)))
        };
        let affected: Vec<&Blamed> = faulted.iter().filter(hit).collect();
        let right = |request: &&&Blamed| {
            let causes = request.causes();
            let first = &causes[..causes.len().min(expected.len())];
            expected.iter().all(|cause| first.contains(cause))
        };
        let mut causes = BTreeMap::new();
        for request in &affected {
            let first = request.causes().first().map_or("none", |first| *first).to_owned();
            *causes.entry(first).or_default() += 1;
        }
        // Those that the fault touched in part are neither.
        let beside = |request: &Blamed| !fault.goes_on_between() && overlap(request) <= 0.0;
        let untouched = faulted.iter().filter(|request| expected.is_empty() || beside(request));
        let others: Vec<&Blamed> = clean.iter().chain(untouched).collect();
        let missed = affected.iter().filter(|request| !right(request)).take(SHOWN_MAX);
        let wrongly = others.iter().filter(|request| is_blamed(request)).take(SHOWN_MAX);
        let shown = missed.chain(wrongly).map(ToString::to_string);
        Self {
            fault: fault.name(),
            expected: expected.to_vec(),
            right_min: RIGHT_MIN,
            affected: affected.len(),
            right: affected.iter().filter(right).count(),
            causes,
            others: others.len(),
            wrong: blamed(&others),
            shown: shown.collect(),
            ..Self::default()
        }
    }

    /// Of requests without and with a fault that is the server's own work: who waits for whom, nobody but the server
    /// knows, so what the agent says is slow must be called so.
    #[must_use]
    pub fn of_work(fault: Fault, clean: &[Blamed], faulted: &[Blamed]) -> Self {
        let expected = fault.expected();
        let slow: Vec<&str> = faulted.iter().filter_map(Blamed::slow).collect();
        let mut causes = BTreeMap::new();
        for name in &slow {
            *causes.entry((*name).to_owned()).or_default() += 1;
        }
        Self {
            fault: fault.name(),
            expected: expected.to_vec(),
            right_min: NAMED_MIN,
            affected: slow.len(),
            right: slow.iter().filter(|name| expected.contains(name)).count(),
            causes,
            others: clean.len(),
            wrong: blamed(&clean.iter().collect::<Vec<_>>()),
            ..Self::default()
        }
    }

    /// Enough of it is put down to what was done, and hardly anything else is.
    #[must_use]
    pub fn holds(&self) -> bool {
        if self.refused.is_some() {
            return self.excused;
        }
        let hits = self.expected.is_empty() || self.affected > 0;
        let right = self.right as f64 >= self.affected as f64 * self.right_min;
        hits && right && self.wrong as f64 <= (self.others as f64 * WRONG_MAX).max(1.0)
    }
}

/// How many are slow by a cause of the machine's.
fn blamed(requests: &[&Blamed]) -> usize {
    requests.iter().filter(|request| is_blamed(request)).count()
}

fn is_blamed(request: &Blamed) -> bool {
    let machine = ["stopped", "cpu_throttle", "run_queue", "memory_reclaim", "major_fault", "block_io"];
    let mut machine = machine.into_iter().chain(["event_loop", "send_wait"]);
    request.slow().is_some_and(|slow| machine.any(|cause| cause == slow))
}

impl Matrix {
    /// Every fault that could be done was found.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.rows.iter().all(Row::holds)
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<26}{:>9}{:>9}{:>9}{:>9}  first causes of the requests hit",
            "fault", "hit", "right", "others", "blamed"
        )?;
        for row in &self.rows {
            let verdict = if row.holds() { "" } else { "  FAIL" };
            if let Some(reason) = &row.refused {
                writeln!(f, "{:<26}not here: {reason}{verdict}", row.fault)?;
                continue;
            }
            let share =
                if row.affected == 0 { 100.0 } else { row.right as f64 * 100.0 / row.affected as f64 };
            let causes: Vec<String> =
                row.causes.iter().map(|(cause, count)| format!("{cause} {count}")).collect();
            writeln!(
                f,
                "{:<26}{:>9}{share:>8.1}%{:>9}{:>9}  {}{verdict}",
                row.fault,
                row.affected,
                row.others,
                row.wrong,
                causes.join(", ")
            )?;
            if !row.holds() {
                row.shown.iter().try_for_each(|request| writeln!(f, "    {request}"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::blamed::Vector;
    use super::*;

    fn slow(name: Option<&str>) -> Blamed {
        let blame = Vector { phases: BTreeMap::new(), causes: Vec::new(), slow: name.map(ToOwned::to_owned) };
        Blamed {
            seq: 0,
            ended_unix_seconds: 1.0,
            duration_seconds: 0.5,
            ttft_seconds: None,
            request_id: None,
            blame: Some(blame),
        }
    }

    fn slow_ones(names: &[(&str, usize)]) -> Vec<Blamed> {
        names.iter().flat_map(|(name, count)| std::iter::repeat_n(slow(Some(name)), *count)).collect()
    }

    #[test]
    fn four_of_five_slow_requests_are_called_what_was_done() {
        let clean = vec![slow(None); 100];
        let row = |names: &[(&str, usize)]| Row::of_work(Fault::Queue, &clean, &slow_ones(names));
        assert!(row(&[("queued", 80), ("rest", 20)]).holds());
        assert!(!row(&[("queued", 79), ("rest", 21)]).holds());
        assert!(!row(&[("neighbour", 80), ("rest", 20)]).holds());
        assert!(!row(&[]).holds(), "it hit nobody");
        let blamed = [vec![slow(None); 98], slow_ones(&[("run_queue", 2)])].concat();
        assert!(!Row::of_work(Fault::Queue, &blamed, &slow_ones(&[("queued", 9)])).holds());
    }

    #[test]
    fn beside_two_faults_nobody_is_untouched() {
        let clean = vec![slow(None); 50];
        let faulted = slow_ones(&[("run_queue", 5)]);
        let row = |fault| Row::of(fault, &clean, &faulted, &[(5.0, 6.0)]);
        assert_eq!((row(Fault::HogsAndStop).others, row(Fault::HogsAndStop).wrong), (50, 0));
        assert_eq!((row(Fault::StopApi).others, row(Fault::StopApi).wrong), (55, 5));
        assert_eq!((row(Fault::Clean).others, row(Fault::Clean).wrong), (55, 5));
    }

    #[test]
    fn only_what_not_every_machine_can_do_may_be_refused() {
        let refused = |fault| Row::refused(fault, "no".to_owned()).holds();
        assert!(refused(Fault::Quota) && !refused(Fault::StopApi));
    }
}
