//! One slow request over time: arrival, read, first token, chunks, and the stalls of the threads on its way laid over it.
//!
//! In: a slow request. Out: a buffer of cells. The whole width is the request's duration, from its arrival on.

use std::collections::BTreeMap;
use std::ops::Range;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::bars::{self, put_bar};
use super::columns::put;
use super::format::{age, count, cut, seconds, width};
use super::pages::{Held, SlowRequest};
use super::palette::{Palette, known};
use super::text::Text;
use crate::blame::{Cause, Phase};

/// Cells for the names of lines.
const NAMES: usize = 18;
/// Least cells of a plot that says anything.
const PLOT_MIN: usize = 8;
/// Cells between two times of the axis.
const TICK_EVERY: usize = 12;
/// Cells of a phase's bar.
const PHASE_BAR: usize = 20;

/// Times on cells.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Seconds that all cells stand for.
    pub whole: f64,
    pub cells: usize,
}

impl Scale {
    /// The cell that a moment falls into; what is outside falls into the first or the last.
    #[must_use]
    pub fn cell(self, seconds: f64) -> usize {
        let share = if self.whole > 0.0 { (seconds / self.whole).clamp(0.0, 1.0) } else { 0.0 };
        ((share * self.cells as f64) as usize).min(self.cells.saturating_sub(1))
    }

    /// The cells that a stretch of time touches: at least one.
    #[must_use]
    pub fn span(self, from: f64, to: f64) -> Range<usize> {
        let first = self.cell(from);
        let share = if self.whole > 0.0 { (to / self.whole).clamp(0.0, 1.0) } else { 0.0 };
        let end = (share * self.cells as f64).ceil() as usize;
        first..end.clamp(first + 1, self.cells.max(first + 1))
    }
}

/// One line: a name, and what is in each of its cells.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    pub name: String,
    pub cells: Vec<Cell>,
}

/// What a cell of a line shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Cell {
    #[default]
    Empty,
    /// The request itself.
    Own(char),
    /// A stall, `None` of a cause that is not known here; several short ones where it is not `whole`.
    Stall { cause: Option<Cause>, whole: bool },
}

/// The lines of the request itself: until it was read, until its first token or its end, and its chunks.
#[must_use]
pub fn own_lanes(request: &SlowRequest, cells: usize) -> Vec<Lane> {
    let scale = Scale { whole: request.duration_seconds, cells };
    let until = request.ttft_seconds.unwrap_or(request.duration_seconds);
    let stretch = |name: &str, letter, from, to| {
        let mut lane = Lane { name: name.to_owned(), cells: vec![Cell::Empty; cells] };
        scale.span(from, to).for_each(|cell| set(&mut lane.cells, cell, Cell::Own(letter)));
        lane
    };
    let served = if request.ttft_seconds.is_some() { "to first token" } else { "to answer" };
    let mut lanes = vec![
        stretch("unread", '=', 0.0, request.first_read_seconds),
        stretch(served, '-', request.first_read_seconds, until),
    ];
    if let Some(first) = request.ttft_seconds {
        lanes.push(chunks(request, first, scale));
    }
    lanes
}

/// A mark for each chunk: `|` for one, `#` where several share a cell.
fn chunks(request: &SlowRequest, first: f64, scale: Scale) -> Lane {
    let mut counts = vec![0_u32; scale.cells];
    let mut at = first;
    let gaps = request.chunk_gaps.as_ref();
    let times = std::iter::once(0.0).chain(gaps.into_iter().flat_map(|gaps| gaps.seconds.iter().copied()));
    for gap in times.filter(|gap| *gap >= 0.0) {
        at += gap;
        if let Some(count) = counts.get_mut(scale.cell(at)) {
            *count += 1;
        }
    }
    let mark = |count: &u32| match count {
        0 => Cell::Empty,
        1 => Cell::Own('|'),
        _ => Cell::Own('#'),
    };
    let every = gaps.map_or(1, |gaps| gaps.gaps_per_value);
    let name = match gaps {
        None if request.chunks > 1 => "first chunk".to_owned(),
        _ if every > 1 => format!("every {every}th chunk"),
        _ => "chunks".to_owned(),
    };
    Lane { name, cells: counts.iter().map(mark).collect() }
}

/// A line for each thread that was held up, the one that was longest first.
#[must_use]
pub fn stall_lanes(request: &SlowRequest, cells: usize) -> Vec<Lane> {
    let scale = Scale { whole: request.duration_seconds, cells };
    let mut threads: BTreeMap<u32, Vec<&Held>> = BTreeMap::new();
    request.stalls.iter().for_each(|held| threads.entry(held.tid).or_default().push(held));
    let mut threads: Vec<Vec<&Held>> = threads.into_values().collect();
    let sum = |held: &Vec<&Held>| held.iter().map(|held| held.stalled_seconds).sum::<f64>();
    threads.sort_by(|a, b| sum(b).total_cmp(&sum(a)));
    threads.iter().map(|held| stall_lane(held, scale)).collect()
}

fn stall_lane(held: &[&Held], scale: Scale) -> Lane {
    let mut cells = vec![Cell::Empty; scale.cells];
    for held in held {
        let whole = held.stalled_seconds >= (held.end_seconds - held.start_seconds) * 0.99;
        let stall = Cell::Stall { cause: known(&held.cause), whole };
        for cell in scale.span(held.start_seconds, held.end_seconds) {
            // As in the vector: of those that overlap, what is known exactly, then the first cause.
            if cells.get(cell).is_some_and(|there| order(stall) < order(*there)) {
                set(&mut cells, cell, stall);
            }
        }
    }
    let first = held.first();
    let role = first.and_then(|held| held.role.as_deref()).unwrap_or("other");
    Lane { name: format!("{role} {}", first.map_or(0, |held| held.tid)), cells }
}

fn order(cell: Cell) -> (u8, usize) {
    match cell {
        Cell::Stall { cause, whole } => (u8::from(!whole), cause.map_or(usize::MAX, |cause| cause as usize)),
        _ => (u8::MAX, 0),
    }
}

fn set(cells: &mut [Cell], index: usize, cell: Cell) {
    if let Some(there) = cells.get_mut(index) {
        *there = cell;
    }
}

/// Draws all of it into `area`. `now`: wall time of the page, in seconds since 1970.
pub fn draw(buffer: &mut Buffer, area: Rect, request: &SlowRequest, now: f64, palette: Palette) {
    let mut lines = Lines { buffer, area, next: 0, palette };
    lines.head(request, now);
    lines.phases(request);
    let room = usize::from(area.width).saturating_sub(NAMES);
    if room < PLOT_MIN {
        return;
    }
    lines.name("From its arrival to its end");
    lines.axis(request.duration_seconds, room);
    for lane in own_lanes(request, room) {
        lines.lane(&lane);
    }
    let lanes = stall_lanes(request, room);
    // The last line says what the letters are.
    let left = usize::from(area.height.saturating_sub(lines.next)).saturating_sub(1);
    let (shown, hidden) = if lanes.len() > left {
        let shown = left.saturating_sub(1);
        (shown, lanes.len() - shown)
    } else {
        (lanes.len(), 0)
    };
    lanes.iter().take(shown).for_each(|lane| lines.lane(lane));
    if hidden > 0 {
        lines.text(&format!("and {hidden} more threads"), palette.faint());
    } else if lanes.is_empty() {
        lines.text("no thread on its way was held up", palette.faint());
    }
    lines.letters(request);
    lines.longest(request);
}

/// A time before the arrival has a sign.
fn since_arrival(time: f64) -> String {
    if time < 0.0 { format!("-{}", seconds(-time)) } else { seconds(time) }
}

/// Writes one line after the other.
struct Lines<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    next: u16,
    palette: Palette,
}

impl Lines<'_> {
    fn text(&mut self, text: &str, style: Style) {
        put(self.buffer, self.area, (0, self.next), text, style);
        self.next += 1;
    }

    fn name(&mut self, name: &str) {
        let line = "─".repeat(usize::from(self.area.width));
        put(self.buffer, self.area, (0, self.next), &line, self.palette.faint());
        put(self.buffer, self.area, (1, self.next), &format!(" {name} "), self.palette.strong());
        self.next += 1;
    }

    fn head(&mut self, request: &SlowRequest, now: f64) {
        let title = format!(
            "{} / {}  {}  {}  ended {} ago",
            request.workload,
            request.model,
            request.route,
            request.outcome,
            age(now - request.ended_unix_seconds)
        );
        self.text(&title, self.palette.strong());
        let compared = if &*request.over == "objective" { "objective" } else { "usual" };
        let first = request.ttft_seconds.map(|ttft| format!(", first token after {}", seconds(ttft)));
        let took = format!(
            "took {}{}; {compared} {}; slow by {}",
            seconds(request.duration_seconds),
            first.unwrap_or_default(),
            seconds(request.over_seconds),
            request.cause
        );
        self.text(&took, Style::new());
        let tokens = |tokens: Option<u64>| tokens.map_or_else(|| "?".to_owned(), count);
        let sizes = format!(
            "tokens {} in, {} out, {} chunks; at arrival {} others with {} prompt tokens",
            tokens(request.prompt_tokens),
            tokens(request.completion_tokens),
            count(request.chunks),
            count(request.in_flight_at_arrival),
            count(request.prompt_tokens_in_flight_at_arrival)
        );
        self.text(&sizes, Style::new());
        if let Some(neighbour) = &request.neighbour {
            let id = neighbour.response_id.as_deref().unwrap_or("a request without an id");
            let prompt = count(neighbour.prompt_tokens);
            self.text(&format!("beside it {id} with {prompt} prompt tokens"), Style::new());
        }
        let ids = [
            ("request", &request.request_id),
            ("response", &request.response_id),
            ("trace", &request.trace_id),
        ];
        let ids: Vec<String> =
            ids.iter().filter_map(|(name, id)| Some(format!("{name} {}", id.as_ref()?))).collect();
        if !ids.is_empty() {
            self.text(&ids.join("  "), Style::new());
        }
    }

    /// The vector, a line a phase.
    fn phases(&mut self, request: &SlowRequest) {
        let Some(blame) = &request.blame else { return };
        self.name("Time by cause");
        for phase in [Phase::BeforeFirstToken, Phase::After, Phase::Whole] {
            let Some(causes) = blame.phases.get(&Text::new(phase.label())) else { continue };
            let parts = bars::parts(causes);
            let total: f64 = parts.iter().map(|(_, seconds)| seconds).sum();
            let name = match phase {
                Phase::BeforeFirstToken => "to first token",
                Phase::After => "after it",
                Phase::Whole => "whole",
            };
            let row = self.next;
            put(self.buffer, self.area, (0, row), &format!("{name:15}{:>5}", seconds(total)), Style::new());
            let bar = bars::shares(&parts, PHASE_BAR);
            put_bar(self.buffer, self.area, (22, row), &bar, self.palette);
            let mut most = parts.clone();
            most.sort_by(|a, b| b.1.total_cmp(&a.1));
            let said: Vec<String> =
                most.iter().map(|(cause, time)| format!("{cause} {}", seconds(*time))).collect();
            let from = 22 + PHASE_BAR as u16 + 2;
            put(self.buffer, self.area, (from, row), &said.join(", "), Style::new());
            self.next += 1;
        }
    }

    /// Times above the cells that they are the beginning of.
    fn axis(&mut self, whole: f64, room: usize) {
        for at in (0..room).step_by(TICK_EVERY) {
            let time = seconds(at as f64 / room as f64 * whole);
            if at + width(&time) < room {
                let column = (NAMES + at) as u16;
                put(self.buffer, self.area, (column, self.next), &format!("'{time}"), self.palette.faint());
            }
        }
        self.next += 1;
    }

    fn lane(&mut self, lane: &Lane) {
        put(self.buffer, self.area, (0, self.next), &cut(&lane.name, NAMES - 1), Style::new());
        for (index, cell) in lane.cells.iter().enumerate() {
            let (letter, style) = match *cell {
                Cell::Empty => continue,
                Cell::Own(letter) => (letter, self.palette.request()),
                Cell::Stall { cause, whole } => {
                    let (letter, style) = self.palette.bar(cause.map_or("", Cause::label));
                    (if whole { letter } else { letter.to_ascii_lowercase() }, style)
                }
            };
            let column = (NAMES + index) as u16;
            put(self.buffer, self.area, (column, self.next), letter.encode_utf8(&mut [0; 4]), style);
        }
        self.next += 1;
    }

    /// Its longest stalls in words, as far as there is room.
    fn longest(&mut self, request: &SlowRequest) {
        let mut stalls: Vec<&Held> = request.stalls.iter().collect();
        stalls.sort_by(|a, b| b.stalled_seconds.total_cmp(&a.stalled_seconds));
        if stalls.is_empty() || self.next + 1 >= self.area.height {
            return;
        }
        self.name("Longest stalls");
        for held in stalls.into_iter().take(usize::from(self.area.height)) {
            let thread = format!("{} {}", held.role.as_deref().unwrap_or("other"), held.tid);
            let (from, to) = (since_arrival(held.start_seconds), since_arrival(held.end_seconds));
            let stalled = seconds(held.stalled_seconds);
            let said = format!("{thread:17} {:14} {stalled:>5} between {from} and {to}", held.cause);
            self.text(&said, Style::new());
        }
    }

    /// What the letters of its stalls are.
    fn letters(&mut self, request: &SlowRequest) {
        let mut causes: Vec<&str> = request.stalls.iter().map(|held| &*held.cause).collect();
        causes.sort_unstable_by_key(|cause| (known(cause), *cause));
        causes.dedup();
        let said: Vec<String> =
            causes.iter().map(|cause| format!("{} {cause}", self.palette.bar(cause).0)).collect();
        if !said.is_empty() {
            let said = format!("{}; a small letter: several short ones", said.join(", "));
            self.text(&said, self.palette.faint());
        }
    }
}
