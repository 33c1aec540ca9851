//! The reference of metrics, made of pages of the agent itself.
//!
//! In: pages as text. Out: Markdown: each family with type, labels and help, by what it is about, and whether it may change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Result;

use crate::page::{self, Family, Format};

/// What families are about, by the beginning of their names: the first that fits. `true`: stable.
const SECTIONS: [(&str, bool, &[&str]); 8] = [
    (
        "Quality of models",
        true,
        &[
            "prediction_confidence",
            "model_",
            "drift_",
            "kolmogorov_",
            "total_predictions",
            "false_positives",
            "mmlu_",
            "canary_",
        ],
    ),
    ("Objectives", true, &["slo_"]),
    ("Energy and cost", true, &["vllm_energy", "vllm_phase_energy", "vllm_idle_energy", "cost_"]),
    (
        "Why slow",
        true,
        &["vllm_request_blame", "vllm_slow_", "vllm_requests_under_throttle", "stall_", "cgroup_"],
    ),
    ("Requests", true, &["vllm_", "inference_"]),
    ("OpenTelemetry's names", false, &["gen_ai_"]),
    ("GPUs", true, &["gpu_"]),
    ("The agent itself", false, &["inferscope_", "process_"]),
];
/// Added by Prometheus, or of a bucket.
const NO_LABEL: [&str; 1] = ["le"];

/// A family, as a row has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    pub kind: String,
    pub help: String,
    pub labels: BTreeSet<String>,
}

pub type Families = BTreeMap<String, Described>;

/// The families of all pages.
///
/// # Errors
///
/// Where one is no page.
pub fn families(pages: &[&str]) -> Result<Families> {
    let mut all = Families::new();
    for page in pages {
        for (name, Family { kind, help, samples }) in page::read(page, Format::Text)? {
            let described = all.entry(name).or_default();
            (described.kind, described.help) = (kind, help.trim_end_matches('.').to_owned());
            let labels = samples.into_iter().flat_map(|sample| sample.labels.into_keys());
            described.labels.extend(labels.filter(|label| !NO_LABEL.contains(&label.as_str())));
        }
    }
    Ok(all)
}

/// Those of such tables.
#[must_use]
pub fn read(text: &str) -> Families {
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.strip_suffix(" |")?.split(" | ").collect();
        let [name, kind, labels, help @ ..] = cells.as_slice() else { return None };
        let labels = labels.split(", ").map(|label| label.trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        Some((
            name.trim_end_matches('`').to_owned(),
            Described { kind: (*kind).to_owned(), help: help.join(" | "), labels },
        ))
    };
    text.lines().filter_map(row).collect()
}

/// The tables of families; and the names that are in no section.
#[must_use]
pub fn tables(families: &Families) -> (String, Vec<String>) {
    let mut left = families.clone();
    let mut text = String::new();
    for (section, stable, beginnings) in SECTIONS {
        let promise = if stable { "stable" } else { "may change with any version" };
        let _ = write!(
            text,
            "## {section}\n\nNames and labels: {promise}.\n\n| Family | Type | Labels | What |\n|---|---|---|---|\n"
        );
        for (name, Described { kind, help, labels }) in
            left.extract_if(.., |name, _| beginnings.iter().any(|begin| name.starts_with(begin)))
        {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let _ = writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", "));
        }
        text.push('\n');
    }
    (text.trim_end().to_owned() + "\n", left.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_once_with_the_labels_of_all_pages_and_read_back() {
        let one = "# HELP gpu_a A.\n# TYPE gpu_a gauge\ngpu_a{gpu=\"0\"} 1\n# HELP odd O.\n# TYPE odd gauge\nodd 1\n";
        let other = "# HELP gpu_a A.\n# TYPE gpu_a gauge\ngpu_a{uuid=\"x\"} 1\n";
        let families = families(&[one, other]).unwrap();
        let (text, odd) = tables(&families);
        assert!(text.contains("\n| `gpu_a` | gauge | `gpu`, `uuid` | A |\n"), "{text}");
        assert_eq!((odd, &read(&text)["gpu_a"]), (vec!["odd".to_owned()], &families["gpu_a"]));
    }
}
