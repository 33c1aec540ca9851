//! Which series does an expression of Prometheus read?
//!
//! In: an expression. Out: names. No parser: whatever is no label, function, keyword or number is a name.

use std::collections::BTreeSet;

/// Words of the language that stand where a name could: operators, and what sums up `by` labels.
const KEYWORDS: [&str; 19] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "and",
    "or",
    "unless",
    "offset",
    "bool",
    "inf",
    "sum",
    "min",
    "max",
    "avg",
    "count",
    "topk",
    "stddev",
];
/// After these, labels stand in parentheses.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Names of the series in an expression.
#[must_use]
pub fn names(expression: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = expression;
    let mut labels_next = false;
    while let Some(first) = rest.chars().next() {
        let word: String =
            rest.chars().take_while(|one| one.is_ascii_alphanumeric() || "_:".contains(*one)).collect();
        if word.is_empty() {
            let skipped = match first {
                '{' => after(rest, '}'),
                // A window, or one of many.
                '[' => after(rest, ']'),
                '"' => after(&rest[1..], '"').map(|length| length + 1),
                '(' if labels_next => after(rest, ')'),
                _ => None,
            };
            labels_next &= first.is_whitespace();
            rest = &rest[skipped.unwrap_or(first.len_utf8())..];
            continue;
        }
        rest = &rest[word.len()..];
        let called = rest.trim_start().starts_with('(');
        labels_next = BEFORE_LABELS.contains(&word.to_ascii_lowercase().as_str());
        let keyword = KEYWORDS.contains(&word.to_ascii_lowercase().as_str());
        if !called && !keyword && !word.starts_with(|first: char| first.is_ascii_digit()) {
            names.insert(word);
        }
    }
    names
}

/// Where what ends with `end` is over.
fn after(text: &str, end: char) -> Option<usize> {
    text.find(end).map(|place| place + end.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_functions_and_numbers_are_no_names() {
        let expression = "histogram_quantile(0.95, sum by (le, model) (rate(a_bucket{x=\"b_c\", y=~\"{\"}[5m])))\n \
                          / on (model) group_left () clamp_max(rec:ord > 1e-3, 2) and d offset 1d unless absent(up)";
        let found: Vec<String> = names(expression).into_iter().collect();
        assert_eq!(found, ["a_bucket", "d", "rec:ord", "up"]);
    }
}
