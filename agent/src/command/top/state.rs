//! What the operator has chosen to see. Pure: a state, a key and what is shown make the next state.
//!
//! In: keys. Out: order, filter, selection, and which view is open. Knows no terminal but its names of keys.

use std::sync::Arc;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::content;
use super::pages::{Pages, SlowRequest};

/// Longest filter, in characters.
const FILTER_MAX: usize = 40;

/// Order of the models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Name,
    Rate,
    InFlight,
    FirstToken,
    Duration,
    Tokens,
}

impl Sort {
    /// As the view names it, short enough to stand beside the groups of columns.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Rate => "req/s",
            Self::InFlight => "open",
            Self::FirstToken => "first token p95",
            Self::Duration => "duration p95",
            Self::Tokens => "tok/s",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Name => Self::Rate,
            Self::Rate => Self::InFlight,
            Self::InFlight => Self::FirstToken,
            Self::FirstToken => Self::Duration,
            Self::Duration => Self::Tokens,
            Self::Tokens => Self::Name,
        }
    }
}

/// What is chosen.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub sort: Sort,
    /// Only what has this in its names is shown; empty for all.
    pub filter: String,
    /// Keys go to the filter.
    pub filtering: bool,
    pub paused: bool,
    /// Number of the slow request that is selected; `None` for the newest, whichever that is.
    pub selected: Option<u64>,
    /// The slow request whose waterfall is open. Kept, so that it stays when newer ones push it out of the list.
    pub open: Option<Arc<SlowRequest>>,
    pub help: bool,
    /// No keys come, so that nothing is selected: plain text.
    pub still: bool,
    /// The operator wants to leave.
    pub ended: bool,
}

impl State {
    /// The state after `key`, which was pressed while `pages` were shown.
    #[must_use]
    pub fn on_key(mut self, key: KeyEvent, pages: Option<&Pages>) -> Self {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            self.ended = true;
        } else if self.filtering {
            self.on_filter_key(key.code, control);
        } else if !control {
            self.on_view_key(key.code, pages);
        }
        self
    }

    fn on_filter_key(&mut self, key: KeyCode, control: bool) {
        match key {
            KeyCode::Enter => self.filtering = false,
            KeyCode::Esc => (self.filtering, self.filter) = (false, String::new()),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char('u') if control => self.filter.clear(),
            KeyCode::Char(letter) if !control && self.filter.chars().count() < FILTER_MAX => {
                self.filter.push(letter);
            }
            _ => {}
        }
    }

    fn on_view_key(&mut self, key: KeyCode, pages: Option<&Pages>) {
        match key {
            KeyCode::Char('q') => self.ended = true,
            KeyCode::Char('?') => self.help = !self.help,
            KeyCode::Esc => self.back(),
            _ if self.help => self.help = false,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Down | KeyCode::Char('j') => self.select(pages, 1),
            KeyCode::Up | KeyCode::Char('k') => self.select(pages, -1),
            KeyCode::Enter => self.open = pages.and_then(|pages| self.request(pages).cloned()),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('/') => self.filtering = true,
            _ => {}
        }
    }

    /// Out of what was opened last.
    fn back(&mut self) {
        if self.help {
            self.help = false;
        } else if self.open.take().is_none() {
            self.filter.clear();
        }
    }

    /// Goes up or down the slow requests, in the waterfall as in the list.
    fn select(&mut self, pages: Option<&Pages>, by: isize) {
        let Some(pages) = pages else { return };
        let shown = content::slow(pages, self);
        let Some(last) = shown.len().checked_sub(1) else { return };
        let next = self.index(&shown).saturating_add_signed(by).min(last);
        // The first is the newest, and stays so.
        self.selected = (next > 0).then(|| shown[next].seq);
        if self.open.is_some() {
            self.open = Some(shown[next].clone());
        }
    }

    /// Where the selected one stands among `shown`: the first where it is not there any more.
    #[must_use]
    pub fn index(&self, shown: &[&Arc<SlowRequest>]) -> usize {
        let of = |seq| shown.iter().position(|request| request.seq == seq);
        self.selected.and_then(of).unwrap_or(0)
    }

    fn request<'a>(&self, pages: &'a Pages) -> Option<&'a Arc<SlowRequest>> {
        let shown = content::slow(pages, self);
        shown.get(self.index(&shown)).copied()
    }
}
