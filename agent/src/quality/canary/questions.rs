//! Multiple-choice questions from a file of the operator's.
//!
//! In: a file, either in the layout of MMLU's (CSV without a head: question, choices, letter of the right one) or JSON, one
//! object a line (`question`, `choices`, `answer`: a letter or an index from 0). Out: [`Question`]s, or the line that is
//! wrong and why. Bounded in bytes, number and length.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use crate::digest::Digest;

pub const FILE_BYTES_MAX: u64 = 4 << 20;
pub const QUESTIONS_MAX: usize = 2000;
/// Of a question with its choices.
pub const QUESTION_BYTES_MAX: usize = 16 << 10;
/// As many as have a letter that is likely one token.
pub const CHOICES_MAX: usize = 8;

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub text: String,
    pub choices: Vec<String>,
    /// Index of the right choice.
    pub right: usize,
}

impl Question {
    /// Known again by all of its text.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::default();
        for text in std::iter::once(&self.text).chain(&self.choices) {
            digest.add(text.as_bytes());
            digest.add(&[0]);
        }
        digest.get()
    }
}

/// The letter of a choice.
#[must_use]
pub fn letter(choice: usize) -> char {
    char::from(b'A' + choice.min(CHOICES_MAX - 1) as u8)
}

/// Reads the questions of a file, by the end of its name.
///
/// # Errors
/// The file cannot be read, or is not of its form: the line, and why.
pub fn read_file(path: &Path) -> Result<Vec<Question>> {
    let context = || format!("read the questions {}", path.display());
    let file = File::open(path).with_context(context)?;
    ensure!(file.metadata().with_context(context)?.is_file(), "{} is no plain file", path.display());
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).with_context(context)?;
    let lines = path.extension().is_some_and(|end| end == "jsonl" || end == "json");
    let questions = if lines { read_lines(&bytes) } else { read_csv(&bytes) };
    questions.with_context(context)
}

/// In the layout of MMLU's files.
///
/// # Errors
/// As [`read_file`].
pub fn read_csv(bytes: &[u8]) -> Result<Vec<Question>> {
    check_length(bytes)?;
    let mut questions = Vec::new();
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    for record in reader.records() {
        let record = record.context("it is no CSV")?;
        let line = record.position().map_or(0, csv::Position::line);
        let fields: Vec<&str> = record.iter().collect();
        let question = match &fields[..] {
            [text, choices @ .., answer] if !choices.is_empty() => {
                checked(text, choices.iter().map(ToString::to_string), &Answer::Text((*answer).to_owned()))
            }
            _ => Err(anyhow::anyhow!(
                "it has {} fields; wanted are question, choices and answer",
                fields.len()
            )),
        };
        push(&mut questions, question.with_context(|| format!("line {line}"))?)?;
    }
    finish(questions)
}

#[derive(Deserialize)]
struct Line {
    question: String,
    choices: Vec<String>,
    answer: Answer,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Index(usize),
    Text(String),
}

/// One JSON object a line.
///
/// # Errors
/// As [`read_file`].
pub fn read_lines(bytes: &[u8]) -> Result<Vec<Question>> {
    check_length(bytes)?;
    let text = std::str::from_utf8(bytes).context("it is no UTF-8")?;
    let mut questions = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let context = || format!("line {}", number + 1);
        let line: Line = serde_json::from_str(line).with_context(context)?;
        let question = checked(&line.question, line.choices.into_iter(), &line.answer);
        push(&mut questions, question.with_context(context)?)?;
    }
    finish(questions)
}

fn check_length(bytes: &[u8]) -> Result<()> {
    ensure!(bytes.len() as u64 <= FILE_BYTES_MAX, "it is longer than {FILE_BYTES_MAX} bytes");
    Ok(())
}

fn checked(text: &str, choices: impl Iterator<Item = String>, answer: &Answer) -> Result<Question> {
    let choices: Vec<String> = choices.collect();
    ensure!(
        (2..=CHOICES_MAX).contains(&choices.len()),
        "it has {} choices, 2 to {CHOICES_MAX} can be asked",
        choices.len()
    );
    let length = text.len() + choices.iter().map(String::len).sum::<usize>();
    ensure!(length <= QUESTION_BYTES_MAX, "it has {length} bytes, {QUESTION_BYTES_MAX} are the most");
    ensure!(!text.trim().is_empty(), "its question is empty");
    let right = match answer {
        Answer::Index(index) => Some(*index),
        Answer::Text(answer) => {
            (0..choices.len()).find(|choice| answer.trim() == letter(*choice).to_string())
        }
    };
    match right.filter(|right| *right < choices.len()) {
        Some(right) => Ok(Question { text: text.to_owned(), choices, right }),
        None => {
            bail!("its answer is none of its choices; wanted is a letter, from A on, or an index, from 0 on")
        }
    }
}

fn push(questions: &mut Vec<Question>, question: Question) -> Result<()> {
    ensure!(questions.len() < QUESTIONS_MAX, "it has more than {QUESTIONS_MAX} questions");
    questions.push(question);
    Ok(())
}

fn finish(questions: Vec<Question>) -> Result<Vec<Question>> {
    ensure!(!questions.is_empty(), "it has no question");
    Ok(questions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_layouts_give_the_same_questions() {
        let csv = b"\"What is 1 + 1,\nexactly?\",1,2,3,4,B\nIs it \"\"so\"\"?,yes,no,A\n";
        let lines = r#"{"question":"What is 1 + 1,\nexactly?","choices":["1","2","3","4"],"answer":"B"}

{"question":"Is it \"\"so\"\"?","choices":["yes","no"],"answer":0}"#;
        let questions = read_csv(csv).unwrap();
        assert_eq!(questions, read_lines(lines.as_bytes()).unwrap());
        assert_eq!((questions.len(), questions[0].right, questions[1].right), (2, 1, 0));
        assert_ne!(questions[0].digest(), questions[1].digest());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let csv = |text: &str| format!("{:#}", read_csv(text.as_bytes()).unwrap_err());
        let lines = |text: &str| format!("{:#}", read_lines(text.as_bytes()).unwrap_err());
        let good = "q,1,2,A\n";
        assert!(csv(&format!("{good}q,1,2,E\n")).starts_with("line 2: its answer is none"));
        assert!(csv("q,1,A\n").starts_with("line 1: it has 1 choices"));
        assert!(csv("q\n").contains("it has 1 fields"));
        assert!(csv(" ,1,2,A\n").contains("its question is empty"));
        assert!(csv("").contains("no question"));
        assert!(csv(&good.repeat(QUESTIONS_MAX + 1)).contains("more than 2000"));
        assert!(csv(&format!("{},1,2,A\n", "x".repeat(QUESTION_BYTES_MAX))).contains("are the most"));
        assert!(lines("{\"question\":\"q\"}").starts_with("line 1: missing field"));
        assert!(
            lines("{\"question\":\"q\",\"choices\":[\"a\",\"b\"],\"answer\":2}")
                .contains("none of its choices")
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_questions_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_csv(&bytes);
            let _ = read_lines(&bytes);
        }
    }
}
