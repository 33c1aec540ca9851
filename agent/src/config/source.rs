//! Where settings come from: the text of the file, the environment, the flags.
//!
//! In: text and names. Out: tables, or an error that names key, line and column. Reads nothing itself.

use anyhow::{Result, anyhow, bail, ensure};
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::Config;
use super::keys::{self, ENVIRONMENT_PREFIX};

/// A scalar that stands above the file.
#[derive(Debug)]
pub(super) struct Override {
    /// What the operator wrote: `--listen`, `INFERSCOPE_EXPORT_LISTEN`.
    pub(super) origin: String,
    pub(super) section: String,
    pub(super) key: String,
    pub(super) text: String,
}

/// The file's text as a table whose keys are known and whose values fit.
pub(super) fn read_text(text: &str) -> Result<Table> {
    let document = DeTable::parse(text).map_err(|error| describe(&error, text, &[]))?;
    let entries = entries(document.get_ref());
    let unknown: Vec<String> = entries.iter().filter_map(|entry| entry.unknown(text)).collect();
    ensure!(unknown.is_empty(), "{}", unknown.join("; "));
    toml::from_str::<Config>(text).map_err(|error| describe(&error, text, &entries))?;
    toml::from_str(text).map_err(|error| describe(&error, text, &entries))
}

/// The settings among the variables of the environment.
pub(super) fn read_environment(environment: &[(String, String)]) -> Result<Vec<Override>> {
    let variables = keys::variables();
    let mut overrides = Vec::new();
    for (name, text) in environment {
        if !name.starts_with(ENVIRONMENT_PREFIX)
            || name == super::PATH_VARIABLE
            || is_service_link(name, text)
        {
            continue;
        }
        if let Some((_, section, key)) = variables.iter().find(|(known, _, _)| known == name) {
            overrides.push(Override {
                origin: name.clone(),
                section: (*section).to_owned(),
                key: (*key).to_owned(),
                text: text.clone(),
            });
            continue;
        }
        for section in keys::sections().iter().filter(|section| section.list) {
            let prefix = format!("{ENVIRONMENT_PREFIX}{}", section.name).to_ascii_uppercase();
            ensure!(
                !name.starts_with(&prefix),
                "`{name}` in the environment: `{}` is a list, write it in the file",
                section.name
            );
        }
        let known: Vec<String> = variables.into_iter().map(|(name, _, _)| name).collect();
        bail!("unknown variable `{name}` in the environment: {}", keys::suggest(name, &known));
    }
    Ok(overrides)
}

/// Kubernetes puts the address of every service of the namespace into the environment of each container;
/// for a service named `inferscope` or `inferscope-...` these look like settings.
fn is_service_link(name: &str, text: &str) -> bool {
    let is_number = |text: &str| text.parse::<u16>().is_ok();
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    let parts: Vec<&str> = name.split('_').collect();
    let after_port =
        |part: &str| parts.iter().position(|each| *each == part).map(|place| &parts[place + 1..]);
    match after_port("PORT") {
        _ if name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") => true,
        Some([]) => is_url,
        Some([port, "TCP" | "UDP" | "SCTP", ..]) => is_number(port),
        _ => false,
    }
}

/// Puts `wanted` into `table`, with the type that the key has in `defaults`.
pub(super) fn apply(table: &mut Table, defaults: &Table, wanted: &Override) -> Result<()> {
    let Override { origin, section, key, text } = wanted;
    let default = defaults.get(section).and_then(|section| section.get(key));
    let value = match default {
        Some(Value::Boolean(_)) => Value::Boolean(
            text.parse().map_err(|_| anyhow!("{origin}: `{text}` is neither `true` nor `false`"))?,
        ),
        Some(Value::Float(_)) => {
            Value::Float(text.parse().map_err(|_| anyhow!("{origin}: `{text}` is not a number"))?)
        }
        Some(Value::Integer(_)) => {
            Value::Integer(text.parse().map_err(|_| anyhow!("{origin}: `{text}` is not a whole number"))?)
        }
        // All other scalars are texts in the file too: addresses, durations, words.
        _ => Value::String(text.clone()),
    };
    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = section {
        section.insert(key.clone(), value);
    }
    let fits: Result<Config, _> = table.clone().try_into();
    fits.map(|_| ()).map_err(|error| anyhow!("{origin}: {}", error.message()))
}

/// A key of the document, and the bytes of its name and of all that it holds.
struct Entry {
    path: String,
    name: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
    known: bool,
}

impl Entry {
    fn unknown(&self, text: &str) -> Option<String> {
        if self.known {
            return None;
        }
        let top = !self.path.contains('.');
        let sections = keys::sections();
        let names = sections.iter().map(|section| section.name.to_owned());
        let known = if top { names.chain(keys::all()).collect() } else { keys::all() };
        let suggestion = keys::suggest(&self.path, &known);
        Some(format!("unknown key `{}` at {}: {suggestion}", self.path, place(text, self.name.start)))
    }
}

/// Keys of the sections and of what is in them, in the order of the document.
fn entries(document: &DeTable<'_>) -> Vec<Entry> {
    let sections = keys::sections();
    let mut found = Vec::new();
    for (name, value) in document {
        let section = sections.iter().find(|section| section.name == name.get_ref().as_ref());
        found.push(Entry {
            path: name.get_ref().to_string(),
            name: name.span(),
            value: value.span(),
            known: section.is_some(),
        });
        let Some(section) = section else { continue };
        let tables: Vec<&DeTable<'_>> = match value.get_ref() {
            DeValue::Table(table) => vec![table],
            DeValue::Array(list) => list.iter().filter_map(|item| item.get_ref().as_table()).collect(),
            _ => Vec::new(),
        };
        for (key, value) in tables.into_iter().flatten() {
            found.push(Entry {
                path: format!("{}.{}", section.name, key.get_ref()),
                name: key.span(),
                value: value.span(),
                known: section.keys.contains(&key.get_ref().as_ref()),
            });
        }
    }
    found.sort_by_key(|entry| entry.name.start);
    found
}

/// The library's error in one line, with the key that it is about.
fn describe(error: &toml::de::Error, text: &str, entries: &[Entry]) -> anyhow::Error {
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    let Some(span) = error.span() else { return anyhow!(message) };
    let inside = |entry: &&Entry| entry.value.contains(&span.start) || entry.name.contains(&span.start);
    let key = entries.iter().rev().find(inside).map(|entry| format!("`{}` ", entry.path));
    anyhow!("{}at {}: {message}", key.unwrap_or_default(), place(text, span.start))
}

/// `line 3, column 1`, both from 1.
fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}")
}
