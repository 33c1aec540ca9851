//! `inferscope drift`: how far are recent predictions from a baseline, and how many of them are right?
//!
//! In: two or three `.npy` files. Out: their scores as text or JSON, the same that the agent exports for files of
//! `drift.files`. It asks no agent and needs no rights but to read the files.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result, anyhow};
use serde::Serialize;

use crate::quality::npy::{self, Array};
use crate::quality::score::accuracy::{self, Accuracy};
use crate::quality::score::{Method, Scores};

/// What to score.
#[derive(Clone, Debug)]
pub struct Files {
    pub baseline: PathBuf,
    pub recent: PathBuf,
    pub truth: Option<PathBuf>,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    scores: Scores,
    #[serde(flatten)]
    accuracy: Option<Accuracy>,
}

/// Scores the files.
///
/// # Errors
/// A file cannot be read, or is refused, or two cannot be compared: which one, and why.
pub fn score(files: &Files) -> Result<Report> {
    let recent = read(&files.recent)?;
    let accuracy = files.truth.as_deref().map(|truth| compare(&recent, &files.recent, truth)).transpose()?;
    Ok(Report { scores: Scores::of(recent, read(&files.baseline)?), accuracy })
}

impl Report {
    /// # Errors
    /// `out` cannot be written.
    pub fn write(&self, json: bool, out: &mut dyn Write) -> Result<()> {
        if !json {
            return write!(out, "{}", text(self)).context("write the scores");
        }
        let text = serde_json::to_string_pretty(self).context("write the scores as JSON")?;
        writeln!(out, "{text}").context("write the scores")
    }
}

fn read(path: &Path) -> Result<Array> {
    npy::read_file(path).map_err(Error::from).with_context(|| format!("read {}", path.display()))
}

fn compare(recent: &Array, path: &Path, truth: &Path) -> Result<Accuracy> {
    let array = read(truth)?;
    accuracy::compare(recent, &array)
        .map_err(|why| anyhow!("compare {} with {}: {why}", path.display(), truth.display()))
}

/// With six places, and small ones by their exponent: a probability of 1e-84 is not 0.
fn plain(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-4 { format!("{value:.3e}") } else { format!("{value:.6}") }
}

fn text(report: &Report) -> String {
    let Report { scores, accuracy } = report;
    let maybe = |value: Option<f64>| value.map_or_else(|| "cannot be had".to_owned(), plain);
    let method = match scores.ks_method {
        Some(Method::Exact) => " (exact)",
        Some(Method::Asymptotic) => " (asymptotic)",
        None => "",
    };
    let numbers = |count, in_range| format!("{count} numbers, {in_range} of them in [0, 1]");
    let mut rows = vec![
        ("baseline", numbers(scores.baseline_count, scores.baseline_in_range)),
        ("recent", numbers(scores.recent_count, scores.recent_in_range)),
        ("KL divergence", format!("{:.6} nats", scores.kl)),
        ("... smoothed", format!("{} nats", maybe(scores.kl_smoothed))),
        ("Jensen-Shannon distance", maybe(scores.js_distance)),
        ("population stability", maybe(scores.population_stability)),
        (
            "Kolmogorov-Smirnov",
            format!("{}, p {}{method}", maybe(scores.ks_statistic), maybe(scores.ks_p_value)),
        ),
        ("Wasserstein distance", maybe(scores.wasserstein)),
    ];
    if let Some(found) = accuracy {
        let how = match found.comparison {
            accuracy::Comparison::Equality => "",
            accuracy::Comparison::ThresholdHalf => ", cut at 0.5",
        };
        let right = format!("{:.6} ({} of {} right{how})", found.accuracy, found.correct, found.total);
        rows.push(("accuracy", right));
        if let Some(count) = found.false_positives {
            rows.push(("false positives", count.to_string()));
        }
    }
    rows.iter().map(|(name, value)| format!("{name:<24} {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/drift-vectors").join(name)
    }

    fn scored(pair: &str, truth: Option<&str>, json: bool) -> Result<String> {
        let files = Files {
            baseline: vectors(&format!("good/{pair}.baseline.npy")),
            recent: vectors(&format!("good/{pair}.recent.npy")),
            truth: truth.map(vectors),
        };
        let mut out = Vec::new();
        score(&files)?.write(json, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn json_has_texts_for_what_is_no_number_and_null_for_what_cannot_be_had() {
        let value =
            |pair| serde_json::from_str::<serde_json::Value>(&scored(pair, None, true).unwrap()).unwrap();
        assert_eq!(value("02_shift_f8")["kl"], "inf");
        let empty = value("14_empty_recent");
        assert_eq!((&empty["kl"], &empty["ks_p_value"]), (&"nan".into(), &serde_json::Value::Null));
        assert!(empty.get("accuracy").is_none());
    }

    #[test]
    fn text_says_what_was_scored() {
        let text = scored("09_i4_labels", Some("good/09_i4_labels.recent.npy"), false).unwrap();
        assert!(text.contains("accuracy                 1.000000 (800 of 800 right)\n"), "{text}");
        assert!(text.contains("recent                   800 numbers, "), "{text}");
        let text = scored("02_shift_f8", None, false).unwrap();
        assert!(text.contains("0.259000, p 1.001e-84 (exact)"), "{text}");
    }

    #[test]
    fn what_cannot_be_scored_is_told_with_its_file() {
        let error = scored("01_same_f8", Some("bad/pickled_object.npy"), true).unwrap_err();
        let error = format!("{error:#}");
        assert!(error.contains("pickled_object.npy: its elements are \"|O\""), "{error}");
        let error = scored("01_same_f8", Some("good/29_one_each.recent.npy"), true).unwrap_err();
        assert!(format!("{error:#}").contains("2000 predictions and 1 truths"), "{error:#}");
    }
}
