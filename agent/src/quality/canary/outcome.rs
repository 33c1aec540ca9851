//! What a run says: how many are right, how sure that is, and which answers are others than before.
//!
//! In: questions, answers, and the last run. Out: an [`Outcome`]. Where the same server with the same arguments and the same files
//! of its model gives another answer to the same question, its numbers have drifted: that is a flip.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::questions::{QUESTIONS_MAX, Question};

/// Standard deviations of an interval of 95 %.
const Z: f64 = 1.959_963_984_540_054;

/// See the head of this file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    pub right: u64,
    pub wrong: u64,
    /// No choice, or no answer: they count as wrong in the accuracy.
    pub unanswered: u64,
    pub accuracy: f64,
    /// Wilson's, of 95 %.
    pub interval: (f64, f64),
    /// Mean of the answers that tell.
    pub confidence: Option<f64>,
    /// `None` where there is nothing to compare with.
    pub flips: Option<u64>,
}

/// Answers of a run, to compare the next one with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastRun {
    /// Of the server and its model.
    identity: u64,
    /// Digest of a question, and the choice.
    answers: Vec<(u64, u8)>,
}

impl Outcome {
    /// `identity`: of the server that was asked; `None` where it is not known, which is the same as no other.
    #[must_use]
    pub fn of(
        questions: &[Question],
        answers: &[Option<Answer>],
        identity: Option<u64>,
        last: Option<&LastRun>,
    ) -> Self {
        let picked = |index: usize| answers.get(index).copied().flatten().and_then(|answer| answer.picked);
        let count = |of: &dyn Fn(usize, &Question) -> bool| {
            questions.iter().enumerate().filter(|(index, question)| of(*index, question)).count() as u64
        };
        let right = count(&|index, question| picked(index) == Some(question.right));
        let unanswered = count(&|index, _| picked(index).is_none());
        let total = questions.len() as u64;
        let sure: Vec<f64> = answers.iter().flatten().filter_map(|answer| answer.confidence).collect();
        let same_server = last.filter(|last| identity == Some(last.identity));
        let flips = same_server.map(|last| {
            let before: HashMap<u64, u8> = last.answers.iter().copied().collect();
            count(&|index, question| {
                let before = before.get(&question.digest()).copied().map(usize::from);
                matches!((before, picked(index)), (Some(before), Some(now)) if before != now)
            })
        });
        Self {
            right,
            wrong: total - right - unanswered,
            unanswered,
            accuracy: right as f64 / total.max(1) as f64,
            interval: wilson(right, total),
            confidence: (!sure.is_empty()).then(|| sure.iter().sum::<f64>() / sure.len() as f64),
            flips,
        }
    }
}

impl LastRun {
    /// `None` where it is not known whose answers these are.
    #[must_use]
    pub fn of(questions: &[Question], answers: &[Option<Answer>], identity: Option<u64>) -> Option<Self> {
        let answer = |(question, answer): (&Question, &Option<Answer>)| {
            Some((question.digest(), u8::try_from(answer.as_ref()?.picked?).ok()?))
        };
        let answers = questions.iter().zip(answers).filter_map(answer).take(QUESTIONS_MAX).collect();
        Some(Self { identity: identity?, answers })
    }
}

/// Wilson's interval of 95 % for a share.
#[must_use]
pub fn wilson(right: u64, total: u64) -> (f64, f64) {
    if total == 0 {
        return (0.0, 1.0);
    }
    let (n, share) = (total as f64, right as f64 / total as f64);
    let scale = 1.0 + Z * Z / n;
    let middle = (share + Z * Z / (2.0 * n)) / scale;
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt() / scale;
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn questions() -> Vec<Question> {
        let question = |right| Question { text: format!("q{right}"), choices: vec![String::new(); 4], right };
        (0..4).map(question).collect()
    }

    fn answers(picked: [Option<usize>; 4]) -> Vec<Option<Answer>> {
        picked.map(|picked| Some(Answer { picked, confidence: picked.map(|_| 0.75), tokens: None })).to_vec()
    }

    #[test]
    fn what_is_not_answered_counts_as_wrong() {
        let mut all = answers([Some(0), Some(1), Some(0), None]);
        let outcome = Outcome::of(&questions(), &all, Some(1), None);
        assert_eq!((outcome.right, outcome.wrong, outcome.unanswered), (2, 1, 1));
        assert_eq!((outcome.accuracy, outcome.confidence, outcome.flips), (0.5, Some(0.75), None));
        all[0] = None;
        assert_eq!(Outcome::of(&questions(), &all, Some(1), None).unanswered, 2);
    }

    #[test]
    fn other_answers_of_the_same_server_are_flips() {
        let before = answers([Some(0), Some(1), None, Some(3)]);
        let last = LastRun::of(&questions(), &before, Some(7)).unwrap();
        let now = answers([Some(0), Some(2), Some(2), None]);
        let flips = |identity, last| Outcome::of(&questions(), &now, identity, last).flips;
        assert_eq!(flips(Some(7), Some(&last)), Some(1), "what has no answer is no other one");
        assert_eq!(flips(Some(8), Some(&last)), None);
        assert_eq!(flips(None, Some(&last)), None);
        assert_eq!(LastRun::of(&questions(), &before, None), None);
        let text = serde_json::to_string(&last).unwrap();
        assert_eq!(serde_json::from_str::<LastRun>(&text).unwrap(), last);
    }

    #[test]
    fn interval_is_wilsons() {
        // By statsmodels' proportion_confint(method="wilson").
        for (right, total, low, high) in [
            (0, 10, 0.0, 0.277_532_8),
            (5, 10, 0.236_593_1, 0.763_406_9),
            (94, 134, 0.619_343_0, 0.772_465_0),
            (10, 10, 0.722_467_2, 1.0),
        ] {
            let found = wilson(right, total);
            assert!(
                (found.0 - low).abs() < 1e-3 && (found.1 - high).abs() < 1e-3,
                "{right} of {total}: {found:?}"
            );
        }
        assert_eq!(wilson(0, 0), (0.0, 1.0));
    }
}
