//! The shipped rules in less time: every window and every wait is shorter, in the same order, and no threshold is another one.
//!
//! In: the rule file as it ships. Out: one for a scene of minutes.

/// Each time of the rules, and what stands for it: windows hold a handful of scrapes, one a second.
const WINDOWS: [(&str, &str); 9] = [
    ("5m", "10s"),
    ("10m", "12s"),
    ("30m", "14s"),
    ("1h", "16s"),
    ("2h", "18s"),
    ("6h", "20s"),
    ("24h", "25s"),
    ("1d", "25s"),
    ("3d", "30s"),
];
/// An age, in seconds; and the window of restarts, each of which takes some.
const OTHERS: [(&str, &str); 2] = [
    ("drift_score_age_seconds > 3600", "drift_score_age_seconds > 10"),
    (
        "changes(process_start_time_seconds{job=\"inferscope\"}[1h])",
        "changes(process_start_time_seconds{job=\"inferscope\"}[60s])",
    ),
];

/// As shipped, but that an alert fires as soon as it is true.
#[must_use]
pub fn at_once(rules: &str) -> String {
    rules
        .lines()
        .map(|line| if waits(line) { "        for: 0s".to_owned() } else { line.to_owned() } + "\n")
        .collect()
}

/// As shipped, with windows of seconds.
#[must_use]
pub fn compressed(rules: &str) -> String {
    let shorter = |line: &str| {
        if waits(line) {
            return "        for: 2s\n".to_owned();
        }
        let line = OTHERS.iter().fold(line.to_owned(), |line, (shipped, short)| line.replace(shipped, short));
        let line = WINDOWS.iter().fold(line, |line, (window, seconds)| {
            line.replace(&format!("[{window}]"), &format!("[{seconds}]"))
                .replace(&format!("offset {window})"), &format!("offset {seconds})"))
        });
        line + "\n"
    };
    rules.lines().map(shorter).collect()
}

fn waits(line: &str) -> bool {
    line.trim_start().starts_with("for: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_window_of_the_shipped_rules_is_left_and_no_threshold_changes() {
        let shipped = include_str!("../../../deploy/prometheus/rules/inferscope.yml");
        let short = compressed(shipped);
        let windows: Vec<&str> = short
            .split(['[', ']'])
            .skip(1)
            .step_by(2)
            .filter(|inside| {
                inside.ends_with(['m', 'h', 'd']) && inside.starts_with(|first: char| first.is_ascii_digit())
            })
            .collect();
        assert_eq!(windows, Vec::<&str>::new());
        assert!(!short.contains("offset 1d") && short.contains("for: 2s") && !short.contains("for: 5m"));
        assert_eq!(short.matches("> 14.4").count(), shipped.matches("> 14.4").count());
        assert!(OTHERS.iter().all(|(long, other)| shipped.contains(long) && short.contains(other)));
        assert_eq!(short.lines().count(), shipped.lines().count());
    }
}
