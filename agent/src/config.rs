//! What was asked? Composes the settings of each room out of one TOML file, the environment and flags.
//!
//! In: [`Sources`]. Out: a [`Config`] that is whole and checked, or one error that names the key. Flags
//! stand over the environment, that over the file, that over the defaults. It can be loaded again at any
//! time: [`Config::changes`] says what a reload can apply. Does not act on any setting.

mod keys;
mod section;
mod source;

use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use toml::Table;

pub use keys::ENVIRONMENT_PREFIX;
pub use section::LimitSettings;

use crate::lifecycle::{logs, privileges};
use crate::signal::latency;
use crate::workload::rules::{Rule, Rules};
use crate::{blame, cost, engine, export, gpu, probe, quality, request, slo, workload};
use source::Override;

/// Read where no other file is named, if it is there.
pub const PATH_DEFAULT: &str = "/etc/inferscope/inferscope.toml";
/// Names the file where no flag does.
pub const PATH_VARIABLE: &str = "INFERSCOPE_CONFIG";
/// A larger file is a mistake: all keys with all rules that fit take less than a tenth of this.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What a running agent takes over on SIGHUP. All else is built into sockets, tables or bucket bounds at
/// its start, and needs a restart.
const RELOADED: [&str; 6] =
    ["workload", "request.stalled_after", "slow.multiple", "slow.duration", "slow.ttft", "log.level"];

/// All settings of the agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub export: export::Settings,
    pub limits: LimitSettings,
    pub request: request::Settings,
    pub slo: slo::Settings,
    pub slow: blame::Settings,
    pub engine: engine::Settings,
    pub gpu: gpu::Settings,
    pub drift: quality::settings::Settings,
    pub mmlu: quality::mmlu::settings::Settings,
    pub canary: quality::canary::settings::Settings,
    pub cost: cost::Settings,
    pub kernel: probe::plan::Settings,
    pub log: logs::Settings,
    pub sandbox: privileges::Settings,
    /// Rules before the built-in ones.
    pub workload: Vec<Rule>,
}

/// Where a configuration comes from. Kept, so that a reload asks the same places.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file that was asked for. `None`: [`PATH_DEFAULT`], if it is there.
    pub file: Option<PathBuf>,
    /// Variables of the environment; those without [`ENVIRONMENT_PREFIX`] are passed over.
    pub environment: Vec<(String, String)>,
    /// Flags that set a key: (flag, section, key, text).
    pub flags: Vec<(&'static str, &'static str, &'static str, String)>,
}

/// What differs between two configurations, as keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A running agent takes these over.
    pub reloaded: Vec<String>,
    /// These need a restart.
    pub restart: Vec<String>,
}

impl Config {
    /// Reads all sources.
    ///
    /// # Errors
    /// The file cannot be read, or a key or value is not right. Nothing is applied then.
    pub fn load(sources: &Sources) -> Result<Self> {
        let Some((path, text)) = sources.read_file()? else { return Self::parse("", sources) };
        Self::parse(&text, sources).with_context(|| format!("configuration {}", path.display()))
    }

    /// The same from the file's text: a function of its arguments alone.
    ///
    /// # Errors
    /// A key or value is not right.
    pub fn parse(text: &str, sources: &Sources) -> Result<Self> {
        let mut table = source::read_text(text)?;
        let defaults = Self::default().to_table();
        for wanted in sources.overrides()? {
            source::apply(&mut table, &defaults, &wanted)?;
        }
        let config: Self = table.try_into().context("settings of all sources together")?;
        config.check()?;
        Ok(config)
    }

    /// What finds and names workloads: the rules, and a part of the limits.
    #[must_use]
    pub fn workloads(&self) -> workload::Settings {
        workload::Settings {
            rules: self.workload.clone(),
            workloads_max: self.limits.workloads,
            ..workload::Settings::default()
        }
    }

    /// What the latency series are built with: the objectives, and the forms of the export.
    #[must_use]
    pub fn latency(&self) -> latency::Options {
        latency::Options {
            duration_thresholds: self.slo.latency_thresholds(),
            ttft_thresholds: self.slo.ttft_thresholds(),
            time_per_output_token_thresholds: self.slo.time_per_output_token_thresholds(),
            native_histograms: self.export.native_histograms,
            opentelemetry: self.export.opentelemetry,
        }
    }

    /// What is different in `next`.
    #[must_use]
    pub fn changes(&self, next: &Self) -> Changes {
        let (old, new) = (self.to_table(), next.to_table());
        let mut changes = Changes::default();
        for section in keys::sections() {
            let names = if section.list { vec![section.name.to_owned()] } else { section.full_keys() };
            for key in names.into_iter().filter(|key| value(&old, key) != value(&new, key)) {
                let list = if RELOADED.contains(&key.as_str()) {
                    &mut changes.reloaded
                } else {
                    &mut changes.restart
                };
                list.push(key);
            }
        }
        changes
    }

    /// All settings as the file would say them.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("settings are plain values, which TOML can say")
    }

    fn to_table(&self) -> Table {
        Table::try_from(self).expect("settings are plain values, which TOML can say")
    }

    fn check(&self) -> Result<()> {
        self.export.check()?;
        self.limits.check()?;
        self.request.check()?;
        self.slo.check()?;
        self.slow.check()?;
        self.engine.check()?;
        self.gpu.check()?;
        self.drift.check()?;
        self.mmlu.check()?;
        self.canary.check()?;
        self.cost.check()?;
        Rules::new(&self.workload)?;
        Ok(())
    }
}

impl Sources {
    /// With the variables of this process.
    ///
    /// # Errors
    /// A variable of ours is not text.
    pub fn of_process(file: Option<PathBuf>) -> Result<Self> {
        let mut environment = Vec::new();
        for (name, text) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            if name.starts_with(ENVIRONMENT_PREFIX) {
                let Ok(text) = text.into_string() else { bail!("`{name}` in the environment is not UTF-8") };
                environment.push((name, text));
            }
        }
        environment.sort();
        Ok(Self { file, environment, flags: Vec::new() })
    }

    /// The file that was asked for, by flag or environment.
    #[must_use]
    pub fn named_file(&self) -> Option<&Path> {
        let variable = self.environment.iter().find(|(name, text)| name == PATH_VARIABLE && !text.is_empty());
        self.file.as_deref().or(variable.map(|(_, text)| Path::new(text)))
    }

    /// What the settings come from, in a sentence for the operator.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut from = vec!["defaults".to_owned()];
        let default = Path::new(PATH_DEFAULT);
        from.extend(
            self.named_file().or(default.exists().then_some(default)).map(|path| path.display().to_string()),
        );
        from.extend(self.overrides().unwrap_or_default().into_iter().map(|wanted| wanted.origin));
        from.join(", ")
    }

    fn read_file(&self) -> Result<Option<(PathBuf, String)>> {
        let (path, named) = match self.named_file() {
            Some(path) => (path, true),
            None => (Path::new(PATH_DEFAULT), false),
        };
        let file = match std::fs::File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && !named => return Ok(None),
            opened => opened.with_context(|| format!("open configuration {}", path.display()))?,
        };
        let mut text = String::new();
        let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
        read.with_context(|| format!("read configuration {}", path.display()))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            bail!("configuration {} is larger than {FILE_BYTES_MAX} bytes", path.display());
        }
        Ok(Some((path.to_owned(), text)))
    }

    /// Scalars above the file, the strongest last.
    fn overrides(&self) -> Result<Vec<Override>> {
        let mut overrides = source::read_environment(&self.environment)?;
        overrides.extend(self.flags.iter().map(|(flag, section, key, text)| Override {
            origin: (*flag).to_owned(),
            section: (*section).to_owned(),
            key: (*key).to_owned(),
            text: text.clone(),
        }));
        Ok(overrides)
    }
}

fn value<'a>(table: &'a Table, key: &str) -> Option<&'a toml::Value> {
    match key.split_once('.') {
        Some((section, key)) => table.get(section)?.get(key),
        None => table.get(key),
    }
}

#[cfg(test)]
mod tests;
