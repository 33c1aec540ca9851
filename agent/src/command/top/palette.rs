//! How things look: a letter and a colour for each cause, and the few other styles.
//!
//! In: what is to be shown. Out: styles of the 16 colours that every terminal has, or of none. Nothing is told by colour
//! alone: each cause is a letter, what is selected has a mark, and a warning is a word.

use std::ffi::OsStr;

use ratatui::style::{Color, Modifier, Style};

use crate::blame::Cause;

/// Letter of a cause that this program does not know.
pub const UNKNOWN: char = '?';

/// With or without colours.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    colours: bool,
}

impl Palette {
    /// Without colours where the environment has a `NO_COLOR` that is not empty (<https://no-color.org>).
    #[must_use]
    pub fn of_environment(no_color: Option<&OsStr>) -> Self {
        Self { colours: no_color.is_none_or(OsStr::is_empty) }
    }

    /// Without colours.
    #[must_use]
    pub fn plain() -> Self {
        Self { colours: false }
    }

    /// Cells of a bar: its letter, on the colour of the cause.
    #[must_use]
    pub fn bar(self, cause: &str) -> (char, Style) {
        let Some(cause) = known(cause) else { return (UNKNOWN, Style::new()) };
        let (ink, ground) = colours(cause);
        (letter(cause), self.colour(Style::new().fg(ink).bg(ground)))
    }

    /// Lines between parts, units and hints.
    #[must_use]
    pub fn faint(self) -> Style {
        self.colour(Style::new().fg(Color::DarkGray))
    }

    /// Headings of columns, and names.
    #[must_use]
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What needs a look.
    #[must_use]
    pub fn warning(self) -> Style {
        self.colour(Style::new().fg(Color::Red)).add_modifier(Modifier::BOLD)
    }

    /// The row that `enter` opens.
    #[must_use]
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// What a request did itself, in its waterfall.
    #[must_use]
    pub fn request(self) -> Style {
        self.colour(Style::new().fg(Color::Cyan))
    }

    fn colour(self, style: Style) -> Style {
        if self.colours { style } else { Style::new() }
    }
}

/// The cause of this label.
#[must_use]
pub fn known(label: &str) -> Option<Cause> {
    Cause::ALL.into_iter().find(|cause| cause.label() == label)
}

/// The letter of a cause in bars.
#[must_use]
pub fn letter(cause: Cause) -> char {
    match cause {
        Cause::Stopped => 'S',
        Cause::CpuThrottle => 'T',
        Cause::RunQueue => 'Q',
        Cause::MemoryReclaim => 'M',
        Cause::MajorFault => 'F',
        Cause::BlockIo => 'D',
        Cause::GpuThrottle => 'G',
        Cause::EventLoop => 'L',
        Cause::SendWait => 'W',
        Cause::Rest => '.',
    }
}

/// What a cause is, for the help.
#[must_use]
pub fn meaning(cause: Cause) -> &'static str {
    match cause {
        Cause::Stopped => "stopped by a signal or freezer",
        Cause::CpuThrottle => "processor quota used up",
        Cause::RunQueue => "others had the processors",
        Cause::MemoryReclaim => "had to find free memory",
        Cause::MajorFault => "page read from disk",
        Cause::BlockIo => "waited for a disk",
        Cause::GpuThrottle => "GPU clocks held down",
        Cause::EventLoop => "reading thread was busy",
        Cause::SendWait => "client took no more bytes",
        Cause::Rest => "engine's queue and computing",
    }
}

/// Ink and ground, readable on each other in the usual palettes of 16 colours.
fn colours(cause: Cause) -> (Color, Color) {
    match cause {
        Cause::Stopped => (Color::White, Color::Red),
        Cause::CpuThrottle => (Color::White, Color::Magenta),
        Cause::RunQueue => (Color::Black, Color::Yellow),
        Cause::MemoryReclaim => (Color::White, Color::Blue),
        Cause::MajorFault => (Color::Black, Color::Cyan),
        Cause::BlockIo => (Color::Black, Color::Green),
        Cause::GpuThrottle => (Color::Black, Color::LightRed),
        Cause::EventLoop => (Color::Black, Color::LightMagenta),
        Cause::SendWait => (Color::Black, Color::LightBlue),
        Cause::Rest => (Color::DarkGray, Color::Reset),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_cause_has_a_letter_and_colours_of_its_own() {
        let letters: HashSet<char> = Cause::ALL.into_iter().map(letter).collect();
        let grounds: HashSet<Color> = Cause::ALL.into_iter().map(|cause| colours(cause).1).collect();
        assert_eq!((letters.len(), grounds.len()), (Cause::ALL.len(), Cause::ALL.len()));
        assert!(!letters.contains(&UNKNOWN));
        assert!(Cause::ALL.into_iter().all(|cause| colours(cause).0 != colours(cause).1));
    }

    #[test]
    fn no_color_takes_the_colours_and_leaves_the_letters() {
        let bar = |no_color: Option<&str>| Palette::of_environment(no_color.map(OsStr::new)).bar("run_queue");
        let coloured = ('Q', Style::new().fg(Color::Black).bg(Color::Yellow));
        assert_eq!((bar(None), bar(Some("")), bar(Some("1"))), (coloured, coloured, ('Q', Style::new())));
        assert_eq!(Palette::of_environment(None).bar("cause_of_tomorrow"), (UNKNOWN, Style::new()));
    }
}
