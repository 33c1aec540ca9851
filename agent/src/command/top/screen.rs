//! The main view: header, models, GPUs, quality, stalls, slow requests, and the line below.
//!
//! In: what is shown and what is chosen. Out: a buffer of cells. Pure: the same buffer goes to the terminal, to the text
//! of `--once` and to the tests.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::columns::{Column, Place, fit, put, put_row, put_titles, widest};
use super::curves::{Scale, curve};
use super::format::{NONE, age, count, cut, mebibytes, percent, rate, width};
use super::pages::{Agent, EventsLost, Gpu, Pages};
use super::palette::Palette;
use super::state::State;
use super::{bars, content, help, tables, waterfall};

/// Rows that each part takes beside its own: a line with its name, and the titles of columns where it has some.
const MODELS_HEAD: usize = 2;
const GPUS_HEAD: usize = 2;
const QUALITY_HEAD: usize = 2;
const STALLS_HEAD: usize = 1;
const SLOW_HEAD: usize = 2;
/// Rows of the header.
const HEADER: usize = 2;

/// Said instead of rows that the filter leaves out.
const NOT_FILTERED: &str = "nothing here has the filter in its names";

/// What is shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// `None` before the first answer.
    pub pages: Option<&'a Pages>,
    pub trouble: Option<&'a Trouble>,
    /// The agent's address.
    pub url: &'a str,
    /// Between two looks.
    pub interval: Duration,
}

/// Why what is shown is not new.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    /// Since the last answer; `None` where there was none.
    pub seconds: Option<f64>,
    pub reason: String,
}

/// How much of the screen each part gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    pub models: usize,
    /// None where the node has no GPU.
    pub gpus: usize,
    /// None where nothing of that kind is configured.
    pub quality: usize,
    pub stalls: usize,
    pub slow: usize,
}

/// Draws all of the screen.
pub fn draw(buffer: &mut Buffer, shown: &Shown<'_>, state: &State, palette: Palette) {
    let all = *buffer.area();
    let (body, below) = split_last_row(all);
    if state.help {
        help::draw(buffer, body, palette);
    } else if let Some(request) = &state.open {
        let now = shown.pages.map_or(request.ended_unix_seconds, |pages| pages.agent.unix_seconds);
        waterfall::draw(buffer, body, request, now, palette);
    } else if let Some(pages) = shown.pages {
        draw_body(buffer, body, pages, state, palette);
    } else {
        put(buffer, body, (0, 0), &format!("asking {}", shown.url), Style::new());
    }
    draw_below(buffer, below, shown, state, palette);
}

fn split_last_row(area: Rect) -> (Rect, Rect) {
    let body = Rect { height: area.height.saturating_sub(1), ..area };
    (body, Rect { y: area.y + body.height, height: area.height - body.height, ..area })
}

/// Draws what the agent says: header and tables.
pub fn draw_body(buffer: &mut Buffer, area: Rect, pages: &Pages, state: &State, palette: Palette) {
    draw_header(buffer, area, &pages.agent, palette);
    let below = Rect {
        y: area.y + area.height.min(HEADER as u16),
        height: area.height.saturating_sub(HEADER as u16),
        ..area
    };
    let rows = share_out(usize::from(below.height), wanted(pages, state));
    let mut parts = Parts { buffer, area: below, next: 0, palette };
    if rows.models > 0 {
        parts.models(pages, state, rows.models);
    }
    if rows.gpus > 0 {
        parts.gpus(pages, state, rows.gpus);
    }
    if rows.quality > 0 {
        parts.quality(pages, state, rows.quality);
    }
    if rows.stalls > 0 {
        parts.stalls(pages, state, rows.stalls);
    }
    if rows.slow > 0 {
        parts.slow(pages, state, rows.slow);
    }
}

/// Rows that each part would fill; one that is empty says so in one.
#[must_use]
pub fn wanted(pages: &Pages, state: &State) -> Rows {
    Rows {
        models: content::models(pages, state).len().max(1),
        gpus: if pages.gpus.gpus.is_empty() { 0 } else { content::gpus(pages, state).len().max(1) },
        quality: wanted_quality(pages, state),
        stalls: content::stalls(pages, state).len().max(1),
        slow: content::slow(pages, state).len().max(1),
    }
}

fn wanted_quality(pages: &Pages, state: &State) -> usize {
    let quality = &pages.quality;
    let none = quality.predictions.is_empty() && quality.evaluations.is_empty() && quality.changes.is_empty();
    if none && quality.canary.is_none() { 0 } else { content::quality(pages, state).len().max(1) }
}

/// Rows of the body that shows all of `wanted`.
#[must_use]
pub fn whole_height(wanted: Rows) -> usize {
    let gpus = if wanted.gpus > 0 { GPUS_HEAD + wanted.gpus } else { 0 };
    let quality = if wanted.quality > 0 { QUALITY_HEAD + wanted.quality } else { 0 };
    HEADER
        + MODELS_HEAD
        + wanted.models
        + gpus
        + quality
        + STALLS_HEAD
        + wanted.stalls
        + SLOW_HEAD
        + wanted.slow
}

/// A row each in turn, until there are no more or nobody wants one. Where not every part gets one, stalls go first, then
/// quality, then GPUs, then slow requests.
#[must_use]
pub fn share_out(height: usize, wanted: Rows) -> Rows {
    let mut rows = Rows::default();
    let mut parts = vec![
        (MODELS_HEAD, &mut rows.models, wanted.models),
        (SLOW_HEAD, &mut rows.slow, wanted.slow),
        (GPUS_HEAD, &mut rows.gpus, wanted.gpus),
        (QUALITY_HEAD, &mut rows.quality, wanted.quality),
        (STALLS_HEAD, &mut rows.stalls, wanted.stalls),
    ];
    parts.retain(|(.., wanted)| *wanted > 0);
    while parts.iter().map(|(head, ..)| head + 1).sum::<usize>() > height {
        parts.pop();
    }
    let mut left = height - parts.iter().map(|(head, ..)| head).sum::<usize>();
    while left > 0 && !parts.is_empty() {
        for (_, rows, _) in &mut parts {
            if left > 0 {
                **rows += 1;
                left -= 1;
            }
        }
        parts.retain(|(_, rows, wanted)| **rows < *wanted);
    }
    rows
}

/// Who it is, and below what it lost and what it costs.
fn draw_header(buffer: &mut Buffer, area: Rect, agent: &Agent, palette: Palette) {
    let node = agent.node.as_deref().unwrap_or("a node without a name");
    let title = format!("inferscope {} on {node}, up {}  ", agent.version, age(agent.uptime_seconds));
    put(buffer, area, (0, 0), &title, palette.strong());
    put(buffer, area, (cells(&title), 0), &notes(agent).join(", "), palette.warning());
    // First, so that no width cuts it off.
    let lost = losses(agent).map(|lost| format!("{lost}  ")).unwrap_or_default();
    put(buffer, area, (0, 1), &lost, palette.warning());
    let none_lost = if lost.is_empty() { ", none lost" } else { "" };
    let cost = format!("{}, {}{none_lost}", cost(agent), events(agent));
    put(buffer, area, (cells(&lost), 1), &cost, Style::new());
}

fn cells(text: &str) -> u16 {
    u16::try_from(width(text)).unwrap_or(u16::MAX)
}

/// What is not as it should be.
fn notes(agent: &Agent) -> Vec<String> {
    let mut notes = Vec::new();
    if !agent.status.is_empty() && &*agent.status != "ok" {
        notes.push(format!("status {}", agent.status));
    }
    match agent.hooks_missing.len() {
        0 => {}
        1 => notes.push("1 hook missing".to_owned()),
        more => notes.push(format!("{more} hooks missing")),
    }
    if let Some(mode) = agent.sandbox.as_deref().filter(|mode| *mode != "enforce") {
        notes.push(format!("sandbox {mode}"));
    }
    notes
}

fn cost(agent: &Agent) -> String {
    let cpu = agent.cpu.last_10s.map_or_else(|| "not known".to_owned(), percent);
    let memory = |bytes: Option<u64>| bytes.map_or_else(|| "not known".to_owned(), mebibytes);
    let (resident, anonymous) = (memory(agent.memory.resident_bytes), memory(agent.memory.anonymous_bytes));
    format!("cpu {cpu} of a core, memory {resident} ({anonymous} anonymous)")
}

/// Calls and changes of followed sockets, as the kernel counted them.
fn events(agent: &Agent) -> String {
    let seen = agent.events.iter().find(|events| &*events.stage == "socket_seen");
    format!("{} events", count(seen.map_or(0, |events| events.total)))
}

/// `LOST 12 (socket_ring full 10, connection evicted 2)`, the most first; `None` where nothing was.
fn losses(agent: &Agent) -> Option<String> {
    let mut lost: Vec<&EventsLost> = agent.events_lost.iter().filter(|lost| lost.total > 0).collect();
    lost.sort_by_key(|lost| std::cmp::Reverse(lost.total));
    let total = lost.iter().fold(0_u64, |sum, lost| sum.saturating_add(lost.total));
    let reason = |lost: &&EventsLost| format!("{} {} {}", lost.stage, lost.reason, count(lost.total));
    let reasons: Vec<String> = lost.iter().map(reason).collect();
    (total > 0).then(|| format!("LOST {} ({})", count(total), reasons.join(", ")))
}

/// Draws one part after the other.
struct Parts<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    /// First row that is free.
    next: u16,
    palette: Palette,
}

impl Parts<'_> {
    fn models(&mut self, pages: &Pages, state: &State, room: usize) {
        let rows = content::models(pages, state);
        self.name(&format!("Models by {}{}", state.sort.label(), part(room, rows.len())));
        let texts: Vec<Vec<String>> = rows.iter().take(room).map(tables::model).collect();
        let places = fit(&tables::MODELS, &widest(&tables::MODELS, &texts), self.area.width);
        let table: (&[Column], &[Place]) = (&tables::MODELS, &places);
        put_titles(self.buffer, self.area, (self.next, self.palette.strong()), table);
        self.next += 1;
        for (texts, row) in texts.iter().zip(&rows) {
            let style = if row.down.is_some() { self.palette.faint() } else { Style::new() };
            put_row(self.buffer, self.area, (self.next, style), table, texts);
            self.next += 1;
        }
        if rows.is_empty() {
            self.say(if state.filter.is_empty() {
                "no inference server runs on this node; `inferscope doctor` says what would be followed"
            } else {
                NOT_FILTERED
            });
        }
    }

    fn gpus(&mut self, pages: &Pages, state: &State, room: usize) {
        let rows = content::gpus(pages, state);
        self.name(&format!("GPUs{}", part(room, rows.len())));
        let texts: Vec<Vec<String>> = rows.iter().take(room).map(tables::gpu).collect();
        let mut wanted = widest(&tables::GPUS, &texts);
        for curve in [tables::GPU_HEAT, tables::GPU_POWER] {
            wanted[curve] = usize::from(tables::GPUS[curve].most);
        }
        let places = fit(&tables::GPUS, &wanted, self.area.width);
        let table: (&[Column], &[Place]) = (&tables::GPUS, &places);
        put_titles(self.buffer, self.area, (self.next, self.palette.strong()), table);
        self.next += 1;
        for (texts, row) in texts.iter().zip(&rows) {
            put_row(self.buffer, self.area, (self.next, Style::new()), table, texts);
            if row.instance.is_none() {
                self.gpu(row.gpu, texts, &places);
            }
            self.next += 1;
        }
        if rows.is_empty() {
            self.say(NOT_FILTERED);
        }
    }

    /// Curves of a GPU, and its trouble once more, so that it is seen.
    fn gpu(&mut self, gpu: &Gpu, texts: &[String], places: &[Place]) {
        let (heat, power) = (&gpu.history.temperature_celsius, &gpu.history.power_watts);
        for place in places {
            let room = usize::from(place.width);
            let (text, style) = match place.index {
                tables::GPU_HEAT => (curve(heat, Scale::of_temperature(heat), room), Style::new()),
                tables::GPU_POWER => {
                    (curve(power, Scale::of_power(power, gpu.power_limit_watts), room), Style::new())
                }
                tables::GPU_TROUBLE if texts[place.index] != NONE => {
                    (cut(&texts[place.index], room), self.palette.warning())
                }
                _ => continue,
            };
            put(self.buffer, self.area, (place.from, self.next), &text, style);
        }
    }

    fn quality(&mut self, pages: &Pages, state: &State, room: usize) {
        let rows = content::quality(pages, state);
        self.name(&format!("Quality{}", part(room, rows.len())));
        let texts: Vec<Vec<String>> =
            rows.iter().take(room).map(|row| tables::quality(row, pages.agent.unix_seconds)).collect();
        let places = fit(&tables::QUALITY, &widest(&tables::QUALITY, &texts), self.area.width);
        let table: (&[Column], &[Place]) = (&tables::QUALITY, &places);
        put_titles(self.buffer, self.area, (self.next, self.palette.strong()), table);
        self.next += 1;
        for texts in &texts {
            put_row(self.buffer, self.area, (self.next, Style::new()), table, texts);
            let trouble = places.iter().find(|place| place.index == tables::QUALITY_TROUBLE);
            if let Some(place) = trouble.filter(|_| texts[tables::QUALITY_TROUBLE] != NONE) {
                let text = cut(&texts[tables::QUALITY_TROUBLE], usize::from(place.width));
                put(self.buffer, self.area, (place.from, self.next), &text, self.palette.warning());
            }
            self.next += 1;
        }
        if rows.is_empty() {
            self.say(NOT_FILTERED);
        }
    }

    fn stalls(&mut self, pages: &Pages, state: &State, room: usize) {
        let rows = content::stalls(pages, state);
        let full = rows.iter().map(|row| row.rate).fold(1.0, f64::max);
        let scale = format!(
            "Stalls, thread seconds per second, a full bar is {}{}",
            rate(full),
            part(room, rows.len())
        );
        self.name(&scale);
        let mut texts: Vec<Vec<String>> = rows.iter().take(room).map(tables::stall).collect();
        // The bar takes what the names leave.
        let bar = "x".repeat(usize::from(tables::STALLS[tables::STALL_BAR].most));
        texts.push(vec![String::new(), String::new(), String::new(), String::new(), bar]);
        let places = fit(&tables::STALLS, &widest(&tables::STALLS, &texts), self.area.width);
        for (texts, row) in texts.iter().zip(&rows).take(room) {
            put_row(self.buffer, self.area, (self.next, Style::new()), (&tables::STALLS, &places), texts);
            if let Some(place) = places.iter().find(|place| place.index == tables::STALL_BAR) {
                let cells = bars::length(row.rate, full, usize::from(place.width));
                self.bar(place.from, &vec![row.cause; cells]);
            }
            self.next += 1;
        }
        if rows.is_empty() {
            let none = "no thread was held up in the last 10 s";
            self.say(if state.filter.is_empty() { none } else { NOT_FILTERED });
        }
    }

    fn slow(&mut self, pages: &Pages, state: &State, room: usize) {
        let rows = content::slow(pages, state);
        let selected = state.index(&rows);
        // The selected one is among those shown.
        let first = (selected + 1).saturating_sub(room);
        let so_far = count(pages.slow.total);
        self.name(&format!("Slow requests, the newest first, {so_far} so far{}", part(room, rows.len())));
        let shown = || rows.iter().enumerate().skip(first).take(room);
        let now = pages.agent.unix_seconds;
        let is_selected = |index| index == selected && !state.still;
        let texts: Vec<Vec<String>> =
            shown().map(|(index, request)| tables::slow(request, now, is_selected(index))).collect();
        let mut wanted = widest(&tables::SLOW, &texts);
        wanted[tables::SLOW_VECTOR] = usize::from(tables::SLOW[tables::SLOW_VECTOR].most);
        let places = fit(&tables::SLOW, &wanted, self.area.width);
        let table: (&[Column], &[Place]) = (&tables::SLOW, &places);
        put_titles(self.buffer, self.area, (self.next, self.palette.strong()), table);
        self.next += 1;
        for ((index, request), texts) in shown().zip(&texts) {
            put_row(self.buffer, self.area, (self.next, Style::new()), table, texts);
            if is_selected(index) {
                let row = Rect { y: self.area.y + self.next, height: 1, ..self.area };
                self.buffer.set_style(row, self.palette.selected());
            }
            if let Some(place) = places.iter().find(|place| place.index == tables::SLOW_VECTOR) {
                let causes = tables::vector(request, usize::from(place.width));
                self.bar(place.from, &causes.iter().map(String::as_str).collect::<Vec<_>>());
            }
            self.next += 1;
        }
        if rows.is_empty() {
            self.say(if state.filter.is_empty() { "none so far" } else { NOT_FILTERED });
        }
    }

    /// A line across, with the name of a part.
    fn name(&mut self, name: &str) {
        let line = "─".repeat(usize::from(self.area.width));
        put(self.buffer, self.area, (0, self.next), &line, self.palette.faint());
        put(self.buffer, self.area, (1, self.next), &format!(" {name} "), self.palette.strong());
        self.next += 1;
    }

    fn say(&mut self, text: &str) {
        put(self.buffer, self.area, (0, self.next), text, self.palette.faint());
        self.next += 1;
    }

    fn bar(&mut self, from: u16, causes: &[&str]) {
        bars::put_bar(self.buffer, self.area, (from, self.next), causes, self.palette);
    }
}

/// Said where not all rows are shown.
fn part(room: usize, rows: usize) -> String {
    if rows > room { format!(", {room} of {rows}") } else { String::new() }
}

fn draw_below(buffer: &mut Buffer, area: Rect, shown: &Shown<'_>, state: &State, palette: Palette) {
    if state.filtering {
        put(buffer, area, (0, 0), &format!("filter: {}_", state.filter), palette.strong());
        return;
    }
    let mut left = String::new();
    if state.paused {
        left.push_str("PAUSED  ");
    }
    if !state.filter.is_empty() {
        left.push_str(&format!("filter: {}  ", state.filter));
    }
    if let Some(trouble) = shown.trouble {
        let since =
            trouble.seconds.map(|seconds| format!("STALE for {}: ", age(seconds))).unwrap_or_default();
        put(buffer, area, (0, 0), &format!("{left}{since}{}", trouble.reason), palette.warning());
        return;
    }
    let keys = match (state.help, state.open.is_some()) {
        (true, _) => "esc back  q quit",
        (_, true) => "esc back  j/k next  p pause  ? help  q quit",
        _ => "j/k select  enter open  s sort  / filter  p pause  ? help  q quit",
    };
    put(buffer, area, (0, 0), &format!("{left}{keys}"), palette.strong());
    let pace = format!("every {}", humantime_serde::re::humantime::format_duration(shown.interval));
    let from = usize::from(area.width).saturating_sub(pace.len());
    if from > left.len() + keys.len() {
        put(buffer, area, (from as u16, 0), &pace, palette.faint());
    }
}
