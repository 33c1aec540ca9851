//! `inferscope top`: what do the servers of a node do now, and what holds them up?
//!
//! In: the API of an agent, here or elsewhere, and keys. Out: a live view, or once plain text or JSON. Needs no rights,
//! and costs the agent six small pages a look.
//!
//! `pages` is what the agent says, `state` what the operator chose; `screen`, `waterfall` and `help` make cells of the
//! two; `live` and `ansi` bring them to a terminal.

mod agent;
mod ansi;
mod bars;
mod columns;
mod content;
mod curves;
mod format;
mod help;
mod live;
mod pages;
mod palette;
mod screen;
mod source;
mod state;
mod tables;
#[cfg(test)]
mod tests;
mod text;
mod waterfall;

use std::io::{IsTerminal as _, Write};
use std::time::Duration;

use anyhow::{Context as _, Error, Result, ensure};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

pub use self::agent::address;
use self::pages::Pages;
use self::palette::Palette;
use self::source::Source;
use self::state::State;
use crate::http_client::Server;

/// Least and most time between two looks.
pub const INTERVALS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3600));
/// Cells of a line of `--once`.
const LINE_CELLS: u16 = 120;
/// Lines of it at most: more than an agent lists, whoever it is that answers.
const LINES_MAX: usize = 1000;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    pub server: Server,
    /// Between two looks.
    pub interval: Duration,
    pub form: Form,
}

/// What comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Live,
    /// The same content as text, and the end.
    Text,
    /// The agent's pages as it gave them, in one object, and the end.
    Json,
}

/// Shows what the agent says.
///
/// # Errors
/// No answer of an agent (the live view goes on without), no terminal for the live view, or `out` cannot be written.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<()> {
    let source = Source::new(options.server.clone())?;
    match options.form {
        Form::Live => {
            let usable = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
            ensure!(
                usable && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
                "draw the live view: this is no terminal that can; use `--once` for text or `--json` for scripts"
            );
            let palette = Palette::of_environment(std::env::var_os("NO_COLOR").as_deref());
            live::run(source, options.interval, palette)
        }
        Form::Text => {
            let pages = source.look().map_err(Error::msg)?;
            out.write_all(once(&pages).as_bytes()).context("write the text")
        }
        Form::Json => {
            let page = source.json().map_err(Error::msg)?;
            out.write_all(page.as_bytes()).context("write the page")
        }
    }
}

/// All rows as plain text.
fn once(pages: &Pages) -> String {
    let state = State { still: true, ..State::default() };
    let height = screen::whole_height(screen::wanted(pages, &state));
    let area = Rect::new(0, 0, LINE_CELLS, height.min(LINES_MAX) as u16);
    let mut buffer = Buffer::empty(area);
    screen::draw_body(&mut buffer, area, pages, &state, Palette::plain());
    plain_text(&buffer)
}

/// The lines of a buffer, without blanks at their ends.
fn plain_text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in buffer.content().chunks(usize::from(buffer.area().width.max(1))) {
        let mut line = String::new();
        let mut hidden = 0;
        for cell in row {
            // Cells behind a wide letter are hidden by it.
            if hidden == 0 {
                line.push_str(cell.symbol());
                hidden = format::width(cell.symbol()).saturating_sub(1);
            } else {
                hidden -= 1;
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
