//! `inferscope check`: is the configuration right, and what is in force?
//!
//! In: a configuration that was loaded, and where from. Out: all settings as the file would say them. One
//! that is not right never comes here: loading ends with the error that a start would end with.

use std::io::Write;

use anyhow::{Context as _, Result};

use crate::config::{Config, Sources};

/// Writes the settings in force to `out`.
///
/// # Errors
/// `out` cannot be written.
pub fn run(config: &Config, sources: &Sources, out: &mut dyn Write) -> Result<()> {
    write!(out, "# in force, from {}\n\n{}", sources.describe(), config.to_toml())
        .context("write the settings")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        std::fs::write(&file, "limits.models = 3").unwrap();
        let sources = Sources {
            file: Some(file.clone()),
            environment: vec![("INFERSCOPE_LOG_LEVEL".to_owned(), "debug".to_owned())],
            flags: vec![("--listen", "export", "listen", "127.0.0.1:1".to_owned())],
        };
        let mut out = Vec::new();
        let config = Config::load(&sources).unwrap();
        run(&config, &sources, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let from = format!("# in force, from defaults, {}, INFERSCOPE_LOG_LEVEL, --listen\n", file.display());
        assert!(text.starts_with(&from), "{text}");
        assert_eq!(Config::parse(&text, &Sources::default()).unwrap(), config);
    }
}
