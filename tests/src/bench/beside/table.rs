//! The comparison, for people and as JSON.

use std::fmt;

use serde::Serialize;

use super::super::interval::Interval;
use super::Served;

/// What was served with an observer, over what was served without.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ratios {
    pub observer: &'static str,
    pub requests_per_second: Interval,
    pub p50: Interval,
    pub p99: Interval,
    pub server_cpu: Interval,
    /// Median difference, for one request.
    pub server_cpu_added_us: f64,
}

/// One kind of load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DemandTable {
    pub demand: &'static str,
    /// Medians without an observer.
    pub alone: Served,
    pub rows: Vec<Ratios>,
}

/// What an observer told of what happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Counted {
    pub observer: &'static str,
    pub answers: &'static str,
    pub made: u64,
    /// `None` where it counts no requests.
    pub counted: Option<f64>,
    /// Events that it says it lost.
    pub lost_and_told: Option<f64>,
    /// What its own process took meanwhile, of one core; programs in the kernel are the server's time.
    pub own_cpu_percent: f64,
}

/// Who cannot be had on this machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Absent {
    pub name: &'static str,
    pub why: String,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Beside {
    pub pairs: usize,
    pub demands: Vec<DemandTable>,
    pub counted: Vec<Counted>,
    pub absent: Vec<Absent>,
}

impl fmt::Display for Beside {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "a server at full speed, observed / alone: median of {} pairs [95 % confidence]; 1 is no difference\n",
            self.pairs
        )?;
        for demand in &self.demands {
            demand.fmt(out)?;
        }
        writeln!(
            out,
            "{:<24} {:>18} {:>14}  what it answers",
            "observer", "requests counted", "lost and told"
        )?;
        for counted in &self.counted {
            counted.fmt(out)?;
        }
        for absent in &self.absent {
            writeln!(out, "{:<24} not here: {}", absent.name, absent.why)?;
        }
        Ok(())
    }
}

impl fmt::Display for DemandTable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Served { requests_per_second, p50_ms, p99_ms, server_cpu_us } = self.alone;
        writeln!(
            out,
            "{:<24} {:>20} {:>20} {:>20} {:>20} {:>8}",
            self.demand, "requests/s", "p50", "p99", "server CPU/request", "added"
        )?;
        let alone = [
            format!("{requests_per_second:.0} /s"),
            format!("{p50_ms:.2} ms"),
            format!("{p99_ms:.2} ms"),
            format!("{server_cpu_us:.0} us"),
        ];
        writeln!(out, "{}", row("alone", &alone))?;
        for one in &self.rows {
            let intervals = [one.requests_per_second, one.p50, one.p99, one.server_cpu];
            let cells = row(one.observer, &intervals.map(|interval| interval.to_string()));
            writeln!(out, "{cells} {:>8}", format!("{:.1} us", one.server_cpu_added_us))?;
        }
        writeln!(out)
    }
}

fn row(name: &str, cells: &[String; 4]) -> String {
    let [rate, p50, p99, cpu] = cells;
    format!("{name:<24} {rate:>20} {p50:>20} {p99:>20} {cpu:>20}")
}

impl fmt::Display for Interval {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let median = self.median;
        match (self.low, self.high) {
            (Some(low), Some(high)) => write!(out, "{median:.3} [{low:.3} {high:.3}]"),
            _ => write!(out, "{median:.3} [too few]"),
        }
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |counted: f64| format!("{:.2} %", 100.0 * counted / self.made.max(1) as f64);
        let counted = self.counted.map_or("no requests".to_owned(), share);
        let lost = self.lost_and_told.map_or("not told".to_owned(), |lost| format!("{lost:.0}"));
        let own = format!("{:.1} %", self.own_cpu_percent);
        writeln!(out, "{:<24} {counted:>16} {lost:>13} {own:>17}  {}", self.observer, self.answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_read_at_a_glance() {
        let interval = Interval { median: 0.98765, low: Some(0.9), high: Some(1.0), pairs: 10 };
        assert_eq!(interval.to_string(), "0.988 [0.900 1.000]");
        assert_eq!(Interval { low: None, high: None, ..interval }.to_string(), "0.988 [too few]");
    }

    #[test]
    fn who_counts_no_requests_says_so() {
        let counted = Counted {
            observer: "syscount",
            answers: "time",
            made: 10,
            counted: None,
            lost_and_told: None,
            own_cpu_percent: 0.5,
        };
        assert!(counted.to_string().contains("no requests"), "{counted}");
        let counted = Counted { counted: Some(5.0), ..counted };
        assert!(counted.to_string().contains("50.00 %"), "{counted}");
    }
}
