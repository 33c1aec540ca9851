//! Results of evaluations: any bytes as the file that a tool wrote.
//!
//! Input: a byte that says whose file it is, then the file. What is read is bounded, and its scores are shares; the history takes it.

use inferscope::quality::mmlu::history::History;
use inferscope::quality::mmlu::{Evaluation, NAME_BYTES_MAX, TASKS_MAX, harness, ilab};

use crate::input::Input;

/// As of a run.
const NOW_UNIX_SECONDS: f64 = 1.8e9;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let of_harness = input.byte().is_multiple_of(2);
    let file = input.rest();
    let read = if of_harness { harness::read(file).map(|one| vec![one]) } else { ilab::read(file) };
    let Ok(evaluations) = read else { return };
    let mut history = History::new(0.01);
    for evaluation in &evaluations {
        check(evaluation);
        for _ in 0..2 {
            history.take("m", evaluation, NOW_UNIX_SECONDS);
        }
    }
    for (_, _, series) in history.current() {
        let Some(found) = history.compare(series) else { continue };
        assert!(found.p_value.is_none_or(|p| (0.0..=1.0).contains(&p)), "{found:?}");
        assert!(found.fall.is_finite(), "{found:?}");
    }
}

fn check(evaluation: &Evaluation) {
    assert!(evaluation.scores.len() <= TASKS_MAX);
    assert!(evaluation.began_unix_seconds.is_none_or(f64::is_finite));
    for score in &evaluation.scores {
        assert!(score.task.len() <= NAME_BYTES_MAX && (0.0..=1.0).contains(&score.accuracy), "{score:?}");
        let sound = |error: f64| error.is_finite() && error >= 0.0;
        assert!(score.standard_error.is_none_or(sound), "{score:?}");
    }
}
