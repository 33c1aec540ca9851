//! Section `canary` of the configuration: questions that the agent asks a server itself.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::ask::Route;

const EVERY: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);
const TOKENS_PER_HOUR: RangeInclusive<u64> = 1000..=100_000_000;
const LOGPROBS: RangeInclusive<u32> = 1..=100_000;

/// Section `canary`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Ask.
    pub enabled: bool,
    /// File of the questions: `.csv` as that of MMLU, or `.jsonl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub questions: Option<PathBuf>,
    /// Name of the model, as requests to the server have it; also the label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Label of the server; without one, the first that can be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Which of the server's routes.
    pub route: Route,
    /// From the beginning of a run to that of the next.
    #[serde(with = "humantime_serde")]
    pub every: Duration,
    /// Tokens of questions and answers in any hour.
    pub tokens_per_hour: u64,
    /// Of the order of the questions, and of the server's sampling.
    pub seed: u64,
    /// Waits while the server has so many requests of others under way.
    pub busy_requests: usize,
    /// Alternatives of the answer's token that are asked for; vLLM allows 20 unless told otherwise.
    pub logprobs: u32,
    /// File of the key that the server asks for, if any; read at each run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            questions: None,
            model: None,
            workload: None,
            route: Route::Completions,
            every: Duration::from_secs(6 * 3600),
            tokens_per_hour: 20_000,
            seed: 1,
            busy_requests: 1,
            logprobs: 20,
            api_key_file: None,
        }
    }
}

impl Settings {
    /// # Errors
    /// A value that helps nobody; the error names its key.
    pub fn check(&self) -> Result<()> {
        let (least, most) = (EVERY.start(), EVERY.end());
        ensure!(
            EVERY.contains(&self.every),
            "`canary.every` is {:?}, outside {least:?} to {most:?}",
            self.every
        );
        let tokens = self.tokens_per_hour;
        ensure!(
            TOKENS_PER_HOUR.contains(&tokens),
            "`canary.tokens_per_hour` is {tokens}, outside 1000 to 100000000"
        );
        let logprobs = self.logprobs;
        ensure!(LOGPROBS.contains(&logprobs), "`canary.logprobs` is {logprobs}, outside 1 to 100000");
        ensure!(self.busy_requests > 0, "`canary.busy_requests` is 0: it would wait for ever");
        for (key, path) in [("questions", &self.questions), ("api_key_file", &self.api_key_file)] {
            let Some(path) = path else { continue };
            ensure!(path.is_absolute(), "`canary.{key}` is {path:?}, no full path");
        }
        if self.enabled {
            self.questions
                .as_ref()
                .context("`canary.enabled` wants `canary.questions`, the file to ask from")?;
            let model = self.model.as_ref().context("`canary.enabled` wants `canary.model`, whom to ask")?;
            ensure!(!model.is_empty(), "`canary.model` is empty");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_help_nobody_are_refused_with_their_key() {
        let check = |text: &str| {
            let settings: Settings = toml::from_str(text).map_err(|error| error.to_string())?;
            settings.check().map_err(|error| error.to_string())
        };
        assert_eq!(check(""), Ok(()));
        assert_eq!(check("enabled = true\nquestions = \"/q.csv\"\nmodel = \"m\"\nroute = \"chat\""), Ok(()));
        for (text, expected) in [
            ("enabled = true", "wants `canary.questions`"),
            ("enabled = true\nquestions = \"/q.csv\"", "wants `canary.model`"),
            ("questions = \"q.csv\"", "`canary.questions` is \"q.csv\", no full path"),
            ("every = \"1s\"", "`canary.every` is 1s, outside 60s"),
            ("tokens_per_hour = 1", "`canary.tokens_per_hour` is 1"),
            ("busy_requests = 0", "would wait for ever"),
            ("logprobs = 0", "`canary.logprobs` is 0"),
            ("route = \"both\"", "unknown variant"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
