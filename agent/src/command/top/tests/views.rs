//! Cells of every view, at several sizes, with and without colours.

use std::path::PathBuf;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;

use super::super::pages::Pages;
use super::super::palette::Palette;
use super::super::screen::{Rows, Shown, Trouble, draw, share_out};
use super::super::state::State;
use super::super::text::Text;
use super::super::waterfall::{Cell, Scale, own_lanes, stall_lanes};
use super::super::{once, plain_text};
use super::{pages, slow, without_gpus};
use crate::blame::Cause;

/// What a terminal of this size shows.
fn drawn((width, height): (u16, u16), shown: &Shown<'_>, state: &State, palette: Palette) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame.buffer_mut(), shown, state, palette)).unwrap();
    terminal.backend().buffer().clone()
}

fn shown(pages: &Pages) -> Shown<'_> {
    let interval = Duration::from_secs(1);
    Shown { pages: Some(pages), trouble: None, url: "http://127.0.0.1:9940", interval }
}

fn text(size: (u16, u16), state: &State) -> String {
    plain_text(&drawn(size, &shown(&pages()), state, Palette::plain()))
}

/// Every view there is.
fn states() -> Vec<(&'static str, State)> {
    let open = |seq| State { open: Some(slow(seq)), ..State::default() };
    vec![
        ("main", State::default()),
        ("waterfall", open(123)),
        ("waterfall-abort", open(122)),
        ("waterfall-whole", open(121)),
        ("help", State { help: true, ..State::default() }),
        ("filter", State { filter: "emb".to_owned(), filtering: true, ..State::default() }),
    ]
}

fn check_golden(name: &str, page: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("src/command/top/tests/golden")
        .join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, page).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == golden, "{name} is\n{page}\nand not\n{golden}\nUPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn views_give_the_golden_text() {
    for (name, state) in states() {
        check_golden(&format!("{name}-80x24"), &text((80, 24), &state));
    }
    for (name, state) in &states()[..2] {
        check_golden(&format!("{name}-120x40"), &text((120, 40), state));
    }
    check_golden("main-40x10", &text((40, 10), &State::default()));
    check_golden("main-160x40", &text((160, 40), &State::default()));
    let without = without_gpus();
    let buffer = drawn((80, 24), &shown(&without), &State::default(), Palette::plain());
    check_golden("main-without-gpus-80x24", &plain_text(&buffer));
}

#[test]
fn once_gives_the_golden_text() {
    let page = once(&pages());
    check_golden("once", &page);
    assert!(!page.chars().any(|letter| letter.is_control() && letter != '\n'), "no escape codes: {page:?}");
}

#[test]
fn no_size_is_too_small() {
    let (all, trouble) = (pages(), Trouble { seconds: None, reason: "x".repeat(300) });
    for (_, state) in states() {
        for width in [0, 1, 2, 7, 17, 19, 26, 40, 79, 300] {
            for height in [0, 1, 2, 3, 5, 7, 10, 23, 100] {
                for pages in [Some(&all), None] {
                    let shown = Shown { pages, trouble: Some(&trouble), ..shown(&all) };
                    drawn((width, height), &shown, &state, Palette::plain());
                }
            }
        }
    }
}

#[test]
fn sixteen_colours_are_enough_and_none_are_used_where_none_are_wanted() {
    let coloured = |buffer: &Buffer| {
        let colours = |cell: &ratatui::buffer::Cell| [cell.fg, cell.bg];
        buffer.content().iter().flat_map(colours).filter(|colour| *colour != Color::Reset).collect::<Vec<_>>()
    };
    for (name, state) in states() {
        let with = coloured(&drawn((80, 24), &shown(&pages()), &state, Palette::of_environment(None)));
        assert!(!with.is_empty(), "{name}");
        assert!(with.iter().all(|colour| !matches!(colour, Color::Rgb(..) | Color::Indexed(_))), "{name}");
        let plain = drawn((80, 24), &shown(&pages()), &state, Palette::plain());
        assert_eq!(coloured(&plain), [], "{name}");
        let both = drawn((80, 24), &shown(&pages()), &state, Palette::of_environment(None));
        assert_eq!(plain_text(&both), plain_text(&plain), "nothing is told by colour alone");
    }
}

#[test]
fn what_is_not_new_is_marked_with_the_reason_and_stays() {
    let pages = pages();
    let trouble = Trouble { seconds: Some(72.0), reason: "no answer of an agent: refused".to_owned() };
    let shown = Shown { trouble: Some(&trouble), ..shown(&pages) };
    let stale = plain_text(&drawn((80, 24), &shown, &State::default(), Palette::plain()));
    let last = stale.lines().last().unwrap();
    assert_eq!(last, "STALE for 1m: no answer of an agent: refused");
    assert!(stale.contains("adapter-de"), "{stale}");
    let first = Shown { pages: None, trouble: Some(&Trouble { seconds: None, ..trouble.clone() }), ..shown };
    let never = plain_text(&drawn((80, 24), &first, &State::default(), Palette::plain()));
    assert!(never.starts_with("asking http://127.0.0.1:9940\n"), "{never}");
    assert_eq!(never.lines().last().unwrap(), "no answer of an agent: refused");
    let paused = State { paused: true, filter: "chat".to_owned(), ..State::default() };
    let below = text((80, 24), &paused).lines().last().unwrap().to_owned();
    assert!(below.starts_with("PAUSED  filter: chat  j/k select"), "{below}");
}

#[test]
fn no_name_or_id_reaches_the_terminal_as_it_is() {
    let evil = "\\u001b[2J\\u009b31m\\r\\n\\u202e\u{7f}";
    let mut answers = super::answers();
    for answer in &mut answers {
        let text = String::from_utf8(answer.clone()).unwrap();
        let names =
            ["chat", "adapter-de", "req-123", "cpu_throttle", "engine", "gpu-node-7", "full", "ok", "draft"];
        *answer = names
            .iter()
            .fold(text, |text, name| text.replace(&format!("\"{name}\""), &format!("\"{evil}{name}\"")))
            .into_bytes();
    }
    let pages = Pages::read(&answers).unwrap();
    let open = Some(pages.slow.requests[0].clone());
    for state in [State::default(), State { open, ..State::default() }] {
        for size in [(80, 24), (300, 60)] {
            let page = plain_text(&drawn(size, &shown(&pages), &state, Palette::plain()));
            let harmful = |letter: char| (letter.is_control() && letter != '\n') || letter == '\u{202e}';
            assert!(!page.contains(harmful), "{page:?}");
            assert!(page.contains("?[2J?31m????"), "{page}");
        }
    }
    assert!(!once(&pages).contains('\u{1b}'));
}

#[test]
fn the_room_is_shared_out_in_turn_and_stalls_give_way_first() {
    let wanted = Rows { models: 2, gpus: 0, quality: 0, stalls: 9, slow: 50 };
    let rows = |height| {
        let Rows { models, gpus, quality, stalls, slow } = share_out(height, wanted);
        assert_eq!((gpus, quality), (0, 0), "there are none");
        (models, stalls, slow)
    };
    assert_eq!(rows(0), (0, 0, 0));
    assert_eq!(rows(2), (0, 0, 0));
    assert_eq!(rows(3), (1, 0, 0));
    assert_eq!(rows(5), (2, 0, 0));
    assert_eq!(rows(6), (1, 0, 1));
    assert_eq!(rows(7), (2, 0, 1));
    assert_eq!(rows(8), (1, 1, 1));
    assert_eq!(rows(21), (2, 7, 7));
    assert_eq!(rows(100), (2, 9, 50));
    let with = |height| {
        let Rows { models, gpus, stalls, slow, .. } = share_out(height, Rows { gpus: 8, ..wanted });
        (models, gpus, stalls, slow)
    };
    assert_eq!(with(5), (2, 0, 0, 0));
    assert_eq!(with(6), (1, 0, 0, 1));
    assert_eq!(with(9), (1, 1, 0, 1));
    assert_eq!(with(11), (1, 1, 1, 1));
    assert_eq!(with(21), (2, 4, 4, 4));
    assert_eq!(with(100), (2, 8, 9, 50));
    let both = Rows { gpus: 8, quality: 3, ..wanted };
    let with = |height| (share_out(height, both).gpus, share_out(height, both).quality);
    assert_eq!((with(9), with(12), with(100)), ((1, 0), (1, 1), (8, 3)));
}

#[test]
fn times_stand_where_they_belong() {
    let scale = Scale { whole: 2.0, cells: 10 };
    for (seconds, cell) in
        [(0.0, 0), (0.19, 0), (0.2, 1), (1.0, 5), (1.99, 9), (2.0, 9), (9.0, 9), (-1.0, 0), (f64::NAN, 0)]
    {
        assert_eq!(scale.cell(seconds), cell, "{seconds}");
    }
    for (from, to, cells) in [
        (0.0, 2.0, 0..10),
        (0.4, 0.9, 2..5),
        (0.41, 0.42, 2..3),
        (1.0, 1.0, 5..6),
        (-1.0, 0.3, 0..2),
        (1.9, 90.0, 9..10),
        (3.0, 4.0, 9..10),
        (1.0, 0.5, 5..6),
    ] {
        assert_eq!(scale.span(from, to), cells, "{from} to {to}");
    }
    assert_eq!(Scale { whole: 0.0, cells: 10 }.span(0.0, 0.0), 0..1);
}

#[test]
fn a_waterfall_lays_stalls_over_what_the_request_did() {
    let line = |cells: &[Cell]| -> String {
        let letter = |cell: &Cell| match cell {
            Cell::Empty => ' ',
            Cell::Own(letter) => *letter,
            Cell::Stall { cause: None, .. } => '?',
            Cell::Stall { cause: Some(cause), whole } => {
                let letter = Palette::plain().bar(cause.label()).0;
                if *whole { letter } else { letter.to_ascii_lowercase() }
            }
        };
        cells.iter().map(letter).collect()
    };
    let lanes = |seq, cells| -> Vec<(String, String)> {
        let request = slow(seq);
        let lanes = own_lanes(&request, cells).into_iter().chain(stall_lanes(&request, cells));
        lanes.map(|lane| (lane.name, line(&lane.cells))).collect()
    };
    // Two seconds on 20 cells: read after 0.2 s, first token after 1 s, chunks at 1, 1.25, 1.26, 1.27, 1.75 and 2 s.
    let expected = [
        ("unread", "==                  "),
        ("to first token", "  --------          "),
        ("chunks", "          | #    | |"),
        ("engine 4121", "    TTTTT    TT     "),
        ("api 4100", "  Q                 "),
        ("worker 4200", "               fffff"),
    ];
    let expected = expected.map(|(name, line)| (name.to_owned(), line.to_owned()));
    assert_eq!(lanes(123, 20), expected);
    let abort = lanes(122, 10);
    assert_eq!(abort[2], ("every 4th chunk".to_owned(), "         #".to_owned()));
    // Without a stream; the stall began before it arrived.
    let expected = [("unread", "=         "), ("to answer", "----------"), ("other 5000", "DDDDDDDD  ")];
    let expected = expected.map(|(name, line)| (name.to_owned(), line.to_owned()));
    assert_eq!(lanes(121, 10), expected);
}

#[test]
fn of_stalls_that_overlap_the_first_cause_is_shown() {
    let mut request = (*slow(121)).clone();
    let mut held = request.stalls[0].clone();
    (held.cause, held.start_seconds, held.end_seconds, held.stalled_seconds) =
        (Text::new("stopped"), 0.0, 0.1, 0.1);
    request.stalls.insert(0, held.clone());
    held.stalled_seconds = 0.01;
    (held.start_seconds, held.end_seconds) = (0.0, 0.4);
    request.stalls.push(held);
    let lane = &stall_lanes(&request, 4)[0];
    let stall = |cause, whole| Cell::Stall { cause: Some(cause), whole };
    let [stopped, io] = [Cause::Stopped, Cause::BlockIo];
    // Of a sum of short stalls it is not known when they were: it does not hide what is known.
    assert_eq!(lane.cells, [stall(stopped, true), stall(io, true), stall(io, true), stall(stopped, false)]);
}
