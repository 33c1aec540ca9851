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

/// One family of any page.
#[derive(Default)]
struct Described {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// The families of all pages.
///
/// # Errors
///
/// Where one is no page.
fn families(pages: &[&str]) -> Result<BTreeMap<String, Described>> {
    let mut all: BTreeMap<String, Described> = BTreeMap::new();
    for page in pages {
        for (name, Family { kind, help, samples }) in page::read(page, Format::Text)? {
            let described = all.entry(name).or_default();
            (described.kind, described.help) = (kind, help);
            let labels = samples.into_iter().flat_map(|sample| sample.labels.into_keys());
            described.labels.extend(labels.filter(|label| !NO_LABEL.contains(&label.as_str())));
        }
    }
    Ok(all)
}

/// The tables of all families on the pages; and the names that are in no section.
///
/// # Errors
///
/// Where one is no page.
pub fn tables(pages: &[&str]) -> Result<(String, Vec<String>)> {
    let mut left = families(pages)?;
    let mut text = String::new();
    for (section, stable, beginnings) in SECTIONS {
        let of_section: Vec<String> = left
            .keys()
            .filter(|name| beginnings.iter().any(|begin| name.starts_with(begin)))
            .cloned()
            .collect();
        let promise = if stable { "stable" } else { "may change with any version" };
        writeln!(
            text,
            "## {section}\n\nNames and labels: {promise}.\n\n| Family | Type | Labels | What |\n|---|---|---|---|"
        )?;
        for name in of_section {
            let Some(Described { kind, help, labels }) = left.remove(&name) else { continue };
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            let help = help.trim_end_matches('.').replace('|', "\\|");
            writeln!(text, "| `{name}` | {kind} | {} | {help} |", labels.join(", "))?;
        }
        text.push('\n');
    }
    Ok((text, left.into_keys().collect()))
}

/// Names of the families in such tables.
#[must_use]
pub fn names(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_once_with_the_labels_of_all_pages() {
        let one = "# HELP gpu_a A.\n# TYPE gpu_a gauge\ngpu_a{gpu=\"0\"} 1\n# HELP odd O.\n# TYPE odd gauge\nodd 1\n";
        let other = "# HELP gpu_a A.\n# TYPE gpu_a gauge\ngpu_a{uuid=\"x\"} 1\n";
        let (text, odd) = tables(&[one, other]).unwrap();
        assert!(text.contains("\n| `gpu_a` | gauge | `gpu`, `uuid` | A |\n"), "{text}");
        assert_eq!((odd, names(&text).into_iter().collect()), (vec!["odd".to_owned()], vec!["gpu_a"]));
    }
}
