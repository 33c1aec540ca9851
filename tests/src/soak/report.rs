//! What a soak came to: phases, trends, checks, and the verdict.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::trend::{Rule, Trend};
use super::watch::{ANONYMOUS_MIB, CPU_PERCENT, FILES, MAPS_MIB, SCRAPE_MS, SERIES, Seen, THREADS, Watch};

/// Faults of one kind that are told.
const FAULTS_MAX: usize = 10;

/// Budgets of DESIGN, and what growth over the second half is still flat.
const RULES: [Rule; 7] = [
    Rule { what: ANONYMOUS_MIB, unit: "MiB", growth_max: Some(1.0), budget: Some(48.0) },
    Rule { what: MAPS_MIB, unit: "MiB", growth_max: Some(0.01), budget: Some(64.0) },
    Rule { what: FILES, unit: "", growth_max: Some(1.0), budget: None },
    Rule { what: THREADS, unit: "", growth_max: Some(0.5), budget: None },
    Rule { what: SERIES, unit: "", growth_max: None, budget: Some(4000.0) },
    Rule { what: CPU_PERCENT, unit: "%", growth_max: None, budget: None },
    Rule { what: SCRAPE_MS, unit: "ms", growth_max: None, budget: None },
];

/// Requests of one outcome: as they passed, and as the agent counted them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutcomeRow {
    pub outcome: String,
    pub expected: usize,
    pub measured: usize,
}

/// Phases of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PhaseRow {
    pub kind: &'static str,
    pub runs: usize,
    pub seconds: f64,
    pub sent: usize,
    /// Inference requests compared with what passed, one by one.
    pub compared: usize,
    /// Those whose client left with the last bytes.
    pub undecided: usize,
    /// Cut off by the end of their server, or answered by another that was not yet followed.
    pub cut: usize,
    /// Quantities whose error was beyond the bounds for times, in all phases: told, not judged.
    pub times_too_far: usize,
    pub outcomes: Vec<OutcomeRow>,
    pub faults: Vec<String>,
}

/// One part of the verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    pub what: &'static str,
    pub passed: bool,
    /// What was wrong.
    pub faults: Vec<String>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub passed: bool,
    pub seed: u64,
    pub seconds: f64,
    /// It ended before its time.
    pub cut_short: bool,
    pub scrapes: u64,
    pub phases: Vec<PhaseRow>,
    pub outcomes: Vec<OutcomeRow>,
    pub trends: Vec<Trend>,
    pub checks: Vec<Check>,
}

impl Report {
    /// Adds a phase to those of its kind; false where going on makes no sense.
    pub(super) fn add(&mut self, phase: Result<PhaseRow>) -> bool {
        let phase = match phase {
            Ok(phase) => phase,
            Err(error) => {
                eprintln!("soak: {error:#}");
                self.check("every phase can be played", &[format!("{error:#}")]);
                return false;
            }
        };
        for fault in &phase.faults {
            eprintln!("soak: {}: {fault}", phase.kind);
        }
        for row in &phase.outcomes {
            match self.outcomes.iter_mut().find(|other| other.outcome == row.outcome) {
                Some(sum) => {
                    sum.expected += row.expected;
                    sum.measured += row.measured;
                }
                None => self.outcomes.push(row.clone()),
            }
        }
        match self.phases.iter_mut().find(|other| other.kind == phase.kind) {
            Some(sum) => sum.add(phase),
            None => self.phases.push(PhaseRow { outcomes: Vec::new(), ..phase }),
        }
        true
    }

    pub(super) fn check(&mut self, what: &'static str, faults: &[String]) {
        let told = faults.iter().take(FAULTS_MAX).cloned().collect();
        self.checks.push(Check { what, passed: faults.is_empty(), faults: told });
    }

    /// What the watch saw, and the verdict over all.
    pub(super) fn judge(&mut self, seen: &Seen) {
        self.scrapes = seen.scrapes;
        let empty = Vec::new();
        self.trends = RULES
            .iter()
            .map(|rule| Trend::of(*rule, seen.readings.get(rule.what).unwrap_or(&empty)))
            .collect();
        let faults: Vec<String> = self.phases.iter().flat_map(|phase| phase.faults.clone()).collect();
        self.check("requests made are requests counted, and the books add up", &faults);
        self.check("counters only rise", &seen.falls);
        self.check("no text leaves by the page", &seen.leaks);
        self.check("the agent answers, and its page keeps its format", &seen.failures);
        let grown: Vec<String> =
            self.trends.iter().filter(|trend| !trend.passed).map(ToString::to_string).collect();
        self.check("nothing grows beyond its bound", &grown);
        self.passed = self.sent() > 0 && self.checks.iter().all(|check| check.passed);
    }

    fn sent(&self) -> usize {
        self.phases.iter().map(|phase| phase.sent).sum()
    }

    /// One line.
    pub(super) fn progress(&self, elapsed: Duration, watch: &Watch) -> String {
        let phases: usize = self.phases.iter().map(|phase| phase.runs).sum();
        let faults: usize = self.phases.iter().map(|phase| phase.faults.len()).sum();
        format!(
            "{:.0} min, {phases} phases, {} requests, {:.1} MiB anonymous, {:.0} series, {faults} faults",
            elapsed.as_secs_f64() / 60.0,
            self.sent(),
            watch.newest(ANONYMOUS_MIB),
            watch.newest(SERIES),
        )
    }
}

impl PhaseRow {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.seconds += other.seconds;
        self.sent += other.sent;
        self.compared += other.compared;
        self.undecided += other.undecided;
        self.cut += other.cut;
        self.times_too_far += other.times_too_far;
        self.faults.extend(other.faults);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (runs, sent, compared, cut) = ("runs", "sent", "compared", "cut off");
        writeln!(
            out,
            "{:<32} {runs:>5} {sent:>8} {compared:>9} {cut:>8} {:>10} {:>9} {:>7}",
            "phase", "undecided", "times far", "faults"
        )?;
        for PhaseRow { kind, runs, sent, compared, cut, undecided, times_too_far, faults, .. } in &self.phases
        {
            let faults = faults.len();
            writeln!(
                out,
                "{kind:<32} {runs:>5} {sent:>8} {compared:>9} {cut:>8} {undecided:>10} {times_too_far:>9} {faults:>7}"
            )?;
        }
        writeln!(out, "\n{:<32} {:>9} {:>9}", "outcome", "passed", "counted")?;
        for OutcomeRow { outcome, expected, measured } in &self.outcomes {
            writeln!(out, "{outcome:<32} {expected:>9} {measured:>9}")?;
        }
        writeln!(out)?;
        for trend in &self.trends {
            writeln!(out, "{trend}")?;
        }
        writeln!(out)?;
        for check in &self.checks {
            writeln!(out, "{:<64} {}", check.what, if check.passed { "ok" } else { "FAILED" })?;
            check.faults.iter().try_for_each(|fault| writeln!(out, "    {fault}"))?;
        }
        let (verdict, minutes) = (if self.passed { "PASS" } else { "FAIL" }, self.seconds / 60.0);
        let short = if self.cut_short { ", ended early" } else { "" };
        writeln!(
            out,
            "\n{minutes:.1} min{short}, seed {}, {} scrapes, {} requests: {verdict}",
            self.seed,
            self.scrapes,
            self.sent()
        )
    }
}

impl fmt::Display for Trend {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, unit, first, median, max, growth, .. } = self;
        write!(
            out,
            "{what:<30} first {first:>8.2}, median {median:>8.2}, most {max:>8.2} {unit:<4} second half {growth:>+8.3}"
        )?;
        self.growth_max.map_or(Ok(()), |bound| write!(out, ", at most {bound}"))?;
        self.budget.map_or(Ok(()), |budget| write!(out, ", budget {budget}"))?;
        write!(out, "{}", if self.passed { "" } else { "  TOO MUCH" })
    }
}
