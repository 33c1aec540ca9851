//! Questions of the canary: any bytes as the operator's file.
//!
//! Input: a byte that says in which layout, then the file. What is read can be asked: every question has choices with letters of
//! their own, of which one is right, and a body that is JSON.

use inferscope::quality::canary::ask;
use inferscope::quality::canary::questions::{
    CHOICES_MAX, QUESTION_BYTES_MAX, QUESTIONS_MAX, read_csv, read_lines,
};
use inferscope::quality::canary::run::tokens_max;
use inferscope::quality::canary::settings::Settings;

use crate::input::Input;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let csv = input.byte().is_multiple_of(2);
    let file = input.rest();
    let Ok(questions) = (if csv { read_csv(file) } else { read_lines(file) }) else { return };
    assert!((1..=QUESTIONS_MAX).contains(&questions.len()));
    for question in &questions {
        assert!(
            (2..=CHOICES_MAX).contains(&question.choices.len()) && question.right < question.choices.len()
        );
        assert!(tokens_max(question) < 2 * QUESTION_BYTES_MAX as u64);
        let body = ask::body(question, "m", &Settings::default());
        let body: serde_json::Value = serde_json::from_str(&body).expect("a body is JSON");
        assert!(body["prompt"].as_str().is_some_and(|prompt| prompt.ends_with("Answer:")));
    }
}
