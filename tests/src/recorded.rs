//! Pages of an agent as history: two of them, stretched over weeks, as blocks that a Prometheus finds in its folder.
//!
//! In: the page at the beginning and the one at the end, as text. Out: a file of OpenMetrics with times. What rose between the
//! two rises steadily; what the first does not have yet begins at 0 where it counts, else at its last value.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::page::{self, Format, Labels};

/// How far back, in seconds; and from each on, the time between two samples: days are seen coarsely, the last hour finely.
const PAST: [(u64, u64); 3] = [(35 * 86_400, 6 * 3_600), (2 * 86_400, 1_200), (3_600, 60)];
/// Longest block: fewer blocks are written sooner.
const BLOCK: &str = "744h";

/// What a Prometheus notes of each scrape itself.
const OWN: [(&str, f64); 2] = [("scrape_duration_seconds", 0.01), ("up", 1.0)];

/// One series at both ends.
struct Ends {
    first: Option<f64>,
    last: f64,
    counts: bool,
}

/// Series by name and labels as they are written.
fn series(text: &str) -> Result<BTreeMap<String, (f64, bool)>> {
    let mut series = BTreeMap::new();
    for family in page::read(text, Format::Text)?.into_values() {
        for sample in family.samples {
            let counts = matches!(family.kind.as_str(), "counter" | "histogram");
            series.insert(written(&sample.name, &sample.labels), (sample.value, counts));
        }
    }
    Ok(series)
}

fn written(name: &str, labels: &Labels) -> String {
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let own =
        [("job", "inferscope"), ("instance", "node-1")].map(|(name, value)| format!("{name}=\"{value}\""));
    let labels = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value)));
    format!("{name}{{{}}}", own.into_iter().chain(labels).collect::<Vec<_>>().join(","))
}

/// Times from the oldest to `now`, in seconds since 1970.
fn times(now: u64) -> Vec<u64> {
    let ends = PAST.iter().skip(1).map(|(ago, _)| *ago).chain([0]);
    let mut times: Vec<u64> = PAST
        .iter()
        .zip(ends)
        .flat_map(|((from, step), to)| (now - from..now - to).step_by(*step as usize))
        .collect();
    times.push(now);
    times
}

/// Both pages as OpenMetrics.
///
/// # Errors
///
/// Where one is no page.
pub fn history(first: &str, last: &str, now: u64) -> Result<String> {
    let before = series(first).context("read the first page")?;
    let times = times(now);
    let span = (now - times[0]) as f64;
    let mut text = String::new();
    let mut write = |name: &str, ends: &Ends| -> Result<()> {
        for time in &times {
            let share = (time - times[0]) as f64 / span;
            let first = ends.first.unwrap_or(if ends.counts { 0.0 } else { ends.last });
            let between = first + (ends.last - first) * share;
            let value = if share < 1.0 && between.is_finite() { between } else { ends.last };
            writeln!(text, "{name} {value} {time}")?;
        }
        Ok(())
    };
    for (name, (value, counts)) in series(last).context("read the last page")? {
        let first = before.get(&name).map(|(value, _)| *value);
        write(&name, &Ends { first, last: value, counts })?;
    }
    for (name, value) in OWN {
        write(&written(name, &Labels::new()), &Ends { first: Some(value), last: value, counts: false })?;
    }
    text += "# EOF\n";
    Ok(text)
}

/// Writes blocks of it into `data`, the folder of a Prometheus that does not run yet.
///
/// # Errors
///
/// Where promtool does not.
pub fn write_blocks(promtool: &Path, history: &str, folder: &Path, data: &Path) -> Result<()> {
    let file = folder.join("history.txt");
    std::fs::write(&file, history).with_context(|| format!("write {}", file.display()))?;
    let mut command = Command::new(promtool);
    command.args(["tsdb", "create-blocks-from", "--max-block-duration", BLOCK, "openmetrics"]);
    let output = command.arg(&file).arg(data).output().context("run promtool")?;
    if !output.status.success() {
        bail!("promtool: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_rises_from_page_to_page_and_ends_where_the_last_has_it() {
        let page = |count: u32| {
            format!("# HELP a_total A.\n# TYPE a_total counter\na_total{{x=\"\\\"\"}} {count}\n")
        };
        let text = history(&page(10), &page(30), 4_000_000).unwrap();
        let name = r#"a_total{job="inferscope",instance="node-1",x="\""} "#;
        let values: Vec<f64> = text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.split(' ').next()?.parse().ok())
            .collect();
        assert_eq!((values[0], *values.last().unwrap()), (10.0, 30.0));
        assert!(values.is_sorted() && values.len() > 300, "{} values", values.len());
        assert!(text.ends_with("up{job=\"inferscope\",instance=\"node-1\"} 1 4000000\n# EOF\n"));
    }
}
