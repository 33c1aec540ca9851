//! The live view on a terminal: asks, draws, takes keys.
//!
//! In: an agent, keys, signals. Out: what `screen` draws. A thread of its own asks, so that a slow agent holds up no key.
//! The terminal is what it was before on every way out: by key, signal, error and panic.

use std::io::{Stdout, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::ansi::Sixteen;
use super::pages::Pages;
use super::palette::Palette;
use super::screen::{Shown, Trouble, draw};
use super::source::Source;
use super::state::State;

/// A key is waited for so long; then answers and signals are looked for.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// Ages and the time since the last answer are drawn anew at least so often.
const DRAW_EVERY: Duration = Duration::from_secs(1);
/// An agent that takes so long to answer is said to be late.
const LATE_AFTER: Duration = Duration::from_secs(3);

/// Shows what `source` says every `interval`, until the operator leaves or a signal ends it.
///
/// # Errors
/// The terminal cannot be used.
pub fn run(source: Source, interval: Duration, palette: Palette) -> Result<()> {
    let signals = signals()?;
    let url = source.url();
    let asker = Asker::start(source)?;
    let mut screen = Screen::open()?;
    let mut feed = Feed::new(interval);
    let mut state = State::default();
    let mut drawn: Option<Instant> = None;
    while !state.ended && !signals.load(Ordering::Relaxed) {
        let now = Instant::now();
        let mut changed = false;
        if !state.paused {
            changed = asker.take(&mut feed, now)?;
            if feed.is_due(now) {
                feed.asked(now);
                asker.ask()?;
            }
        }
        changed |= drawn.is_none_or(|drawn| now.saturating_duration_since(drawn) >= DRAW_EVERY);
        if changed {
            let trouble = if state.paused { None } else { feed.trouble(now) };
            let shown = Shown { pages: feed.pages.as_ref(), trouble: trouble.as_ref(), url: &url, interval };
            screen.draw(&shown, &state, palette)?;
            drawn = Some(now);
        }
        if event::poll(KEY_WAIT).context("wait for a key")? {
            match event::read().context("read a key")? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    state = state.on_key(key, feed.pages.as_ref());
                }
                _ => {}
            }
            // Whatever it was, also another size: drawn at once.
            drawn = None;
        }
    }
    Ok(())
}

/// Set by any signal that ends a program.
fn signals() -> Result<Arc<AtomicBool>> {
    let told = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        signal_hook::flag::register(signal, told.clone()).context("listen for signals")?;
    }
    Ok(told)
}

/// The terminal while it is ours.
struct Screen(Terminal<CrosstermBackend<Sixteen<Stdout>>>);

impl Screen {
    fn open() -> Result<Self> {
        // What the library does by itself, and a panic undoes; but its own way to write names colours among 256.
        let taken =
            ratatui::try_init().and_then(|_| Terminal::new(CrosstermBackend::new(Sixteen::new(stdout()))));
        // It may have come half of the way.
        let taken = taken.inspect_err(|_| ratatui::restore());
        taken.map(Self).context("take over the terminal")
    }

    fn draw(&mut self, shown: &Shown<'_>, state: &State, palette: Palette) -> Result<()> {
        let drawn = self.0.draw(|frame| draw(frame.buffer_mut(), shown, state, palette));
        drawn.map(|_| ()).context("draw on the terminal")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _hidden_by_draw = self.0.show_cursor();
        ratatui::restore();
    }
}

/// The thread that asks.
struct Asker {
    questions: SyncSender<()>,
    answers: Receiver<Result<Pages, String>>,
}

impl Asker {
    fn start(source: Source) -> Result<Self> {
        let (questions, asked) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let ask = move || {
            while asked.recv().is_ok() {
                if answer.send(source.look()).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("asker".to_owned()).spawn(ask).context("start the thread that asks")?;
        Ok(Self { questions, answers })
    }

    fn ask(&self) -> Result<()> {
        self.questions.try_send(()).context("ask: the thread that asks has ended")
    }

    /// Takes an answer that has come; false where none has.
    fn take(&self, feed: &mut Feed, now: Instant) -> Result<bool> {
        match self.answers.try_recv() {
            Ok(answer) => {
                feed.answered(answer, now);
                Ok(true)
            }
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Disconnected) => bail!("the thread that asks has ended"),
        }
    }
}

/// What came of asking: the newest pages stay until there are newer ones.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) pages: Option<Pages>,
    interval: Duration,
    last_question: Option<Instant>,
    /// It is not answered yet.
    waiting: bool,
    last_answer: Option<Instant>,
    failure: Option<String>,
}

impl Feed {
    pub(super) fn new(interval: Duration) -> Self {
        Self { pages: None, interval, last_question: None, waiting: false, last_answer: None, failure: None }
    }

    /// Whether it is time to ask; one question at a time.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let over = |last: Instant| now.saturating_duration_since(last) >= self.interval;
        !self.waiting && self.last_question.is_none_or(over)
    }

    pub(super) fn asked(&mut self, now: Instant) {
        (self.last_question, self.waiting) = (Some(now), true);
    }

    pub(super) fn answered(&mut self, answer: Result<Pages, String>, now: Instant) {
        self.waiting = false;
        match answer {
            Ok(pages) => {
                self.pages = Some(pages);
                self.last_answer = Some(now);
                self.failure = None;
            }
            Err(reason) => self.failure = Some(reason),
        }
    }

    /// Why the pages are not new, where they are not.
    pub(super) fn trouble(&self, now: Instant) -> Option<Trouble> {
        let over = |last: Instant| now.saturating_duration_since(last) >= LATE_AFTER;
        let late = self.waiting && self.last_question.is_some_and(over);
        let reason = match &self.failure {
            Some(reason) => reason.clone(),
            None if late => "the agent has not answered yet".to_owned(),
            None => return None,
        };
        let seconds = self.last_answer.map(|last| now.saturating_duration_since(last).as_secs_f64());
        Some(Trouble { seconds, reason })
    }
}
