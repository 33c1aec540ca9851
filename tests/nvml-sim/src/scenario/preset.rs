//! Scenarios that come with the library, by name.

/// What is true where no scenario is named.
pub const DEFAULT: &str = "two";

/// Every one: its name and its text.
pub const PRESETS: [(&str, &str); 14] = [
    ("two", include_str!("../../scenarios/two.toml")),
    ("demo", include_str!("../../scenarios/demo.toml")),
    ("heating", include_str!("../../scenarios/heating.toml")),
    ("power_cap", include_str!("../../scenarios/power_cap.toml")),
    ("ecc", include_str!("../../scenarios/ecc.toml")),
    ("xid_burst", include_str!("../../scenarios/xid_burst.toml")),
    ("mig", include_str!("../../scenarios/mig.toml")),
    ("hang", include_str!("../../scenarios/hang.toml")),
    ("lost", include_str!("../../scenarios/lost.toml")),
    ("old_driver", include_str!("../../scenarios/old_driver.toml")),
    ("not_available", include_str!("../../scenarios/not_available.toml")),
    ("eight", include_str!("../../scenarios/eight.toml")),
    ("stack", include_str!("../../scenarios/stack.toml")),
    ("reload", include_str!("../../scenarios/reload.toml")),
];

/// The text of a scenario.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// What a scenario is for: its first line.
#[must_use]
pub fn sentence(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim_start_matches(['#', ' '])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn every_preset_is_read_and_says_what_it_is_for() {
        for (name, text) in PRESETS {
            let scenario = Scenario::parse(text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert!(!scenario.gpus.is_empty(), "{name}");
            assert!(text.starts_with("# ") && sentence(text).ends_with('.'), "{name}");
        }
    }
}
