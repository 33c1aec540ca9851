//! Groups as the text of a rule file: YAML, in which every text is quoted as JSON quotes it, or stands as it is in a block.

use std::fmt::Write as _;

use super::{Alert, Group, Record};

/// The text of a rule file; `runbooks`: where each alert's runbook is.
#[must_use]
pub fn render(groups: &[Group], runbooks: &str) -> String {
    let mut out = String::from(
        "# Rendered by `inferscope rules`; what it comes from is section [slo] of the configuration.\ngroups:\n",
    );
    for group in groups {
        line(&mut out, 2, &format!("- name: {}", group.name));
        line(&mut out, 4, "rules:");
        group.records.iter().for_each(|rule| record(&mut out, rule));
        group.alerts.iter().for_each(|rule| alert(&mut out, rule, runbooks));
    }
    out
}

fn record(out: &mut String, rule: &Record) {
    line(out, 6, &format!("- record: {}", rule.name));
    expression(out, &rule.expression);
}

fn alert(out: &mut String, rule: &Alert, runbooks: &str) {
    line(out, 6, &format!("- alert: {}", rule.name));
    expression(out, &rule.expression);
    line(out, 8, &format!("for: {}", rule.holds));
    line(out, 8, "labels:");
    line(out, 10, &format!("severity: {}", rule.severity.label()));
    line(out, 8, "annotations:");
    let runbook = format!("{}/{}.md", runbooks.trim_end_matches('/'), rule.name);
    let texts = [("summary", rule.summary), ("description", &rule.description), ("runbook_url", &runbook)];
    for (name, text) in texts {
        line(out, 10, &format!("{name}: {}", serde_json::Value::from(text)));
    }
}

fn expression(out: &mut String, text: &str) {
    line(out, 8, "expr: |-");
    text.lines().for_each(|part| line(out, 10, part));
}

fn line(out: &mut String, indent: usize, text: &str) {
    // Writing to a text does not fail.
    let _ = writeln!(out, "{:indent$}{text}", "");
}
