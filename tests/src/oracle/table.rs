//! The comparison as a table for people.

use std::fmt;

use super::Comparison;

/// Ids that are told one by one at most.
const IDS_MAX: usize = 10;

impl fmt::Display for Comparison {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{:<24} {:<14} {:>8} {:>8}", "model", "outcome", "expected", "measured")?;
        for row in &self.counts {
            let mark = if row.expected == row.measured { "" } else { "  DIFFERS" };
            writeln!(
                out,
                "{:<24} {:<14} {:>8} {:>8}{mark}",
                row.model, row.outcome, row.expected, row.measured
            )?;
        }
        writeln!(
            out,
            "\n{:<10} {:>8} {:>32} {:>28}",
            "error of", "requests", "p50/p95/p99/max ms", "share of what is allowed"
        )?;
        for row in &self.quantities {
            let ms = row.error_seconds.map(|seconds| format!("{:.3}", seconds * 1e3)).join(" ");
            let share = row.error_share.map(|share| format!("{share:.3}")).join(" ");
            let verdict = if row.passed { "ok" } else { "TOO FAR" };
            writeln!(out, "{:<10} {:>8} {ms:>32} {share:>28}  {verdict}", row.name, row.compared)?;
            if let Some(worst) = row.worst.as_ref().filter(|_| !row.passed) {
                writeln!(out, "{:<10} worst: {worst}", "")?;
            }
        }
        self.write_rest(out)
    }
}

impl Comparison {
    fn write_rest(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "\nkept out of the times (client read late, or a large response): {}", self.slow)?;
        writeln!(out, "undecided (client left with the last bytes): {}", self.undecided)?;
        for (reason, count) in &self.incomplete {
            writeln!(out, "incomplete ({reason}): {count}")?;
        }
        let lists =
            [("missing", &self.missing), ("doubled", &self.doubled), ("unexpected", &self.unexpected)];
        for (name, ids) in lists.iter().filter(|(_, ids)| !ids.is_empty()) {
            let shown = ids.iter().take(IDS_MAX).cloned().collect::<Vec<_>>().join(", ");
            writeln!(out, "{name}: {} ({shown})", ids.len())?;
        }
        for mismatch in &self.mismatches {
            writeln!(
                out,
                "{} of {}: expected {}, measured {}",
                mismatch.field, mismatch.request_id, mismatch.expected, mismatch.measured
            )?;
        }
        let hidden = self.mismatches_total - self.mismatches.len();
        if hidden > 0 {
            writeln!(out, "and {hidden} more fields that differ")?;
        }
        for line in &self.told {
            writeln!(out, "the agent says: {line}")?;
        }
        writeln!(out, "{} requests: {}", self.expected, if self.passed { "PASS" } else { "FAIL" })
    }
}
