//! Arrays of numbers: any bytes as the file that holds them.
//!
//! Input: two bytes of choices, then the file. What is read holds only what the file has, a file that is cut is never read
//! as a whole one, and what is scored is in the range that its score has.

use inferscope::quality::npy::{Array, NpyError, read};
use inferscope::quality::score::{Scores, accuracy};

use crate::input::Input;
use crate::memory::held;

/// A byte becomes a number of eight; the header and what is read at once come beside it.
const HELD_FACTOR: usize = 8;
const HELD_MORE: usize = 96 << 10;
/// Exact probabilities of more numbers take too long to try many.
const SCORED_MAX: usize = 64;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let cut = usize::from(input.word());
    let file = input.rest();
    let before = held();
    let result = read(file, file.len() as u64);
    let more = held().saturating_sub(before);
    assert!(more <= HELD_FACTOR * file.len() + HELD_MORE, "{more} bytes held of {}", file.len());
    let Ok(array) = result else { return };
    assert!(array.values.len() <= file.len(), "{} numbers in {} bytes", array.values.len(), file.len());
    cut_is_unfinished(file, cut);
    // What its length promises is not there.
    assert!(matches!(read(file, file.len() as u64 + 1), Err(NpyError::Refused(_))));
    if array.values.len() <= SCORED_MAX {
        score(&array, cut);
    }
}

fn cut_is_unfinished(file: &[u8], cut: usize) {
    let part = &file[..cut % file.len()];
    assert!(matches!(read(part, part.len() as u64), Err(NpyError::Unfinished(_))), "cut at {}", part.len());
}

fn score(array: &Array, cut: usize) {
    let (first, second) = array.values.split_at(cut % (array.values.len() + 1));
    let part = |values: &[f64]| Array { kind: array.kind, values: values.to_vec() };
    let scores = Scores::of(part(first), part(second));
    assert!(scores.kl.is_nan() || scores.kl >= 0.0, "{scores:?}");
    for share in [scores.js_distance, scores.ks_statistic, scores.ks_p_value].into_iter().flatten() {
        assert!((0.0..=1.0 + 1e-9).contains(&share), "{scores:?}");
    }
    let same = Scores::of(part(first), part(first));
    assert!(same.ks_statistic.is_none_or(|statistic| statistic == 0.0), "{same:?}");
    if let Ok(found) = accuracy::compare(&part(first), &part(first)) {
        let numbers = first.iter().filter(|value| !value.is_nan()).count() as u64;
        assert_eq!((found.correct, found.total), (numbers, first.len() as u64));
    }
}
