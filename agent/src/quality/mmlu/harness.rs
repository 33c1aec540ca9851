//! Reads the results of lm-evaluation-harness: `results_<time>.json` of 0.4.13, `results.json` of 0.4.2.
//!
//! In: the bytes of one file. Out: one [`Evaluation`] with the tasks named `mmlu` or `mmlu_...` that have an
//! accuracy; other tasks of the run are passed over. A bare `NaN`, which Python writes and JSON has not, makes
//! the file unreadable. Large parts that are not needed (`configs`) are skipped without being kept.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{
    Completeness, Evaluation, FILE_BYTES_MAX, Family, Mean, NAME_BYTES_MAX, Part, ReadError, Samples, Score,
    Source, TASKS_MAX, Terms, checked_name, checked_ratio,
};

/// Most questions a task is believed to have; past it a count is damage.
const SAMPLES_MAX: u64 = 1_000_000_000;

/// How far a derived count may be from a whole number, as a share of it. True ones are within 1e-13.
const DERIVED_ERROR_RATIO_MAX: f64 = 1e-6;

#[derive(Deserialize)]
struct File {
    results: BTreeMap<String, Row>,
    #[serde(default)]
    group_subtasks: BTreeMap<String, Vec<String>>,
    #[serde(default, rename = "n-samples")]
    samples: BTreeMap<String, SampleCount>,
    #[serde(default, rename = "n-shot")]
    shots: BTreeMap<String, Figure>,
    #[serde(default)]
    versions: BTreeMap<String, Figure>,
    #[serde(default)]
    config: Config,
    date: Option<f64>,
    model_name: Option<String>,
    chat_template_sha: Option<String>,
    system_instruction_sha: Option<String>,
    fewshot_as_multiturn: Option<bool>,
}

#[derive(Deserialize)]
struct Row {
    #[serde(rename = "acc,none")]
    accuracy: Option<Figure>,
    #[serde(rename = "acc_stderr,none")]
    standard_error: Option<Figure>,
    sample_len: Option<Figure>,
}

#[derive(Deserialize)]
struct SampleCount {
    original: u64,
    effective: u64,
}

#[derive(Default, Deserialize)]
struct Config {
    model_args: Option<Arguments>,
    limit: Option<Figure>,
}

/// An object in 0.4.13, a text in 0.4.2.
#[derive(Deserialize)]
#[serde(untagged)]
enum Arguments {
    Object(BTreeMap<String, Figure>),
    Text(String),
    Other(IgnoredAny),
}

/// The harness writes numbers as texts here and there, and the text `"N/A"` for none.
#[derive(Deserialize)]
#[serde(untagged)]
enum Figure {
    Number(f64),
    Text(String),
    Other(IgnoredAny),
}

impl Figure {
    fn text(&self) -> Option<String> {
        match self {
            Figure::Number(number) => Some(number.to_string()),
            Figure::Text(text) if text.len() <= NAME_BYTES_MAX => Some(text.clone()),
            Figure::Text(_) | Figure::Other(_) => None,
        }
    }
}

/// Reads one file.
///
/// # Errors
/// `Unfinished` where the text ends early: look again. Anything else stays what it is until the file changes.
pub fn read(bytes: &[u8]) -> Result<Evaluation, ReadError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(ReadError::TooLarge);
    }
    let file: File = serde_json::from_slice(bytes).map_err(|error| refusal(&error, bytes))?;
    let limit = limit(&file);
    let limited = limit.is_some();
    let model = model(&file)?;
    let began_unix_seconds = began(&file)?;
    let scores = Reader::new(&file, limit).scores()?;
    if scores.is_empty() {
        return Err(ReadError::not_results("no mmlu task with an accuracy"));
    }
    Ok(Evaluation {
        model,
        source: Source::Harness,
        began_unix_seconds,
        completeness: if limited { Completeness::Limited } else { Completeness::Whole },
        scores,
    })
}

fn refusal(error: &serde_json::Error, bytes: &[u8]) -> ReadError {
    if error.is_eof() || is_cut_number(error, bytes) {
        return ReadError::Unfinished;
    }
    ReadError::not_results(error.to_string())
}

/// The parser calls a number wrong, not cut, where the text ends in its sign, point or exponent.
fn is_cut_number(error: &serde_json::Error, bytes: &[u8]) -> bool {
    let last_line = bytes.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let at_end = error.column() >= last_line.len()
        && error.line() > bytes.iter().filter(|byte| **byte == b'\n').count();
    at_end && matches!(bytes.last(), Some(b'-' | b'+' | b'.' | b'e' | b'E'))
}

fn is_mmlu(task: &str) -> bool {
    task.strip_prefix("mmlu").is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// The limit as given; where questions were chosen otherwise (`--samples`), that they were.
fn limit(file: &File) -> Option<String> {
    if let Some(limit) = &file.config.limit {
        return Some(limit.text().unwrap_or_else(|| "unknown".to_owned()));
    }
    let chosen = |(task, count): (&String, &SampleCount)| is_mmlu(task) && count.effective < count.original;
    file.samples.iter().any(chosen).then(|| "chosen questions".to_owned())
}

fn began(file: &File) -> Result<Option<f64>, ReadError> {
    match file.date {
        Some(date) if date < 0.0 => Err(ReadError::not_results("the date is before 1970")),
        date => Ok(date),
    }
}

/// The name the tool gives, else the one among the arguments of its backend.
fn model(file: &File) -> Result<Option<String>, ReadError> {
    let name = file.model_name.clone().or_else(|| match file.config.model_args.as_ref()? {
        Arguments::Object(arguments) => {
            MODEL_ARGUMENTS.iter().find_map(|key| arguments.get(*key).and_then(Figure::text))
        }
        Arguments::Text(text) => MODEL_ARGUMENTS.iter().find_map(|key| argument(text, key)),
        Arguments::Other(_) => None,
    });
    name.filter(|name| !name.is_empty())
        .map(|name| checked_name(&name, "the model's name").map(str::to_owned))
        .transpose()
}

/// Where backends have the model's name: the local one, and those that ask a server.
const MODEL_ARGUMENTS: [&str; 3] = ["pretrained", "model", "path"];

/// Of `pretrained=a,dtype=b`.
fn argument(text: &str, key: &str) -> Option<String> {
    text.split(',').find_map(|pair| pair.trim().strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
}

struct Reader<'a> {
    file: &'a File,
    family: Family,
    limit: Option<String>,
    prompting: Option<String>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a File, limit: Option<String>) -> Self {
        Self { file, family: Family::new(file.group_subtasks.clone()), limit, prompting: prompting(file) }
    }

    fn scores(&self) -> Result<Vec<Score>, ReadError> {
        let mut scores = Vec::new();
        for (task, row) in self.file.results.iter().filter(|(task, _)| is_mmlu(task)) {
            let Some(accuracy) = accuracy(task, row)? else { continue };
            if scores.len() == TASKS_MAX {
                return Err(ReadError::not_results(format!("more than {TASKS_MAX} tasks")));
            }
            scores.push(Score {
                task: checked_name(task, "the name of a task")?.to_owned(),
                accuracy,
                standard_error: standard_error(task, row)?,
                samples: self.samples(task, row)?,
                terms: self.terms(task),
            });
        }
        Ok(scores)
    }

    fn terms(&self, task: &str) -> Terms {
        let group = self.family.is_group(task);
        let mut names = self.family.subtasks(task);
        if group {
            names.push(task);
        }
        names.sort_unstable();
        let parts = names.into_iter().map(|name| self.part(name, group && name == task)).collect();
        Terms {
            source: Source::Harness,
            mean: if group { Mean::Weighted } else { Mean::Single },
            limit: self.limit.clone(),
            prompting: self.prompting.clone(),
            parts,
        }
    }

    /// A group has no shots of its own; what 0.4.2 says there is the last subtask's, or 0.
    fn part(&self, name: &str, is_the_group: bool) -> Part {
        let shots = self.file.shots.get(name).filter(|_| !is_the_group).and_then(Figure::text);
        let version = self.file.versions.get(name).and_then(Figure::text);
        Part { task: name.to_owned(), shots, version }
    }

    fn samples(&self, task: &str, row: &Row) -> Result<Option<Samples>, ReadError> {
        if let Some(count) = told_samples(task, row)? {
            return Ok(Some(Samples::Counted(count)));
        }
        let mut sum = 0_u64;
        let mut derived = false;
        for subtask in self.family.subtasks(task) {
            let Some(samples) = self.samples_of_one(subtask)? else { return Ok(None) };
            derived |= matches!(samples, Samples::Derived(_));
            sum = sum.saturating_add(samples.count());
        }
        if sum == 0 {
            // A ring of groups has no subtasks.
            return Ok(None);
        }
        Ok(Some(if derived { Samples::Derived(sum) } else { Samples::Counted(sum) }))
    }

    /// Of a subtask. A group's cannot be derived from its own error, which is pooled from its subtasks'.
    fn samples_of_one(&self, task: &str) -> Result<Option<Samples>, ReadError> {
        if let Some(count) = self.file.samples.get(task) {
            return checked_count(task, count.effective).map(|count| Some(Samples::Counted(count)));
        }
        let Some(row) = self.file.results.get(task) else { return Ok(None) };
        if let Some(count) = told_samples(task, row)? {
            return Ok(Some(Samples::Counted(count)));
        }
        let (Some(accuracy), Some(error)) = (accuracy(task, row)?, standard_error(task, row)?) else {
            return Ok(None);
        };
        Ok(derived_samples(accuracy, error).map(Samples::Derived))
    }
}

fn prompting(file: &File) -> Option<String> {
    let told = [
        file.chat_template_sha.as_ref().map(|_| "chat template".to_owned()),
        file.fewshot_as_multiturn.filter(|is| *is).map(|_| "examples as turns".to_owned()),
        file.system_instruction_sha.as_ref().map(|sha| format!("system instruction {sha}")),
    ];
    let told: Vec<String> = told.into_iter().flatten().collect();
    (!told.is_empty()).then(|| told.join(", "))
}

fn accuracy(task: &str, row: &Row) -> Result<Option<f64>, ReadError> {
    match &row.accuracy {
        Some(Figure::Number(value)) => checked_ratio(*value, "the accuracy", task).map(Some),
        Some(_) => Err(ReadError::not_results(format!("the accuracy of {task} is no number"))),
        None => Ok(None),
    }
}

fn standard_error(task: &str, row: &Row) -> Result<Option<f64>, ReadError> {
    match &row.standard_error {
        Some(Figure::Number(value)) => checked_ratio(*value, "the standard error", task).map(Some),
        Some(Figure::Text(text)) if text == "N/A" => Ok(None),
        Some(_) => Err(ReadError::not_results(format!("the standard error of {task} is no number"))),
        None => Ok(None),
    }
}

fn told_samples(task: &str, row: &Row) -> Result<Option<u64>, ReadError> {
    match &row.sample_len {
        Some(Figure::Number(value)) if value.fract() == 0.0 && (0.0..=SAMPLES_MAX as f64).contains(value) => {
            checked_count(task, *value as u64).map(Some)
        }
        Some(_) => Err(ReadError::not_results(format!("the number of questions of {task} is none"))),
        None => Ok(None),
    }
}

fn checked_count(task: &str, count: u64) -> Result<u64, ReadError> {
    if (1..=SAMPLES_MAX).contains(&count) {
        return Ok(count);
    }
    Err(ReadError::not_results(format!("{task} has {count} questions")))
}

/// From `error = sqrt(p (1 - p) / (n - 1))`. No count where all or no answers were right (the error is 0),
/// or where it gives no whole number of questions or of right answers: then the error is of another kind.
fn derived_samples(accuracy: f64, error: f64) -> Option<u64> {
    if error <= 0.0 || accuracy <= 0.0 || accuracy >= 1.0 {
        return None;
    }
    let count = accuracy * (1.0 - accuracy) / (error * error) + 1.0;
    let right = accuracy * count;
    let whole = |value: f64| (value - value.round()).abs() <= DERIVED_ERROR_RATIO_MAX * value;
    (count <= SAMPLES_MAX as f64 && whole(count) && whole(right)).then(|| count.round() as u64)
}
