//! Prints whether drift is found where there is some, and nowhere else.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use inferscope_tests::drift_check::{
    Agreement, Detection, FalseAlarms, agreements, detections, false_alarms,
};
use serde::Serialize;

/// Scores the reference data and watches streams of chance.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Streams of each kind.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// Write the result as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Serialize)]
struct Results {
    vectors: Vec<Agreement>,
    false_alarms: Vec<FalseAlarms>,
    detections: Vec<Detection>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let vectors = agreements()?;
    print_vectors(&vectors);
    println!("\nwatching {} streams of each kind without a change ...", arguments.seeds);
    let false_alarms = false_alarms(arguments.seeds);
    print_false_alarms(&false_alarms);
    println!("\nwatching {} streams of each kind that change ...", arguments.seeds);
    let detections = detections(arguments.seeds);
    print_detections(&detections);
    let holds = vectors.iter().all(|one| one.agree == one.of)
        && false_alarms.iter().all(|one| one.holds)
        && detections.iter().all(|one| one.holds);
    println!(
        "\ndrift-check: {}",
        if holds { "everything required holds" } else { "NOT everything required holds" }
    );
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&Results { vectors, false_alarms, detections })?;
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_vectors(vectors: &[Agreement]) {
    println!("{:<22} {:>9}  largest difference", "score", "agree");
    for one in vectors {
        let agree = format!("{} of {}", one.agree, one.of);
        println!("{:<22} {agree:>9}  {:.1e}", one.what, one.difference_most);
    }
}

fn print_false_alarms(rows: &[FalseAlarms]) {
    println!(
        "{:<34} {:>9} {:>7} {:>13} {:>9} {:>11} {:>16}",
        "streams without a change",
        "days",
        "alarms",
        "days between",
        "required",
        "tail slope",
        "days at a year"
    );
    for row in rows {
        let more = if row.alarms == 0 { ">" } else { "" };
        let between = format!("{more}{:.1}", row.days_between);
        println!(
            "{:<34} {:>9} {:>7} {between:>13} {:>9} {:>11.2} {:>16.0}{}",
            row.streams,
            row.watched_days,
            row.alarms,
            row.required_days,
            row.tail_slope,
            row.days_between_at_a_year,
            if row.holds { "" } else { "  NOT HELD" }
        );
    }
}

fn print_detections(rows: &[Detection]) {
    println!("{:<38} {:>11} {:>12} {:>12}  required", "change", "found", "median", "p95");
    for row in rows {
        let time = |seconds: Option<f64>| match seconds {
            Some(seconds) if seconds >= 86_400.0 => format!("{:.1} days", seconds / 86_400.0),
            Some(seconds) => format!("{seconds:.0} s"),
            None => "-".to_owned(),
        };
        let found = format!("{} of {}", row.found, row.seeds);
        println!(
            "{:<38} {found:>11} {:>12} {:>12}  {}{}",
            row.change,
            time(row.seconds_median),
            time(row.seconds_p95),
            row.required,
            if row.holds { "" } else { "  NOT HELD" }
        );
    }
}
