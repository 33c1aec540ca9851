//! The configuration: any text as the file, and as a variable of the environment.
//!
//! Input: the file; where it has a zero, what is behind that is a variable's text, and a second zero its name.

use inferscope::config::{Config, ENVIRONMENT_PREFIX, Sources};

pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parts = text.splitn(3, '\0');
    let file = parts.next().unwrap_or_default();
    let environment = match (parts.next(), parts.next()) {
        (Some(value), Some(name)) => vec![(format!("{ENVIRONMENT_PREFIX}{name}"), value.to_owned())],
        _ => Vec::new(),
    };
    let sources = Sources { environment, ..Sources::default() };
    match Config::parse(file, &sources) {
        Ok(config) => is_told_as_it_is(&config),
        Err(error) => assert!(!format!("{error:#}").is_empty()),
    }
}

/// What it says of itself reads as the same, and asks for no change.
fn is_told_as_it_is(config: &Config) {
    let told = config.to_toml();
    let again = Config::parse(&told, &Sources::default()).unwrap_or_else(|error| panic!("{told}: {error:#}"));
    assert_eq!(&again, config, "{told}");
    assert_eq!(config.changes(&again), inferscope::config::Changes::default());
}
