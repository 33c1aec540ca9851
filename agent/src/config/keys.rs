//! Which keys there are, taken from the settings structs themselves, and the nearest one to a mistake.
//!
//! In: a struct that serde derives. Out: its field names, full keys, names in the environment.

use serde::Deserialize;
use serde::de::value::Error as Refusal;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

use super::section::LimitSettings;
use crate::lifecycle::{logs, privileges};
use crate::workload::rules::Rule;
use crate::{blame, cost, engine, export, gpu, probe, quality, request, slo};

/// Every variable of the environment that is a setting begins so.
pub const ENVIRONMENT_PREFIX: &str = "INFERSCOPE_";
/// Below this likeness a suggestion would mislead; then all that is known there is listed.
const LIKENESS_MIN: f64 = 0.5;

/// One section of the file and the keys in it.
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) keys: &'static [&'static str],
    /// A list of tables: no single variable or flag can say it.
    pub(super) list: bool,
}

impl Section {
    /// Its keys as `section.key`.
    pub(super) fn full_keys(&self) -> Vec<String> {
        self.keys.iter().map(|key| format!("{}.{key}", self.name)).collect()
    }
}

/// Keys that hold lists, which a variable of the environment cannot say.
const LISTS: [(&str, &str); 3] = [("slo", "objectives"), ("drift", "files"), ("mmlu", "results")];

/// All sections, in the order of the shipped file.
pub(super) fn sections() -> [Section; 15] {
    let one = |name, keys| Section { name, keys, list: false };
    [
        one("export", fields::<export::Settings>()),
        one("limits", fields::<LimitSettings>()),
        one("request", fields::<request::Settings>()),
        one("slo", fields::<slo::Settings>()),
        one("slow", fields::<blame::Settings>()),
        one("engine", fields::<engine::Settings>()),
        one("gpu", fields::<gpu::Settings>()),
        one("drift", fields::<quality::settings::Settings>()),
        one("mmlu", fields::<quality::mmlu::settings::Settings>()),
        one("canary", fields::<quality::canary::settings::Settings>()),
        one("cost", fields::<cost::Settings>()),
        one("kernel", fields::<probe::plan::Settings>()),
        one("log", fields::<logs::Settings>()),
        one("sandbox", fields::<privileges::Settings>()),
        Section { name: "workload", keys: fields::<Rule>(), list: true },
    ]
}

/// Every key of the file as `section.key`.
pub(super) fn all() -> Vec<String> {
    sections().iter().flat_map(Section::full_keys).collect()
}

/// Names in the environment, each with its section and key.
pub(super) fn variables() -> Vec<(String, &'static str, &'static str)> {
    let mut variables = Vec::new();
    for section in sections().iter().filter(|section| !section.list) {
        for key in section.keys.iter().filter(|key| !LISTS.contains(&(section.name, **key))) {
            let name = format!("{ENVIRONMENT_PREFIX}{}_{key}", section.name).to_ascii_uppercase();
            variables.push((name, section.name, *key));
        }
    }
    variables
}

/// `did you mean ...?` with the nearest of `known`, else what is known.
pub(super) fn suggest(unknown: &str, known: &[String]) -> String {
    let likeness = |candidate: &String| {
        let whole = strsim::normalized_damerau_levenshtein(unknown, candidate);
        let ends = strsim::normalized_damerau_levenshtein(last(unknown), last(candidate));
        // A key in the wrong section is a likely mistake too, but the same section comes first.
        whole.max(ends * 0.9)
    };
    let nearest = known
        .iter()
        .map(|candidate| (likeness(candidate), candidate))
        .max_by(|(one, _), (other, _)| one.total_cmp(other));
    match nearest {
        Some((likeness, candidate)) if likeness >= LIKENESS_MIN => format!("did you mean `{candidate}`?"),
        _ => format!("known are {}", known.join(", ")),
    }
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// Field names of `T`. Asked of serde, so that there is no second list to forget.
pub(super) fn fields<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // Refused by design: the names come before any value.
    let _refused = T::deserialize(FieldNames(&mut names));
    names
}

struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Refusal;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Refusal> {
        *self.0 = fields;
        Err(Refusal::custom("names only"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Refusal> {
        Err(Refusal::custom("not a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
