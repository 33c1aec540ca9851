//! Answers to the canary's questions: any bytes as what a server says.
//!
//! Input: a byte for the number of choices, then the answer.

use inferscope::quality::canary::answer::read;
use inferscope::quality::canary::questions::CHOICES_MAX;

use crate::input::Input;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let choices = 2 + usize::from(input.byte()) % (CHOICES_MAX - 1);
    let Ok(answer) = read(input.rest(), choices) else { return };
    assert!(answer.picked.is_none_or(|picked| picked < choices), "{answer:?}");
    // The choice that has most has a part of at least one of so many.
    let least = 1.0 / choices as f64 - 1e-9;
    assert!(answer.confidence.is_none_or(|confidence| (least..=1.0).contains(&confidence)), "{answer:?}");
    assert!(answer.picked.is_some() || answer.confidence.is_none(), "{answer:?}");
}
