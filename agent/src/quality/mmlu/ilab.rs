//! Reads a saved report of `ilab model evaluate`, benchmarks `mmlu` and `mmlu_branch`.
//!
//! In: the bytes of a file in which somebody kept the command's standard output. Out: one [`Evaluation`], or
//! two of a branch report: the base model's and the model's. The report has two decimals, no date, no count
//! of questions and no mark of its end. What can be known of a cut one: its last line does not end, or the
//! mean of its lines is not the total it gives; one cut between lines may still pass as complete where the
//! mean agrees by chance, but an `mmlu` report with fewer than 57 lines is marked incomplete in any case.

use super::{
    Completeness, Evaluation, FILE_BYTES_MAX, Mean, Part, ReadError, SUBTASKS, Score, Source, TASKS_MAX,
    Terms, checked_name, checked_ratio,
};

const TITLE: &str = "# KNOWLEDGE EVALUATION REPORT";

/// Total and lines are rounded to two places each, so the mean of the lines is within two halves of 0.01.
const ROUNDING_MAX: f64 = 0.01 + 1e-9;

/// What the lines of a part of the report are.
#[derive(Clone, Copy)]
enum Section {
    Elsewhere,
    BaseModel,
    Model,
    /// `task - 0.78`
    Scores,
    /// `1. task: 0.42 -> 0.62 (+0.2)`
    Changes,
    /// `1. task (0.61)`
    NoChange,
}

#[derive(Default)]
struct Report {
    base: Option<Total>,
    model: Option<Total>,
    is_branch: bool,
    /// Task, the base model's score in a branch report, the model's.
    rows: Vec<(String, f64, f64)>,
}

struct Total {
    model: String,
    accuracy: f64,
}

/// Reads one report; the last one where several were kept in one file.
///
/// # Errors
/// `Unfinished` where the report is empty or cut, as far as that can be known: look again.
pub fn read(bytes: &[u8]) -> Result<Vec<Evaluation>, ReadError> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(ReadError::TooLarge);
    }
    if bytes.is_empty() {
        return Err(ReadError::Unfinished);
    }
    // A cut inside a character is a cut too, so the end comes before the text.
    let ends = bytes.ends_with(b"\n");
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => return Err(ReadError::Unfinished),
        Err(_) => return Err(ReadError::not_results("not text")),
    };
    let Some(start) = last_title(text) else {
        let cut_title = !ends && TITLE.starts_with(text.lines().last().unwrap_or_default());
        return Err(if cut_title {
            ReadError::Unfinished
        } else {
            ReadError::not_results("no knowledge evaluation report")
        });
    };
    if !ends {
        return Err(ReadError::Unfinished);
    }
    evaluations(parse(&text[start..])?)
}

/// Where the text after the last title begins.
fn last_title(text: &str) -> Option<usize> {
    let mut at = 0;
    let mut found = None;
    for line in text.split_inclusive('\n') {
        at += line.len();
        if line.trim_end() == TITLE {
            found = Some(at);
        }
    }
    found
}

fn parse(text: &str) -> Result<Report, ReadError> {
    let mut report = Report::default();
    let mut section = Section::Elsewhere;
    for line in text.lines().map(str::trim_end) {
        if line.starts_with('#') {
            section = heading(line);
            report.is_branch |= matches!(section, Section::BaseModel | Section::Changes | Section::NoChange);
        } else if line.is_empty() {
            // Log lines may follow the rows after a blank line; a total stands right below its heading.
            section = Section::Elsewhere;
        } else {
            report.take(section, line)?;
        }
    }
    Ok(report)
}

fn heading(line: &str) -> Section {
    match line {
        "## BASE MODEL (SCORE)" => Section::BaseModel,
        "## MODEL (SCORE)" => Section::Model,
        "### SCORES (0.0 to 1.0):" => Section::Scores,
        "### IMPROVEMENTS (0.0 to 1.0):" | "### REGRESSIONS (0.0 to 1.0):" => Section::Changes,
        "### NO CHANGE (0.0 to 1.0):" => Section::NoChange,
        _ => Section::Elsewhere,
    }
}

impl Report {
    fn take(&mut self, section: Section, line: &str) -> Result<(), ReadError> {
        let understood = match section {
            Section::Elsewhere => return Ok(()),
            Section::BaseModel => total(line).map(|total| self.base = Some(total)),
            Section::Model => total(line).map(|total| self.model = Some(total)),
            Section::Scores => single(line).map(|row| self.rows.push(row)),
            Section::Changes => change(line).map(|row| self.rows.push(row)),
            Section::NoChange => no_change(line).map(|row| self.rows.push(row)),
        };
        if understood.is_none() {
            return Err(ReadError::not_results("a line of the report has another form"));
        }
        if self.rows.len() > TASKS_MAX {
            return Err(ReadError::not_results(format!("more than {TASKS_MAX} tasks")));
        }
        Ok(())
    }
}

/// `path (0.72/1.0)`; the path may hold blanks and brackets, so the score is read from the end.
fn total(line: &str) -> Option<Total> {
    let (model, score) = line.strip_suffix("/1.0)")?.rsplit_once(" (")?;
    Some(Total { model: model.to_owned(), accuracy: score.parse().ok()? })
}

fn single(line: &str) -> Option<(String, f64, f64)> {
    let (task, score) = line.rsplit_once(" - ")?;
    let score = score.parse().ok()?;
    Some((task.to_owned(), score, score))
}

fn change(line: &str) -> Option<(String, f64, f64)> {
    let (task, scores) = numbered(line)?.rsplit_once(": ")?;
    let (before, rest) = scores.split_once(" -> ")?;
    let (after, difference) = rest.strip_suffix(')')?.split_once(" (")?;
    difference.parse::<f64>().ok()?;
    Some((task.to_owned(), before.parse().ok()?, after.parse().ok()?))
}

fn no_change(line: &str) -> Option<(String, f64, f64)> {
    let (task, score) = numbered(line)?.strip_suffix(')')?.rsplit_once(" (")?;
    let score = score.parse().ok()?;
    Some((task.to_owned(), score, score))
}

fn numbered(line: &str) -> Option<&str> {
    let (number, rest) = line.split_once(". ")?;
    number.parse::<usize>().ok()?;
    Some(rest)
}

fn evaluations(mut report: Report) -> Result<Vec<Evaluation>, ReadError> {
    let (Some(model), false) = (report.model.take(), report.rows.is_empty()) else {
        return Err(ReadError::Unfinished);
    };
    report.rows.sort_by(|one, other| one.0.cmp(&other.0));
    if report.rows.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(ReadError::not_results("a task is there twice"));
    }
    if !report.is_branch {
        return Ok(vec![evaluation(&model, &report.rows, Source::Ilab, |row| row.2)?]);
    }
    let Some(base) = report.base else {
        return Err(ReadError::not_results("a branch report without its base model"));
    };
    Ok(vec![
        evaluation(&base, &report.rows, Source::IlabBranch, |row| row.1)?,
        evaluation(&model, &report.rows, Source::IlabBranch, |row| row.2)?,
    ])
}

type Row = (String, f64, f64);

fn evaluation(
    total: &Total,
    rows: &[Row],
    source: Source,
    score_of: fn(&Row) -> f64,
) -> Result<Evaluation, ReadError> {
    let group = if source == Source::IlabBranch { "mmlu_branch" } else { "mmlu" };
    let model = checked_name(&total.model, "the model's name")?.to_owned();
    let whole =
        Terms { mean: Mean::Plain, parts: rows.iter().map(|row| part(&row.0)).collect(), ..terms(source) };
    let mut scores = vec![score(group, total.accuracy, whole)?];
    for row in rows {
        let single = Terms { parts: vec![part(&row.0)], ..terms(source) };
        scores.push(score(&row.0, score_of(row), single)?);
    }
    let mean = rows.iter().map(score_of).sum::<f64>() / rows.len() as f64;
    let agrees = (mean - total.accuracy).abs() <= ROUNDING_MAX;
    let completeness = match (source, rows.len()) {
        (Source::Ilab, SUBTASKS) if !agrees => {
            return Err(ReadError::not_results("the total is not the mean of the 57 subtasks"));
        }
        _ if !agrees => return Err(ReadError::Unfinished),
        (Source::Ilab, subtasks) if subtasks != SUBTASKS => Completeness::Incomplete { subtasks },
        _ => Completeness::Whole,
    };
    Ok(Evaluation { model: Some(model), source, began_unix_seconds: None, completeness, scores })
}

/// Shots and versions are not in a report; the tool has 5 shots unless told otherwise, which is not seen.
fn terms(source: Source) -> Terms {
    Terms { source, mean: Mean::Single, limit: None, prompting: None, parts: Vec::new() }
}

fn part(task: &str) -> Part {
    Part { task: task.to_owned(), shots: None, version: None }
}

fn score(task: &str, accuracy: f64, terms: Terms) -> Result<Score, ReadError> {
    let task = checked_name(task, "the name of a task")?;
    let accuracy = checked_ratio(accuracy, "the score", task)?;
    Ok(Score { task: task.to_owned(), accuracy, standard_error: None, samples: None, terms })
}
