//! What the keys do, and what the letters and words of the other views mean.
//!
//! Out: a buffer of cells, within 80 by 23.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::columns::put;
use super::palette::{Palette, meaning};
use crate::blame::Cause;

const KEYS: [(&str, &str); 7] = [
    ("j k", "next and previous slow request; so do the arrows"),
    ("enter", "open its waterfall: its read, first token and chunks, with the stalls"),
    ("esc", "back; in the main view: no filter"),
    ("s", "sort the models by another column"),
    ("/", "show only what has this text in a name or id; esc shows all again"),
    ("p space", "pause: the view stays as it is, and the agent is not asked"),
    ("? q", "this page; quit"),
];

const WORDS: [&str; 6] = [
    "Rates are of the last 10 s, quantiles of 5 min. OPEN: requests under way.",
    "TOK/S: completion tokens of requests that ended, by the usage on the wire.",
    "LIMIT: what a slow request was over: objective, or the usual for its size.",
    "GPUs: LEFT, degrees until clocks go down; HOT IN, when; curves: last minute.",
    "Quality: DRIFT from the baseline and its P by chance; FALL below the best run.",
    "STUCK: no byte has passed for a while. Bars are made of the causes' letters:",
];

/// Draws all of it.
pub fn draw(buffer: &mut Buffer, area: Rect, palette: Palette) {
    put(buffer, area, (0, 0), "Keys", palette.strong());
    let mut row = 1;
    for (key, does) in KEYS {
        put(buffer, area, (2, row), key, palette.strong());
        put(buffer, area, (11, row), does, Style::new());
        row += 1;
    }
    for words in WORDS {
        put(buffer, area, (2, row), words, Style::new());
        row += 1;
    }
    for cause in Cause::ALL {
        let (mark, style) = palette.bar(cause.label());
        put(buffer, area, (2, row), mark.encode_utf8(&mut [0; 4]), style);
        put(buffer, area, (4, row), cause.label(), Style::new());
        put(buffer, area, (19, row), meaning(cause), Style::new());
        row += 1;
    }
}
