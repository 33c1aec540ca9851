//! The figures, for people and as JSON.

use std::fmt;

use serde::Serialize;

use crate::oracle::Comparison;

use super::beside::Beside;
use super::node::Node;

/// One figure; with a budget, how much of it is used.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub what: &'static str,
    pub value: f64,
    pub unit: &'static str,
    pub budget: Option<f64>,
    /// Value over budget: above 1 is over it.
    pub ratio: Option<f64>,
}

impl Figure {
    /// A figure without a budget.
    #[must_use]
    pub fn new(what: &'static str, value: f64, unit: &'static str) -> Self {
        Self { what, value, unit, budget: None, ratio: None }
    }

    /// The same beside its budget; of a budget of nothing there is no share.
    #[must_use]
    pub fn within(self, budget: f64) -> Self {
        Self { budget: Some(budget), ratio: (budget > 0.0).then(|| self.value / budget), ..self }
    }

    /// The same where more is better: above 1 is still beyond the budget.
    #[must_use]
    pub fn at_least(self, budget: f64) -> Self {
        Self { budget: Some(budget), ratio: Some(budget / self.value), ..self }
    }
}

/// Kernel time of one call in one situation, nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelRow {
    pub situation: &'static str,
    /// The program at the call itself, its runs, and one run with and without what the statistics take.
    pub program: &'static str,
    pub runs: u64,
    pub gross_ns: f64,
    pub own_ns: f64,
    /// The program that runs beside it, and its time for each call.
    pub beside: &'static str,
    pub beside_ns: f64,
    /// Both together.
    pub net_ns: f64,
    pub budget_ns: f64,
    pub ratio: f64,
    /// What the kernel's primitives take that such a call needs.
    pub floor_ns: f64,
    pub ratio_to_floor: f64,
}

/// One of the kernel's primitives, net of an empty program.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FloorRow {
    pub what: &'static str,
    pub net_ns: f64,
}

/// One program, over the whole bench.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProgramRow {
    pub program: String,
    pub runs: u64,
    pub mean_net_ns: f64,
    pub recursion_misses: u64,
    pub verified_instructions: Option<u32>,
}

/// All that the bench measured; what was not asked for is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub node: Node,
    /// Nanoseconds of a run of an empty program, which are taken off every other.
    pub empty_ns: Option<f64>,
    pub floor: Vec<FloorRow>,
    pub kernel: Vec<KernelRow>,
    pub programs: Vec<ProgramRow>,
    pub figures: Vec<Figure>,
    pub accuracy: Option<Comparison>,
    pub beside: Option<Beside>,
    /// What was asked for and could not be had here, with the reason.
    pub skipped: Vec<String>,
    /// Lines of the budget that this cannot measure, with the reason.
    pub not_measured: Vec<&'static str>,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}\n", self.node)?;
        if let Some(empty_ns) = self.empty_ns {
            self.fmt_kernel(out, empty_ns)?;
        }
        for figure in &self.figures {
            figure.fmt(out)?;
        }
        if let Some(comparison) = &self.accuracy {
            write!(out, "\naccuracy, against the packets on the wire\n\n{comparison}")?;
        }
        if let Some(beside) = &self.beside {
            write!(out, "\n{beside}")?;
        }
        writeln!(out)?;
        for skipped in &self.skipped {
            writeln!(out, "skipped: {skipped}")?;
        }
        for line in &self.not_measured {
            writeln!(out, "not measured: {line}")?;
        }
        Ok(())
    }
}

impl Report {
    fn fmt_kernel(&self, out: &mut fmt::Formatter<'_>, empty_ns: f64) -> fmt::Result {
        writeln!(out, "the kernel's primitives, less an empty program ({empty_ns:.0} ns)\n")?;
        for row in &self.floor {
            writeln!(out, "{:<40} {:>6.0} ns", row.what, row.net_ns)?;
        }
        writeln!(out)?;
        if self.kernel.is_empty() {
            return Ok(());
        }
        writeln!(out, "kernel time of one call; floor: the primitives that such a call needs\n")?;
        let (own, beside) = ("program of the call", "beside it");
        writeln!(
            out,
            "{:<30} {own:>22} {beside:>22} {:>9} {:>9} {:>6} {:>9} {:>6}",
            "situation", "net", "budget", "ratio", "floor", "ratio"
        )?;
        for row in &self.kernel {
            write!(out, "{row}")?;
        }
        writeln!(out, "\n{:<16} {:>9} {:>9} {:>9} {:>13}", "program", "runs", "mean", "skipped", "verified")?;
        for row in &self.programs {
            write!(out, "{row}")?;
        }
        writeln!(out)
    }
}

impl fmt::Display for KernelRow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = format!("{} {:.0} ns", self.program, self.own_ns);
        let beside = format!("{} {:.0} ns", self.beside, self.beside_ns);
        let (net, budget) = (format!("{:.0} ns", self.net_ns), format!("{:.0} ns", self.budget_ns));
        let (ratio, floor) = (self.ratio, format!("{:.0} ns", self.floor_ns));
        write!(out, "{:<30} {own:>22} {beside:>22} {net:>9} {budget:>9} {ratio:>6.2}", self.situation)?;
        writeln!(out, " {floor:>9} {:>6.2}", self.ratio_to_floor)
    }
}

impl fmt::Display for ProgramRow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, runs, recursion_misses, .. } = self;
        let mean = format!("{:.0} ns", self.mean_net_ns);
        let verified = self.verified_instructions.map_or("unknown".to_owned(), |count| count.to_string());
        writeln!(out, "{program:<16} {runs:>9} {mean:>9} {recursion_misses:>9} {verified:>13}")
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:<46} {:>10.2} {:<4}", self.what, self.value, self.unit)?;
        match (self.budget, self.ratio) {
            (Some(budget), Some(ratio)) => writeln!(out, " budget {budget}, ratio {ratio:.2}"),
            (Some(budget), None) => writeln!(out, " budget {budget}"),
            (None, _) => writeln!(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_stands_beside_its_figure() {
        let check = |figure: Figure, end: &str| {
            let line = figure.to_string();
            assert!(line.trim_end().ends_with(end), "{line}");
        };
        check(Figure::new("start", 812.5, "ms"), "812.50 ms");
        check(Figure::new("memory", 12.0, "MiB").within(48.0), "budget 48, ratio 0.25");
        check(Figure::new("lost", 3.0, "").within(0.0), "budget 0");
        check(Figure::new("coverage", 50.0, "%").at_least(99.0), "budget 99, ratio 1.98");
    }
}
