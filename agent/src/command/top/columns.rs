//! Tables that fit the width there is: columns that matter less go first, names take what is left.
//!
//! In: columns, rows of text. Out: cells of a buffer. Knows nothing of what the columns say.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::format::{cut, width};

/// One column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub title: &'static str,
    /// Stands above it and its neighbours of the same group; empty where there is none.
    pub group: &'static str,
    /// Cells that it takes at least, and as many as there are when there is room.
    pub least: u16,
    pub most: u16,
    pub align: Align,
    /// 0 is always shown; of the others the highest goes first.
    pub rank: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

impl Column {
    /// Text that may be cut.
    #[must_use]
    pub const fn text(title: &'static str, least: u16, most: u16, rank: u8) -> Self {
        Self { title, group: "", least, most, align: Align::Left, rank }
    }

    /// A number of so many digits.
    #[must_use]
    pub const fn number(title: &'static str, width: u16, rank: u8) -> Self {
        Self { title, group: "", least: width, most: width, align: Align::Right, rank }
    }

    /// The same, in a group.
    #[must_use]
    pub const fn of(mut self, group: &'static str) -> Self {
        self.group = group;
        self
    }
}

/// Where a column that is shown stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its index among all columns.
    pub index: usize,
    pub from: u16,
    pub width: u16,
}

/// The columns that fit `room` cells, with one between them. `wanted` is what the longest text of each would take.
#[must_use]
pub fn fit(columns: &[Column], wanted: &[usize], room: u16) -> Vec<Place> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let least = |shown: &[usize]| {
        let cells: u16 = shown.iter().map(|index| columns[*index].least).sum();
        cells + (shown.len() as u16).saturating_sub(1)
    };
    while least(&shown) > room {
        let of_less = shown.iter().copied().filter(|index| columns[*index].rank > 0);
        // Of equals the last.
        let Some(least) = of_less.max_by_key(|index| columns[*index].rank) else { break };
        shown.retain(|index| *index != least);
    }
    let mut widths: Vec<u16> = shown.iter().map(|index| columns[*index].least).collect();
    let mut left = room.saturating_sub(least(&shown));
    let most = |index: usize| usize::from(columns[index].most).min(wanted.get(index).copied().unwrap_or(0));
    // A cell each in turn, so that two long names get the same.
    while left > 0 {
        let mut grew = false;
        for (width, index) in widths.iter_mut().zip(&shown) {
            if left > 0 && usize::from(*width) < most(*index) {
                *width += 1;
                left -= 1;
                grew = true;
            }
        }
        if !grew {
            break;
        }
    }
    let mut from = 0;
    shown
        .into_iter()
        .zip(widths)
        .map(|(index, width)| {
            let place = Place { index, from, width };
            from += width + 1;
            place
        })
        .collect()
}

/// Cells that the longest text of each column takes.
#[must_use]
pub fn widest(columns: &[Column], rows: &[Vec<String>]) -> Vec<usize> {
    let cell = |row: &Vec<String>, index: usize| row.get(index).map_or(0, |text| width(text));
    let of = |index: usize| rows.iter().map(|row| cell(row, index)).max().unwrap_or(0);
    (0..columns.len()).map(of).collect()
}

/// Writes `text` into `area` from this column and row on; what is outside is left out.
pub fn put(buffer: &mut Buffer, area: Rect, (column, row): (u16, u16), text: &str, style: Style) {
    let room = area.intersection(*buffer.area());
    if row < room.height && column < room.width {
        let left = usize::from(room.width - column);
        buffer.set_stringn(room.x + column, room.y + row, cut(text, left), left, style);
    }
}

/// Writes the texts of one row.
pub fn put_row(
    buffer: &mut Buffer,
    area: Rect,
    (row, style): (u16, Style),
    table: (&[Column], &[Place]),
    texts: &[String],
) {
    let (columns, places) = table;
    for place in places {
        let text = cut(texts.get(place.index).map_or("", String::as_str), usize::from(place.width));
        let blank = usize::from(place.width) - width(&text);
        let column = match columns[place.index].align {
            Align::Left => place.from,
            Align::Right => place.from + blank as u16,
        };
        put(buffer, area, (column, row), &text, style);
    }
}

/// Writes the titles of the columns, and into the row above the names of their groups.
pub fn put_titles(buffer: &mut Buffer, area: Rect, (row, style): (u16, Style), table: (&[Column], &[Place])) {
    let (columns, places) = table;
    let titles: Vec<String> = columns.iter().map(|column| column.title.to_owned()).collect();
    put_row(buffer, area, (row, style), table, &titles);
    for group in places.chunk_by(|a, b| columns[a.index].group == columns[b.index].group) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let name = columns[first.index].group;
        if !name.is_empty() && row > 0 {
            let room = usize::from(last.from + last.width - first.from);
            put(buffer, area, (first.from, row - 1), &cut(name, room), style);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::text("NAME", 5, 20, 0),
        Column::number("A", 4, 1),
        Column::number("B", 4, 3),
        Column::text("TEXT", 5, 8, 2),
    ];

    fn places(room: u16, wanted: [usize; 4]) -> Vec<(usize, u16, u16)> {
        fit(&COLUMNS, &wanted, room).iter().map(|place| (place.index, place.from, place.width)).collect()
    }

    #[test]
    fn columns_that_matter_less_go_first() {
        let least = [5, 4, 4, 5];
        assert_eq!(places(21, least), [(0, 0, 5), (1, 6, 4), (2, 11, 4), (3, 16, 5)]);
        assert_eq!(places(20, least), [(0, 0, 5), (1, 6, 4), (3, 11, 5)]);
        assert_eq!(places(15, least), [(0, 0, 5), (1, 6, 4)]);
        assert_eq!(places(9, least), [(0, 0, 5)]);
        assert_eq!(places(2, least), [(0, 0, 5)], "the first is cut when it is written");
    }

    #[test]
    fn names_take_what_is_left_in_turn_up_to_what_they_need() {
        assert_eq!(places(26, [30, 4, 4, 30]), [(0, 0, 8), (1, 9, 4), (2, 14, 4), (3, 19, 7)]);
        assert_eq!(places(60, [30, 9, 4, 30]), [(0, 0, 20), (1, 21, 4), (2, 26, 4), (3, 31, 8)]);
        assert_eq!(places(60, [7, 4, 4, 0]), [(0, 0, 7), (1, 8, 4), (2, 13, 4), (3, 18, 5)]);
    }

    #[test]
    fn groups_stand_above_their_columns_as_far_as_these_are_shown() {
        const GROUPED: [Column; 4] = [
            Column::text("NAME", 4, 4, 0),
            Column::number("p50", 4, 2).of("waited"),
            Column::number("p95", 4, 1).of("waited"),
            Column::number("p95", 4, 1).of("took"),
        ];
        let titles = |room| {
            let area = Rect::new(0, 0, room, 2);
            let mut buffer = Buffer::empty(area);
            let places = fit(&GROUPED, &[4; 4], room);
            put_titles(&mut buffer, area, (1, Style::new()), (&GROUPED, &places));
            buffer
        };
        assert_eq!(titles(19), Buffer::with_lines(["     waited    took", "NAME  p50  p95  p95"]));
        assert_eq!(titles(14), Buffer::with_lines(["     wai~ took", "NAME  p95  p95"]));
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let area = Rect::new(0, 0, 8, 2);
        let mut buffer = Buffer::empty(area);
        let places = fit(&COLUMNS, &[5, 4, 0, 0], 8);
        let texts = ["abcdefgh".to_owned(), "1".to_owned()];
        put_row(&mut buffer, area, (0, Style::new()), (&COLUMNS, &places), &texts);
        put_row(&mut buffer, area, (9, Style::new()), (&COLUMNS, &places), &texts);
        put(&mut buffer, area, (6, 1), "abcdef", Style::new());
        put(&mut buffer, area, (60, 1), "abcdef", Style::new());
        put(&mut buffer, Rect::new(5, 5, 90, 90), (0, 0), "outside", Style::new());
        assert_eq!(buffer, Buffer::with_lines(["abcd~   ", "      a~"]));
    }
}
