//! Bars of letters: how long, and of what.
//!
//! In: seconds by cause. Out: cells, each the label of a cause. Pure; a bar is read with and without colours.

use std::collections::BTreeMap;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use super::columns::put;
use super::pages::Blame;
use super::palette::{Palette, known};
use super::text::Text;
use crate::blame::Cause;

/// Seconds by cause, in the order in which an overlap is settled; what this program does not know before `rest`.
pub type Parts<'a> = Vec<(&'a str, f64)>;

/// Cells that `value` takes where `full` takes `room`: at least one where there is anything.
#[must_use]
pub fn length(value: f64, full: f64, room: usize) -> usize {
    if value.is_nan() || value <= 0.0 || full <= 0.0 || room == 0 {
        return 0;
    }
    ((value / full * room as f64).round() as usize).clamp(1, room)
}

/// `room` cells shared out by the seconds of each part: a cell has the cause that its middle falls into.
#[must_use]
pub fn shares<'a>(parts: &Parts<'a>, room: usize) -> Vec<&'a str> {
    let total: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
    let mut cells = Vec::with_capacity(room);
    for cell in 0..room {
        let middle = (cell as f64 + 0.5) / room as f64 * total;
        let mut until = 0.0;
        let of = parts.iter().find(|(_, seconds)| {
            until += seconds;
            middle < until
        });
        cells.extend(of.map(|(cause, _)| *cause));
    }
    cells
}

/// The parts of one phase.
#[must_use]
pub fn parts(phase: &BTreeMap<Text, f64>) -> Parts<'_> {
    let mut parts: Parts<'_> = phase
        .iter()
        .filter(|(_, seconds)| seconds.is_finite() && **seconds > 0.0)
        .map(|(cause, seconds)| (&**cause, *seconds))
        .collect();
    // Those that have no place in the order stand before the last.
    parts.sort_by_key(|(cause, _)| (known(cause) == Some(Cause::Rest), known(cause).is_none(), known(cause)));
    parts
}

/// The parts of the whole request.
#[must_use]
pub fn whole(blame: &Blame) -> BTreeMap<Text, f64> {
    let mut sum = BTreeMap::new();
    for (cause, seconds) in blame.phases.values().flatten() {
        *sum.entry(cause.clone()).or_insert(0.0) += seconds;
    }
    sum
}

/// Writes a bar.
pub fn put_bar(
    buffer: &mut Buffer,
    area: Rect,
    (column, row): (u16, u16),
    causes: &[&str],
    palette: Palette,
) {
    for (cell, cause) in causes.iter().enumerate() {
        let (letter, style) = palette.bar(cause);
        // In the selected row too.
        let style = style.remove_modifier(Modifier::REVERSED);
        let column = column.saturating_add(u16::try_from(cell).unwrap_or(u16::MAX));
        put(buffer, area, (column, row), letter.encode_utf8(&mut [0; 4]), style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_part_of_the_full_one() {
        for (value, full, room, expected) in [
            (0.0, 1.0, 10, 0),
            (-1.0, 1.0, 10, 0),
            (f64::NAN, 1.0, 10, 0),
            (0.001, 1.0, 10, 1),
            (0.44, 1.0, 10, 4),
            (1.0, 1.0, 10, 10),
            (9.0, 1.0, 10, 10),
            (f64::INFINITY, 1.0, 10, 10),
            (0.5, 0.0, 10, 0),
            (0.5, 1.0, 0, 0),
        ] {
            assert_eq!(length(value, full, room), expected, "{value} of {full} in {room}");
        }
    }

    #[test]
    fn cells_are_shared_out_in_the_order_of_the_causes_with_rest_last() {
        let phase = |parts: &[(&str, f64)]| -> BTreeMap<Text, f64> {
            parts.iter().map(|(cause, seconds)| (Text::new(cause), *seconds)).collect()
        };
        let letters = |seconds: &[(&str, f64)], room| -> String {
            let phase = phase(seconds);
            shares(&parts(&phase), room).iter().map(|cause| Palette::plain().bar(cause).0).collect()
        };
        assert_eq!(letters(&[("rest", 0.5), ("run_queue", 0.2), ("cpu_throttle", 0.3)], 10), "TTTQQ.....");
        assert_eq!(letters(&[("rest", 0.5), ("of_tomorrow", 0.5)], 4), "??..");
        assert_eq!(letters(&[("rest", 0.999), ("run_queue", 0.001)], 4), "....");
        assert_eq!(letters(&[("rest", 3.0)], 3), "...");
        assert_eq!(letters(&[], 4), "");
        assert_eq!(letters(&[("rest", f64::NAN), ("run_queue", -1.0), ("stopped", 1.0)], 2), "SS");
    }
}
