//! How many scores of the reference data agree, and how closely.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use inferscope::quality::npy::{Array, NpyError, read_file};
use inferscope::quality::score::{Scores, accuracy};
use serde::Serialize;
use serde_json::Value;

/// Ours, theirs, and by how much they may differ: relative, absolute.
const FIELDS: [(&str, &str, f64, f64); 8] = [
    ("kl", "kl_seed", 1e-9, 1e-12),
    ("kl_smoothed", "kl_eps", 1e-9, 1e-12),
    ("js_distance", "js_distance_2", 0.0, 1e-6),
    ("population_stability", "psi_eps", 1e-9, 1e-12),
    ("ks_statistic", "ks_stat", 0.0, 1e-12),
    ("ks_p_value", "ks_p_auto", 1e-6, 1e-12),
    ("ks_method", "ks_method_auto", 0.0, 0.0),
    ("wasserstein", "wasserstein", 1e-9, 1e-15),
];

/// One score over all pairs.
#[derive(Clone, Debug, Serialize)]
pub struct Agreement {
    pub what: String,
    pub agree: usize,
    pub of: usize,
    /// The largest difference of a number.
    pub difference_most: f64,
}

/// Of every score, of the verdicts on bad files, and of accuracy.
///
/// # Errors
/// The reference data cannot be read.
pub fn agreements() -> Result<Vec<Agreement>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("drift-vectors");
    let text = std::fs::read(folder.join("expected.json")).context("read the expected scores")?;
    let expected: Value = serde_json::from_slice(&text).context("read the expected scores")?;
    let mut all = Vec::new();
    let scored = scored(&folder, &expected)?;
    for (ours, theirs, relative, absolute) in FIELDS {
        let mut one = Agreement { what: ours.to_owned(), agree: 0, of: 0, difference_most: 0.0 };
        for (found, expected) in &scored {
            one.take(&found[ours], &expected[theirs], relative, absolute);
        }
        all.push(one);
    }
    all.push(verdicts(&folder, &expected)?);
    all.push(accuracies(&folder, &expected)?);
    Ok(all)
}

impl Agreement {
    fn take(&mut self, found: &Value, expected: &Value, relative: f64, absolute: f64) {
        self.of += 1;
        let (Some(found), Some(expected)) = (found.as_f64(), expected.as_f64()) else {
            self.agree += usize::from(found == expected);
            return;
        };
        let difference = (found - expected).abs();
        self.agree += usize::from(difference <= absolute.max(relative * expected.abs()));
        self.difference_most = self.difference_most.max(difference);
    }
}

fn array(path: &Path) -> Result<Array> {
    read_file(path).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn cases<'a>(expected: &'a Value, kind: &str) -> Result<&'a serde_json::Map<String, Value>> {
    expected[kind].as_object().with_context(|| format!("no `{kind}` is expected"))
}

fn scored(folder: &Path, expected: &Value) -> Result<Vec<(Value, Value)>> {
    let mut all = Vec::new();
    for (name, case) in cases(expected, "cases")? {
        let side = |side: &str| array(&folder.join(format!("good/{name}.{side}.npy")));
        let scores = Scores::of(side("recent")?, side("baseline")?);
        all.push((serde_json::to_value(scores)?, case.clone()));
    }
    Ok(all)
}

fn verdicts(folder: &Path, expected: &Value) -> Result<Agreement> {
    let mut one = Agreement { what: "bad files".to_owned(), agree: 0, of: 0, difference_most: 0.0 };
    for name in cases(expected, "bad")?.keys() {
        let being_written =
            ["empty_file", "magic_only", "truncated"].iter().any(|part| name.starts_with(part));
        let right = match read_file(&folder.join("bad").join(name)) {
            Err(NpyError::Unfinished(_)) => being_written,
            Err(NpyError::Refused(_)) => !being_written,
            Ok(_) | Err(NpyError::Read(_)) => false,
        };
        one.of += 1;
        one.agree += usize::from(right);
    }
    Ok(one)
}

fn accuracies(folder: &Path, expected: &Value) -> Result<Agreement> {
    let mut one = Agreement { what: "accuracy".to_owned(), agree: 0, of: 0, difference_most: 0.0 };
    for (name, case) in cases(expected, "accuracy")? {
        let side = |side: &str| array(&folder.join(format!("accuracy/{name}.{side}.npy")));
        let found = accuracy::compare(&side("pred")?, &side("truth")?);
        let expected = match &found {
            Ok(found) if found.comparison == accuracy::Comparison::ThresholdHalf => &case["threshold_half"],
            _ => &case["elementwise_flat"],
        };
        match found {
            Ok(found) if found.total == 0 => {
                one.take(&found.accuracy.is_nan().into(), &true.into(), 0.0, 0.0);
            }
            Ok(found) => one.take(&found.accuracy.into(), expected, 0.0, 1e-12),
            // No share is expected of files that cannot be compared.
            Err(_refused) => one.take(&true.into(), &expected.is_null().into(), 0.0, 0.0),
        }
    }
    Ok(one)
}
