//! What the agent measures, as a table that is redrawn, or as lines where the output is no terminal.
//!
//! In: the answer of `/api/v1/latency`. Out: text. Quantiles are of the last five minutes, rates of the last ten
//! seconds.

use serde::Deserialize;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Between lines where the output is no terminal, so that a log stays readable.
const LINES_EVERY: Duration = Duration::from_secs(5);
/// Longest model or workload name shown whole.
const NAME_MAX: usize = 22;

#[derive(Deserialize)]
pub(super) struct Latency {
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    workload: String,
    model: String,
    in_flight: u64,
    requests_per_second: Rates,
    chunks_per_second: Rates,
    duration_seconds: Quantiles,
    ttft_seconds: Quantiles,
}

#[derive(Deserialize)]
struct Rates {
    last_10s: f64,
}

#[derive(Deserialize)]
struct Quantiles {
    count: u64,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

/// Draws over what it drew before.
pub(super) struct Live {
    terminal: bool,
    lines_drawn: usize,
    last_line: Option<Instant>,
}

impl Live {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stdout().is_terminal(), lines_drawn: 0, last_line: None }
    }

    /// Shows the newest state; returns how many requests it covers.
    pub(super) fn show(&mut self, latency: &Latency) -> u64 {
        if self.terminal {
            self.redraw(&table(latency));
        } else if self.last_line.is_none_or(|at| at.elapsed() >= LINES_EVERY) {
            self.last_line = Some(Instant::now());
            for model in &latency.models {
                println!("{}", line(model));
            }
        }
        latency.models.iter().map(|model| model.duration_seconds.count).sum()
    }

    fn redraw(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        // Up to the first line drawn before, and clear from there down. A lost terminal ends the run by SIGHUP.
        let back =
            if self.lines_drawn > 0 { format!("\x1b[{}A\x1b[J", self.lines_drawn) } else { "\n".into() };
        let _ = write!(out, "{back}{text}");
        let _ = out.flush();
        self.lines_drawn = text.lines().count();
    }
}

fn table(latency: &Latency) -> String {
    let mut text = format!(
        "{:<NAME_MAX$} {:<NAME_MAX$} {:>7} {:>7}   {:^26}   {:^26} {:>9}\n",
        "workload", "model", "req/s", "flying", "first token p50 p95 p99", "duration p50 p95 p99", "chunks/s"
    );
    for model in &latency.models {
        text += &format!(
            "{:<NAME_MAX$} {:<NAME_MAX$} {:>7.1} {:>7}   {}   {} {:>9.1}\n",
            short(&model.workload),
            short(&model.model),
            model.requests_per_second.last_10s,
            model.in_flight,
            three(&model.ttft_seconds),
            three(&model.duration_seconds),
            model.chunks_per_second.last_10s,
        );
    }
    if latency.models.is_empty() {
        text += "no request has ended yet\n";
    }
    text
}

fn line(model: &Model) -> String {
    format!(
        "{} {}: {:.1} req/s, {} in flight, first token p50 p95 p99 {}, duration {}, {:.1} chunks/s",
        model.workload,
        model.model,
        model.requests_per_second.last_10s,
        model.in_flight,
        three(&model.ttft_seconds),
        three(&model.duration_seconds),
        model.chunks_per_second.last_10s,
    )
}

fn three(quantiles: &Quantiles) -> String {
    [quantiles.p50, quantiles.p95, quantiles.p99].map(|value| format!("{:>8}", time(value))).join(" ")
}

/// Three digits tell times apart and fit a column.
fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".into(),
        Some(seconds) if seconds < 0.01 => format!("{:.2} ms", seconds * 1e3),
        Some(seconds) if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.2} s"),
    }
}

fn short(name: &str) -> String {
    if name.chars().count() <= NAME_MAX {
        return name.to_owned();
    }
    name.chars().take(NAME_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"models": [{"workload": "demo", "model": "a-model-with-a-very-long-name", "in_flight": 2,
        "stalled": 0, "requests_per_second": {"last_10s": 5.04, "last_5m": 4.0},
        "chunks_per_second": {"last_10s": 80.0, "last_5m": 1.0},
        "duration_seconds": {"count": 40, "p50": 0.0612, "p90": 1.0, "p95": 1.5, "p99": 2.0},
        "ttft_seconds": {"count": 40, "p50": 0.00123, "p90": 0.1, "p95": null, "p99": null}}]}"#;

    #[test]
    fn an_answer_becomes_a_row_of_fixed_columns() {
        let latency: Latency = serde_json::from_str(ANSWER).unwrap();
        let text = table(&latency);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].chars().count(), rows[1].chars().count(), "{text}");
        for expected in ["a-model-with-a-very-l…", "5.0", "1.23 ms", "61.2 ms", "1.50 s", "80.0"] {
            assert!(rows[1].contains(expected), "{expected} in {text}");
        }
    }

    #[test]
    fn a_line_says_what_is_not_known_as_a_dash() {
        let latency: Latency = serde_json::from_str(ANSWER).unwrap();
        let text = line(&latency.models[0]);
        assert!(text.starts_with("demo a-model-with-a-very-long-name: 5.0 req/s, 2 in flight"), "{text}");
        assert_eq!(text.matches("       -").count(), 2, "{text}");
    }

    #[test]
    fn without_requests_the_table_says_so() {
        assert!(table(&Latency { models: Vec::new() }).contains("no request has ended yet"));
    }
}
