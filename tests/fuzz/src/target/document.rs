//! A document of which a part is not seen: nothing in a text may pass for a value.
//!
//! Input: the part that is not seen, where the rest is cut, then the document.

use inferscope::request::readers::{Document, Ended, Key, PATH_MAX, Token};

use super::json::{Seen, depth, seen, shown};
use crate::input::{Cuts, Input};
use crate::memory::held;
use crate::oracle::{self, Value};

/// Deepest nesting that is followed.
const DEPTH_MAX: usize = 128;
/// What a document of any size holds: its end behind the hole, and the scanner.
const HELD_MAX: usize = 32 << 10;

pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (from, len) = (usize::from(input.word()), usize::from(input.word()));
    let cuts = input.cuts();
    let document = input.rest();
    let from = from % (document.len() + 1);
    let (before, after) = (&document[..from], &document[(from + len.max(1)).min(document.len())..]);
    let whole = read(before, after, &Cuts::default());
    for cuts in [&cuts, &Cuts::every_byte()] {
        let parts = read(before, after, cuts);
        assert_eq!((&parts.after, parts.ended), (&whole.after, whole.ended));
        assert_eq!(parts.before, whole.before);
    }
    nothing_is_forged(&whole, document);
}

/// What was told before the end of a document, and at it.
struct Told {
    before: Vec<Seen>,
    /// A text that the hole cut is told as one that is not whole.
    cut: Vec<Seen>,
    after: Vec<Seen>,
    ended: Ended,
}

fn read(before: &[u8], after: &[u8], cuts: &Cuts) -> Told {
    let mut told = Told { before: Vec::new(), cut: Vec::new(), after: Vec::new(), ended: Ended::Empty };
    let mut document = Document::new();
    for part in cuts.parts(before) {
        document.feed(part, &mut |path: &[Key], token: Token<'_>| told.before.push(seen(path, &token)));
    }
    document.hole(&mut |path: &[Key], token: Token<'_>| told.cut.push(seen(path, &token)));
    let start = held();
    for part in cuts.parts(after) {
        document.feed(part, &mut |_: &[Key], _: Token<'_>| panic!("a value behind a hole, before the end"));
    }
    let more = held().saturating_sub(start);
    assert!(more <= HELD_MAX, "{more} bytes held");
    assert!(!document.is_done(), "nobody can know that");
    told.ended = document.end(&mut |path: &[Key], token: Token<'_>| told.after.push(seen(path, &token)));
    told
}

/// Before the hole all values are told, and behind it the last ones, each as deep as it is.
fn nothing_is_forged(told: &Told, document: &[u8]) {
    assert_eq!(told.ended, Ended::Holed);
    let Some(places) = oracle::places(document) else { return };
    if depth(document) > DEPTH_MAX {
        return;
    }
    let truth: Vec<Seen> = places.iter().filter(|place| place.path.len() <= PATH_MAX).map(shown).collect();
    assert!(truth.starts_with(&told.before), "{:?} is no beginning of {truth:?}", told.before);
    assert!(told.cut.len() <= 1);
    for cut in &told.cut {
        let next = &truth[told.before.len()];
        assert_eq!((&cut.path, &cut.value), (&next.path, &Value::Text(None, 0)));
        assert!(matches!(next.value, Value::Text(..)));
    }
    let last = &truth[truth.len() - told.after.len().min(truth.len())..];
    assert_eq!(told.after.len(), last.len(), "more values than there are: {:?}", told.after);
    for (told, truth) in told.after.iter().zip(last) {
        assert_eq!((&told.value, told.path.len()), (&truth.value, truth.path.len()), "{told:?} is {truth:?}");
    }
}
